"""NumPy arrays in `.npy` files, memory-mapped: any number type, byte order and layout."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors.rows import as_float32, numbered
from sgdd_engine.vectors.source import OpenSource, ReadOptions, VectorBatch, refuse_options


def matches(where: str) -> bool:
    """Files whose name ends in `.npy`."""
    return where.lower().endswith(".npy")


def open(where: str, options: ReadOptions) -> OpenSource:
    """The rows of an array [N, D], or one vector [D].

    Raises:
        VectorSourceError: there is no such file, it is damaged, or holds something else.
    """
    name = f"NumPy file `{where}`"
    refuse_options(options, name, "column", "text_column", "id_column", "group_column", "where")
    try:
        # A pickle can run any code, so arrays of objects are refused.
        array: Any = np.load(where, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise unreadable_array(name, Path(where), error) from error
    table = as_table(array, name)
    return OpenSource(name, len(table), (), batches_of_array(table, options.batch_rows))


def unreadable_array(name: str, path: Path, error: Exception) -> VectorSourceError:
    """The error for an array that numpy cannot load."""
    if not path.exists():
        return VectorSourceError(f"There is no file `{path}`.", "Check the name.")
    reason = " ".join(str(error).split()).rstrip(".")
    if "allow_pickle" in reason:
        return VectorSourceError(
            f"{name} holds Python objects, which can run any code and are not loaded.",
            "Save the numbers alone: np.save(file, np.asarray(vectors, dtype=np.float32))",
        )
    return VectorSourceError(f"{name} cannot be read: {reason}.", "Copy it again, or save it anew.")


def as_table(array: Any, name: str) -> Any:  # noqa: ANN401 - an array of any number type
    """An array as [N, D]; a single vector [D] is a table of one.

    Raises:
        VectorSourceError: it holds no numbers, or has another number of dimensions.
    """
    if array.dtype.names is not None:
        raise VectorSourceError(
            f"{name} holds records with the fields {', '.join(array.dtype.names)}, and no table of numbers.",
            'Save one field as an array [N, D]: np.save(file, array["…"])',
        )
    if array.dtype.kind not in "fiu":
        raise VectorSourceError(
            f"{name} holds items of type {array.dtype}, and no real numbers.",
            "Save it as float32: np.save(file, array.astype(np.float32))",
        )
    if array.ndim == 1 and array.size:
        array = array[None]
    if array.ndim != 2:
        raise VectorSourceError(
            f"{name} has shape {list(array.shape)}; vectors are a table [N, D].",
            "Save it as one row per vector.",
        )
    return array


def batches_of_array(table: Any, batch_rows: int) -> Iterator[VectorBatch]:  # noqa: ANN401 - as above
    """The rows of an array [N, D], a piece at a time."""
    for start in range(0, len(table), batch_rows):
        vectors = as_float32(table[start : start + batch_rows])
        yield VectorBatch(numbered(start, len(vectors)), vectors)
