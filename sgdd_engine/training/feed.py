"""Pieces of batches, each read while the one before it computes."""

import itertools
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor

from sgdd_engine.data.batching import ExactLengthBatches
from sgdd_engine.data.corpus import CorpusSplit


@dataclass(frozen=True)
class Piece:
    """What is computed at once.

    Attributes:
        position: Where it stands in the order of pieces; its noise follows from this.
        x: Clean tokens [B, n]. e: Their sentence vectors [B, D].
    """

    position: int
    x: Tensor
    e: Tensor


class Feed:
    """Every `stride`-th piece of the order, on the device, with a thread that reads one ahead.

    Args:
        split: The sentences.
        order: Which rows stand at each position.
        device: Where the pieces are computed.
        first: Position of the first piece.
        stride: Distance to the next one; the other positions are other processes'.

    Example:
        >>> with Feed(split, order, device, first=rank, stride=world_size) as feed:
        ...     piece = feed.next()
    """

    def __init__(
        self, split: CorpusSplit, order: ExactLengthBatches, device: torch.device, *, first: int, stride: int
    ) -> None:
        self._split, self._order, self._device = split, order, device
        self._positions: Iterator[int] = itertools.count(first, stride)
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed")
        self._ahead: Future[Piece] = self._reader.submit(self._read)

    def next(self) -> Piece:
        """The next piece; an error of the reading thread is raised here."""
        piece = self._ahead.result()
        self._ahead = self._reader.submit(self._read)
        # From pinned memory this only queues the copy, and the host goes on.
        return Piece(
            piece.position,
            piece.x.to(self._device, non_blocking=True),
            piece.e.to(self._device, non_blocking=True),
        )

    def _read(self) -> Piece:
        position = next(self._positions)
        x, e = self._split.batch(self._order.batch(position))
        if self._device.type == "cuda":
            x, e = x.pin_memory(), e.pin_memory()
        return Piece(position, x, e)

    def __enter__(self) -> "Feed":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.shutdown(wait=True, cancel_futures=True)
