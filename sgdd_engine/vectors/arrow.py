"""Vectors in Arrow and Feather files and Arrow streams, memory-mapped."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors.source import OpenSource, ReadOptions


def matches(where: str) -> bool:
    """Files whose name ends in `.arrow`, `.arrows`, `.feather` or `.ipc`."""
    return where.lower().endswith((".arrow", ".arrows", ".feather", ".ipc"))


def open(where: str, options: ReadOptions) -> OpenSource:
    """A column of lists of numbers.

    Raises:
        VectorSourceError: there is no such file or column, or it is damaged.
    """
    import pyarrow as pa  # noqa: PLC0415 - only here is it needed

    from sgdd_engine.vectors.arrow_tables import open_tables  # noqa: PLC0415 - loads pyarrow

    name = f"Arrow file `{where}`"
    if not Path(where).is_file():
        raise VectorSourceError(f"There is no file `{where}`.", "Check the name.")

    def reader(source: Any) -> Any:  # noqa: ANN401 - pyarrow has no types
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        return pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)

    def read(columns: list[str]) -> Iterator[Any]:
        with pa.memory_map(where) as source:
            opened = reader(source)
            if isinstance(opened, pa.RecordBatchFileReader):
                batches = map(opened.get_batch, range(opened.num_record_batches))
            else:
                batches = iter(opened)
            yield from (batch.select(columns) for batch in batches)

    try:
        with pa.memory_map(where) as source:
            schema = reader(source).schema
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise VectorSourceError(
            f"{name} cannot be read: {reason}.",
            "Copy it again; save Feather files of version 1 again in version 2.",
        ) from error
    return open_tables(name, schema, read, None, options)
