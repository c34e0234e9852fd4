"""Drafts of a corpus's sentences, as a run reads them: what another model wrote from their vectors."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor


class DraftRows(NamedTuple):
    """Drafts of a batch: tokens [B, n], the re-encoded texts' vectors [B, D], and which are as they were written [B].

    The others were made as long as their sentences, so their vectors are those of other tokens.
    """

    tokens: Tensor
    vectors: Tensor
    whole: Tensor


@dataclass(frozen=True)
class Drafts:
    """Drafts of some rows of a split, held in memory: about 2 bytes per token and 2 per coordinate of the vectors.

    Attributes:
        rows: The rows of the split that have one [N].
        tokens: All drafts' tokens, one after the other.
        starts: Where each begins [N + 1].
        vectors: Of the re-encoded drafts [N, D], float16.
        whole: Which are as they were written [N], not made as long as their sentences afterwards.
    """

    rows: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float16]
    whole: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        """Number of drafts."""
        return len(self.rows)

    def batch(self, which: npt.NDArray[np.integer]) -> DraftRows:
        """Some of the drafts, all of one length, by their number here (not by their row in the split)."""
        first = self.starts[which]
        length = int(self.starts[which[0] + 1] - first[0])
        tokens = self.tokens[first[:, None] + np.arange(length)].astype(np.int64)
        vectors = self.vectors[which].astype(np.float32)
        return DraftRows(*map(torch.from_numpy, (tokens, vectors, self.whole[which])))


@dataclass(frozen=True)
class RunDrafts:
    """Drafts of training and of validation sentences."""

    train: Drafts
    validation: Drafts
