"""What a source of vectors is: rows of (id, vector, text), read in batches and in order.

A source is a module with `matches` and `open` (`VectorSource`), named by an entry point of the group `sgdd.vectors`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from sgdd_engine.errors import SgddError, VectorSourceError
from sgdd_engine.events import Listener, Notice

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class VectorBatch:
    """Some rows of a source, in its order.

    Attributes:
        ids: What identifies each row: the store's own key, or the number of the row from 0.
        vectors: [n, D] float32, as stored: neither scaled nor checked.
        texts: The stored text of each row, None for a row without one; None where the source has no texts.
        groups: The value of `ReadOptions.group_column` of each row, as text; None where none was asked for.
        left_out: Ids of the rows without a vector (null) between the batch before and the end of this one.
    """

    ids: Sequence[str]
    vectors: Vectors
    texts: Sequence[str | None] | None = None
    groups: Sequence[str] | None = None
    left_out: Sequence[str] = ()


@dataclass(frozen=True)
class ReadOptions:
    """What of a source is read. A source refuses what it has no use for (`refuse_options`).

    Attributes:
        column: The column, key or array that holds the vectors; by default it is found by type and width.
        text_column: The one that holds the texts; by default one of `columns.TEXT_NAMES`.
        id_column: The one that identifies rows; by default one of `columns.ID_NAMES`, else rows are numbered from 0.
        group_column: The one by whose values vectors are averaged.
        where: Which rows, in the language of the store.
        table: The table or collection of a database; by default the only one.
        batch_rows: Rows of a batch at most; memory grows with it, and results do not depend on it.
        width: Numbers of a vector that the model reads; tells the column where several hold vectors.
    """

    column: str | None = None
    text_column: str | None = None
    id_column: str | None = None
    group_column: str | None = None
    where: str | None = None
    table: str | None = None
    batch_rows: int = 1024
    width: int | None = None


@dataclass(frozen=True)
class OpenSource:
    """A source that is open for reading.

    Attributes:
        name: What is read, for messages: "Parquet file `x.parquet`, column `emb`".
        rows: How many rows there are, where the source tells it without being read.
        notes: What a reader should know, a sentence each, and what changes nothing of what is read.
        batches: The rows in the source's order, in constant memory. A fault raises `VectorSourceError` after the
            rows before it were given. Closing the iterator closes the source.
        repeatable: Whether it can be opened again and gives the same rows; a pipe cannot.
        warnings: What may change what is read, a sentence each: "A lossy index: its vectors are approximations."
    """

    name: str
    rows: int | None
    notes: tuple[str, ...]
    batches: Iterator[VectorBatch]
    repeatable: bool = True
    warnings: tuple[str, ...] = ()

    def report(self, on_event: Listener) -> None:
        """Tell a listener the warnings and notes."""
        for message in self.warnings:
            on_event(Notice(message, warning=True))
        for message in self.notes:
            on_event(Notice(message))


@runtime_checkable
class VectorSource(Protocol):
    """A kind of source: a module, or any object, with these two functions."""

    def matches(self, where: str) -> bool:
        """Whether `where` (a path, a URL) is of this kind; must not raise, and read no more than a few bytes."""

    def open(self, where: str, options: ReadOptions) -> OpenSource:
        """Open it and find its columns.

        Raises:
            VectorSourceError: there is nothing, it cannot be read, or it has no such column.
        """


# How the command line spells the fields of `ReadOptions`.
_FLAGS = {
    "column": "--column",
    "text_column": "--text-column",
    "id_column": "--ids",
    "group_column": "--mean-by",
    "where": "--where",
    "table": "--table",
}
_REASONS = {"where": "has no query language", "table": "has no tables"}


def refuse_options(options: ReadOptions, name: str, *fields: str) -> None:
    """Refuse options that a source cannot honour.

    Args:
        options: As given.
        name: What is read, as a message names it.
        fields: Names of the fields of `ReadOptions` that this source has no use for.

    Raises:
        VectorSourceError: one of them is given.
    """
    for field in fields:
        if getattr(options, field) is None:
            continue
        why = _REASONS.get(field, "has no columns to choose")
        raise VectorSourceError(
            f"{name} {why}, and {_FLAGS[field]} was given.", f"Leave {_FLAGS[field]} out."
        )


def client_missing(kind: str, extra: str, error: ImportError) -> SgddError:
    """The error for a source whose client library is not installed.

    Args:
        kind: What the client is for: "a Chroma collection".
        extra: The extra of sgdd that brings it.
        error: What the import raised.
    """
    return VectorSourceError(
        f"Reading {kind} needs its client, which is not installed ({error}).", f'pip install "sgdd[{extra}]"'
    )
