"""Formats of files that hold text: the ending of a name → a function that gives the text of every row.

To add a format, write its function here under `@reads(".ending")`: folders, patterns, compressed files and messages
use the same registry.
"""

import csv
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgdd_engine.bounded_files import JSON_DECODER, UnreadableError, check_depth, parse_json
from sgdd_engine.counted import counted
from sgdd_engine.data.lines import COMPRESSED, read_chunks, read_lines, unreadable
from sgdd_engine.data.table_layout import TableHead, find_layout, listed
from sgdd_engine.errors import DataError
from sgdd_engine.registry import Registry

if TYPE_CHECKING:
    import pyarrow as pa

# Characters of the longest row of a table: fields beside the text may be long (an article, an encoded image), and one
# row at a time must fit into memory: one of 16 Mi characters takes 0.3 GB while its text is cleaned.
MAX_ROW = 1 << 24
# Rows of an Arrow table that become Python strings at once.
_ARROW_ROWS = 4096
# By default pyarrow keeps every row group in memory that it has read ahead, and without a buffer it reads a column of a
# whole row group at once, a million rows. 6 million texts (570 MB, nine row groups) took 600 MB, and now 50 MB;
# 200,000 vectors in one row group took 300 MB, and now 20 MB, at twice the speed.
PARQUET_READING = {"pre_buffer": False, "buffer_size": 1 << 20}
# Folders of tables whose files are not all of them: a log says which ones count, and old rows stay in the others.
_TABLE_LOGS = {"_delta_log": "Delta", ".hoodie": "Hudi"}
_ICEBERG = re.compile(r"(v\d+|\d+-[0-9a-f-]{36})(\.gz)?\.metadata\.json")


def logged_table(folder: Path) -> tuple[str, str] | None:
    """What is wrong with reading a folder file by file, and what to do: it is a table with a log; None if it is not."""
    kinds = [kind for name, kind in _TABLE_LOGS.items() if os.path.isdir(folder / name)]  # noqa: PTH112 - refuses nothing
    if any(_ICEBERG.fullmatch(path.name) for path in (folder / "metadata").glob("*.metadata.json")):
        kinds.append("Iceberg")
    if not kinds:
        return None
    return (
        f"`{folder}` is a table of {kinds[0]}, whose log says which of its files count: read one by one they also "
        "give rows that were deleted or replaced.",
        "Write its rows to a Parquet file with a program that knows the log, such as Spark, DuckDB or Polars.",
    )


@dataclass(frozen=True)
class TextFile:
    """A file to read text from.

    Attributes:
        path: The file.
        column: The column or key that holds the text; `a.b` means `b` inside `a`.
        name: Its name in messages.
    """

    path: Path
    column: str
    name: str


@dataclass(frozen=True)
class Format:
    """How one kind of file is read; see `reads`.

    Attributes:
        rows: Gives the text of every row; raises `DataError` with the place of whatever cannot be read.
        count: The exact number of rows, where the file tells it without being read.
        row_per_line: Whether the number of lines is about the number of rows.
    """

    rows: Callable[[TextFile], Iterator[str]]
    count: Callable[[TextFile], int] | None = None
    row_per_line: bool = False


FORMATS: Registry[Format] = Registry("ending of a file")
"""Formats by the endings of files, in lower case and with their dots."""


def reads(
    *endings: str, count: Callable[[TextFile], int] | None = None, row_per_line: bool = False
) -> Callable[[Callable[[TextFile], Iterator[str]]], Callable[[TextFile], Iterator[str]]]:
    """Register the decorated function as the reader of files with these endings; see `Format`."""

    def register(rows: Callable[[TextFile], Iterator[str]]) -> Callable[[TextFile], Iterator[str]]:
        for kind in endings:
            FORMATS.add(kind, Format(rows, count, row_per_line))
        return rows

    return register


# Formats that would be read as plain text with their syntax, or are no text at all → what to do with them.
_CONVERT = {
    "Save the sheet as CSV.": ".xlsx .xls .xlsm .xlsb .ods .numbers",
    "Save its text as a .txt file, one sentence per line.": ".pdf .docx .doc .odt .rtf .epub .mobi .pptx",
    "Save its text without the markup as a .txt file, one sentence per line.": ".html .htm .xhtml .xml .svg",
    "Turn it into JSON Lines: one object per line, in a .jsonl file.": ".yaml .yml .toml",
    "Convert it to Parquet.": ".orc .avro .h5 .hdf5",
    "Export the text as CSV.": ".db .sqlite .sqlite3 .duckdb .sql .dta .sav .rds .rdata",
    "Unpack it first.": ".zip .tar .tgz .7z .rar .zst .lz4 .br .z",
    "It holds no text.": ".npy .npz .pkl .pickle .pt .pth .bin .safetensors .png .jpg .jpeg .gif .webp .mp3 .mp4 .wav",
}
_REFUSED = {ending: hint for hint, endings in _CONVERT.items() for ending in endings.split()}


