"""Batches of sentences of one exact length: no padding, no attention mask, every row once per epoch."""

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sgdd_engine.errors import DataError

Rows = npt.NDArray[np.int64]


class ExactLengthBatches:
    """The order of the rows of a split, epoch after epoch, as batches of one length each.

    The order is a function of `(seed, epoch)` alone, so a checkpoint stores only a position, and the processes of
    a distributed run agree on the order without communication. Every row comes exactly once per epoch.

    Args:
        lengths: Tokens of each row, `[N]`.
        batch_tokens: No batch holds more tokens, except that a single row always fits.
        seed: Seed of the order.

    Raises:
        DataError: If there are no rows.
    """

    def __init__(
        self,
        lengths: npt.NDArray[np.integer],
        *,
        batch_tokens: int,
        seed: int,
    ) -> None:
        if len(lengths) == 0:
            raise DataError("There are no sentences to make batches of.", "Prepare a larger corpus.")
        # Lengths are at most a few hundred; numpy sorts 16-bit integers by radix, some ten times faster.
        self._lengths = np.asarray(lengths, dtype=np.uint16)
        self._seed = seed
        self._edges = _batch_edges(self._lengths, batch_tokens)
        self._epoch = -1
        self._rows: Rows = np.empty(0, np.int64)
        self._order: Rows = np.empty(0, np.int64)

    def __len__(self) -> int:
        """Batches per epoch; the same for every epoch."""
        return len(self._edges) - 1

    def batch(self, position: int) -> Rows:
        """The row indices `[B]` of the batch at `position`, counted on from the first epoch."""
        epoch, index = divmod(position, len(self))
        if epoch != self._epoch:
            self._shuffle(epoch)
        number = self._order[index]
        return self._rows[self._edges[number] : self._edges[number + 1]]

    def _shuffle(self, epoch: int) -> None:
        random = np.random.default_rng([self._seed, epoch])
        rows = random.permutation(len(self._lengths))
        # A stable sort keeps the random order among rows of one length.
        self._rows = rows[np.argsort(self._lengths[rows], kind="stable")]
        self._order = random.permutation(len(self))
        self._epoch = epoch


def _batch_edges(lengths: npt.NDArray[np.uint16], batch_tokens: int) -> Rows:
    """Where batches begin and end in rows sorted by length, `[batches + 1]`; the same in every epoch.

    The rows of one length are divided evenly, since a last batch of one row would give a noisy gradient.
    """
    counts = np.bincount(lengths)
    edges = [0]
    for length in np.flatnonzero(counts):
        count = int(counts[length])
        rows_per_batch = max(1, batch_tokens // max(1, int(length)))
        batches = math.ceil(count / rows_per_batch)
        start = edges[-1]
        edges.extend(start + count * number // batches for number in range(1, batches + 1))
    assert all(low < high for low, high in pairwise(edges))
    return np.asarray(edges, dtype=np.int64)
