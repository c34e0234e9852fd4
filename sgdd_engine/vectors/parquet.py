"""Vectors in Parquet: a file, a pattern of files, or a folder of them."""

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sgdd_engine.data.formats import PARQUET_READING, logged_table
from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors.source import OpenSource, ReadOptions

_ENDINGS = (".parquet", ".pq")
# How the names of files begin that Spark, Dask and Delta write beside their rows.
_HIDDEN = ("_", ".")


def matches(where: str) -> bool:
    """Names that end in `.parquet` or `.pq`, patterns of such names too; folders that hold such files.

    Of the folders in a folder only partitions (`year=2020`) are looked into: others may be a large tree.
    """
    if where.lower().endswith(_ENDINGS):
        return True
    path = Path(where)
    return path.is_dir() and _is_table(path)


def open(where: str, options: ReadOptions) -> OpenSource:
    """A column of lists of numbers, one file after the other by name; of a folder those in its folders too.

    Partitions (`year=2020`) are read as folders: their names make no column. Links to folders are not followed.

    Raises:
        VectorSourceError: there is no such file or column, a file is damaged, one lacks a column that is read, or the
            folder is a table with a log.
    """
    from sgdd_engine.vectors.arrow_tables import open_tables  # noqa: PLC0415 - loads pyarrow

    files = _files(where)
    schemas, rows = {}, 0
    for file in files:
        with _open_file(file) as opened:
            schemas[str(file)] = opened.schema_arrow
            rows += opened.metadata.num_rows

    def read(columns: list[str]) -> Iterator[Any]:
        for file in files:
            with _open_file(file) as opened:
                yield from opened.iter_batches(batch_size=options.batch_rows, columns=columns)

    name = f"Parquet file `{where}`" if len(files) == 1 else f"Parquet files `{where}`"
    return open_tables(name, schemas[str(files[0])], read, rows, options, files=schemas)


def _is_table(folder: Path) -> bool:
    """Whether a folder has Parquet files, itself or in its partitions."""
    found = list(folder.iterdir())
    return any(_is_shown(path.name) for path in found) or any(
        _is_table(path) for path in found if "=" in path.name and path.is_dir()
    )


def _is_shown(name: str) -> bool:
    """Whether a file in a folder holds rows of its table; `_metadata`, `.p.parquet.crc` and the like do not."""
    return name.lower().endswith(_ENDINGS) and not name.startswith(_HIDDEN)


def _files(where: str) -> list[Path]:
    path = Path(where)
    found = [path] if path.exists() else [Path(name) for name in glob.glob(where, recursive=True)]  # noqa: PTH207 - absolute too
    if not found:
        raise VectorSourceError(f"There is no file `{where}`.", "Check the name.")
    # A pattern may find a folder, and the files in it again.
    files = {file for one in found for file in (_below(one) if one.is_dir() else [one])}
    if not files:
        raise VectorSourceError(
            f"The folder `{where}` holds no Parquet files.",
            f"Their names end in {' or '.join(_ENDINGS)}, and do not begin with {' or '.join(_HIDDEN)}",
        )
    return sorted(files)


def _below(folder: Path) -> Iterator[Path]:
    """The Parquet files of a folder and of all folders in it."""

    def unreadable(error: OSError) -> None:
        raise VectorSourceError(
            f"The folder `{error.filename}` cannot be read: {error.strerror}.", "Check its permissions."
        ) from error

    for place, folders, names in os.walk(folder, onerror=unreadable):
        if (refusal := logged_table(Path(place))) is not None:
            raise VectorSourceError(*refusal)
        folders[:] = [name for name in folders if not name.startswith(_HIDDEN)]
        yield from (Path(place, name) for name in names if _is_shown(name))


def _open_file(path: Path) -> Any:  # noqa: ANN401 - pyarrow has no types
    import pyarrow as pa  # noqa: PLC0415 - only here is it needed
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        # pyarrow takes `notes:2020.parquet` for an address, an absolute path never.
        return pq.ParquetFile(path.absolute(), **PARQUET_READING)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise VectorSourceError(
            f"`{path}` is not a Parquet file: {reason}.", "Copy or download it again."
        ) from error
