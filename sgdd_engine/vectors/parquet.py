"""Vectors in Parquet: a file, a pattern of files, or a folder of them."""

import glob
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sgdd_engine.data.formats import PARQUET_READING
from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors.source import OpenSource, ReadOptions

_ENDINGS = (".parquet", ".pq")


def matches(where: str) -> bool:
    """Names that end in `.parquet` or `.pq`, patterns of such names too; folders that hold such files."""
    if where.lower().endswith(_ENDINGS):
        return True
    path = Path(where)
    return path.is_dir() and any(file.name.lower().endswith(_ENDINGS) for file in path.iterdir())


def open(where: str, options: ReadOptions) -> OpenSource:
    """A column of lists of numbers, one file after the other by name.

    Raises:
        VectorSourceError: there is no such file or column, or a file is damaged.
    """
    from sgdd_engine.vectors.arrow_tables import open_tables  # noqa: PLC0415 - loads pyarrow

    files = _files(where)
    first = _open_file(files[0])
    schema, rows = first.schema_arrow, first.metadata.num_rows
    first.close()
    for file in files[1:]:
        with _open_file(file) as another:
            rows += another.metadata.num_rows

    def read(columns: list[str]) -> Iterator[Any]:
        for file in files:
            with _open_file(file) as opened:
                yield from opened.iter_batches(batch_size=options.batch_rows, columns=columns)

    name = f"Parquet file `{where}`" if len(files) == 1 else f"Parquet files `{where}`"
    return open_tables(name, schema, read, rows, options)


def _files(where: str) -> list[Path]:
    path = Path(where)
    if path.is_dir():
        return sorted(file for file in path.iterdir() if file.name.lower().endswith(_ENDINGS))
    if path.exists():
        return [path]
    found = sorted(Path(name) for name in glob.glob(where, recursive=True))  # noqa: PTH207 - absolute too
    if not found:
        raise VectorSourceError(f"There is no file `{where}`.", "Check the name.")
    return found


def _open_file(path: Path) -> Any:  # noqa: ANN401 - pyarrow has no types
    import pyarrow as pa  # noqa: PLC0415 - only here is it needed
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        return pq.ParquetFile(path, **PARQUET_READING)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise VectorSourceError(
            f"`{path}` is not a Parquet file: {reason}.", "Copy or download it again."
        ) from error
