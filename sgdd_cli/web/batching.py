"""Requests that are computed together: one worker thread, a bounded queue, and turns that are fair to short requests.

A batch takes rows of all waiting requests that ask for the same (`Work` compares equal). What a row gives depends on
the row, the work and its seed alone, so nobody sees with whom a request was batched.
"""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.events import CanvasChanged, Event, Listener, StageProgress
from sgdd_engine.generation import SGDD, Check, FilledText, Generation

# Canvases of a batch. With `mini` a sentence costs 231 ms alone, 131 in a batch of 16 and 95 in one of 32 (one thread
# of a busy machine); twice the batch would let a short request wait twice as long for the one before it.
BATCH_CANVASES = 16
# Seconds that a batch should take at most, where several rows are in it: a request that comes in between waits for it.
# On a busy machine, where 16 long texts took 17 s, a short request beside a flood of them waited for 22 s.
BATCH_SECONDS = 1.0
# Characters of text that the encoder reads in the time of one canvas: a sentence of 50 takes 6 ms of those 131.
CHARACTERS_PER_CANVAS = 1000
# What a row costs besides.
LEAST_COST = 1 / 64

RowEvent = CanvasChanged | StageProgress
OnRow = Callable[[int, RowEvent], None]
"""Called in the worker's thread with (row of the request, event); a canvas event then holds that row's first canvas."""


class Work(Protocol):
    """What is asked of rows. Equal works are computed together."""

    def cost(self, row: Any) -> float:  # noqa: ANN401 - rows are of the work's own kind
        """What a row costs, in canvases."""
        ...

    def run(self, model: SGDD, rows: Sequence[Any], on_event: Listener, check: Check) -> Sequence[Any]:
        """A result for each row; `check` is called often, and what it raises ends the work."""
        ...


@dataclass(frozen=True)
class Encode:
    """Texts to vectors [D]."""

    def cost(self, row: str) -> float:
        """By the length of the text."""
        return LEAST_COST + len(row) / CHARACTERS_PER_CANVAS

    def run(
        self,
        model: SGDD,
        rows: Sequence[str],
        on_event: Listener,  # noqa: ARG002 - as above
        check: Check,
    ) -> Sequence[Tensor]:
        """The vector of each text."""
        return list(model.encode(rows, check))


@dataclass(frozen=True)
class Write:
    """Vectors, or texts by their vectors, to texts; a row is either and the lengths that its texts may have.

    Attributes are the arguments of `SGDD.generate`.
    """

    sampling: SamplingConfig
    candidates: int = 1
    refine: int = 0
    shortlist: int = 1
    search: int = 0
    num_samples: int = 1
    seed: int = 0
    explain: bool = False
    gradient: bool = True

    def cost(self, row: tuple[Tensor | str, str]) -> float:
        """Texts that are written, and what is encoded first."""
        to_encode = Encode().cost(row[0]) if isinstance(row[0], str) else 0.0
        return to_encode + self.num_samples * self.shortlist * (self.candidates + self.refine + self.search)

    def run(
        self, model: SGDD, rows: Sequence[tuple[Tensor | str, str]], on_event: Listener, check: Check
    ) -> Sequence[list[Generation]]:
        """The texts of each vector."""
        # In the same turn: a request that had to wait for two would wait for two batches of others.
        texts = [source for source, _ in rows if isinstance(source, str)]
        encoded = iter(model.encode(texts, check) if texts else ())
        written = model.generate(
            [next(encoded) if isinstance(source, str) else source for source, _ in rows],
            sampling=self.sampling,
            lengths=[lengths for _, lengths in rows],
            candidates=self.candidates,
            refine=self.refine,
            shortlist=self.shortlist,
            search=self.search,
            gradient=self.gradient,
            num_samples=self.num_samples,
            seed=self.seed,
            score=True,
            explain=self.explain,
            on_event=on_event,
            check=check,
        )
        return [[item for item in written if item.row == row] for row in range(len(rows))]


