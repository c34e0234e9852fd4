"""The layout of a delimited table, found by its first lines: separator, quoting, header, column of the text."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sgdd_engine.errors import DataError

# Lines by which the layout is judged, fewer where they have more characters in all.
HEAD_LINES = 1000
_HEAD_CHARACTERS = 1 << 22
_SEPARATORS = ",;\t|"
# It cannot stand in a text file: every line is one field.
_NO_SEPARATOR = "\x00"

# A field in quotes, those inside it doubled (RFC 4180).
_CLOSED = re.compile(r'"(?:[^"]|"")*"')

_QUOTE_COMMAS = (
    "Put a text with commas in double quotes, or give plain text as a .txt file, one sentence per line."
)


@dataclass(frozen=True)
class TableHead:
    """The first lines of a table.

    Attributes:
        lines: The lines with their ends.
        truncated: Whether more lines follow.
    """

    lines: list[str]
    truncated: bool

    @classmethod
    def read(cls, lines: Iterator[str]) -> "TableHead":
        """Take the head from an iterator of lines."""
        head: list[str] = []
        size = 0
        for line in lines:
            head.append(line)
            size += len(line)
            if len(head) == HEAD_LINES or size > _HEAD_CHARACTERS:
                return cls(head, truncated=True)
        return cls(head, truncated=False)

    def names(self, separator: str) -> list[str]:
        """The fields of the first row, if it is a header; none if it cannot be parsed."""
        try:
            row = next((row for row in csv.reader(self.lines, delimiter=separator) if row), [])
        except csv.Error:
            return []
        return [field.strip() for field in row]

    def rows(self, separator: str, quoting: Any) -> list[list[str]]:  # noqa: ANN401 - a number that `csv` defines
        """The rows; none if they cannot be parsed so."""
        reader = csv.reader(self.lines, delimiter=separator, quoting=quoting, strict=True)
        rows: list[list[str]] = []
        try:
            rows.extend(row for row in reader if row)
        except csv.Error:
            # The head may end inside a quoted field, but not the whole table.
            return rows if self.truncated and reader.line_num == len(self.lines) else []
        return rows


@dataclass(frozen=True)
class TableLayout:
    """How the rows of a table are parsed.

    Attributes:
        separator: The character between fields.
        quoting: `csv.QUOTE_MINIMAL` where quotes enclose fields, `csv.QUOTE_NONE` where they belong to the text.
        header: Whether the first row names the columns.
        index: The field that holds the text, from 0.
        width: Fields of a row.
    """

    separator: str
    quoting: Any
    header: bool
    index: int
    width: int

    def text_of(self, row: list[str], place: str) -> str:
        """The text in a row.

        Raises:
            DataError: If the row is too short, or has more fields than columns, as an unquoted comma makes them.
        """
        if self.index >= len(row):
            raise DataError(
                f"{place} ends before field {self.index + 1}, which holds the text.", "Mend that line."
            )
        if any(field.strip() for field in row[self.width :]):
            raise DataError(f"{place} has {len(row)} fields, and the table {self.width}.", _QUOTE_COMMAS)
        return row[self.index]


def find_layout(head: TableHead, column: str, name: str, *, tabs_first: bool = False) -> TableLayout:
    """Find the layout of a table.

    Args:
        head: Its first lines.
        column: The column's name in the header; its number from 1 in a table without a header.
        name: The table's name in messages.
        tabs_first: Try tabs before commas.

    Raises:
        DataError: If there is no such column, or no header and no separator that makes a table.
    """
    separators = "\t" + _SEPARATORS.replace("\t", "") if tabs_first else _SEPARATORS
    headers = {separator: head.names(separator) for separator in separators}
    if column.isdecimal():
        separator, width = _even_separator(head, separators, name)
        if not 1 <= int(column) <= width:
            raise DataError(
                f"{name} has no column {column}; its first line has {listed(headers[separator])}.",
                "Number the columns from 1.",
            )
        return TableLayout(separator, _quoting(head, separator, width), False, int(column) - 1, width)
    for separator, names in headers.items():
        if column in names:
            found = separator if len(names) > 1 else _NO_SEPARATOR
            return TableLayout(
                found, _quoting(head, found, len(names)), True, names.index(column), len(names)
            )
    raise DataError(
        f"{name} has no column `{column}`; its first line has {listed(max(headers.values(), key=len))}.",
        "Name the column that holds the text: --set data.column=NAME\n"
        "In a table without a header, its number: --set data.column=1",
    )


def _even_separator(head: TableHead, separators: str, name: str) -> tuple[str, int]:
    """The first separator by which all rows have the same number of fields, and more than one if possible."""
    even: dict[str, int] = {}
    for separator in separators:
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE) if separator == "\t" else (csv.QUOTE_MINIMAL,):
            widths = {len(row) for row in head.rows(separator, quoting)}
            if len(widths) == 1:
                even.setdefault(separator, widths.pop())
    for separator, width in even.items():
        if width > 1:
            return separator, width
    if separators[0] not in even:
        raise DataError(f"{name} is not a table: its rows have different numbers of fields.", _QUOTE_COMMAS)
    return separators[0], 1


def _quoting(head: TableHead, separator: str, width: int) -> Any:  # noqa: ANN401 - a number that `csv` defines
    """Whether quotes enclose fields or belong to the text.

    Between commas they must enclose. In a table of one column they do if its lines can be parsed so. Between tabs
    both are common, and sentences often begin with a quote of their own: where every line has its fields without
    regard to quotes, these enclose only if all quoted fields are closed with inner quotes doubled, and some have inner
    quotes or all rows are quoted.
    """
    enclosed = head.rows(separator, csv.QUOTE_MINIMAL)
    if separator == _NO_SEPARATOR:
        return csv.QUOTE_MINIMAL if enclosed else csv.QUOTE_NONE
    if separator != "\t":
        return csv.QUOTE_MINIMAL
    raw = head.rows(separator, csv.QUOTE_NONE)
    if any(len(row) != width for row in raw):
        return csv.QUOTE_MINIMAL if {len(row) for row in enclosed} == {width} else csv.QUOTE_NONE
    quoted = [field for row in raw for field in row if field.startswith('"')]
    if all(map(_CLOSED.fullmatch, quoted)) and (
        any('""' in field[1:-1] for field in quoted)
        or all(any(f.startswith('"') for f in row) for row in raw)
    ):
        return csv.QUOTE_MINIMAL
    return csv.QUOTE_NONE


def listed(names: list[str]) -> str:
    """Names for a message: the first 20, each shortened to 40 characters."""
    shown = [name if len(name) <= 40 else f"{name[:39]}…" for name in map(_one_line, names[:20])]
    return (", ".join(shown) or "none") + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _one_line(name: str) -> str:
    return " ".join(name.split())
