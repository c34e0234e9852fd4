"""LanceDB tables, through its own client: a folder of `.lance` folders, or any address that LanceDB takes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from sgdd_engine.errors import VectorSourceError
from sgdd_engine.paths_and_shells import is_url
from sgdd_engine.vectors.source import OpenSource, ReadOptions, client_missing
from sgdd_engine.vectors.stores import choose_table, reason_of

_ENDING = ".lance"


def matches(where: str) -> bool:
    """A folder that holds folders ending in `.lance`, or one of these."""
    path = Path(where)
    return path.is_dir() and (path.suffix == _ENDING or any(path.glob(f"*{_ENDING}/_versions")))


def open(where: str, options: ReadOptions) -> OpenSource:
    """The newest version of a table, in the order of its rows; `where` is an SQL condition that Lance evaluates.

    Raises:
        VectorSourceError: there is no such folder, table or column, or Lance cannot read the condition.
    """
    place, table = where, options.table
    if Path(where).suffix == _ENDING and table is None:
        place, table = str(Path(where).parent), Path(where).stem
    name = f"LanceDB folder `{place}`"
    if not is_url(place) and not Path(place).is_dir():  # the client would make it
        raise VectorSourceError(f"{name} is not there.", "Name the folder that was given to lancedb.connect.")
    try:
        import lancedb  # noqa: PLC0415 - an extra, and it takes seconds
    except ImportError as error:
        raise client_missing("a LanceDB table", "lancedb", error) from error
    try:
        database = lancedb.connect(place)
        table = choose_table(sorted(_tables(database)), table, name, "table")
        name = f"{name}, table {table}"
        opened = database.open_table(table)
        rows, schema = opened.count_rows(options.where), opened.schema
    except Exception as error:  # its errors have no common class
        raise _unreadable(name, error) from error
    # After its client, which makes pandas and pyarrow start in seconds.
    from sgdd_engine.vectors.arrow_tables import open_tables  # noqa: PLC0415 - loads pyarrow

    def read(columns: list[str]) -> Iterator[Any]:
        try:
            query = opened.search().select(columns)
            if options.where is not None:
                query = query.where(options.where)
            yield from query.to_batches(batch_size=options.batch_rows)
        except Exception as error:  # as above
            raise _unreadable(name, error) from error

    return open_tables(name, schema, read, rows, replace(options, where=None, table=None))


def _tables(database: Any) -> Iterator[str]:  # noqa: ANN401 - a class of a package that may be missing
    page = database.list_tables()
    yield from page.tables
    while page.page_token:
        page = database.list_tables(page_token=page.page_token)
        yield from page.tables


def _unreadable(name: str, error: Exception) -> VectorSourceError:
    if isinstance(error, VectorSourceError):
        return error
    return VectorSourceError(
        f"{name} cannot be read: {reason_of(error)}.",
        "Check the folder, and the condition of --where if there is one: --where \"topic = 'law'\"",
    )
