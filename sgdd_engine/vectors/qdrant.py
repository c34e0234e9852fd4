"""Qdrant collections, through its own client: a server, or the folder of a local client."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sgdd_engine.errors import VectorSourceError
from sgdd_engine.paths_and_shells import is_url
from sgdd_engine.vectors.columns import Columns, choose_columns
from sgdd_engine.vectors.rows import Row, batches_of
from sgdd_engine.vectors.source import OpenSource, ReadOptions, client_missing
from sgdd_engine.vectors.stores import (
    as_text,
    choose_table,
    keys_of,
    lookup,
    parse_condition,
    reason_of,
    split_secret,
)

_FILE = "meta.json"
_PORTS = (6333, 6334)
# Points whose payloads are looked at for the keys that there are.
_SAMPLED = 100
# Until a page of many wide vectors is there; the client gives up after 5.
_SECONDS = 60
# From here on its client advises against a local folder (`LARGE_DATA_THRESHOLD`).
_MANY = 20_000
# How the only vector of a collection without named vectors is called.
_UNNAMED = "vector"


def matches(where: str) -> bool:
    """Folders of a local client (`meta.json` beside `collection`), and URLs with Qdrant's port or of its cloud."""
    if where.startswith(("http://", "https://")):
        host = urlsplit(where).netloc
        return host.endswith(tuple(f":{port}" for port in _PORTS)) or ".cloud.qdrant.io" in host
    return (Path(where) / _FILE).is_file() and (Path(where) / "collection").is_dir()


def open(where: str, options: ReadOptions) -> OpenSource:
    """A collection by ascending id; of several named vectors the one that `column` names, or that fits the width.

    Texts, ids and groups are keys of the payload, `a.b` inside others; `where` is `key=value`, or a Qdrant filter as
    JSON (https://qdrant.tech/documentation/concepts/filtering/). A key for a server stands in the URL:
    `https://KEY@host:6333`. A server is read in pages, and scales vectors of a collection with cosine distance to unit
    length when they are added; a local folder is loaded by the client as a whole, and locked for other processes.

    Raises:
        VectorSourceError: there is no such folder, server, collection, vector or key; another process has the folder
            open; or the filter is none.
    """
    url, secret = split_secret(where)
    local = not is_url(url)
    name = f"Qdrant {'folder' if local else 'server'} `{url}`"
    client = _client(url, secret, name)
    try:
        found = sorted(collection.name for collection in client.get_collections().collections)
        table = choose_table(found, options.table, name)
        name = f"{name}, collection {table}"
        vectors, unnamed = _vectors(client.get_collection(table).config.params.vectors)
        condition = _filter(options.where)
        sample, _ = client.scroll(table, condition, limit=_SAMPLED, with_payload=True)
        payload = keys_of([point.payload for point in sample])
        texts = [key for key, value in payload.items() if isinstance(value, str)]
        others = [key for key in payload if key not in texts]
        columns = choose_columns(vectors, texts, others, options, name, "vector or key")
        rows = client.count(table, condition, exact=True).count
    except Exception as error:  # its errors have no common class
        client.close()
        raise _unreadable(name, error) from error
    # `id` of a payload may be anything; the id of a point is the row's, unless another key is named.
    columns = Columns(columns.vector, columns.text, options.id_column, columns.group)
    notes = []
    if local and rows > _MANY:
        notes.append(
            "Qdrant's client loads a local folder into memory as a whole; a server is read in pages."
        )
    batches = batches_of(
        _rows(client, table, condition, columns, unnamed, name, options),
        name,
        options.batch_rows,
        texts=columns.text is not None,
        groups=columns.group is not None,
    )
    return OpenSource(name, rows, tuple(notes), batches)


