"""Which sentences a run reads at each position, and micro-batches that are read ahead.

A batch is a function of its position and the seed alone, so a resumed run reads what it would have read.
"""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgdd_engine.data.batching import ExactLengthBatches
from sgdd_engine.data.corpus import CorpusSplit


class DraftBatch(NamedTuple):
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

    def batch(self, which: npt.NDArray[np.integer]) -> DraftBatch:
        """Some of the drafts, all of one length, by their number here (not by their row in the split)."""
        first = self.starts[which]
        length = int(self.starts[which[0] + 1] - first[0])
        tokens = self.tokens[first[:, None] + np.arange(length)].astype(np.int64)
        vectors = self.vectors[which].astype(np.float32)
        return DraftBatch(*map(torch.from_numpy, (tokens, vectors, self.whole[which])))


@dataclass(frozen=True)
class DraftSplits:
    """Drafts of training and of validation sentences."""

    train: Drafts
    validation: Drafts


Batch = tuple[Tensor, Tensor, DraftBatch | None]
"""Tokens [B, n], their sentence vectors [B, D], and their drafts where there are some."""


class BatchSource(Protocol):
    """What stands at each position."""

    def batch(self, position: int) -> Batch:
        """Sentences of one length."""
        ...


@dataclass(frozen=True)
class CleanBatches:
    """The sentences of a split in an order."""

    split: CorpusSplit
    order: ExactLengthBatches

    def batch(self, position: int) -> Batch:
        """The sentences at a position."""
        return (*self.split.batch(self.order.batch(position)), None)


@dataclass(frozen=True)
class MixedBatches:
    """Sentences with their drafts at a share of the positions, evenly spread, and plain ones at the others.

    Few sentences have a draft. Read alone they would soon be known by heart, which a corrector must not.
    """

    plain: CleanBatches
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


def training_batches(
    split: CorpusSplit, drafts: Drafts | None, share: float, *, batch_tokens: int, seed: int
) -> BatchSource:
    """What a run reads: all sentences of the split, and drafts of some of them at a share of the positions."""
    plain = CleanBatches(split, ExactLengthBatches(split.lengths, batch_tokens=batch_tokens, seed=seed))
    if drafts is None:
        return plain
    order = ExactLengthBatches(split.lengths[drafts.rows], batch_tokens=batch_tokens, seed=seed)
    return MixedBatches(plain, drafts, order, share)


@dataclass(frozen=True)
class MicroBatch:
    """What is computed at once.

    Attributes:
        position: Where it stands in the order of pieces; its noise follows from this.
        x: Clean tokens [B, n]. e: Their sentence vectors [B, D].
        drafts: What another model wrote from these vectors, where a run learns to correct it.
    """

    position: int
    x: Tensor
    e: Tensor
    drafts: DraftBatch | None = None


class Prefetcher:
    """Every `stride`-th piece of the order, on the device, with a thread that reads one ahead.

    Args:
        rows: What stands at each position.
        device: Where the pieces are computed.
        first: Position of the first piece.
        stride: Distance to the next one; the other positions are other processes'.

    Example:
        >>> with Prefetcher(CleanBatches(split, order), device, first=rank, stride=world_size) as feed:
        ...     piece = feed.next()
    """

    def __init__(self, rows: BatchSource, device: torch.device, *, first: int, stride: int) -> None:
        self._rows, self._device = rows, device
        self._positions: Iterator[int] = itertools.count(first, stride)
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed")
        self._ahead: Future[MicroBatch] = self._reader.submit(self._read)

    def next(self) -> MicroBatch:
        """The next piece; an error of the reading thread is raised here."""
        piece = self._ahead.result()
        self._ahead = self._reader.submit(self._read)
        # From pinned memory this only queues the copy, and the host goes on.
        return _each(piece, lambda tensor: tensor.to(self._device, non_blocking=True))

    def _read(self) -> MicroBatch:
        position = next(self._positions)
        piece = MicroBatch(position, *self._rows.batch(position))
        return _each(piece, Tensor.pin_memory) if self._device.type == "cuda" else piece

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.shutdown(wait=True, cancel_futures=True)


def _each(piece: MicroBatch, move: Callable[[Tensor], Tensor]) -> MicroBatch:
    drafts = None if piece.drafts is None else DraftBatch(*map(move, piece.drafts))
    return MicroBatch(piece.position, move(piece.x), move(piece.e), drafts)
