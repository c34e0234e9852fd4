"""Which column holds the vectors, the texts and the ids, where it is not named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors.source import ReadOptions

TEXT_NAMES = ("text", "sentence", "document", "content", "page_content", "chunk", "passage", "body")
"""Columns that are taken for the stored texts, the first that is there."""
ID_NAMES = ("id", "_id", "ids", "uuid", "doc_id")
"""Columns that are taken for the ids of rows, the first that is there."""

# Names of columns that a message lists.
_LISTED = 20


@dataclass(frozen=True)
class Columns:
    """The columns of a source that are read; None for those that it does not have."""

    vector: str
    text: str | None
    id: str | None
    group: str | None

    @property
    def names(self) -> list[str]:
        """Those that are read, each once."""
        return list(dict.fromkeys(name for name in (self.vector, self.text, self.id, self.group) if name))


def choose_columns(
    widths: Mapping[str, int | None],
    texts: Sequence[str],
    others: Sequence[str],
    options: ReadOptions,
    name: str,
    what: str = "column",
    empty: Sequence[str] = (),
) -> Columns:
    """The columns to read.

    Args:
        widths: Columns that hold vectors, with how many numbers each: None where it is not known, 0 where it varies.
        texts: Columns that hold text.
        others: All other columns.
        options: What was named, and the width that the model reads.
        name: What is read, for messages.
        what: What a column is called there: "column", "key", "array".
        empty: Columns without a value in the rows that were looked at; they may hold texts, ids or groups.

    Raises:
        VectorSourceError: a named column is not there or of another type; none holds vectors, or several do.
    """
    filled = [*widths, *texts, *others]
    every = [*filled, *empty]

    def named(column: str | None, allowed: Sequence[str], holds: str, flag: str) -> str | None:
        if column is None or column in allowed:
            return column
        problem = f"holds no {holds}" if column in every else "is not there"
        raise VectorSourceError(
            f"{name}: the {what} `{column}` {problem}; there are {describe(widths, texts, [*others, *empty])}.",
            f"Name another one with {flag}.",
        )

    return Columns(
        named(options.column, list(widths), "vectors", "--column")
        or _find_vectors(widths, texts, [*others, *empty], options.width, name, what),
        named(options.text_column, [*texts, *empty], "text", "--text-column")
        or _first(TEXT_NAMES, texts)
        or _first(TEXT_NAMES, empty),
        named(options.id_column, [*texts, *others, *empty], "ids", "--ids")
        or _first(ID_NAMES, filled)
        or _first(ID_NAMES, empty),
        named(options.group_column, [*texts, *others, *empty], "groups", "--mean-by"),
    )


def _find_vectors(
    widths: Mapping[str, int | None],
    texts: Sequence[str],
    others: Sequence[str],
    width: int | None,
    name: str,
    what: str,
) -> str:
    # A single one of another width is taken: what reads it can say more about it.
    fitting = [c for c, n in widths.items() if n is None or (n == width if width else n > 0)] or list(widths)
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise VectorSourceError(
            f"{name} has no {what} of vectors; there are {describe(widths, texts, others)}.",
            "A vector is a list of numbers; name where it is with --column.",
        )
    raise VectorSourceError(
        f"{name} has {len(fitting)} {what}s of vectors: {describe({c: widths[c] for c in fitting})}.",
        f"Name one with --column, for example --column {fitting[0]}",
    )


def _first(names: Sequence[str], found: Sequence[str]) -> str | None:
    return next((name for name in names if name in found), None)


def describe(widths: Mapping[str, int | None], texts: Sequence[str] = (), others: Sequence[str] = ()) -> str:
    """Columns for a message: "emb (384 numbers), text, id"."""
    names = [f"{column} ({width:,} numbers)" if width else column for column, width in widths.items()]
    names += [*texts, *others]
    return (", ".join(names[:_LISTED]) or "none") + (
        f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    )
