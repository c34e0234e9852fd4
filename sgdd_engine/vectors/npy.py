"""NumPy arrays in `.npy` files, memory-mapped: any number type, byte order and layout."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import numpy as np

from sgdd_engine.atomic_files import check_writable, is_stream, naming, publish
from sgdd_engine.errors import SgddError, VectorSourceError
from sgdd_engine.vectors.rows import as_float32, numbered
from sgdd_engine.vectors.source import OpenSource, ReadOptions, VectorBatch, Vectors, refuse_options


def matches(where: str) -> bool:
    """Files whose name ends in `.npy`."""
    return where.lower().endswith(".npy")


def open(where: str, options: ReadOptions) -> OpenSource:
    """The rows of an array [N, D], or one vector [D].

    Raises:
        VectorSourceError: there is no such file, it is damaged, or holds something else.
    """
    name = f"NumPy file `{where}`"
    refuse_options(options, name, "column", "text_column", "id_column", "group_column", "where", "table")
    rows = len(_load(name, where))
    return OpenSource(name, rows, (), _batches(name, where, rows, options.batch_rows))


class NpyWriter:
    """Writes vectors into an `.npy` file [N, D] float32 as they come, in constant memory.

    The file has its name once it is closed; if an error ends the work, it holds what was added before. If nothing was,
    an older file stays as it is.

    Example:
        >>> with NpyWriter(Path("vectors.npy"), 384) as writer:
        ...     writer.add(vectors)  # [n, 384]

    Args:
        path: The file; an older one is replaced.
        width: D.

    Raises:
        SgddError: it cannot be written.
        OSError: later, naming the file; an older one is still there.
    """

    def __init__(self, path: Path, width: int) -> None:
        other = "Name another file with --save-vector."
        if is_stream(path):
            sentence = f"`{path}` is no file: how many rows there are is known last, and stands first in a .npy file."
            raise SgddError(sentence, other)
        check_writable(path, other)
        self._path, self._width, self._rows = path, width, 0
        self._aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self._file = self._aside.open("wb")
        self._write_header()

    def add(self, vectors: Vectors) -> None:
        """Add rows [n, width]."""
        with naming(self._path, self._aside):
            self._file.write(np.ascontiguousarray(vectors, dtype="<f4").tobytes())
        self._rows += len(vectors)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        with naming(self._path, self._aside):
            try:
                self._file.seek(0)
                self._write_header()
                self._file.close()
                if error is None or self._rows:
                    publish(self._aside, self._path)
            finally:
                with suppress(OSError):  # what had no room still has none
                    self._file.close()
                self._aside.unlink(missing_ok=True)

    def _write_header(self) -> None:
        # numpy leaves room in it for a longer first axis, so that its length stays the same.
        shape = (self._rows, self._width)
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": "<f4", "fortran_order": False, "shape": shape}
        )


def _batches(name: str, where: str, rows: int, batch_rows: int) -> Iterator[VectorBatch]:
    for start in range(0, rows, batch_rows):
        # Mapped anew for each batch, and copied: pages that were read do not stay in memory.
        vectors = as_float32(np.array(_load(name, where)[start : start + batch_rows]))
        yield VectorBatch(numbered(start, len(vectors)), vectors)


def _load(name: str, where: str) -> Any:  # noqa: ANN401 - an array of any number type
    try:
        with Path(where).open("rb") as file:
            is_archive = file.read(2) == b"PK"  # numpy would read its arrays, and leaves a damaged one open
        # A pickle can run any code, so arrays of objects are refused.
        array = None if is_archive else np.load(where, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # those of a damaged header have no common class
        raise unreadable_array(name, where, error) from error
    if array is None:
        raise VectorSourceError(
            f"{name} holds an archive of arrays.", f"Give it the ending .npz, or read it as npz:{where}"
        )
    check_table(array.dtype, array.shape, name)
    return array[None] if array.ndim == 1 else array


def unreadable_array(name: str, where: str, error: Exception) -> VectorSourceError:
    """The error for an array that numpy cannot load."""
    if not Path(where).exists():
        return VectorSourceError(f"There is no file `{where}`.", "Check the name.")
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if "allow_pickle" in reason:
        return python_objects(name)
    return VectorSourceError(f"{name} cannot be read: {reason}.", "Copy it again, or save it again.")


def python_objects(name: str) -> VectorSourceError:
    """The error for an array of Python objects."""
    return VectorSourceError(
        f"{name} holds Python objects, which can run any code and are not loaded.",
        "Save numbers or texts alone: np.asarray(vectors, dtype=np.float32), np.asarray(texts, dtype=str)",
    )


def check_table(dtype: "np.dtype[Any]", shape: tuple[int, ...], name: str) -> None:
    """Check that an array is a table [N, D] of real numbers, or one vector [D].

    Raises:
        VectorSourceError: it is not.
    """
    if dtype.names is not None:
        raise VectorSourceError(
            f"{name} holds records with the fields {', '.join(dtype.names)}, and no table of numbers.",
            'Save one field as an array [N, D]: np.save(file, array["…"])',
        )
    if dtype.kind not in "fiu":
        raise VectorSourceError(
            f"{name} holds items of type {dtype}, and no real numbers.",
            "Save it as float32: np.save(file, array.astype(np.float32))",
        )
    if len(shape) not in (1, 2):
        raise VectorSourceError(
            f"{name} has shape {list(shape)}; vectors are a table [N, D].", "Save it as one row per vector."
        )
