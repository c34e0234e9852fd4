"""Files of JSON, TOML and text that are read whole, whoever wrote them: never more than fits, waited for, or nested.

A checkpoint, an encoder or a corpus may come from a stranger. Only regular files are opened (a pipe would be waited
for, a device never ends), and size, depth and number of values are bounded before memory is asked for them. JSON with
a key that stands twice is refused: programs differ in which of the two they take.
"""

import json
import os
import re
import stat
import tomllib
from io import BufferedReader
from itertools import islice
from pathlib import Path
from typing import Any

from sgdd_engine.errors import SgddError

# The largest files that are read so are tokenizers: 33 MB for one of 262,000 pieces (Gemma's), which holds some 1.7
# million values, as BGE-M3's of 17 MB holds 0.75 million.
MOST_BYTES = 1 << 26
MOST_VALUES = 1 << 21
# Our own files nest less than ten deep.
MOST_DEPTH = 64
# Settings are some kilobytes. Python's TOML parser needs time that grows with the square of a dotted key's parts (10 s
# for 20,000 of them), so that a line has to be short of dots before it is parsed.
MOST_SETTINGS_BYTES = 1 << 16
_DOTS_OF_A_LINE = 100
# Up to the next comma or bracket that is in no string, or to the end. A string without an end reaches to the end of the
# text, and nothing is tried twice (possessive quantifiers): the time follows the length, whatever the text holds.
_NEXT_VALUE = re.compile(r'(?:[^",\[{]++|"[^"\\]*+(?:\\.?[^"\\]*+)*+"?)*+(?:([,\[{])|\Z)', re.DOTALL)
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


class UnreadableError(SgddError, ValueError):
    """A file that cannot be read, or holds what it may not; `SgddError` in a sentence, ready to be shown.

    Args:
        what: The file, or another name of the text.
        reason: Why, as a clause.

    Attributes:
        reason: The clause alone.
    """

    def __init__(self, what: Path | str, reason: str) -> None:
        super().__init__(
            f"{f'`{what}`' if isinstance(what, Path) else what} cannot be read: {shortened(reason, 200)}."
        )
        self.reason = reason


def require_text_name(path: str | Path) -> None:
    """Refuse a name whose bytes are no UTF-8, such as one of an old system: records and weights cannot hold it.

    Raises:
        SgddError: it is such a name.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        shown = str(path).encode(errors="backslashreplace").decode()
        raise SgddError(f"The name `{shown}` is not UTF-8.", "Rename it: mv OLD NEW") from None


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading; anything else is refused without waiting for it.

    Raises:
        UnreadableError: it is a pipe, a device, a socket or a folder.
        OSError: it is missing, or may not be read.
    """
    _require_regular(path, path.stat())  # before it is opened, which may do something to a device
    # Flags that Windows lacks, and one that only Windows has.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    stream = os.fdopen(os.open(path, flags), "rb")
    try:
        _require_regular(path, os.fstat(stream.fileno()))  # another file may have taken the name meanwhile
    except UnreadableError:
        stream.close()
        raise
    return stream


def _require_regular(path: Path, status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise UnreadableError(path, f"it is {_KINDS.get(kind, 'something else')}, not a file")


def read_bytes(path: Path, most: int = MOST_BYTES) -> bytes:
    """The content of a regular file of at most `most` bytes.

    Raises:
        UnreadableError: it is missing, larger, or may not be read.
    """
    try:
        with open_regular(path) as stream:
            content = stream.read(most + 1)
    except OSError as error:
        raise UnreadableError(path, (error.strerror or type(error).__name__).lower()) from error
    except ValueError as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError(path, str(error)) from error  # a NUL character in the name
    if len(content) > most:
        raise UnreadableError(path, f"it is larger than {most:,} bytes")
    return content


def read_text(path: Path, most: int = MOST_BYTES) -> str:
    """The same as UTF-8 text, to the character.

    Raises:
        UnreadableError: as for `read_bytes`, or it is no UTF-8.
    """
    try:
        return read_bytes(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise UnreadableError(path, f"byte {error.start:,} (0x{byte:02x}) is not UTF-8") from error


def read_json(path: Path, most: int = MOST_BYTES) -> Any:  # noqa: ANN401 - any JSON value
    """The value of a JSON file.

    Raises:
        UnreadableError: as for `read_text` and `parse_json`.
    """
    return parse_json(read_text(path, most), path)


def read_json_object(path: Path, most: int = MOST_BYTES) -> dict[str, Any]:
    """The object of a JSON file.

    Raises:
        UnreadableError: as for `read_json`, or it holds another value.
    """
    value = read_json(path, most)
    if not isinstance(value, dict):
        raise UnreadableError(path, "it should hold a JSON object")
    return value


def parse_json(text: str, what: Path | str) -> Any:  # noqa: ANN401 - any JSON value
    """The value of a JSON text.

    Args:
        text: The text.
        what: The file, or another name of it, for the message.

    Raises:
        UnreadableError: it is no JSON, too deep, of too many values, or has a key twice.
    """
    # Every value is the first of its array or object, or stands behind a comma. Where there are many of both, those in
    # strings are left out, which takes longer.
    opened = text.count("[") + text.count("{")
    if opened + text.count(",") > MOST_VALUES and _has_many_values(text):
        raise UnreadableError(what, f"it holds more than {MOST_VALUES:,} values")
    try:
        value = JSON_DECODER.decode(text)
    except RecursionError as error:
        raise UnreadableError(what, f"it is nested more than {MOST_DEPTH} deep") from error
    except ValueError as error:
        raise UnreadableError(what, _lower(str(error))) from error
    if opened > MOST_DEPTH:
        check_depth(value, what)
    return value


def _has_many_values(text: str) -> bool:
    """Whether a JSON text has more values than are read, by its commas and brackets outside of strings."""
    found = (match for match in _NEXT_VALUE.finditer(text) if match[1])
    return next(islice(found, MOST_VALUES, None), None) is not None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shortened(twice)!r} stands twice in one object")
    return found


JSON_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def check_depth(value: Any, what: Path | str) -> None:  # noqa: ANN401 - any JSON or TOML value
    """Check that lists and mappings are not nested deeper than `MOST_DEPTH`.

    Raises:
        UnreadableError: they are.
    """
    level, depth = [value], 0
    while level := [inner for outer in level for inner in _inside(outer) if isinstance(inner, dict | list)]:
        depth += 1
        if depth >= MOST_DEPTH:
            raise UnreadableError(what, f"it is nested more than {MOST_DEPTH} deep")


def _inside(value: Any) -> Any:  # noqa: ANN401 - as above
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file of settings.

    Raises:
        UnreadableError: as for `read_text` and `parse_json`.
    """
    text = read_text(path, MOST_SETTINGS_BYTES)
    for number, line in enumerate(text.splitlines(), 1):
        if line.count(".") > _DOTS_OF_A_LINE and not re.match(r"\s*#", line):
            raise UnreadableError(path, f"line {number:,} has more than {_DOTS_OF_A_LINE} dots")
    try:
        value = tomllib.loads(text)
    except RecursionError as error:
        raise UnreadableError(path, f"it is nested more than {MOST_DEPTH} deep") from error
    except ValueError as error:
        raise UnreadableError(path, _lower(str(error))) from error
    check_depth(value, path)
    return value


def shortened(text: str, most: int = 60) -> str:
    """A text for a message: its beginning where it is longer than `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _lower(reason: str) -> str:
    """A library's sentence as a clause."""
    return reason[:1].lower() + reason[1:].rstrip(".")
