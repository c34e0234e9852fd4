"""Batches of sentences of similar length, and how many of them are looked at together."""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

# A batch takes in no sentences shorter than this share of its longest, which would be padding for the most part,
# unless it is so small that the number of batches would cost more than the padding.
_LEAST_SHARE = 0.8
_LEAST_TOKENS = 1024
# A GPU that is asked after every batch waits in between.
_PART_ROWS = 8192

# Where a batch begins, and where it ends, in the rows by length.
Batch = tuple[int, int]


def batches_in_parts(lengths: npt.NDArray[np.int64], batch_tokens: int) -> Iterator[list[Batch]]:
    """Cut rows, longest first, into batches, several thousand rows of them at a time.

    Args:
        lengths: Tokens of each row, falling, `[N]`.
        batch_tokens: Rows of a batch times its longest stay within it, except that a single row always fits.
    """
    part: list[Batch] = []
    start = 0
    while start < len(lengths):
        stop = start + _rows(lengths[start:], batch_tokens)
        part.append((start, stop))
        start = stop
        if stop == len(lengths) or stop - part[0][0] >= _PART_ROWS:
            yield part
            part = []


def _rows(lengths: npt.NDArray[np.int64], batch_tokens: int) -> int:
    """How many of the rows the next batch takes."""
    longest = int(lengths[0])
    most = min(len(lengths), max(1, batch_tokens // longest))
    similar = int(np.searchsorted(-lengths[:most], -_LEAST_SHARE * longest, side="right"))
    return min(most, max(similar, math.ceil(_LEAST_TOKENS / longest)))
