"""Where vectors lie: files, data sets and databases, read in batches and in constant memory.

One file for each kind of source, found by the entry points of the group `sgdd.vectors`. Names are imported on first
use, so that the kinds are listed without loading numpy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgdd_engine.vectors.kinds import VectorKind as VectorKind
    from sgdd_engine.vectors.kinds import vector_kinds as vector_kinds
    from sgdd_engine.vectors.linear_map import LinearMap as LinearMap
    from sgdd_engine.vectors.linear_map import load_map as load_map
    from sgdd_engine.vectors.npy import NpyWriter as NpyWriter
    from sgdd_engine.vectors.reading import open_vectors as open_vectors
    from sgdd_engine.vectors.reading import read_vectors as read_vectors
    from sgdd_engine.vectors.source import OpenSource as OpenSource
    from sgdd_engine.vectors.source import ReadOptions as ReadOptions
    from sgdd_engine.vectors.source import VectorBatch as VectorBatch
    from sgdd_engine.vectors.source import VectorSource as VectorSource

_MODULES = {
    "LinearMap": "linear_map",
    "NpyWriter": "npy",
    "OpenSource": "source",
    "ReadOptions": "source",
    "VectorBatch": "source",
    "VectorKind": "kinds",
    "VectorSource": "source",
    "load_map": "linear_map",
    "open_vectors": "reading",
    "read_vectors": "reading",
    "vector_kinds": "kinds",
}

__all__ = [
    "LinearMap",
    "NpyWriter",
    "OpenSource",
    "ReadOptions",
    "VectorBatch",
    "VectorKind",
    "VectorSource",
    "load_map",
    "open_vectors",
    "read_vectors",
    "vector_kinds",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - the signature that PEP 562 asks for
    if name in _MODULES:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
