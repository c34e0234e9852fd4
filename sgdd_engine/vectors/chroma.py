"""Chroma collections, through its own client: a folder that Chroma keeps, or a server."""

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sgdd_engine.errors import VectorSourceError
from sgdd_engine.paths_and_shells import is_url
from sgdd_engine.vectors.rows import Row, batches_of
from sgdd_engine.vectors.source import OpenSource, ReadOptions, client_missing, refuse_options
from sgdd_engine.vectors.stores import (
    as_text,
    check_keys,
    choose_table,
    keys_of,
    lookup,
    parse_condition,
    reason_of,
    split_secret,
)

_FILE = "chroma.sqlite3"
_PORT = 8000  # of `chroma run`, unless it is told another one
# Rows whose metadata are looked at for the keys that there are.
_SAMPLED = 100
# Chroma calls the texts of a collection its documents.
_DOCUMENT = "document"
_WRITES = "Chroma's client writes to a folder that it opens (a lock, index files); the rows stay as they are."


def matches(where: str) -> bool:
    """Folders that hold `chroma.sqlite3`, and URLs with Chroma's port 8000 or of its cloud."""
    if where.startswith(("http://", "https://")):
        return urlsplit(where).netloc.endswith((f":{_PORT}", ".trychroma.com"))
    return (Path(where) / _FILE).is_file()


def open(where: str, options: ReadOptions) -> OpenSource:
    """A collection, in Chroma's order (that of insertion).

    Texts are the documents, or a key of the metadata; `where` is `key=value` on the metadata, or one of Chroma's
    filters as JSON. A key for a server stands in the URL, and so do tenant and database where they are not the
    default ones: `https://KEY@api.trychroma.com/TENANT/DATABASE`.

    Chroma has no mode for reading only. When its client opens a folder, it adds a row to its table `acquire_write`,
    and writes the index files of collections smaller than `hnsw:sync_threshold` anew; rows are not changed, and a
    folder of an older version is not converted.

    Raises:
        VectorSourceError: there is no such folder, server, collection or key, or Chroma refuses to read it.
    """
    url, secret = split_secret(where)
    name = f"Chroma {'server' if '://' in url else 'folder'} `{url}`"
    refuse_options(options, name, "column")
    conditions = _conditions(options)
    with _client(url, secret, name) as client:
        found = sorted(collection.name for collection in client.list_collections())
        table = choose_table(found, options.table, name)
        collection = client.get_collection(table, embedding_function=None)
        total = collection.count()
        sample = collection.get(limit=_SAMPLED, include=["documents", "metadatas"], **conditions)
    name = f"{name}, collection {table}"
    texts = None if options.text_column == _DOCUMENT else options.text_column
    check_keys(
        name,
        [_DOCUMENT, *keys_of(sample["metadatas"])],
        {"--text-column": texts, "--ids": options.id_column, "--mean-by": options.group_column},
        rows=len(sample["ids"]),
    )
    batches = batches_of(
        _rows(url, secret, table, conditions, texts, name, options),
        name,
        options.batch_rows,
        texts=texts is not None or any(document is not None for document in sample["documents"]),
        groups=options.group_column is not None,
    )
    notes = () if is_url(url) else (_WRITES,)
    return OpenSource(name, None if conditions else total, notes, batches)


@contextmanager
def _client(url: str, secret: str | None, name: str) -> Iterator[Any]:
    """A client of Chroma, whose errors are those of this package."""
    local = not is_url(url)
    if local and not (Path(url) / _FILE).is_file():  # Chroma would make it
        problem = f"holds no `{_FILE}`" if Path(url).is_dir() else "is not there"
        raise VectorSourceError(
            f"{name} {problem}.", "Name the folder that was given to chromadb.PersistentClient."
        )
    try:
        import chromadb  # noqa: PLC0415 - an extra, and it takes seconds
        from chromadb.config import Settings  # noqa: PLC0415
    except ImportError as error:
        raise client_missing("a Chroma collection", "chroma", error) from error
    try:
        if local:
            # `validate`: a folder of an older version is refused instead of rewritten.
            settings = Settings(anonymized_telemetry=False, migrations="validate")
            client = chromadb.PersistentClient(url, settings)
        else:
            parts = urlsplit(url)
            place = dict(zip(("tenant", "database"), filter(None, parts.path.split("/")), strict=False))
            client = chromadb.HttpClient(
                parts.hostname or "localhost",
                parts.port or (443 if parts.scheme == "https" else _PORT),
                ssl=parts.scheme == "https",
                headers={"X-Chroma-Token": secret} if secret else None,
                settings=Settings(anonymized_telemetry=False),
                **place,
            )
        with client:
            yield client
    except VectorSourceError:
        raise
    except Exception as error:  # its errors have no common class
        reason = reason_of(error)
        hint = "Check the folder or server, and the filter of --where if there is one."
        if "migrations" in reason:
            hint = (
                "It was written by another version of Chroma; open a copy of the folder with chromadb once."
            )
        elif "Could not connect" in reason or "refused" in reason:
            hint = "Start it: chroma run --path FOLDER"
        raise VectorSourceError(f"{name} cannot be read: {reason}.", hint) from error


def _conditions(options: ReadOptions) -> dict[str, Any]:
    if options.where is None:
        return {}
    condition = parse_condition(options.where)
    return {"where": condition if isinstance(condition, dict) else dict([condition])}


def _rows(
    url: str,
    secret: str | None,
    table: str,
    conditions: Mapping[str, Any],
    texts: str | None,
    name: str,
    options: ReadOptions,
) -> Iterator[Row]:
    with _client(url, secret, name) as client:
        collection = client.get_collection(table, embedding_function=None)
        include = ["embeddings", "documents", "metadatas"]
        for start in itertools.count(0, options.batch_rows):
            page = collection.get(limit=options.batch_rows, offset=start, include=include, **conditions)
            for key, vector, document, metadata in zip(
                page["ids"], page["embeddings"], page["documents"], page["metadatas"], strict=True
            ):
                own = lookup(metadata, options.id_column) if options.id_column else None
                text = lookup(metadata, texts) if texts else document
                group = lookup(metadata, options.group_column) if options.group_column else None
                yield Row(str(key if own is None else own), vector, as_text(text), as_text(group))
            if len(page["ids"]) < options.batch_rows:
                return
