"""Vectors in Arrow tables, however they are stored: lists of numbers, also of fixed size, also inside a struct."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors.columns import ID_NAMES, TEXT_NAMES, Columns, choose_columns, describe
from sgdd_engine.vectors.rows import as_float32, same_width
from sgdd_engine.vectors.source import OpenSource, ReadOptions, VectorBatch, Vectors, refuse_options
from sgdd_engine.vectors.stores import as_text

Tables = Iterable["pa.RecordBatch | pa.Table"]

_CONDITION = re.compile(r"\s*([\w.]+)\s*(==|=|!=|<=|>=|<|>)\s*(.+?)\s*")
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "=": pc.equal,
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}


def open_tables(
    name: str,
    schema: "pa.Schema",
    read: Callable[[list[str]], Tables],
    rows: int | None,
    options: ReadOptions,
    notes: tuple[str, ...] = (),
    *,
    files: Mapping[str, "pa.Schema"] | None = None,
) -> OpenSource:
    """Open Arrow tables as a source of vectors.

    Args:
        name: What is read, for messages.
        schema: Of the tables; of the first file where there are several.
        read: Gives tables of some top-level columns, from the first row; called again for each reading.
        rows: How many rows there are, where it is known.
        options: Columns and conditions; `where` is `column op value`, several joined by `and`.
        notes: What a reader should know.
        files: The schema of each file by its name, where the tables lie in several.

    Raises:
        VectorSourceError: no such column, or several that may be meant; or a file lacks a column that is read.
    """
    refuse_options(options, name, "table")
    types, lacking = _columns_of(files or {name: schema})
    named = (options.column, options.text_column, options.id_column, options.group_column)
    _refuse_lacking(named, lacking, name)
    lists = {column: _width(kind) for column, kind in types.items() if _is_vector(kind)}
    unknown = [column for column, kind in _fields(schema) if column in lists and lists[column] is None]
    if options.column is None and len(lists) > 1 and unknown:
        lists |= _widths_of_first(read, unknown)
    texts = [column for column, kind in types.items() if _is_text(kind) and column not in lacking]
    empty = [column for column, kind in types.items() if pa.types.is_null(kind) and column not in lacking]
    others = [column for column in types if column not in (*lists, *texts, *empty, *lacking)]
    columns = choose_columns(lists, texts, others, options, name, empty=empty)
    conditions = _parse(options.where, types, name, describe(lists, texts, [*others, *empty]))
    wanted = [*columns.names, *(condition.column for condition in conditions)]
    _refuse_lacking(wanted, lacking, name)
    usual = (TEXT_NAMES if options.text_column is None else ()) + (
        ID_NAMES if options.id_column is None else ()
    )
    notes += tuple(
        f"The column `{column}` is not read: {lacking[column]}." for column in usual if column in lacking
    )
    top = list(dict.fromkeys(column if column in schema.names else column.split(".")[0] for column in wanted))
    name = f"{name}, column {columns.vector}"
    batches = _batches(read(top), columns, conditions, name, options.batch_rows)
    return OpenSource(name, None if conditions else rows, notes, batches)


def _columns_of(files: Mapping[str, "pa.Schema"]) -> tuple[dict[str, "pa.DataType"], dict[str, str]]:
    """The columns of all files by type; and what is wrong with those that a file lacks, or has of another kind."""
    known: dict[str, tuple[str, pa.DataType]] = {}
    for file, schema in files.items():
        for column, kind in _fields(schema):
            if column not in known or pa.types.is_null(known[column][1]):
                known[column] = file, kind
    lacking: dict[str, str] = {}
    for file, schema in files.items():
        own = dict(_fields(schema))
        for column, (other, kind) in known.items():
            if column not in own:
                lacking.setdefault(column, f"`{file}` has no column `{column}`, which `{other}` has")
            # In a file where it has no value at all, a column is often of the type `null`.
            elif not pa.types.is_null(own[column]) and _kind(own[column]) != _kind(kind):
                lacking.setdefault(
                    column, f"`{column}` is of type {own[column]} in `{file}`, and {kind} in `{other}`"
                )
    return {column: kind for column, (_, kind) in known.items()}, lacking


def _kind(kind: "pa.DataType") -> str:
    """What the values of a column are, however they are stored."""
    if _is_vector(kind):
        return "vectors"
    if _is_text(kind):
        return "text"
    return "numbers" if pa.types.is_integer(kind) or pa.types.is_floating(kind) else str(kind)


def _refuse_lacking(columns: Iterable[str | None], lacking: Mapping[str, str], name: str) -> None:
    for column in columns:
        if column is not None and column in lacking:
            raise VectorSourceError(
                f"{name}: {lacking[column]}.",
                "Name columns that all files have with --column, --text-column and --ids, or read the files one "
                "by one.",
            )


def _fields(fields: Any, prefix: str = "") -> Iterator[tuple[str, "pa.DataType"]]:  # noqa: ANN401 - a schema or a struct
    for field in fields:
        if pa.types.is_struct(field.type):
            yield from _fields(field.type, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", _storage(field.type)


def _storage(kind: "pa.DataType") -> "pa.DataType":
    """The type behind an extension type, such as that of tensors of a fixed shape."""
    return _storage(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else kind


def _is_vector(kind: "pa.DataType") -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_list(kind) for is_list in lists):
        return False
    return bool(pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type))


def _is_text(kind: "pa.DataType") -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _width(kind: "pa.DataType") -> int | None:
    return int(kind.list_size) if pa.types.is_fixed_size_list(kind) else None


def _widths_of_first(read: Callable[[list[str]], Tables], columns: list[str]) -> dict[str, int | None]:
    """How many numbers the first vectors of some columns have; lists of different lengths are no vectors."""
    tables = iter(read(list(dict.fromkeys(column.split(".")[0] for column in columns))))
    first = next(tables, None)
    widths: dict[str, int | None] = {}
    for column in columns if first is not None else ():
        lengths = pc.unique(pc.list_value_length(_values(first, column)).drop_null()).to_pylist()
        widths[column] = lengths[0] if len(lengths) == 1 else 0
    return widths


def _values(part: "pa.RecordBatch | pa.Table", column: str) -> "pa.Array":
    """A column as one array, without the extension type around it; `a.b` is `b` inside the struct `a`."""
    names = part.schema.names
    first, *inner = [column] if column in names else column.split(".")
    values = part.column(names.index(first))
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    values = pc.struct_field(values, inner) if inner else values
    return values.storage if isinstance(values, pa.ExtensionArray) else values


def _batches(
    tables: Tables, columns: Columns, conditions: Sequence["_Condition"], name: str, batch_rows: int
) -> Iterator[VectorBatch]:
    number, width = 0, None
    try:
        for table in tables:
            for start in range(0, table.num_rows, batch_rows):
                part = table.slice(start, batch_rows)
                places = np.arange(number, number + part.num_rows)
                number += part.num_rows
                for condition in conditions:
                    kept = condition.keeps(part)
                    part, places = part.filter(kept), places[kept.to_numpy(zero_copy_only=False)]
                if not part.num_rows:
                    continue
                batch, fault = _batch(part, places, columns, width, name)
                if batch.ids or batch.left_out:
                    yield batch
                if fault is not None:
                    raise fault
                width = batch.vectors.shape[1] if len(batch.ids) else width
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise VectorSourceError(
            f"{name} is damaged after row {number:,}: {reason}.", "Copy it again."
        ) from error


def _batch(
    part: "pa.RecordBatch | pa.Table",
    places: "np.ndarray[Any, Any]",
    columns: Columns,
    width: int | None,
    name: str,
) -> tuple[VectorBatch, VectorSourceError | None]:
    """The rows up to the first one that cannot be read, and what is wrong with that one."""
    keys = _strings(part, columns.id, None) or [None] * part.num_rows
    ids = [str(place) if key is None else key for key, place in zip(keys, places, strict=True)]
    values = _values(part, columns.vector)
    if pa.types.is_null(values.type):  # one of several files has no vector at all
        values = values.cast(pa.list_(pa.float32()))
    fault = None
    lengths = pc.list_value_length(values).fill_null(-1).to_numpy(zero_copy_only=False)
    given = lengths >= 0
    if given.any():
        expected = width or int(lengths[given][0])
        if (wrong := given & (lengths != expected)).any():
            at = int(wrong.argmax())
            try:
                same_width(int(lengths[at]), expected, name, f"row {ids[at]}")
            except VectorSourceError as error:
                fault = error
            part, ids, values, given = part.slice(0, at), ids[:at], values.slice(0, at), given[:at]
    vectors = values.drop_null().flatten()
    if vectors.null_count:
        numbers = vectors.is_null().to_numpy(zero_copy_only=False).argmax()
        at = int(np.flatnonzero(given)[numbers // expected])
        fault = VectorSourceError(
            f"{name}: the vector of row {ids[at]} lacks numbers (null).", "Leave such rows out with --where."
        )
        part, ids, values, given = part.slice(0, at), ids[:at], values.slice(0, at), given[:at]
        vectors = values.drop_null().flatten()
    made = as_float32(vectors.to_numpy(zero_copy_only=False))
    table: Vectors = (
        made.reshape(int(given.sum()), -1) if len(made) else np.empty((0, width or 0), np.float32)
    )
    texts, groups = _strings(part, columns.text, None), _strings(part, columns.group)
    batch = VectorBatch(
        [i for i, has in zip(ids, given, strict=True) if has],
        table,
        None if texts is None else [text for text, has in zip(texts, given, strict=True) if has],
        None if groups is None else [str(group) for group, has in zip(groups, given, strict=True) if has],
        tuple(i for i, has in zip(ids, given, strict=True) if not has),
    )
    return batch, fault


def _strings(
    part: "pa.RecordBatch | pa.Table", column: str | None, null: str | None = ""
) -> list[Any] | None:
    """A column's values as strings, `null` for those that are null."""
    if column is None:
        return None
    return [null if value is None else as_text(value) for value in _values(part, column).to_pylist()]


