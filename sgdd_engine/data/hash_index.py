"""Sentences known by a hash of their content, and where each of very many stands."""

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

# Digests as two halves, `[N, 2]`.
Halves = npt.NDArray[np.uint64]


def digest(sentence: str) -> bytes:
    """The 128 bits of BLAKE2b that stand for a sentence."""
    return hashlib.blake2b(sentence.encode(), digest_size=16).digest()


def halves(sentences: Iterable[str]) -> Halves:
    """The digests of sentences as two 64-bit numbers each, `[N, 2]`."""
    joined = b"".join(map(digest, sentences))
    return np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)


class DigestIndex:
    """The rows of digests, found by binary search.

    Memory: 24 bytes a row; 40 while it is made.

    Args:
        rows: The digests in the order of their rows, `[N, 2]`, all different.
    """

    def __init__(self, rows: Halves) -> None:
        self._order: npt.NDArray[np.int64] = np.lexsort((rows[:, 1], rows[:, 0]))
        self._first = rows[self._order, 0]
        self._second = rows[self._order, 1]

    def find(self, wanted: Halves) -> npt.NDArray[np.int64]:
        """The row of each digest, -1 where there is none, `[M]`."""
        found = np.full(len(wanted), -1, np.int64)
        places = np.searchsorted(self._first, wanted[:, 0])
        open_ = np.arange(len(wanted))
        # Digests that share their first half stand side by side: hardly ever is there a second round.
        while len(open_):
            open_ = open_[places[open_] < len(self._first)]
            open_ = open_[self._first[places[open_]] == wanted[open_, 0]]
            same = self._second[places[open_]] == wanted[open_, 1]
            found[open_[same]] = self._order[places[open_[same]]]
            open_ = open_[~same]
            places[open_] += 1
        return found