def ending(name: str) -> str:
    """The ending of a file name that tells its format, in lower case: `.csv` for `Tales.CSV.gz`."""
    path = Path(name.lower())
    return path.with_suffix("").suffix if path.suffix in COMPRESSED else path.suffix


def without_ending(name: str) -> str:
    """A file name without the endings that sgdd knows: `tales` for `tales.csv.gz`, `notes.v2` as it is."""
    stem = name[: -len(Path(name).suffix)] if Path(name).suffix.lower() in COMPRESSED else name
    return stem if FORMATS.find(ending(name)) is None else stem[: -len(Path(stem).suffix)]


def format_of(path: Path) -> Format:
    """The format of a file, by the ending of its name whatever its case; plain text for an unknown ending.

    Raises:
        DataError: If it is a known format that sgdd does not read.
    """
    kind = ending(path.name)
    if kind in _REFUSED:
        raise DataError(f"`{path}` is a {kind} file, which sgdd does not read.", _REFUSED[kind])
    return FORMATS.find(kind) or FORMATS[".txt"]


@reads(".txt", ".text", row_per_line=True)
def text_lines(file: TextFile) -> Iterator[str]:
    """Plain text: every line is a row."""
    return (line for _, line in read_lines(file.path, file.name))


@reads(".jsonl", ".ndjson", row_per_line=True)
def json_lines(file: TextFile) -> Iterator[str]:
    """JSON Lines: every line is an object with the text under a key, or a string."""
    for number, line in read_lines(file.path, file.name, MAX_ROW):
        if not line.strip():
            continue
        try:
            row = parse_json(line, f"{file.name}: line {number:,}")
        except UnreadableError as error:
            # JSON, but not what is read of it, such as a key that stands twice: the sentence says so.
            if not isinstance(error.__cause__, JSONDecodeError):
                raise DataError(error.message, _line_example(file)) from error
            raise DataError(
                f"{file.name} is not JSON Lines: line {number:,} cannot be parsed.",
                _line_example(file),
            ) from error
        yield _json_text(row, file, f"line {number:,}")


def _line_example(file: TextFile) -> str:
    return f'Each line must be one object, for example {{"{file.column}": "A sentence."}}.'


@reads(".json")
def json_values(file: TextFile) -> Iterator[str]:
    """JSON: one array of objects or strings, or such values one after another, also over several lines each."""
    for number, row in enumerate(_json_rows(file), 1):
        yield _json_text(row, file, f"row {number:,}")


def _json_rows(file: TextFile) -> Iterator[Any]:
    """The rows of a JSON file, parsed one at a time from pieces of its text."""
    chunks = read_chunks(file.path, file.name)
    text = next(chunks, "").lstrip()
    in_array = text.startswith("[")
    between_rows = re.compile(r"[\s,]*" if in_array else r"\s*")
    number, position = 1, int(in_array)
    while True:
        if separator := between_rows.match(text, position):
            position = separator.end()
        if in_array and text.startswith("]", position):
            break
        try:
            row, position = JSON_DECODER.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            more = next(chunks, "")  # the row may go on there
            if not more and position == len(text) and not in_array:
                return
            if not more or len(text) - position > MAX_ROW:
                raise DataError(
                    f"{file.name} is not JSON: row {number:,} cannot be parsed.", _json_example(file)
                ) from error
            text, position = text[position:] + more, 0
        else:
            check_depth(row, f"{file.name}: row {number:,}")
            yield row
            number += 1
    if any(part.strip() for part in chain([text[position + 1 :]], chunks)):
        raise DataError(
            f"{file.name} goes on after its array of {counted(number - 1, 'row')}.", _json_example(file)
        )


def _json_example(file: TextFile) -> str:
    return f'Give one array of objects, for example [{{"{file.column}": "A sentence."}}].'


def _json_text(row: object, file: TextFile, place: str) -> str:
    value = row
    if isinstance(row, dict):
        try:
            value = nested(row, file.column)
        except KeyError:
            raise DataError(
                f"{file.name} has no key `{file.column}` in {place}; it has {listed([key for key, _ in leaves(row)])}.",
                "Name the key that holds the text: --set data.column=KEY",
            ) from None
    elif not isinstance(row, str):
        raise DataError(
            f"{file.name} has no key `{file.column}` in {place}, which is not an object.",
            f'Each row must be one object, for example {{"{file.column}": "A sentence."}}.',
        )
    return checked_text(value, file.name, place, file.column)


def nested(row: Mapping[str, Any], column: str) -> Any:  # noqa: ANN401 - any JSON value
    """The value of a key, or of a path of keys (`meta.text`).

    Raises:
        KeyError: there is none.
    """
    if column in row:
        return row[column]
    value: Any = row
    for key in column.split("."):
        if not isinstance(value, dict):
            raise KeyError(column)
        value = value[key]
    return value


