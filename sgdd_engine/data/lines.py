"""Lines of text from bytes: compression, encodings and line ends; errors name the line and the byte."""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from sgdd_engine.errors import DataError

# Longer than any sentence by far, and small enough that a file without line breaks cannot fill the memory.
MAX_LINE = 1 << 20

# Files with these endings are unpacked while they are read.
COMPRESSED = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

_CHUNK = 1 << 20
# NUL bytes, and the characters that stand for bytes which are not UTF-8 (PEP 383).
_FAULT = re.compile("[\x00\udc80-\udcff]")


_MARK_BYTES = 4  # of the longest byte-order mark

# The mark of UTF-32-LE begins with that of UTF-16-LE, so it comes first.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

_CHINESE = "的一是不了在有人我他这這中大来來上国國个個到说說们們为為子和你地出道也时時年得就那要下以，。"


def _alphabet(letters: str, share: float = 0.9) -> tuple[re.Pattern[str], float]:
    """Letters of a script that is not mixed with Latin letters inside a word."""
    return re.compile(f"(?<![A-Za-z])[{letters}](?![A-Za-z])"), share


def _accents(letters: str) -> tuple[re.Pattern[str], float]:
    """Accented Latin letters, which stand beside plain ones."""
    both = letters + letters.upper() + "’“”–—…"
    return re.compile(f"(?<=[A-Za-z]) ?[{both}]+|[{both}]+(?=[A-Za-z])"), 0.9


# For each encoding a pattern of frequent characters and their usual share of the non-ASCII characters of prose: the
# Chinese ones above make about a quarter of a text, kana about half of a Japanese one. Cyrillic and Greek capitals
# are left out, because KOI8-R and windows-1251 exchange the cases of each other's letters. Order breaks ties.
_TYPICAL = {
    "windows-1252": _accents("àâãäåæçèéêëìíîïñòóôõöøùúûüß"),
    "windows-1250": _accents("áäąćčďéęěíłńňóôöřśšťúůüýźżž"),
    "windows-1251": _alphabet("а-яё"),
    "windows-1255": _alphabet("א-ת"),
    "koi8-r": _alphabet("а-яё"),
    "windows-1253": _alphabet("α-ωάέήίόύώ"),
    "windows-1256": _alphabet("ا-ي"),
    "shift_jis": _alphabet("ぁ-んァ-ヶー、。", 0.5),
    "euc-jp": _alphabet("ぁ-んァ-ヶー、。", 0.5),
    "euc-kr": _alphabet("가-힣"),
    "gb18030": _alphabet(_CHINESE, 0.25),
    "big5": _alphabet(_CHINESE, 0.25),
}
# Below this share of the usual one an encoding is not named.
_LIKELY = 0.6


def read_lines(path: Path, name: str | None = None, longest: int = MAX_LINE) -> Iterator[tuple[int, str]]:
    r"""The lines of a text file, numbered from 1, without their line ends (`\n`, `\r\n` or `\r`).

    Args:
        path: UTF-8 text, or UTF-16 or UTF-32 with a byte-order mark; compressed if its ending says so.
        name: Its name in messages.
        longest: Characters of the longest line.

    Raises:
        DataError: If the file cannot be read, is binary, is in another encoding or has a longer line.
    """
    name = name or f"`{path}`"
    with _open(path, name) as stream:
        yield from decode_lines(stream, name, longest)


def decode_lines(
    stream: IO[bytes],
    name: str,
    longest: int = MAX_LINE,
    on_fault: Callable[[DataError], None] | None = None,
) -> Iterator[tuple[int, str]]:
    """The same for an open stream of bytes; a line is given as soon as it has arrived.

    With `on_fault`, it is told of each line that is binary, in another encoding or too long, and the others follow.
    """
    with _decode(stream, name) as text:
        number = 0
        while line := text.readline(longest + 1):
            number += 1
            try:
                _refuse_faults(line, name, number)
                _refuse_length(line, name, number, longest)
            except DataError as error:
                if on_fault is None:
                    raise
                on_fault(error)
                while line and not line.endswith("\n"):
                    line = text.readline(longest + 1)
                continue
            yield number, line.removesuffix("\n")


def read_chunks(path: Path, name: str) -> Iterator[str]:
    """The text of a file in pieces of 1 Mi characters, for formats in which lines have no meaning.

    Raises:
        DataError: If the file cannot be read, is binary or is in another encoding.
    """
    with _open(path, name) as stream, _decode(stream, name) as text:
        number = 1
        while chunk := text.read(_CHUNK):
            _refuse_faults(chunk, name, number)
            number += chunk.count("\n")
            yield chunk


def unreadable(name: str, error: OSError) -> DataError:
    """The error for a file that the system does not let us read."""
    return DataError(
        f"{name} cannot be read: {error.strerror or error}.", "Check the name and the permissions."
    )


