"""The layout of a delimited table, found by its first lines: separator, quoting, header, column of the text."""

import csv
from dataclasses import dataclass
from typing import Any

from sgdd_engine.errors import DataError

# Lines by which the layout is judged.
HEAD_LINES = 100
_SEPARATORS = ",;\t|"
# It cannot stand in a text file: every line is one field.
_NO_SEPARATOR = "\x00"

_QUOTE_COMMAS = (
    "Put a text with commas in double quotes, or give plain text as a .txt file, one sentence per line."
)


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
                f"{place} has {len(row)} fields; the text is in field {self.index + 1}.", "Mend that line."
            )
        if any(field.strip() for field in row[self.width :]):
            raise DataError(f"{place} has {len(row)} fields, and the table {self.width}.", _QUOTE_COMMAS)
        return row[self.index]


def find_layout(head: list[str], column: str, name: str, *, tabs_first: bool = False) -> TableLayout:
    """Find the layout of a table.

    Args:
        head: Its first lines, `HEAD_LINES` at most.
        column: The column's name in the header; its number from 1 in a table without a header.
        name: The table's name in messages.
        tabs_first: Try tabs before commas.

    Raises:
        DataError: If there is no such column, or no header and no separator that makes a table.
    """
    separators = "\t" + _SEPARATORS.replace("\t", "") if tabs_first else _SEPARATORS
    headers = {separator: _header(head, separator) for separator in separators}
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
        "Name the column that holds the text with --column; without a header, give its number: --column 1",
    )


def _even_separator(head: list[str], separators: str, name: str) -> tuple[str, int]:
    """The first separator by which all rows have the same number of fields, and more than one if possible."""
    widths = {separator: _widths(head, separator) for separator in separators}
    even = {separator: found.pop() for separator, found in widths.items() if len(found) == 1}
    for separator, width in even.items():
        if width > 1:
            return separator, width
    if separators[0] not in even:
        raise DataError(f"{name} is no table: its rows have different numbers of fields.", _QUOTE_COMMAS)
    return separators[0], 1


def _header(head: list[str], separator: str) -> list[str]:
    try:
        row = next((row for row in csv.reader(head, delimiter=separator) if row), [])
    except csv.Error:
        return []
    return [field.strip() for field in row]


def _widths(head: list[str], separator: str) -> set[int]:
    """The numbers of fields that the rows have by a separator; empty if they cannot be parsed by it."""
    reader = csv.reader(head, delimiter=separator, strict=True)
    widths: set[int] = set()
    try:
        widths.update(len(row) for row in reader if row)
    except csv.Error:
        # The head may end inside a quoted field, but not the whole table.
        cut = len(head) == HEAD_LINES and reader.line_num == HEAD_LINES
        return widths if cut else set()
    return widths


def _quoting(head: list[str], separator: str, width: int) -> Any:  # noqa: ANN401 - a number that `csv` defines
    """Whether quotes enclose fields or belong to the text.

    Between commas they must enclose. Between tabs, and in a table of one column, many sentences begin with a quote
    of their own: there, quotes enclose fields only if the first lines make a sound table by that rule.
    """
    if separator not in ("\t", _NO_SEPARATOR) or _widths(head, separator) == {width}:
        return csv.QUOTE_MINIMAL
    return csv.QUOTE_NONE


def listed(names: list[str]) -> str:
    """Names for a message: the first 20, each cut to 40 characters."""
    shown = [name if len(name) <= 40 else f"{name[:39]}…" for name in map(_one_line, names[:20])]
    return (", ".join(shown) or "none") + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def _one_line(name: str) -> str:
    return " ".join(name.split())