def leaves(row: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of a JSON object that are no objects, with their paths of keys as `nested` reads them."""
    for key, value in row.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@reads(".csv", ".tsv", ".tab", row_per_line=True)
def delimited_rows(file: TextFile) -> Iterator[str]:
    """A table with commas, semicolons, tabs or bars between its fields, with a header or without one."""
    lines = (line + "\n" for _, line in read_lines(file.path, file.name, MAX_ROW))
    # Quoted fields may hold line breaks, so the parser is given them.
    if csv.field_size_limit() < MAX_ROW:  # one limit for the whole process, 131,072 characters at first
        csv.field_size_limit(MAX_ROW)
    head = TableHead.read(lines)
    if not head.lines:
        return
    table = find_layout(head, file.column, file.name, tabs_first=ending(file.path.name) != ".csv")
    rows = csv.reader(chain(head.lines, lines), delimiter=table.separator, quoting=table.quoting, strict=True)
    try:
        for row in islice(filter(None, rows), int(table.header), None):
            yield table.text_of(row, f"Line {rows.line_num:,} of {file.name}")
    except csv.Error as error:
        raise DataError(
            f"{file.name} is not CSV: line {rows.line_num:,} cannot be parsed ({error}).",
            "Fields with commas, quotes or line breaks must be in double quotes.",
        ) from error


def _parquet_count(file: TextFile) -> int:
    with _parquet(file) as parquet:
        return int(parquet.metadata.num_rows)


@reads(".parquet", ".pq", count=_parquet_count)
def parquet_rows(file: TextFile) -> Iterator[str]:
    """Parquet: a column of strings, also inside a struct."""
    import pyarrow as pa  # noqa: PLC0415 - `sgdd --help` lists the endings and need not load it

    with _parquet(file) as parquet:
        try:
            _check_column(parquet.schema_arrow, file.column, file.name)
            batches = parquet.iter_batches(batch_size=_ARROW_ROWS, columns=[file.column])
            yield from arrow_texts(batches, file.column, file.name)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DataError(f"{file.name} is a damaged Parquet file: {error}.", "Copy it again.") from error


def _parquet(file: TextFile) -> Any:  # noqa: ANN401 - pyarrow has no types
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        # pyarrow takes `notes:2020.parquet` for an address, an absolute path never.
        return pq.ParquetFile(file.path.absolute(), **PARQUET_READING)
    except pa.ArrowException as error:
        raise DataError(
            f"{file.name} is not a Parquet file: {error}.", "Copy or download it again."
        ) from error
    except OSError as error:
        raise unreadable(file.name, error) from error


@reads(".arrow", ".feather", ".ipc")
def arrow_rows(file: TextFile) -> Iterator[str]:
    """Arrow and Feather files and Arrow streams, memory-mapped: a column of strings."""
    import pyarrow as pa  # noqa: PLC0415

    try:
        with pa.memory_map(str(file.path)) as source:
            is_file = source.read(6) == b"ARROW1"
            source.seek(0)
            reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
            batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
            yield from arrow_texts(
                (
                    batch.slice(start, _ARROW_ROWS)
                    for batch in batches
                    for start in range(0, batch.num_rows, _ARROW_ROWS)
                ),
                file.column,
                file.name,
            )
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(
            f"{file.name} is not a complete Arrow file: {error}.",
            "Copy it again; save Feather files of version 1 again in version 2.",
        ) from error
    except OSError as error:
        raise unreadable(file.name, error) from error


def arrow_texts(parts: "Iterable[pa.RecordBatch | pa.Table]", column: str, name: str) -> Iterator[str]:
    """The text column of Arrow batches or tables; an empty cell is an empty line.

    Args:
        parts: Batches or tables of one schema.
        column: The name of the column; `a.b` means `b` inside the struct `a`.
        name: What messages call the whole.

    Raises:
        DataError: If there is no such column, or it holds something else than text.
    """
    import pyarrow.compute as pc  # noqa: PLC0415

    number = 0
    for part in parts:
        _check_column(part.schema, column, name)
        names = part.schema.names
        first, *inner = [column] if column in names else column.split(".")
        values = part.column(names.index(first))
        for value in (pc.struct_field(values, inner) if inner else values).to_pylist():
            number += 1
            yield checked_text(value, name, f"row {number:,}", column)


def _check_column(schema: "pa.Schema", column: str, name: str) -> None:
    names = list(_arrow_names(schema))
    if column not in schema.names and column not in names:
        raise DataError(
            f"{name} has no column `{column}`; it has {listed(names)}.",
            "Name the column that holds the text: --set data.column=NAME",
        )


def _arrow_names(fields: Any, prefix: str = "") -> Iterator[str]:  # noqa: ANN401 - a schema or a struct type
    import pyarrow as pa  # noqa: PLC0415

    for field in fields:
        if pa.types.is_struct(field.type):
            yield from _arrow_names(field.type, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def checked_text(value: object, name: str, place: str, column: str) -> str:
    """A cell as text; an empty cell is an empty line.

    Raises:
        DataError: If the cell holds something else than text.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(
            f"{name} holds no text in `{column}`: {place} is of type {type(value).__name__}.",
            "Name the column that holds the text: --set data.column=NAME",
        )
    return value
