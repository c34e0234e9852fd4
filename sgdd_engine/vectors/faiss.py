"""Vectors that a FAISS index file holds: exactly (Flat, IVF with Flat, HNSW with Flat), or as its codes have them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors.rows import as_float32
from sgdd_engine.vectors.source import OpenSource, ReadOptions, VectorBatch, client_missing, refuse_options
from sgdd_engine.vectors.stores import reason_of

# Others are refused: where `reconstruct` is missing, some end the process from a thread of their own.
_EXACT = (
    "IndexFlat",
    "IndexFlatIP",
    "IndexFlatL2",
    "IndexHNSWFlat",
    "IndexIVFFlat",
    "IndexNSGFlat",
    "IndexRefineFlat",
)
_LOSSY = (
    "IndexHNSWPQ",
    "IndexHNSWSQ",
    "IndexIVFPQ",
    "IndexIVFPQR",
    "IndexIVFScalarQuantizer",
    "IndexLSH",
    "IndexPQ",
    "IndexScalarQuantizer",
)


def matches(where: str) -> bool:
    """Files whose name ends in `.faiss`, and `.index` files that begin as FAISS writes them."""
    path = Path(where)
    if path.suffix == ".index" and path.is_file():
        with path.open("rb") as file:
            return re.match(rb"I[A-Za-z0-9]{3}", file.read(4)) is not None
    return path.suffix.lower() == ".faiss"


def open(where: str, options: ReadOptions) -> OpenSource:
    """The vectors of an index, memory-mapped; an index has no texts.

    An IVF index is read by ascending id, which takes a table of its ids (about 50 bytes a vector); any other in the
    order of insertion.

    Raises:
        VectorSourceError: there is no such file, it is no FAISS index, or of a type that does not give vectors back.
    """
    name = f"FAISS index `{where}`"
    refuse_options(options, name, "column", "text_column", "id_column", "group_column", "where", "table")
    if not Path(where).is_file():
        raise VectorSourceError(f"There is no file `{where}`.", "Check the name.")
    try:
        import faiss  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise client_missing("a FAISS index", "faiss", error) from error
    try:
        index = faiss.read_index(where, faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
    except (RuntimeError, MemoryError) as error:
        raise _unreadable(name, error) from error
    ids: npt.NDArray[np.int64] | None = None
    # What holds `index`: a wrapper that is collected takes it along.
    outer = index
    if isinstance(index, faiss.IndexIDMap):
        ids, index = faiss.vector_to_array(index.id_map), faiss.downcast_index(index.index)
    warnings = _warnings(faiss, index, name)
    keys = _keys_of_ivf(faiss, index)
    if keys is not None and len(np.unique(keys)) < len(keys):
        warnings.append("Several vectors have the same id; one of them is read in the place of each.")
    batches = _batches((outer, index), keys, ids, name, options.batch_rows)
    return OpenSource(name, int(index.ntotal), (), batches, warnings=tuple(warnings))


def _warnings(faiss: Any, index: Any, name: str) -> list[str]:  # noqa: ANN401 - classes of a package that may be missing
    """What a reader of the index should know.

    Raises:
        VectorSourceError: it is of a type that does not give vectors back.
    """
    warnings = []
    core = index
    while isinstance(core, faiss.IndexPreTransform):
        steps = [
            type(faiss.downcast_VectorTransform(core.chain.at(i))).__name__ for i in range(core.chain.size())
        ]
        warnings.append(
            f"Vectors went through {', '.join(steps)} before the index stored them; what is read is transformed back "
            "and an approximation."
        )
        core = faiss.downcast_index(core.index)
    kind = type(core).__name__
    if kind in _LOSSY:
        warnings.append(f"A lossy index ({kind}): its vectors are approximations of those that were added.")
    elif kind not in _EXACT:
        raise VectorSourceError(
            f"{name} is of the type {kind}, from which vectors are not read back.",
            f"Types that are: {', '.join((*_EXACT, *_LOSSY))}, each also inside IndexIDMap or IndexPreTransform.",
        )
    return warnings


def _keys_of_ivf(faiss: Any, index: Any) -> npt.NDArray[np.int64] | None:  # noqa: ANN401 - as above
    """Ids of an inverted file in ascending order, which can then be looked up; None for another index."""
    core = index
    while isinstance(core, faiss.IndexPreTransform):
        core = faiss.downcast_index(core.index)
    if not isinstance(core, faiss.IndexIVF):
        return None
    lists = core.invlists
    found = [
        faiss.rev_swig_ptr(lists.get_ids(number), lists.list_size(number)).copy()
        for number in range(core.nlist)
        if lists.list_size(number)
    ]
    core.set_direct_map_type(faiss.DirectMap.Hashtable)
    return np.sort(np.concatenate(found)) if found else np.empty(0, np.int64)


def _batches(
    held: tuple[Any, Any],
    keys: npt.NDArray[np.int64] | None,
    ids: npt.NDArray[np.int64] | None,
    name: str,
    batch_rows: int,
) -> Iterator[VectorBatch]:
    index = held[1]
    for start in range(0, index.ntotal, batch_rows):
        places = np.arange(start, min(start + batch_rows, index.ntotal))
        read = places if keys is None else keys[places]
        try:
            vectors = as_float32(index.reconstruct_batch(read))
        except RuntimeError as error:
            raise _unreadable(name, error) from error
        yield VectorBatch([str(number) for number in (read if ids is None else ids[read])], vectors)


def _unreadable(name: str, error: BaseException) -> VectorSourceError:
    # The reason stands behind a C++ signature, the place in the source and the expression that failed.
    reason = re.sub(r"^Error in .* at \S+:\d+: (Error: '.*' failed: )?", "", reason_of(error))
    return VectorSourceError(f"{name} cannot be read: {reason}.", "Copy it again, or write it again.")
