"""Vectors in JSON Lines: on each line an object with the vector under a key, or a list of numbers."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from sgdd_engine.bounded_files import UnreadableError, parse_json
from sgdd_engine.data.formats import MAX_ROW, ending, leaves, nested
from sgdd_engine.data.lines import read_lines
from sgdd_engine.errors import SgddError, VectorSourceError
from sgdd_engine.vectors.columns import Columns, choose_columns, describe
from sgdd_engine.vectors.numbers import parse_vector
from sgdd_engine.vectors.rows import Row, batches_of, shorten
from sgdd_engine.vectors.source import OpenSource, ReadOptions, refuse_options

# Rows by whose keys the columns are told, fewer where their lines have more characters in all.
_SAMPLED = 100
_HEAD_CHARACTERS = 1 << 22
# Rows without any vector that may stand at the beginning; they are kept until the first one with a vector comes.
_WAIT_ROWS = 1000


class _Line(NamedTuple):
    """A line that is not blank: its number, its value, and how many characters it has."""

    number: int
    value: Any
    size: int


def matches(where: str) -> bool:
    """Files whose name ends in `.jsonl` or `.ndjson`, compressed too."""
    return ending(Path(where).name) in (".jsonl", ".ndjson")


def open(where: str, options: ReadOptions) -> OpenSource:
    """The vectors under one key, which is found by its type and width; `a.b` is `b` inside `a`.

    Raises:
        VectorSourceError: there is no such file, or the first rows hold no vector under such a key.
    """
    if not Path(where).exists():
        raise VectorSourceError(f"There is no file `{where}`.", "Check the name.")
    name = f"JSON Lines file `{where}`"
    sampled = None if Path(where).is_fifo() else _SAMPLED
    return open_lines(name, read_lines(Path(where), name, MAX_ROW), options, sampled)


def open_lines(
    name: str, lines: Iterable[tuple[int, str]], options: ReadOptions, sampled: int | None = None
) -> OpenSource:
    """Open numbered lines, each a JSON object, a JSON list, or numbers between spaces or commas.

    Args:
        name: What is read, for messages.
        lines: Numbers from 1 and lines; blank ones are left out.
        options: Which keys of objects are read.
        sampled: Rows whose keys are looked at before the first ones are given; by default no more than are given at
            once, as the lines of a pipe may come one by one.

    Raises:
        VectorSourceError: the first rows hold no vector under such a key.
    """
    refuse_options(options, name, "where", "table")
    sampled = sampled or min(_SAMPLED, options.batch_rows)
    rows = _parse(name, lines)
    head: list[_Line] = []
    fault: SgddError | None = None
    try:
        head.extend(_head(rows, sampled))
    except SgddError as error:  # raised after the rows before it were given
        fault = error
    found = _kinds(row.value for row in head if isinstance(row.value, dict))
    vectors = {key: len(value) for key, value in found.items() if _is_vector(value)}
    columns: Columns | None = None
    warnings: tuple[str, ...] = ()
    if vectors:
        unseen: list[str] = []
        if len(head) == sampled < _SAMPLED:  # too few to tell that a name is wrong
            named = (options.text_column, options.id_column, options.group_column)
            unseen = [key for key in dict.fromkeys(named) if key is not None and key not in found]
        texts = [key for key, value in found.items() if isinstance(value, str)]
        empty = [key for key, value in found.items() if value is None]
        columns = choose_columns(
            vectors,
            texts,
            [key for key in found if key not in (*vectors, *texts, *empty)],
            options,
            name,
            "key",
            empty=[*empty, *unseen],
        )
        warnings = tuple(f"None of the first {len(head):,} rows of {name} has `{key}`." for key in unseen)
        name = f"{name}, key {columns.vector}"
    elif fault is not None:
        raise fault
    elif head and isinstance(head[-1].value, dict):
        raise VectorSourceError(
            f"{name} has no key of vectors in its first {len(head):,} rows; there are {describe({}, list(found))}.",
            'Each row is an object such as {"embedding": [0.1, -0.2]}, or a list of numbers.',
        )
    if columns is None:
        refuse_options(options, name, "column", "text_column", "id_column", "group_column")
    made = (
        _row(index, line.number, line.value, columns, name)
        for index, line in enumerate(chain(head, _rest(fault, rows)))
    )
    batches = batches_of(
        made,
        name,
        options.batch_rows,
        texts=columns is not None and columns.text is not None,
        groups=columns is not None and columns.group is not None,
    )
    return OpenSource(name, None, (), batches, warnings=warnings)


def _head(rows: Iterator[_Line], sampled: int) -> Iterator[_Line]:
    """The first rows, of which one has a vector if there is any; lists of numbers have no keys to look for."""
    size, has_vector = 0, False
    for count, row in enumerate(rows, 1):
        yield row
        if not isinstance(row.value, dict) or count == _WAIT_ROWS:
            return
        size += row.size
        has_vector = has_vector or any(_is_vector(value) for _, value in leaves(row.value))
        if has_vector and (count >= sampled or size > _HEAD_CHARACTERS):
            return


def _rest(fault: SgddError | None, rows: Iterator[_Line]) -> Iterator[_Line]:
    if fault is not None:
        raise fault
    yield from rows


def _kinds(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The keys of some rows, each with the value that says most: its first vector, else text, else any but null."""

    def says(value: object) -> int:
        return 3 if _is_vector(value) else 2 if isinstance(value, str) else int(value is not None)

    found: dict[str, Any] = {}
    for row in rows:
        for key, value in leaves(row):
            if key not in found or says(value) > says(found[key]):
                found[key] = value
    return found


def _parse(name: str, lines: Iterable[tuple[int, str]]) -> Iterator[_Line]:
    """The value of each line that is not blank."""
    for number, line in lines:
        if not line.strip():
            continue
        if line.lstrip()[0] not in "[{" and line.strip() != "null":
            yield _Line(number, parse_vector(line, name, f"line {number:,}"), len(line))
            continue
        try:
            yield _Line(number, parse_json(line, f"{name}: line {number:,}"), len(line))
        except UnreadableError as error:
            if line.lstrip()[0] == "[":  # as numpy prints them: without commas
                yield _Line(number, parse_vector(line, name, f"line {number:,}"), len(line))
                continue
            raise VectorSourceError(
                f"{name}: line {number:,} is not JSON: {shorten(line)}.",
                'Each line is an object such as {"embedding": [0.1, -0.2]}, or a list of numbers.',
            ) from error


def _row(index: int, number: int, value: Any, columns: Columns | None, name: str) -> Row:  # noqa: ANN401 - JSON
    place = f"line {number:,}"
    if isinstance(value, dict) != (columns is not None):
        raise VectorSourceError(
            f"{name} has lines of two kinds, objects and others; the first other is {place}."
        )
    if columns is None:
        return Row(str(index), value, place=place)
    key, text = _at(value, columns.id), _at(value, columns.text)
    group = _at(value, columns.group)
    return Row(
        str(index) if key is None else str(key),
        _at(value, columns.vector),
        text if isinstance(text, str) else None,
        None if group is None else str(group),
        place,
    )


def _at(row: Mapping[str, Any], column: str | None) -> Any:  # noqa: ANN401 - any JSON value
    """The value under a key or a path of keys; None where there is none."""
    try:
        return None if column is None else nested(row, column)
    except KeyError:
        return None


def _is_vector(value: object) -> bool:
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, int | float) and not isinstance(item, bool) for item in value)
    )
