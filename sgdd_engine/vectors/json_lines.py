"""Vectors in JSON Lines: on each line an object with the vector under a key, or a list of numbers."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from sgdd_engine.bounded_files import UnreadableError, parse_json
from sgdd_engine.data.formats import MAX_ROW, ending, leaves, nested
from sgdd_engine.data.lines import read_lines
from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors.columns import Columns, choose_columns, describe
from sgdd_engine.vectors.numbers import parse_vector
from sgdd_engine.vectors.rows import Row, batches_of, shorten
from sgdd_engine.vectors.source import OpenSource, ReadOptions, refuse_options

# Rows without any vector that may stand at the beginning; they are kept until the first one with a vector comes.
_WAIT_ROWS = 1000


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
    return open_lines(name, read_lines(Path(where), name, MAX_ROW), options)


def open_lines(name: str, lines: Iterable[tuple[int, str]], options: ReadOptions) -> OpenSource:
    """Open numbered lines, each a JSON object, a JSON list, or numbers between spaces or commas.

    Args:
        name: What is read, for messages.
        lines: Numbers from 1 and lines; blank ones are left out.
        options: Which keys of objects are read.

    Raises:
        VectorSourceError: the first rows hold no vector under such a key.
    """
    refuse_options(options, name, "where", "table")
    rows = _parse(name, lines)
    head: list[tuple[int, Any]] = []
    found: dict[str, Any] | None = None
    for number, value in islice(rows, _WAIT_ROWS):
        head.append((number, value))
        if not isinstance(value, dict):
            found = {}
            break
        keys = dict(leaves(value))
        if any(_is_vector(item) for item in keys.values()):
            found = keys
            break
    columns: Columns | None = None
    if found:
        columns = choose_columns(
            {key: len(value) for key, value in found.items() if _is_vector(value)},
            [key for key, value in found.items() if isinstance(value, str)],
            [key for key, value in found.items() if not _is_vector(value) and not isinstance(value, str)],
            options,
            name,
            "key",
        )
        name = f"{name}, key {columns.vector}"
    elif found is None and head:
        first = dict(leaves(head[0][1]))
        raise VectorSourceError(
            f"{name} has no key of vectors in its first {len(head):,} rows; there are {describe({}, list(first))}.",
            'Each row is an object such as {"embedding": [0.1, -0.2]}, or a list of numbers.',
        )
    if columns is None:
        refuse_options(options, name, "column", "text_column", "id_column", "group_column")
    made = (
        _row(index, number, value, columns, name) for index, (number, value) in enumerate(chain(head, rows))
    )
    batches = batches_of(
        made,
        name,
        options.batch_rows,
        texts=columns is not None and columns.text is not None,
        groups=columns is not None and columns.group is not None,
    )
    return OpenSource(name, None, (), batches)


def _parse(name: str, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, Any]]:
    """The value of each line that is not blank."""
    for number, line in lines:
        if not line.strip():
            continue
        if line.lstrip()[0] not in "[{" and line.strip() != "null":
            yield number, parse_vector(line, name, f"line {number:,}")
            continue
        try:
            yield number, parse_json(line, f"{name}: line {number:,}")
        except UnreadableError as error:
            if line.lstrip()[0] == "[":  # as numpy prints them: without commas
                yield number, parse_vector(line, name, f"line {number:,}")
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
