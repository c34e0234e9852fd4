"""Lines of text out of bytes that may be anything: whatever is wrong gets a sentence with a place in it."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from sgdd_engine.errors import DataError

# Longer than any sentence by far, and small enough that a file without line breaks cannot fill the memory.
MAX_LINE_BYTES = 1 << 20

_ONE_PER_LINE = "sgdd reads one sentence per line; put line breaks between the sentences."


class ByteLines(Protocol):
    """A binary stream, as far as it is needed here."""

    def readline(self, size: int, /) -> bytes:
        """At most `size` bytes, up to and with the next line end; nothing at the end."""
        ...


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a UTF-8 file (`.gz` is unpacked on the way), numbered from 1, without their line ends.

    Raises:
        DataError: If the file cannot be read, is binary, is not UTF-8 or has a line above 1 MiB.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            yield from decode_lines(stream, f"`{path}`")
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"`{path}` is not a complete gzip file: {error}.", "Copy or download it again."
        ) from error
    except OSError as error:
        raise unreadable(path, error) from error


def decode_lines(stream: ByteLines, name: str) -> Iterator[tuple[int, str]]:
    """The lines of a stream of UTF-8 bytes, numbered from 1; `name` is what messages call the stream."""
    number = 0
    while raw := stream.readline(MAX_LINE_BYTES + 2):
        number += 1
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        if len(raw.rstrip(b"\r\n")) > MAX_LINE_BYTES:
            _refuse_binary(raw, name, number)
            raise too_long(name, number)
        yield number, decode_line(raw, name, number)


def decode_line(raw: bytes, name: str, number: int) -> str:
    """One line as text, without its line end.

    Raises:
        DataError: If it holds a NUL byte or is not UTF-8.
    """
    _refuse_binary(raw, name, number)
    try:
        return raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not UTF-8 text: line {number:,} has the byte 0x{raw[error.start]:02x} "
            f"at position {error.start + 1:,}.",
            "Convert it first, for example with `iconv -f latin1 -t utf-8 OLD > NEW`.",
        ) from error


def too_long(name: str, number: int) -> DataError:
    """The error for a line that is no sentence."""
    return DataError(f"{name} has a line above 1 MiB: line {number:,}.", _ONE_PER_LINE)


def unreadable(path: Path, error: OSError) -> DataError:
    """The error for a file that the system does not let us read."""
    return DataError(
        f"`{path}` cannot be read: {error.strerror or error}.", "Check the name and the permissions."
    )


def _refuse_binary(raw: bytes, name: str, number: int) -> None:
    position = raw.find(b"\x00")
    if position < 0:
        return
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{name} is UTF-16 text.", "Save it as UTF-8.")
    raise DataError(
        f"{name} is a binary file: line {number:,} has a NUL byte at position {position + 1:,}.",
        "Give a text file with one sentence per line, or .jsonl, .csv or .parquet.",
    )
