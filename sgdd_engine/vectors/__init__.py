"""Where vectors lie: files, data sets and databases, read in batches and in constant memory.

One file for each kind of source, found by the entry points of the group `sgdd.vectors`.
"""

from sgdd_engine.vectors.reading import VectorKind, open_vectors, read_vectors, vector_kinds
from sgdd_engine.vectors.source import OpenSource, ReadOptions, VectorBatch, VectorSource

__all__ = [
    "OpenSource",
    "ReadOptions",
    "VectorBatch",
    "VectorKind",
    "VectorSource",
    "open_vectors",
    "read_vectors",
    "vector_kinds",
]
