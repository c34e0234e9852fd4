"""Which sentences a run reads at each position, alone or with drafts; a function of the position and the seed."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from sgdd_engine.data.batching import ExactLengthBatches
from sgdd_engine.data.corpus import CorpusSplit
from sgdd_engine.training.drafts import DraftRows, Drafts

Batch = tuple[Tensor, Tensor, DraftRows | None]
"""Tokens [B, n], their sentence vectors [B, D], and their drafts where there are some."""


class Rows(Protocol):
    """What stands at each position."""

    def batch(self, position: int) -> Batch:
        """Sentences of one length."""
        ...


@dataclass(frozen=True)
class PlainRows:
    """The sentences of a split in an order."""

    split: CorpusSplit
    order: ExactLengthBatches

    def batch(self, position: int) -> Batch:
        """The sentences at a position."""
        return (*self.split.batch(self.order.batch(position)), None)


@dataclass(frozen=True)
class MixedRows:
    """Sentences with their drafts at a share of the positions, evenly spread, and plain ones at the others.

    Few sentences have a draft. Read alone they would soon be known by heart, which a corrector must not.
    """

    plain: PlainRows
    drafts: Drafts
    order: ExactLengthBatches
    share: float

    def batch(self, position: int) -> Batch:
        """The sentences at a position; those with drafts are counted on their own, and so are the others."""
        before, after = int(position * self.share), int((position + 1) * self.share)
        if before == after:
            return self.plain.batch(position - before)
        which = self.order.batch(before)
        return (*self.plain.split.batch(self.drafts.rows[which]), self.drafts.batch(which))


def rows_of_run(
    split: CorpusSplit, drafts: Drafts | None, share: float, *, batch_tokens: int, seed: int
) -> Rows:
    """What a run reads: all sentences of the split, and drafts of some of them at a share of the positions."""
    plain = PlainRows(split, ExactLengthBatches(split.lengths, batch_tokens=batch_tokens, seed=seed))
    if drafts is None:
        return plain
    order = ExactLengthBatches(split.lengths[drafts.rows], batch_tokens=batch_tokens, seed=seed)
    return MixedRows(plain, drafts, order, share)
