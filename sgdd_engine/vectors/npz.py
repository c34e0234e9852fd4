"""NumPy archives (`.npz`): one array holds the vectors, others may hold texts and ids; read piece by piece."""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors.columns import ID_NAMES, TEXT_NAMES, choose_columns
from sgdd_engine.vectors.npy import check_table, python_objects, unreadable_array
from sgdd_engine.vectors.rows import as_float32, numbered
from sgdd_engine.vectors.source import OpenSource, ReadOptions, VectorBatch, refuse_options
from sgdd_engine.vectors.stores import as_text

# A row of more bytes is no vector and no text. Arrays stored by columns are read whole, which a small archive of zeros
# could make gigabytes: numbers that are worth reading never shrink so far.
LARGEST_ROW, SMALL_ARRAY, LARGEST_RATIO = 1 << 20, 64 << 20, 100
_HEADERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


@dataclass(frozen=True)
class _Array:
    """What the header of an array in the archive says, and how many bytes the file has of it."""

    shape: tuple[int, ...]
    by_columns: bool
    dtype: "np.dtype[Any]"
    stored: int

    @property
    def row_bytes(self) -> int:
        """Of one row."""
        return self.dtype.itemsize * prod(self.shape[1:])


def matches(where: str) -> bool:
    """Files whose name ends in `.npz`."""
    return where.lower().endswith(".npz")


def open(where: str, options: ReadOptions) -> OpenSource:
    """The rows of one array of the archive; it is found by its shape, or named with `column`.

    Raises:
        VectorSourceError: there is no such file, it is damaged, or has no such array.
    """
    name = f"NumPy archive `{where}`"
    refuse_options(options, name, "where", "table")
    try:
        with zipfile.ZipFile(where) as archive:
            keys = [key.removesuffix(".npy") for key in archive.namelist() if key.endswith(".npy")]
            arrays = {key: _header(archive, key) for key in keys}
    except Exception as error:  # those of a damaged archive or header have no common class
        raise unreadable_array(name, where, error) from error
    objects = [key for key, array in arrays.items() if array.dtype.hasobject]
    for key in (options.column, options.text_column, options.id_column, options.group_column):
        if key in objects:
            raise python_objects(f"{name}: the array `{key}`")
    plain = {key: array for key, array in arrays.items() if key not in objects}
    vectors = [key for key, array in plain.items() if len(array.shape) == 2 and array.dtype.kind in "fiu"]
    texts = [key for key, array in plain.items() if len(array.shape) == 1 and array.dtype.kind in "US"]
    columns = choose_columns(
        {key: plain[key].shape[-1] for key in vectors},
        texts,
        [key for key, array in plain.items() if len(array.shape) != 2 and key not in texts],
        options,
        name,
        "array",
    )
    usual = (TEXT_NAMES if options.text_column is None else ()) + (
        ID_NAMES if options.id_column is None else ()
    )
    notes = tuple(
        f"The array `{key}` is not read, because it holds Python objects; np.asarray(…, dtype=str) makes it texts."
        for key in usual
        if key in objects
    )
    name = f"{name}, array {columns.vector}"
    rows = arrays[columns.vector].shape[0]
    check_table(arrays[columns.vector].dtype, arrays[columns.vector].shape, name)
    for key in columns.names:
        _check_size(f"NumPy archive `{where}`, array {key}", arrays[key])
        if arrays[key].shape[:1] != (rows,):
            raise VectorSourceError(
                f"{name} has {rows:,} rows, and the array `{key}` has the shape {list(arrays[key].shape)}.",
                "Name arrays of the same length with --text-column and --ids.",
            )

    def batches() -> Iterator[VectorBatch]:
        try:
            with zipfile.ZipFile(where) as archive:
                pieces = [
                    _pieces(archive, key, arrays[key], options.batch_rows) if key else None
                    for key in (columns.vector, columns.text, columns.id, columns.group)
                ]
                for start in range(0, rows, options.batch_rows):
                    vectors, texts, ids, groups = (None if p is None else next(p) for p in pieces)
                    assert vectors is not None, "the columns name the vectors"
                    numbers = numbered(start, len(vectors))
                    keys = numbers if ids is None else _texts(ids)
                    yield VectorBatch(
                        # A date may be missing (NaT).
                        [number if key is None else key for key, number in zip(keys, numbers, strict=True)],
                        as_float32(vectors),
                        None if texts is None else _texts(texts),
                        None if groups is None else [group or "" for group in _texts(groups)],
                    )
        except Exception as error:  # as above
            raise unreadable_array(name, where, error) from error

    return OpenSource(name, rows, notes, batches())


def _texts(items: "np.ndarray[Any, Any]") -> list[str | None]:
    return [as_text(item) for item in items.tolist()]


def _header(archive: zipfile.ZipFile, key: str) -> _Array:
    with archive.open(f"{key}.npy") as file:
        version = npy_format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(
                f"its array {key} has the format {version}, which only records with other letters need"
            )
        stored = archive.getinfo(f"{key}.npy").compress_size
        return _Array(*_HEADERS[version](file), stored)


def _check_size(name: str, array: _Array) -> None:
    if array.row_bytes > LARGEST_ROW:
        raise VectorSourceError(
            f"{name} has rows of {array.row_bytes:,} bytes, more than a vector or a text takes.",
            "Name another array with --column, --text-column or --ids.",
        )
    size = array.row_bytes * prod(array.shape[:1])
    if array.by_columns and size > max(SMALL_ARRAY, LARGEST_RATIO * array.stored):
        raise VectorSourceError(
            f"{name} is stored by columns and would take {size:,} bytes at once, of {array.stored:,} in the file.",
            "Store it row by row: np.savez(file, np.ascontiguousarray(vectors))",
        )


def _pieces(archive: zipfile.ZipFile, key: str, array: _Array, rows: int) -> Iterator[Any]:
    """The rows of an array in pieces. What is stored column by column is read whole: each row lies all over it."""
    with archive.open(f"{key}.npy") as file:
        if array.by_columns and len(array.shape) > 1:
            whole = npy_format.read_array(file, allow_pickle=False)
            yield from (whole[start : start + rows] for start in range(0, len(whole), rows))
            return
        _HEADERS[npy_format.read_magic(file)](file)
        for start in range(0, array.shape[0], rows):
            count = min(rows, array.shape[0] - start)
            data = file.read(count * array.row_bytes)
            if len(data) < count * array.row_bytes:
                raise EOFError(f"the array {key} ends after {start:,} of {array.shape[0]:,} rows")
            yield np.frombuffer(data, array.dtype).reshape(count, *array.shape[1:])