@dataclass(frozen=True)
class Fill:
    """Texts with blanks to whole texts; a row is a text, its meaning's vector [D] or None, and the whole's lengths.

    Attributes are the arguments of `SGDD.fill`; `meant` says whether the rows have meanings.
    """

    sampling: SamplingConfig
    meant: bool
    candidates: int = 1
    num_samples: int = 1
    seed: int = 0
    explain: bool = False

    def cost(self, row: tuple[str, Tensor | None, str]) -> float:  # noqa: ARG002 - as above
        """Texts that are written; a blank of open length has up to 12 (`LENGTHS_TRIED`), most of them short."""
        return self.num_samples * max(self.candidates, 4)

    def run(
        self, model: SGDD, rows: Sequence[tuple[str, Tensor | None, str]], on_event: Listener, check: Check
    ) -> Sequence[list[FilledText]]:
        """The whole texts of each."""
        filled = model.fill(
            [text for text, _, _ in rows],
            vectors=[vector for _, vector, _ in rows] if self.meant else None,
            sampling=self.sampling,
            lengths=[lengths for _, _, lengths in rows],
            candidates=self.candidates,
            num_samples=self.num_samples,
            seed=self.seed,
            score=self.meant,
            explain=self.explain,
            on_event=on_event,
            check=check,
        )
        return [[item for item in filled if item.row == row] for row in range(len(rows))]


class QueueFull(Exception):  # noqa: N818 - it is no error of the program
    """As many requests wait as may.

    Args:
        seconds: In which time there is likely to be room.
    """

    def __init__(self, seconds: int) -> None:
        super().__init__(f"try again in {seconds} s")
        self.seconds = seconds


class _Abandoned(Exception):  # noqa: N818 - as above
    """Nobody waits for any row of the batch any more, or the worker is to end."""


@dataclass(eq=False)
class _Request:
    """Rows that wait for the worker.

    Attributes:
        work: What is asked.
        rows: All rows.
        on_row: Told of what happens to a row.
        future: Gets the results; cancelled where nobody waits for them any more.
        next: The first row that no batch has had.
        results: Of the rows that are done, by number.
    """

    work: Work
    rows: Sequence[Any]
    on_row: OnRow | None
    future: Future[list[Any]] = field(default_factory=Future)
    next: int = 0
    results: dict[int, Any] = field(default_factory=dict)

    @property
    def cost_left(self) -> float:
        """What its rows that no batch has had cost."""
        return sum(self.work.cost(row) for row in self.rows[self.next :])

    def finish(self, row: int, result: Any) -> None:  # noqa: ANN401 - as the work gives it
        """Take the result of a row; the last one ends the request."""
        self.results[row] = result
        if len(self.results) == len(self.rows):
            with contextlib.suppress(InvalidStateError):  # cancelled meanwhile
                self.future.set_result([self.results[number] for number in range(len(self.rows))])

    def fail(self, error: Exception) -> None:
        """End the request with an error."""
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)