@contextmanager
def _open(path: Path, name: str) -> Iterator[IO[bytes]]:
    ending = path.suffix.lower()
    opened: Any = COMPRESSED.get(ending, open)
    try:
        with opened(path, "rb") as stream:
            yield stream
    except (gzip.BadGzipFile, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            f"{name} is not a complete {ending} file: {error}.", "Copy or download it again."
        ) from error
    except OSError as error:
        if ending == ".bz2" and error.errno is None:  # bz2 has no class of its own for damaged data
            raise DataError(
                f"{name} is not a complete .bz2 file: {error}.", "Copy or download it again."
            ) from error
        raise unreadable(name, error) from error


class _Rejoined(io.RawIOBase):
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = head
        self._rest: Any = rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - any writable buffer
        part, self._head = self._head or self._rest.read1(len(buffer)), b""
        buffer[: len(part)] = part
        return len(part)


@contextmanager
def _decode(stream: IO[bytes], name: str) -> Iterator[io.TextIOWrapper]:
    r"""The text of a stream of bytes, with every line end as `\n`; bytes that are not UTF-8 become surrogates."""
    # `readline` waits for a line at most, so that a person can type one; a mark has no line end in it.
    head = stream.readline(_MARK_BYTES)
    encoding = _marked_encoding(head) or "utf-8"
    errors = "surrogateescape" if encoding.startswith("utf-8") else "strict"
    text = io.TextIOWrapper(io.BufferedReader(_Rejoined(head, stream)), encoding, errors)
    try:
        yield text
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not complete {encoding.upper()} text: {error.reason}.", "Save it again as UTF-8."
        ) from error


def _refuse_faults(text: str, name: str, number: int) -> None:
    """Check text for NUL bytes and bytes that are not UTF-8; `number` is that of its first line."""
    if (fault := _FAULT.search(text)) is None:
        return
    number += text.count("\n", 0, fault.start())
    start = text.rfind("\n", 0, fault.start()) + 1
    line = text[start:].partition("\n")[0].encode("utf-8", "surrogateescape")
    position = len(text[start : fault.start()].encode("utf-8", "surrogateescape"))
    if fault.group() == "\x00":
        raise DataError(
            f"{name} is a binary file: line {number:,} has a NUL byte at position {position + 1:,}.",
            _hint_for_nul(line),
        )
    raise DataError(
        f"{name} is not UTF-8 text: line {number:,} has the byte 0x{line[position]:02x} "
        f"at position {position + 1:,}.",
        _hint_for_encoding(line),
    )


def _refuse_length(line: str, name: str, number: int, longest: int) -> None:
    if len(line.removesuffix("\n")) > longest:
        raise DataError(
            f"{name} has a line above {longest:,} characters: line {number:,}.",
            "sgdd reads one sentence per line; put line breaks between the sentences.",
        )


def _hint_for_nul(line: bytes) -> str:
    for encoding, ascii_bytes in (("utf-16le", line[1::2]), ("utf-16be", line[0::2])):
        # The upper byte of each ASCII character in UTF-16 is 0.
        if len(line) > 3 and ascii_bytes.count(0) > len(ascii_bytes) / 2:
            return f"It looks like UTF-16. Convert it first: `iconv -f {encoding} -t utf-8 OLD > NEW`."
    return "Give a text file with one sentence per line, or a table such as .csv, .jsonl or .parquet."


def _hint_for_encoding(line: bytes) -> str:
    likely = likely_encodings(line)
    if not likely:
        return "Find out its encoding, then convert it: `iconv -f ENCODING -t utf-8 OLD > NEW`."
    readings = ", or ".join(f'in {encoding} the line is "{_shortened(text)}"' for encoding, text in likely)
    return f"Convert it first: {readings}.\n" + "\n".join(
        f"  iconv -f {encoding} -t utf-8 OLD > NEW" for encoding, _ in likely
    )


def _shortened(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:59] + "…"


def _marked_encoding(head: bytes) -> str | None:
    """The codec that the byte-order mark at the beginning of a text names; None without a mark."""
    return next((codec for mark, codec in _MARKS if head.startswith(mark)), None)


def likely_encodings(line: bytes) -> list[tuple[str, str]]:
    """Encodings in which a line that is not UTF-8 reads like prose, the likeliest first, and the line in each.

    At most two; none where no encoding of the table fits.
    """
    found: list[tuple[float, str, str]] = []
    for encoding, (pattern, share) in _TYPICAL.items():
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError:
            continue
        foreign = sum(not character.isascii() for character in text)
        typical = sum(not character.isascii() for part in pattern.findall(text) for character in part)
        if text not in (reading for _, _, reading in found):  # another encoding may have the same letters
            found.append((min(1.0, typical / max(1, foreign) / share), encoding, text))
    found.sort(key=lambda item: -item[0])
    return [(encoding, text) for score, encoding, text in found[:2] if score >= _LIKELY]