def _client(url: str, secret: str | None, name: str) -> Any:  # noqa: ANN401 - a class of a package that may be missing
    local = not is_url(url)
    if local and not (Path(url) / _FILE).is_file():  # the client would make it
        problem = f"holds no `{_FILE}`" if Path(url).is_dir() else "is not there"
        raise VectorSourceError(
            f"{name} {problem}.",
            "Name the folder that was given to QdrantClient(path=…); the storage of a server is read through its URL.",
        )
    try:
        from qdrant_client import QdrantClient  # noqa: PLC0415 - an extra, and it takes seconds
    except ImportError as error:
        raise client_missing("a Qdrant collection", "qdrant", error) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a local folder is for small collections, a key for https
            if local:
                return QdrantClient(path=url)
            port = urlsplit(url).port or _PORTS[0]
            return QdrantClient(
                url=url, port=port, api_key=secret, timeout=_SECONDS, check_compatibility=False
            )
    except Exception as error:  # as in `open`
        raise _unreadable(name, error) from error


def _vectors(params: Any) -> tuple[dict[str, int | None], bool]:  # noqa: ANN401 - models of the client
    """Widths of a collection's vectors by name, and whether the only one has no name."""
    unnamed = not isinstance(params, dict)
    named = {_UNNAMED: params} if unnamed else params
    # A multivector is a matrix: one vector for each token of a text.
    single = {key: vector for key, vector in named.items() if vector.multivector_config is None}
    return {key: int(vector.size) for key, vector in single.items()}, unnamed


def _filter(where: str | None) -> Any:  # noqa: ANN401 - a model of the client
    from qdrant_client import models  # noqa: PLC0415 - an extra

    if where is None:
        return None
    condition = parse_condition(where)
    if isinstance(condition, dict):
        try:
            return models.Filter.model_validate(condition)
        except ValueError as error:
            raise VectorSourceError(
                f"--where is not a filter of Qdrant: {'; '.join(str(error).splitlines()[1:3])}.",
                'Write key=value, or JSON: {"must": [{"key": "topic", "match": {"value": "law"}}]}',
            ) from error
    key, value = condition
    if isinstance(value, float):  # Qdrant matches whole numbers, texts and truth values alone
        return models.Filter(must=[models.FieldCondition(key=key, range=models.Range(gte=value, lte=value))])
    return models.Filter(must=[models.FieldCondition(key=key, match=models.MatchValue(value=value))])


def _rows(
    client: Any,  # noqa: ANN401 - as above
    table: str,
    condition: Any,  # noqa: ANN401
    columns: Columns,
    unnamed: bool,
    name: str,
    options: ReadOptions,
) -> Iterator[Row]:
    offset, read = None, 0
    try:
        while True:
            try:
                points, offset = client.scroll(
                    table,
                    condition,
                    limit=options.batch_rows,
                    offset=offset,
                    with_payload=True,
                    with_vectors=True if unnamed else [columns.vector],
                )
            except Exception as error:  # as in `open`
                raise _unreadable(name, error, read) from error
            for point in points:
                vector = point.vector if unnamed else (point.vector or {}).get(columns.vector)
                text, own, group = (
                    lookup(point.payload, key) if key else None
                    for key in (columns.text, columns.id, columns.group)
                )
                yield Row(str(point.id if own is None else own), vector, as_text(text), as_text(group))
            read += len(points)
            if offset is None:
                return
    finally:
        client.close()


def _unreadable(name: str, error: Exception, rows: int | None = None) -> VectorSourceError:
    if isinstance(error, VectorSourceError):
        return error
    reason = reason_of(error)
    hint = "Check the folder or server, and the filter of --where if there is one."
    if "already accessed" in reason:
        return VectorSourceError(
            f"{name} is locked: another process has it open.",
            "Close that one, or run a Qdrant server for both.",
        )
    if "refused" in reason or "imed out" in reason:
        hint = "Check that it runs, and the port (6333)."
    after = "" if rows is None else f" after row {rows:,}"
    return VectorSourceError(f"{name} cannot be read{after}: {reason}.", hint)
