"""The engine's events on stderr: bars on a terminal, a plain line every few seconds elsewhere."""

import importlib.util
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

from sgdd_cli import formatting
from sgdd_cli.console import may_draw, output_options, say, stderr, warn
from sgdd_engine.events import (
    CanvasChanged,
    CheckpointSaved,
    Event,
    Notice,
    SamplesWritten,
    StageFinished,
    StageProgress,
    StageStarted,
    TrainingProgress,
    Validated,
)

SECONDS_BETWEEN_LINES = 5.0


class Painter(Protocol):
    """Draws events between `start` and `stop`."""

    def start(self) -> None:
        """Begin to draw."""
        ...

    def stop(self) -> None:
        """Clear what is redrawn."""
        ...

    def draw(self, event: Event) -> None:
        """Show one event."""
        ...


class ProgressDisplay:
    """A listener that draws the engine's events while it is entered: on a terminal, in a notebook, or as lines.

    In a notebook with ipywidgets the display is redrawn below the cell; without it, lines are written.

    Args:
        watch: Show the canvases of the sampler as they fill in.

    Example:
        >>> with ProgressDisplay(watch=True) as display:
        ...     model.generate(vectors, refine=8, on_event=display)
    """

    def __init__(self, *, watch: bool = False) -> None:
        self._painter = _choose_painter(watch)

    def __enter__(self) -> "ProgressDisplay":
        self._painter.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._painter.stop()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        self._painter.draw(event)


def _choose_painter(watch: bool) -> Painter:
    if output_options.quiet:
        return Silence()
    drawn = may_draw() and stderr().is_terminal and not stderr().is_dumb_terminal
    if drawn or _in_notebook():
        from sgdd_cli.progress_live import LivePainter  # noqa: PLC0415 - bars are needed on terminals only

        return LivePainter(stderr(), watch=watch)
    return LinePainter(watch=watch)


def _in_notebook() -> bool:
    """Whether Rich can redraw below a cell, which takes IPython's display and ipywidgets."""
    if "IPython" not in sys.modules or importlib.util.find_spec("ipywidgets") is None:
        return False
    return bool(stderr().is_jupyter)


class Silence:
    """Warnings only."""

    def start(self) -> None:
        """Nothing to begin."""

    def stop(self) -> None:
        """Nothing to clear."""

    def draw(self, event: Event) -> None:
        """Show a warning, nothing else."""
        if isinstance(event, Notice) and event.warning:
            warn(event.message)


@dataclass
class Stage:
    """A stage in progress, and how fast it goes.

    Attributes:
        done_before: Units that an earlier run had finished; they do not count for the speed.
        began: Seconds, on the clock of `line`.
    """

    total: int | None
    unit: str
    done_before: int
    began: float
    done: int = 0

    def line(self, name: str, now: float) -> str:
        """`encoding: 3,210 of 12,345 sentences (26 %), 1,234/s, 0:07 left`."""
        # A total may be an estimate; beyond it, nothing is known of what is left.
        total = None if self.total is None or self.done > self.total else self.total
        if total is None:
            text = f"{name}: {self.done:,} {self.unit}"
        else:
            text = f"{name}: {self.done:,} of {total:,} {self.unit} ({self.done / max(1, total):.0%})"
        speed = (self.done - self.done_before) / max(1e-9, now - self.began)
        if speed > 0:
            text += f", {formatting.rate(speed)}/s"
            if total is not None:
                text += f", {formatting.duration((total - self.done) / speed)} left"
        return text


class LinePainter:
    """Plain lines: results at once, progress every few seconds."""

    def __init__(
        self,
        *,
        watch: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._watch, self._clock = watch, clock
        self._stages: dict[str, Stage] = {}
        self._last_line = clock()
        self._pending: TrainingProgress | None = None

    def start(self) -> None:
        """Nothing to begin."""

    def stop(self) -> None:
        """Write the last figures of training, if they were held back."""
        if self._pending is not None:
            say(formatting.training_line(self._pending))
            self._pending = None

    def draw(self, event: Event) -> None:
        """Write one event, or hold it back until enough time has passed."""
        match event:
            case StageStarted(stage, total, unit, done):
                self._stages[stage] = Stage(total, unit, done, self._clock(), done)
                say(f"{stage} ..." if total in (None, 1) else f"{stage}: {total:,} {unit} ...")
            case StageProgress(stage, done):
                self._progress(stage, done)
            case TrainingProgress():
                self._pending = event
                if self._due():
                    self.stop()
            case CanvasChanged():
                if self._watch:
                    say(canvas_line(event))
            case _:
                write_event(event)

    def _progress(self, name: str, done: int) -> None:
        # An engine that reports a stage it did not announce is still shown.
        stage = self._stages.setdefault(name, Stage(None, "done", 0, self._clock()))
        stage.done = done
        if self._due():
            say(stage.line(name, self._clock()))

    def _due(self) -> bool:
        now = self._clock()
        if now - self._last_line < SECONDS_BETWEEN_LINES:
            return False
        self._last_line = now
        return True


def write_event(event: Event) -> None:
    """Write an event that is written as soon as it comes: a stage's end, a validation, a checkpoint, a notice."""
    match event:
        case StageFinished(stage, summary):
            say(f"{stage}: {summary or 'done.'}")
        case Validated():
            say(formatting.validation_line(event))
        case SamplesWritten():
            say(formatting.samples_lines(event))
        case CheckpointSaved(step, folder, seconds, stopped):
            say(f"step {step:,}: saved {folder} ({seconds:.1f} s; training stood still for {stopped:.2f} s)")
        case Notice(message, warning):
            (warn if warning else say)(message)


def canvas_line(event: CanvasChanged) -> str:
    """One line per canvas: `3/16  the _ _ home`."""
    return "\n".join(f"{event.step}/{event.num_steps}  {text}" for text in event.texts)
