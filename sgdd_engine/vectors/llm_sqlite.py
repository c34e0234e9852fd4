"""The embeddings that the command-line tool `llm` keeps in a SQLite file."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sgdd_engine.bounded_files import parse_json
from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors.rows import Row, batches_of
from sgdd_engine.vectors.source import OpenSource, ReadOptions, refuse_options
from sgdd_engine.vectors.stores import as_text, choose_table, listed, lookup, reason_of

_MAGIC = b"SQLite format 3\0"
# How long another program's transaction is waited for.
_LOCK_SECONDS = 2.0


def matches(where: str) -> bool:
    """SQLite files, by their first bytes."""
    path = Path(where)
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


def open(where: str, options: ReadOptions) -> OpenSource:
    """A collection in the order in which it was written; `where` is an SQL condition on the table `embeddings`.

    Vectors are little-endian float32 (https://llm.datasette.io/en/stable/embeddings/storage.html). The file is opened
    for reading only, and locked only while a batch is read.

    Raises:
        VectorSourceError: there is no such file or collection, it is no database of `llm`, it is locked, or SQLite
            cannot read the condition.
    """
    name = f"SQLite file `{where}`"
    refuse_options(options, name, "column", "text_column", "id_column")
    path = Path(where)
    if not path.is_file():
        raise VectorSourceError(
            f"There is no file `{where}`.", "Check the name; `llm collections path` prints it."
        )
    with _database(path, name) as database:
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"collections", "embeddings"} <= tables:
            raise VectorSourceError(
                f"{name} was not written by llm: it lacks the tables `collections` and `embeddings`, and has "
                f"{listed(sorted(tables))}.",
                "Other SQLite files are read after an export to Parquet, CSV or JSON lines.",
            )
        found = {
            row[1]: row for row in database.execute("SELECT id, name, model FROM collections ORDER BY id")
        }
        table = choose_table(list(found), options.table, name)
        number, _, model = found[table]
        condition = "collection_id = ?" + (f" AND ({options.where})" if options.where else "")
        (rows,) = database.execute(f"SELECT count(*) FROM embeddings WHERE {condition}", (number,)).fetchone()
        texts = "SELECT 1 FROM embeddings WHERE collection_id = ? AND content IS NOT NULL LIMIT 1"
        has_texts = database.execute(texts, (number,)).fetchone() is not None
    name = f"{name}, collection {table}"
    batches = batches_of(
        _rows(path, name, number, condition, options),
        name,
        options.batch_rows,
        texts=has_texts,
        groups=options.group_column is not None,
    )
    return OpenSource(f"{name}, vectors of the model {model}", rows, (), batches)


@contextmanager
def _database(path: Path, name: str) -> Iterator[sqlite3.Connection]:
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_LOCK_SECONDS)
        ) as database:
            yield database
    except sqlite3.Error as error:
        reason = reason_of(error)
        hint = "Check the file, and the condition of --where if there is one."
        if "locked" in reason:
            hint = "Another program is writing to it: close that one, and try again."
        raise VectorSourceError(f"{name} cannot be read: {reason}.", hint) from error


def _rows(path: Path, name: str, collection: int, condition: str, options: ReadOptions) -> Iterator[Row]:
    last = -1
    while True:
        # Each batch is a transaction of its own: one that stayed open while text is written would lock writers out.
        with _database(path, name) as database:
            page = database.execute(
                f"SELECT rowid, id, embedding, content, metadata FROM embeddings WHERE {condition} AND rowid > ? "
                "ORDER BY rowid LIMIT ?",
                (collection, last, options.batch_rows),
            ).fetchall()
        for _, key, blob, text, metadata in page:
            yield Row(str(key), _vector(blob, name, key), text, _group(metadata, options.group_column))
        if len(page) < options.batch_rows:
            return
        last = page[-1][0]


def _vector(blob: bytes | None, name: str, key: str) -> Any:  # noqa: ANN401 - float32 [D], or None
    if blob is None:
        return None
    if not isinstance(blob, bytes) or len(blob) % 4:
        raise VectorSourceError(f"{name}: the vector of row {key} is not a sequence of float32 numbers.")
    return np.frombuffer(blob, "<f4")


def _group(metadata: str | None, key: str | None) -> str | None:
    if key is None or not metadata:
        return None
    return as_text(lookup(parse_json(metadata, "The metadata of a row"), key))
