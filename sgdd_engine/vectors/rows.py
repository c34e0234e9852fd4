"""Rows of any kind as batches of vectors: the numbers are checked for kind and width, rows without a vector noted."""

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from sgdd_engine.errors import SgddError, VectorSourceError
from sgdd_engine.vectors.source import VectorBatch, Vectors


class Row(NamedTuple):
    """One row of a source.

    Attributes:
        id: What identifies it.
        vector: D numbers in any form that numpy takes; None for a row without one.
        text: Its stored text.
        group: The value of the column to group by, as text.
        place: Where it stands, for messages: "line 7"; by default `row <id>`.
    """

    id: str
    vector: Any
    text: str | None = None
    group: str | None = None
    place: str | None = None


def batches_of(
    rows: Iterable[Row],
    name: str,
    batch_rows: int,
    *,
    texts: bool = False,
    groups: bool = False,
) -> Iterator[VectorBatch]:
    """Rows in batches; what came before a fault is given before the fault is raised.

    Args:
        rows: The rows of the source in their order; closed with the batches.
        name: What is read, for messages.
        batch_rows: Rows of a batch at most.
        texts: Whether the source has texts.
        groups: Whether rows are grouped.

    Raises:
        VectorSourceError: a vector is no list of numbers, or of another width than the first one; and whatever the
            rows raise.
    """
    kept: list[Row] = []
    vectors: list[Vectors] = []
    left_out: list[str] = []
    width: int | None = None

    def batch() -> VectorBatch:
        made = VectorBatch(
            [row.id for row in kept],
            np.stack(vectors) if vectors else np.empty((0, width or 0), np.float32),
            [row.text for row in kept] if texts else None,
            [row.group or "" for row in kept] if groups else None,
            tuple(left_out),
        )
        kept.clear()
        vectors.clear()
        left_out.clear()
        return made

    iterator = iter(rows)
    fault: SgddError | None = None
    while fault is None:
        try:
            row = next(iterator, None)
            if row is None:
                break
            if row.vector is None:
                left_out.append(row.id)
            else:
                vector = as_vector(row.vector, name, row.place or f"row {row.id}")
                width = same_width(len(vector), width, name, row.place or f"row {row.id}")
                kept.append(row)
                vectors.append(vector)
        except SgddError as error:
            fault = error
        if len(kept) == batch_rows or len(left_out) == batch_rows:
            yield batch()
    if kept or left_out:
        yield batch()
    if fault is not None:
        if isinstance(iterator, Generator):
            iterator.close()  # or the traceback would keep a connection open that it holds
        raise fault


def as_vector(value: Any, name: str, place: str) -> Vectors:  # noqa: ANN401 - any list of numbers
    """A list of numbers as float32 [D]; numbers that are not finite are kept, for the reader to judge.

    Raises:
        VectorSourceError: it is no flat list of numbers, or empty.
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, OverflowError):
        array = np.empty(0, object)
    if array.ndim != 1 or not array.size or array.dtype.kind not in "fiu":
        raise VectorSourceError(
            f"{name} has no vector in {place}: {shorten(value)}.",
            "A vector is a list of numbers, all of them given.",
        )
    return as_float32(array)


def as_float32(array: Any) -> Vectors:  # noqa: ANN401 - numbers of any type, layout and byte order
    """Numbers as float32 in native byte order, row by row; what is too large becomes infinite."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def same_width(width: int, before: int | None, name: str, place: str) -> int:
    """The width of a vector, if those before have the same.

    Raises:
        VectorSourceError: they do not.
    """
    if before is not None and width != before:
        raise VectorSourceError(
            f"{name} mixes widths: the vector in {place} has {width:,} numbers, and those before it {before:,}.",
            "Keep the vectors of one encoder in one column or file.",
        )
    return width


def numbered(start: int, count: int) -> Sequence[str]:
    """Ids of rows that have none of their own: their numbers from 0."""
    return [str(number) for number in range(start, start + count)]


def shorten(value: object) -> str:
    """A value as a short text for a message."""
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
