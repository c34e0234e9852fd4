"""Local files as a source of text: .txt, .jsonl, .csv and .parquet, alone, in folders and by pattern."""

import csv
import json
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sgdd_engine.atomic_files import sha256_of
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.lines import MAX_LINE_BYTES, read_lines, too_long, unreadable
from sgdd_engine.errors import DataError

SUFFIXES = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet")

_SAMPLE_LINES = 1000


class FilesSource:
    """Text in local files, read one after another.

    Args:
        name: What the user called it.
        files: The files in the order in which they are read.
        config: Which column or key holds the text.
    """

    def __init__(self, name: str, files: list[Path], config: DataConfig) -> None:
        self.name = name
        self._files = files
        self._column = config.column

    def settle(self, folder: Path) -> None:
        """Nothing to do: files can be read again."""

    def describe(self, _recorded: Mapping[str, Any] | None = None, /) -> dict[str, Any]:
        """Every file with its size and SHA-256, so that a changed file is noticed."""
        files = []
        for path in self._files:
            try:
                files.append({"path": str(path), "bytes": path.stat().st_size, "sha256": sha256_of(path)})
            except OSError as error:
                raise unreadable(path, error) from error
        return {"kind": "files", "path": self.name, "files": files}

    def lines(self) -> Iterator[str]:
        """The raw text rows.

        Raises:
            DataError: If a file cannot be read as what its name says it is; the message gives file and line.
        """
        for path in self._files:
            yield from read_rows(path, self._column)

    def estimated_lines(self) -> int | None:
        """How many rows there are, by the Parquet files' own word or by the size of the first lines."""
        if all(path.suffix == ".parquet" for path in self._files):
            return sum(_parquet_count(path) for path in self._files)
        if any(path.suffix in (".parquet", ".gz") for path in self._files):
            return None
        sample = [len(line.encode()) + 1 for _, line in islice(read_lines(self._files[0]), _SAMPLE_LINES)]
        total = sum(path.stat().st_size for path in self._files)
        return round(total * len(sample) / sum(sample)) if sample else None


def files_under(folder: Path) -> list[Path]:
    """Every text file in a folder and below it, by name; hidden ones are left alone.

    Raises:
        DataError: If there is none.
    """
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.name.endswith(SUFFIXES)
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        raise DataError(
            f"The folder `{folder}` holds no text file.", f"sgdd reads {', '.join(SUFFIXES)} files."
        )
    return files


def read_rows(path: Path, column: str) -> Iterator[str]:
    """The text rows of one file, by what its name says it is; an unknown ending is read as plain text."""
    kind = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if kind == ".parquet":
        return _parquet_rows(path, column)
    if kind == ".jsonl":
        return _jsonl_rows(path, column)
    if kind == ".csv":
        return _csv_rows(path, column)
    return (line for _, line in read_lines(path))


def _jsonl_rows(path: Path, key: str) -> Iterator[str]:
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"`{path}` is not JSON Lines: line {number:,} cannot be parsed.",
                f'Each line must be one object, for example {{"{key}": "A sentence."}}.',
            ) from error
        if not isinstance(row, dict) or key not in row:
            keys = ", ".join(map(str, row)) if isinstance(row, dict) else "no keys"
            raise DataError(
                f"`{path}` has no key `{key}` in line {number:,}; it has {keys or 'no keys'}.",
                "Name the key that holds the text with --column.",
            )
        yield checked_text(row[key], f"`{path}`", number, key)


def _csv_rows(path: Path, column: str) -> Iterator[str]:
    # Quoted fields may hold line breaks, so the parser needs them back.
    rows = csv.reader((line + "\n" for _, line in read_lines(path)), strict=True)
    try:
        header = next(rows, None)
        if header is None:
            return
        if column not in header:
            raise DataError(
                f"`{path}` has no column `{column}`; it has {', '.join(header)}.",
                "Name the column that holds the text with --column.",
            )
        index = header.index(column)
        for row in rows:
            if row and index >= len(row):
                raise DataError(
                    f"`{path}` has no column `{column}` in line {rows.line_num:,}.", "Mend that line."
                )
            if row:
                yield row[index]
    except csv.Error as error:
        raise DataError(
            f"`{path}` is not CSV: line {rows.line_num:,} cannot be parsed ({error}).",
            "Fields with commas, quotes or line breaks must stand in double quotes.",
        ) from error


def _parquet_rows(path: Path, column: str) -> Iterator[str]:
    file = _parquet(path)
    try:
        names = file.schema_arrow.names
        if column not in names:
            raise DataError(
                f"`{path}` has no column `{column}`; it has {', '.join(names)}.",
                "Name the column that holds the text with --column.",
            )
        number = 0
        for batch in file.iter_batches(batch_size=4096, columns=[column]):
            for value in batch.column(0).to_pylist():
                number += 1
                yield checked_text(value, f"`{path}`", number, column)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"`{path}` is a damaged Parquet file: {error}.", "Copy it again.") from error
    finally:
        file.close()


def _parquet_count(path: Path) -> int:
    with _parquet(path) as file:
        return int(file.metadata.num_rows)


def _parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except pa.ArrowException as error:
        raise DataError(f"`{path}` is not a Parquet file: {error}.", "Copy or download it again.") from error
    except OSError as error:
        raise unreadable(path, error) from error


def checked_text(value: object, name: str, number: int, column: str) -> str:
    """A cell as text; an empty cell is an empty line.

    Raises:
        DataError: If the cell holds something else than text, or more than 1 MiB of it.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(
            f"{name} holds no text in `{column}`: row {number:,} is of type {type(value).__name__}.",
            "Name the column that holds the text with --column.",
        )
    if len(value) > MAX_LINE_BYTES:
        raise too_long(name, number)
    return value
