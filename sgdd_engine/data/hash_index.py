"""Hashes of the content of sentences, and an index from hashes to rows."""

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

# 128-bit hashes as two 64-bit numbers each, `[N, 2]`.
HashPairs = npt.NDArray[np.uint64]


def content_hash(sentence: str) -> bytes:
    """The 128-bit BLAKE2b hash of a sentence."""
    return hashlib.blake2b(sentence.encode(), digest_size=16).digest()


def hash_pairs(sentences: Iterable[str]) -> HashPairs:
    """The content hashes of sentences as two 64-bit numbers each, `[N, 2]`."""
    joined = b"".join(map(content_hash, sentences))
    return np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)


class HashIndex:
    """Finds the row of a content hash by binary search.

    Memory: 24 bytes per row; 40 during construction.

    Args:
        rows: The hashes in the order of their rows, `[N, 2]`, all different.
    """

    def __init__(self, rows: HashPairs) -> None:
        self._order: npt.NDArray[np.int64] = np.lexsort((rows[:, 1], rows[:, 0]))
        self._first = rows[self._order, 0]
        self._second = rows[self._order, 1]

    def find(self, wanted: HashPairs) -> npt.NDArray[np.int64]:
        """The row of each hash, -1 where there is none, `[M]`."""
        found = np.full(len(wanted), -1, np.int64)
        positions = np.searchsorted(self._first, wanted[:, 0])
        pending = np.arange(len(wanted))
        # Hashes with an equal first half are neighbours in the sorted order; a second round is very rare.
        while len(pending):
            pending = pending[positions[pending] < len(self._first)]
            pending = pending[self._first[positions[pending]] == wanted[pending, 0]]
            same = self._second[positions[pending]] == wanted[pending, 1]
            found[pending[same]] = self._order[positions[pending[same]]]
            pending = pending[~same]
            positions[pending] += 1
        return found
