"""Vectors in PostgreSQL: columns of pgvector's types `vector` and `halfvec`, and arrays `real[]`, through psycopg."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors.columns import Columns, choose_columns
from sgdd_engine.vectors.rows import Row, batches_of
from sgdd_engine.vectors.source import OpenSource, ReadOptions, client_missing
from sgdd_engine.vectors.stores import choose_table, reason_of

_VECTORS = ("vector", "halfvec", "_float4", "_float8")
_TEXTS = ("text", "varchar", "bpchar")
# Seconds until a server that does not answer is given up; libpq waits for minutes.
_CONNECT_SECONDS = 10
# Counting the rows of a larger table takes longer than a user waits for the first line.
_COUNTED_ROWS = 10_000_000

_CATALOG = """
SELECT c.oid, n.nspname, c.relname, pg_table_is_visible(c.oid), c.reltuples,
       a.attname, t.typname, a.atttypmod, coalesce(a.attnum = ANY (i.indkey), false)
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%'
  AND has_table_privilege(c.oid, 'SELECT')
ORDER BY n.nspname, c.relname, array_position(i.indkey::smallint[], a.attnum), a.attnum
"""


@dataclass
class _Table:
    """A table or view of the catalog."""

    schema: str
    relation: str
    estimate: float
    vectors: dict[str, int | None] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    key: list[str] = field(default_factory=list)


def matches(where: str) -> bool:
    """URLs that begin with `postgresql://` or `postgres://`."""
    return where.startswith(("postgresql://", "postgres://"))


def open(where: str, options: ReadOptions) -> OpenSource:
    """A column of vectors, by the primary key if there is one, else as the table lies on disk.

    The column is found by its type in the catalog. `where` is an SQL condition. All is read in a transaction that is
    read-only, with a cursor on the server.

    Args:
        where: `postgresql://user:password@host/database`, or what libpq takes, such as `dbname=mine`.
        options: As for each source.

    Raises:
        VectorSourceError: there is no such server, database, table or column, or PostgreSQL refuses the condition.
    """
    psycopg = _client()
    name = _name(psycopg, where)
    with _connection(psycopg, where, name) as connection:
        tables = _tables(connection)
        table = tables[_choose(tables, options, name)]
        name = f"{name}, table {table.relation}"
        columns = choose_columns(table.vectors, table.texts, table.others, options, name)
        key = [options.id_column] if options.id_column else table.key or ([columns.id] if columns.id else [])
        source = _from(psycopg.sql, table, options.where)
        rows = None
        if table.estimate <= _COUNTED_ROWS:
            rows = connection.execute(psycopg.sql.SQL("SELECT count(*)") + source).fetchone()[0]
    name = f"{name}, column {columns.vector}"
    query = _select(psycopg.sql, columns, key) + source + _order(psycopg.sql, table.key)
    batches = batches_of(
        _rows(psycopg, where, query, name, options.batch_rows),
        name,
        options.batch_rows,
        texts=columns.text is not None,
        groups=columns.group is not None,
    )
    return OpenSource(name, rows, (), batches)


def _client() -> Any:  # noqa: ANN401 - a package that may be missing
    try:
        import psycopg  # noqa: PLC0415 - an extra
        import psycopg.sql  # noqa: PLC0415
    except ImportError as error:
        raise client_missing("a PostgreSQL table", "pgvector", error) from error
    return psycopg


def _name(psycopg: Any, where: str) -> str:  # noqa: ANN401 - as above
    """The database without user and password."""
    try:
        found = psycopg.conninfo.conninfo_to_dict(where)
    except psycopg.Error as error:
        raise VectorSourceError(
            f"The address of the PostgreSQL database cannot be read: {reason_of(error)}.",
            "Write postgresql://user:password@host:5432/database",
        ) from error
    return f"PostgreSQL database `{found.get('dbname') or 'of the user'}` on {found.get('host') or 'this machine'}"


@contextmanager
def _connection(psycopg: Any, where: str, name: str) -> Iterator[Any]:  # noqa: ANN401 - as above
    """A read-only transaction that is never committed."""
    parameters = {"connect_timeout": _CONNECT_SECONDS} | psycopg.conninfo.conninfo_to_dict(where)
    try:
        connection = psycopg.connect(**parameters)
    except psycopg.Error as error:
        # The reason stands behind each address that was tried.
        reason = str(error).splitlines()[-1].strip().rstrip(".")
        raise VectorSourceError(
            f"{name} cannot be reached: {reason}.",
            "Check that the server runs, and the address, user and password.",
        ) from error
    try:
        connection.read_only = True
        # Writing the texts of a batch takes longer than a server may wait for the next command.
        connection.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        # Otherwise a scan of a large table may begin in its middle, where another one just is.
        connection.execute("SET LOCAL synchronize_seqscans = off")
        yield connection
        connection.rollback()
    except psycopg.Error as error:
        raise VectorSourceError(
            f"{name} cannot be read: {reason_of(error)}.",
            "Check the server, and the condition of --where if there is one: --where \"topic = 'law'\"",
        ) from error
    finally:
        connection.close()


def _tables(connection: Any) -> dict[str, _Table]:  # noqa: ANN401 - as above
    """Tables that hold vectors, by the name that they have in a query."""
    found: dict[str, _Table] = {}
    for _, schema, relation, visible, estimate, column, kind, modifier, in_key in connection.execute(
        _CATALOG
    ):
        table = found.setdefault(
            relation if visible else f"{schema}.{relation}", _Table(schema, relation, estimate)
        )
        if kind in _VECTORS:
            table.vectors[column] = modifier if modifier > 0 and not kind.startswith("_") else None
        else:
            (table.texts if kind in _TEXTS else table.others).append(column)
        if in_key:
            table.key.append(column)
    return {name: table for name, table in found.items() if table.vectors}


def _choose(tables: dict[str, _Table], options: ReadOptions, name: str) -> str:
    names = list(tables)
    wanted = options.table
    if wanted is None and options.width is not None:
        names = [found for found, table in tables.items() if options.width in table.vectors.values()] or names
    elif wanted is not None:
        full = {f"{table.schema}.{table.relation}": found for found, table in tables.items()}
        wanted = full.get(wanted, wanted)
    return choose_table(names, wanted, name, "vector table")


def _select(sql: Any, columns: Columns, key: Sequence[str]) -> Any:  # noqa: ANN401 - as above
    def as_text(names: Sequence[str | None]) -> Any:  # noqa: ANN401
        parts = [sql.SQL("{}::text").format(sql.Identifier(name)) for name in names if name]
        return (
            sql.SQL("concat_ws('/', {})").format(sql.SQL(", ").join(parts))
            if parts[1:]
            else [*parts, sql.NULL][0]
        )

    # Names of their own: `ORDER BY id` would mean an output named id, which is text.
    return sql.SQL(
        "SELECT {} AS sgdd_id, {}::real[] AS sgdd_vector, {} AS sgdd_text, {} AS sgdd_group"
    ).format(as_text(key), sql.Identifier(columns.vector), as_text([columns.text]), as_text([columns.group]))


def _from(sql: Any, table: _Table, where: str | None) -> Any:  # noqa: ANN401 - as above
    source = sql.SQL(" FROM {}").format(sql.Identifier(table.schema, table.relation))
    # On lines of its own, so that a comment in it ends.
    return source + sql.SQL(" WHERE (\n" + where + "\n)") if where else source


def _order(sql: Any, key: Sequence[str]) -> Any:  # noqa: ANN401 - as above
    return sql.SQL(" ORDER BY ") + sql.SQL(", ").join(map(sql.Identifier, key)) if key else sql.SQL("")


def _rows(psycopg: Any, where: str, query: Any, name: str, batch_rows: int) -> Iterator[Row]:  # noqa: ANN401 - as above
    with _connection(psycopg, where, name) as connection, connection.cursor("sgdd") as cursor:
        cursor.itersize = batch_rows
        cursor.execute(query, binary=True)
        for number, (key, vector, text, group) in enumerate(cursor):
            yield Row(str(number) if key is None else key, vector, text, group)
