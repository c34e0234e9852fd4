"""Vectors in CSV and TSV: a column of texts such as `[0.1, 0.2]`, or a column for each number."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from sgdd_engine.data.formats import MAX_ROW, ending
from sgdd_engine.data.lines import read_lines
from sgdd_engine.data.table_layout import TableHead, find_layout
from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors.columns import ID_NAMES, Columns, choose_columns
from sgdd_engine.vectors.numbers import is_missing, is_number, looks_like_vector, parse_vector
from sgdd_engine.vectors.rows import Row, batches_of
from sgdd_engine.vectors.source import OpenSource, ReadOptions, refuse_options

# Rows by whose cells the kinds of columns are told.
_SAMPLE_ROWS = 100


def matches(where: str) -> bool:
    """Files whose name ends in `.csv`, `.tsv` or `.tab`, compressed too."""
    return ending(Path(where).name) in (".csv", ".tsv", ".tab")


def open(where: str, options: ReadOptions) -> OpenSource:
    """The vectors of a table. Columns of one number each are named by what they share: `e` for e0, e1, ….

    A table whose first line has numbers or vectors only has no header; its columns are then numbered from 1.

    Raises:
        VectorSourceError: there is no such file, or it has no such columns.
    """
    name = f"Table `{where}`"
    refuse_options(options, name, "where", "table")
    if not Path(where).exists():
        raise VectorSourceError(f"There is no file `{where}`.", "Check the name.")
    lines = (line + "\n" for _, line in read_lines(Path(where), f"`{where}`", MAX_ROW))
    if csv.field_size_limit() < MAX_ROW:  # one limit for the whole process, 131,072 characters at first
        csv.field_size_limit(MAX_ROW)
    head = TableHead.read(lines)
    layout = _Layout.of(head, name)
    vectors = layout.vectors(options)
    texts = [
        c for c, cells in layout.cells.items() if not all(is_number(x) or looks_like_vector(x) for x in cells)
    ]
    empty = [column for column, cells in layout.cells.items() if not cells]
    lists = [column for column, found in vectors.items() if found.is_list]
    others = [column for column in layout.cells if column not in (*texts, *empty, *lists)]
    widths = {column: found.width for column, found in vectors.items()}
    columns = choose_columns(widths, texts, others, options, name, empty=empty)
    chosen = vectors[columns.vector]
    name += f", column {columns.vector}" if chosen.is_list else f", {chosen.width:,} columns of numbers"
    reader = csv.reader(
        chain(head.lines, lines), delimiter=layout.separator, quoting=layout.quoting, strict=True
    )
    return OpenSource(
        name,
        None,
        (),
        batches_of(
            _rows(reader, layout, chosen, columns, name),
            name,
            options.batch_rows,
            texts=columns.text is not None,
            groups=columns.group is not None,
        ),
    )


@dataclass(frozen=True)
class _Vectors:
    """Where the numbers of a vector stand: in one cell, or in a cell for each."""

    places: list[int]
    width: int
    is_list: bool


@dataclass(frozen=True)
class _Layout:
    """How the table is parsed, and the cells of its first rows by column."""

    separator: str
    quoting: Any  # a number that `csv` defines
    header: bool
    cells: dict[str, list[str]]

    @classmethod
    def of(cls, head: TableHead, name: str) -> "_Layout":
        # The names of columns hold no separator, numbers neither: the one that makes most fields is it.
        separator = max(",;\t|", key=lambda one: len(head.names(one)))
        names = head.names(separator)
        if len(names) == 1 and len(spaced := head.names(" ")) > 1 and all(map(is_number, spaced)):
            separator, names = " ", spaced  # as numpy.savetxt writes
        quoting: Any = csv.QUOTE_MINIMAL
        if header := not any(map(looks_like_vector, names)) and not all(map(is_number, names)):
            found = find_layout(head, names[0], name, tabs_first=separator == "\t")
            separator, quoting = found.separator, found.quoting
        else:
            names = [str(number) for number in range(1, len(names) + 1)]
        rows = head.rows(separator, quoting)[int(header) : _SAMPLE_ROWS]
        cells = {
            name: [row[i] for row in rows if i < len(row) and row[i].strip()] for i, name in enumerate(names)
        }
        return cls(separator, quoting, header, cells)

    def vectors(self, options: ReadOptions) -> dict[str, _Vectors]:
        """What may be vectors: columns of lists; where there are none, or it is named so, columns of numbers."""
        place = {column: i for i, column in enumerate(self.cells)}
        lists = {
            column: _Vectors([place[column]], len(re.split(r"[\s,;]+", found[0].strip("[](){} \t,;"))), True)
            for column, cells in self.cells.items()
            if (found := [cell for cell in cells if not is_missing(cell)])
            and all(map(looks_like_vector, found))
        }
        groups = {
            group: _Vectors([place[column] for column in columns], len(columns), False)
            for group, columns in self._numbers(options).items()
        }
        return groups if options.column in groups or not lists else lists

    def _numbers(self, options: ReadOptions) -> dict[str, list[str]]:
        """Columns of one number each that make a vector together, by the beginning that their names share.

        They are put in the order of the numbers at the end of their names: tools that sort names as text write e10
        before e2. Where two names have the same number, they stay as they stand.
        """
        taken = {options.text_column, options.id_column, options.group_column}
        numeric = [
            c for c, cells in self.cells.items() if cells and all(map(is_number, cells)) and c not in taken
        ]
        if not self.header:
            return {numeric[0]: numeric} if numeric else {}
        numbers: dict[str, dict[str, int]] = {}
        for column in numeric:
            if match := re.fullmatch(r"(.*?)(\d+)", column):
                numbers.setdefault(match[1], {})[column] = int(match[2])
        groups: dict[str, list[str]] = {}
        for group, found in numbers.items():
            distinct = len(set(found.values())) == len(found)
            columns = sorted(found, key=found.__getitem__) if distinct else list(found)
            if len(columns) > 1:
                groups[group or columns[0]] = columns
        rest = [column for column in numeric if column not in ID_NAMES]
        return groups or ({rest[0]: rest} if len(rest) > 1 else {})


def _rows(
    reader: Any,  # noqa: ANN401 - a type that `csv` hides
    layout: _Layout,
    vectors: _Vectors,
    columns: Columns,
    name: str,
) -> Iterator[Row]:
    """The rows of the table that hold anything."""
    place = {column: i for i, column in enumerate(layout.cells)}
    number = -int(layout.header)
    try:
        for row in reader:
            if not any(row):
                continue
            if number >= 0:
                line = f"line {reader.line_num:,}"
                if len(row) != len(place):
                    raise VectorSourceError(
                        f"{name}: {line} has {len(row):,} fields, and the table {len(place):,}.",
                        "Put a field with separators in double quotes.",
                    )
                key, text, group = (c and row[place[c]] for c in (columns.id, columns.text, columns.group))
                vector = _vector([row[i] for i in vectors.places], name, line)
                yield Row(key or str(number), vector, text or None, group, line)
            number += 1
    except csv.Error as error:
        raise VectorSourceError(
            f"{name} is not CSV: line {reader.line_num:,} cannot be parsed ({error}).",
            "Put a field with separators, quotes or line breaks in double quotes.",
        ) from error


def _vector(cells: Sequence[str], name: str, place: str) -> Any:  # noqa: ANN401 - numbers or None
    empty = sum(not cell.strip() for cell in cells)
    if 0 < empty < len(cells):
        raise VectorSourceError(
            f"{name}: {place} lacks {empty:,} of {len(cells):,} numbers.", "Fill them in."
        )
    return parse_vector(" ".join(cells), name, place)