@dataclass(frozen=True)
class _Condition:
    """`column op value`, with the value in the type of the column."""

    column: str
    compare: Callable[[Any, Any], Any]
    value: Any

    def keeps(self, part: "pa.RecordBatch | pa.Table") -> Any:  # noqa: ANN401 - an Arrow array of booleans
        return self.compare(_values(part, self.column), self.value).fill_null(False)


def _parse(where: str | None, types: dict[str, "pa.DataType"], name: str, found: str) -> list[_Condition]:
    conditions = []
    for text in re.split(r"\s+and\s+", where, flags=re.IGNORECASE) if where else ():
        match = _CONDITION.fullmatch(text)
        if match is None:
            raise VectorSourceError(
                f"The condition {text!r} of --where cannot be read.",
                'Write: --where "column = value", with =, !=, <, <=, > or >=; several are joined by `and`.',
            )
        column, operator, value = match.groups()
        if column not in types:
            raise VectorSourceError(f"{name} has no column `{column}` for --where; there are {found}.")
        kind = types[column].value_type if pa.types.is_dictionary(types[column]) else types[column]
        try:
            scalar = pa.scalar(re.sub(r"""^(["'])(.*)\1$""", r"\2", value)).cast(kind)
        except pa.ArrowException as error:
            raise VectorSourceError(
                f"{value} of --where is not a value of the column `{column}`, which is of type {kind}."
            ) from error
        conditions.append(_Condition(column, _COMPARE[operator], scalar))
    return conditions
