"""The order of a run's batches, with or without drafts, and a reader that prefetches them.

A batch is a function of its position and the seed alone, so a resumed run reads what it would have read.
"""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sgdd_engine.data.corpus import CorpusSplit, ExactLengthBatches, Rows


class DraftBatch(NamedTuple):
    """Drafts of the sentences of a batch.

    Attributes:
        tokens: Token ids [B, m]; behind the end of a draft any token.
        lengths: Tokens of each draft [B].
        vectors: The encoder's vectors of the drafts [B, D].
    """

    tokens: Tensor
    lengths: Tensor
    vectors: Tensor


@dataclass(frozen=True)
class Drafts:
    """Drafts of some rows of a split, held in memory: about 2 bytes per token and 2 per coordinate of the vectors.

    Attributes:
        rows: The rows of the split that have a draft [N].
        tokens: The tokens of all drafts, one draft after the other.
        starts: The index of each draft's first token [N + 1].
        vectors: The encoder's vectors of the drafts [N, D], float16.
    """

    rows: npt.NDArray[np.int64]
    tokens: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float16]

    def __len__(self) -> int:
        """Number of drafts."""
        return len(self.rows)

    def batch(self, which: npt.NDArray[np.integer]) -> DraftBatch:
        """Some of the drafts, by their index among the drafts (not by their row in the split)."""
        first = self.starts[which]
        lengths = self.starts[which + 1] - first
        # Behind the end of a draft stand tokens of the next one, or the last token of all.
        at = (first[:, None] + np.arange(int(lengths.max()))).clip(max=len(self.tokens) - 1)
        tokens, vectors = self.tokens[at].astype(np.int64), self.vectors[which].astype(np.float32)
        return DraftBatch(*map(torch.from_numpy, (tokens, lengths, vectors)))


SentenceBatch = tuple[Tensor, Tensor, DraftBatch | None]
"""Tokens [B, n], their sentence vectors [B, D], and their drafts if the batch comes with drafts."""


@dataclass(frozen=True)
class TrainingBatches:
    """The endless order of a run's batches.

    Batches with drafts stand at a share of the positions, evenly spread, and batches without at the others. Few
    sentences have a draft: trained on those alone, the decoder would memorise them.

    Attributes:
        split: The sentences.
        order: Batches of rows of the split.
        drafts: Drafts of some of its rows.
        draft_order: Batches of indices among the drafts.
        share: Share of the batches that come with drafts.
    """

    split: CorpusSplit
    order: ExactLengthBatches
    drafts: Drafts | None = None
    draft_order: ExactLengthBatches | None = None
    share: float = 0.0

    def batch(self, position: int) -> SentenceBatch:
        """The batch at a position, from 0."""
        rows, which = self.rows(position)
        drafts = None if which is None or self.drafts is None else self.drafts.batch(which)
        return (*self.split.batch(rows), drafts)

    def rows(self, position: int) -> tuple[Rows, Rows | None]:
        """The rows of the split in the batch at a position, and their indices among the drafts if it has drafts.

        Batches with drafts are numbered on their own, and so are the others.
        """
        before, after = int(position * self.share), int((position + 1) * self.share)
        if self.drafts is None or self.draft_order is None or before == after:
            return self.order.batch(position - before), None
        which = self.draft_order.batch(before)
        return self.drafts.rows[which], which


def training_batches(
    split: CorpusSplit, drafts: Drafts | None, share: float, *, batch_tokens: int, seed: int
) -> TrainingBatches:
    """The batches of a run: all sentences of the split, and at a share of the positions those that have drafts."""
    order = ExactLengthBatches(split.lengths, batch_tokens=batch_tokens, seed=seed)
    if drafts is None:
        return TrainingBatches(split, order)
    draft_order = ExactLengthBatches(split.lengths[drafts.rows], batch_tokens=batch_tokens, seed=seed)
    return TrainingBatches(split, order, drafts, draft_order, share)


@dataclass(frozen=True)
class MicroBatch:
    """The part of a step's batch that one process computes at once.

    Attributes:
        position: Its position in the order of micro-batches; its noise follows from this.
        x: Clean tokens [B, n]. e: Their sentence vectors [B, D].
        drafts: What the model that the run started from wrote from these vectors, if the batch comes with drafts.
    """

    position: int
    x: Tensor
    e: Tensor
    drafts: DraftBatch | None = None


class Prefetcher:
    """Every `stride`-th micro-batch of an order, on the device; a thread reads the next one meanwhile.

    Args:
        source: The order.
        device: Where the micro-batches are computed.
        first: Position of the first one.
        stride: Distance to the next one; the positions between belong to other processes.

    Example:
        >>> with Prefetcher(TrainingBatches(split, order), device, first=rank, stride=world_size) as prefetcher:
        ...     micro_batch = prefetcher.next()
    """

    def __init__(self, source: TrainingBatches, device: torch.device, *, first: int, stride: int) -> None:
        self._source, self._device = source, device
        self._positions: Iterator[int] = itertools.count(first, stride)
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
        self._ahead: Future[MicroBatch] = self._reader.submit(self._read)

    def next(self) -> MicroBatch:
        """The next micro-batch; an error of the reading thread is raised here."""
        micro_batch = self._ahead.result()
        self._ahead = self._reader.submit(self._read)
        # From pinned memory this only queues the copy, and the host goes on.
        return _map_tensors(micro_batch, lambda tensor: tensor.to(self._device, non_blocking=True))

    def look_up(self, question: Callable[[TrainingBatches], str]) -> str:
        """An answer from the order, in the thread that reads it: an order is as large as the corpus has sentences."""
        return self._reader.submit(question, self._source).result()

    def _read(self) -> MicroBatch:
        position = next(self._positions)
        micro_batch = MicroBatch(position, *self._source.batch(position))
        return _map_tensors(micro_batch, Tensor.pin_memory) if self._device.type == "cuda" else micro_batch

    def __enter__(self) -> "Prefetcher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.shutdown(wait=True, cancel_futures=True)


def _map_tensors(micro_batch: MicroBatch, move: Callable[[Tensor], Tensor]) -> MicroBatch:
    drafts = None if micro_batch.drafts is None else DraftBatch(*map(move, micro_batch.drafts))
    return MicroBatch(micro_batch.position, move(micro_batch.x), move(micro_batch.e), drafts)