class Batcher:
    """Computes requests in one thread, several at a time.

    Turns alternate between the request that waits longest and the one with least left to do, and a batch holds one
    row of each of its requests before it holds a second one of any. So a flood of long requests delays a short one by
    about two batches, and a flood of short ones takes at most every other turn from a long one.

    Args:
        model: The model; nobody else may use it meanwhile.
        max_waiting: Requests that may wait.
        batch_canvases: What a batch may cost; a row that costs more is computed alone.
        batch_seconds: What it may take, by what the last ones took, where it holds several rows of a request.
    """

    def __init__(
        self,
        model: SGDD,
        *,
        max_waiting: int = 64,
        batch_canvases: float = BATCH_CANVASES,
        batch_seconds: float = BATCH_SECONDS,
    ) -> None:
        self._model, self._max_waiting = model, max_waiting
        self._batch_canvases, self._batch_seconds = batch_canvases, batch_seconds
        self._waiting: list[_Request] = []
        self._changed = threading.Condition()
        self._closed = False
        self._oldest_first = False
        # Smoothed over batches; the first guess is that of a slow machine.
        self._seconds_per_canvas = 0.1
        self._thread = threading.Thread(target=self._serve, name="sgdd-worker", daemon=True)
        self._thread.start()

    async def compute(self, work: Work, rows: Sequence[Any], on_row: OnRow | None = None) -> list[Any]:
        """A result for each row; where the caller is cancelled, rows that wait are dropped.

        Raises:
            QueueFull: too many requests wait already.
            Exception: what the engine raises where a row cannot be computed.
        """
        if not rows:
            return []
        request = _Request(work, rows, on_row)
        with self._changed:
            self._waiting = [other for other in self._waiting if not other.future.cancelled()]
            if len(self._waiting) >= self._max_waiting:
                raise QueueFull(self._seconds_until_room())
            self._waiting.append(request)
            self._changed.notify()
        try:
            return await asyncio.wrap_future(request.future)
        finally:
            request.future.cancel()

    def close(self) -> None:
        """End the worker after the step that it computes; what it computes and what waits is dropped."""
        with self._changed:
            self._closed = True
            for request in self._waiting:
                request.future.cancel()
            self._changed.notify()
        self._thread.join()

    def _seconds_until_room(self) -> int:
        cost = sum(request.cost_left for request in self._waiting) / max(1, len(self._waiting))
        return min(60, max(1, math.ceil(cost * self._seconds_per_canvas)))

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting)
                if self._closed:
                    return
                work, batch = self._next_batch()
            if work is not None:
                self._compute(work, batch)

    def _next_batch(self) -> tuple[Work | None, list[tuple[_Request, int]]]:
        """The rows that are computed next, all of equal work; called with the lock held."""
        waiting = [request for request in self._waiting if not request.future.cancelled()]
        batch: list[tuple[_Request, int]] = []
        work: Work | None = None
        if waiting:
            self._oldest_first = not self._oldest_first
            in_turn = sorted(
                waiting, key=lambda request: request.cost_left
            )  # stable: the oldest among equals
            head = waiting[0] if self._oldest_first else in_turn[0]
            work = head.work
            sharing = [head, *(other for other in in_turn if other is not head and other.work == work)]
            room = self._batch_canvases
            # One row of each request is what all wait for alike; further rows make those who come later wait.
            timed = self._batch_seconds / self._seconds_per_canvas - self._batch_canvases
            while sharing:
                for request in list(sharing):
                    cost = work.cost(request.rows[request.next])
                    if batch and cost > room:
                        sharing.clear()
                        break
                    room -= cost
                    batch.append((request, request.next))
                    request.next += 1
                    if request.next == len(request.rows):
                        sharing.remove(request)
                room, timed = room + min(timed, 0.0), 0.0
        self._waiting = [request for request in waiting if request.next < len(request.rows)]
        return work, batch

    def _compute(self, work: Work, batch: list[tuple[_Request, int]]) -> None:
        """Run a batch; where it fails, each request by itself, so that only the one that cannot be computed fails."""
        started = time.perf_counter()
        cost = sum(work.cost(request.rows[row]) for request, row in batch)
        try:
            self._run(work, batch)
        except _Abandoned:
            for request, _ in batch:
                request.future.cancel()
        except Exception as error:
            requests = list(dict.fromkeys(request for request, _ in batch))
            if len(requests) > 1:
                for request in requests:
                    self._compute(work, [part for part in batch if part[0] is request])
                return
            with self._changed:
                self._waiting = [other for other in self._waiting if other is not requests[0]]
            requests[0].fail(error)
        else:
            seconds = (time.perf_counter() - started) / cost
            self._seconds_per_canvas += 0.2 * (seconds - self._seconds_per_canvas)

    def _run(self, work: Work, batch: list[tuple[_Request, int]]) -> None:
        def check() -> None:
            if self._closed or all(request.future.cancelled() for request, _ in batch):
                raise _Abandoned

        def on_event(event: Event) -> None:
            check()
            if isinstance(event, CanvasChanged):
                _tell_rows(batch, event)
            elif isinstance(event, StageProgress):
                for request, row in batch:
                    if request.on_row is not None:
                        request.on_row(row, event)

        rows = [request.rows[row] for request, row in batch]
        for (request, row), result in zip(batch, work.run(self._model, rows, on_event, check), strict=True):
            request.finish(row, result)


def _tell_rows(batch: list[tuple[_Request, int]], event: CanvasChanged) -> None:
    """Give each listening request the first canvas of each of its rows."""
    told: set[int] = set()
    for number, index in enumerate(event.rows):
        request, row = batch[index]
        if index in told or request.on_row is None:
            continue
        told.add(index)
        tokens = (event.tokens[number],) if event.tokens else ()
        request.on_row(
            row, CanvasChanged(event.step, event.num_steps, (event.texts[number],), (row,), tokens)
        )
