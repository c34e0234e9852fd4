"""Pieces of batches, each read while the one before it computes."""

import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import Tensor

from sgdd_engine.training.dataloading import Rows
from sgdd_engine.training.drafts import DraftRows


@dataclass(frozen=True)
class Piece:
    """What is computed at once.

    Attributes:
        position: Where it stands in the order of pieces; its noise follows from this.
        x: Clean tokens [B, n]. e: Their sentence vectors [B, D].
        drafts: What another model wrote from these vectors, where a run learns to correct it.
    """

    position: int
    x: Tensor
    e: Tensor
    drafts: DraftRows | None = None


class Feed:
    """Every `stride`-th piece of the order, on the device, with a thread that reads one ahead.

    Args:
        rows: What stands at each position.
        device: Where the pieces are computed.
        first: Position of the first piece.
        stride: Distance to the next one; the other positions are other processes'.

    Example:
        >>> with Feed(PlainRows(split, order), device, first=rank, stride=world_size) as feed:
        ...     piece = feed.next()
    """

    def __init__(self, rows: Rows, device: torch.device, *, first: int, stride: int) -> None:
        self._rows, self._device = rows, device
        self._positions: Iterator[int] = itertools.count(first, stride)
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed")
        self._ahead: Future[Piece] = self._reader.submit(self._read)

    def next(self) -> Piece:
        """The next piece; an error of the reading thread is raised here."""
        piece = self._ahead.result()
        self._ahead = self._reader.submit(self._read)
        # From pinned memory this only queues the copy, and the host goes on.
        return _each(piece, lambda tensor: tensor.to(self._device, non_blocking=True))

    def _read(self) -> Piece:
        position = next(self._positions)
        piece = Piece(position, *self._rows.batch(position))
        return _each(piece, Tensor.pin_memory) if self._device.type == "cuda" else piece

    def __enter__(self) -> "Feed":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.shutdown(wait=True, cancel_futures=True)


def _each(piece: Piece, move: Callable[[Tensor], Tensor]) -> Piece:
    drafts = None if piece.drafts is None else DraftRows(*map(move, piece.drafts))
    return Piece(piece.position, move(piece.x), move(piece.e), drafts)
