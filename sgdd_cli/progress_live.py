"""The display on a terminal: a bar per stage, the training figures as a table, the canvases filling in."""

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sgdd_cli import formatting
from sgdd_cli.console import fit_table, new_table, warning_text
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

TRAINING = "training"
# Fewer refreshes than Rich's default: on few cores drawing takes time from the work.
REFRESHES_PER_SECOND = 4
# Lines of the screen that canvases leave free: for bars, the step, and the line of the cursor.
CANVAS_MARGIN = 4


class LivePainter:
    """Redraws one area at the bottom of the terminal; results scroll away above it."""

    def __init__(self, console: Console, *, watch: bool = False) -> None:
        self._console, self._watch = console, watch
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}", markup=False),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[note]}", markup=False),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._training: TrainingProgress | None = None
        self._saved: CheckpointSaved | None = None
        self._canvas: CanvasChanged | None = None
        self._live = Live(
            console=console,
            get_renderable=self._draw_all,
            refresh_per_second=REFRESHES_PER_SECOND,
            transient=True,
            # A command prints its data on stdout when the display is closed.
            redirect_stdout=False,
        )

    def start(self) -> None:
        """Begin to draw."""
        self._live.start()

    def stop(self) -> None:
        """Clear the area; the last figures of training stay."""
        self._live.stop()
        # What is drawn next begins with canvases of its own.
        self._canvas = None
        if self._training is not None:
            self._print(formatting.training_line(self._training))

    def draw(self, event: Event) -> None:
        """Show one event."""
        match event:
            case StageStarted(stage, total, unit, done):
                self._remove(stage)
                self._tasks[stage] = self._bars.add_task(
                    stage, total=total, completed=done, unit=unit, note=""
                )
            case StageProgress(stage, done, note):
                task = self._tasks.get(stage)
                if task is None:
                    task = self._tasks[stage] = self._bars.add_task(stage, total=None, unit="", note="")
                known = next(item for item in self._bars.tasks if item.id == task)
                if known.total is not None and done > known.total:
                    # It was an estimate; nothing is known of what is left.
                    self._remove(stage)
                    unit = known.fields["unit"]
                    task = self._tasks[stage] = self._bars.add_task(stage, total=None, unit=unit, note="")
                self._bars.update(task, completed=done, note=note)
            case StageFinished(stage, summary):
                self._remove(stage)
                self._print(f"{stage}: {summary or 'done.'}")
            case TrainingProgress():
                self._training = event
            case CheckpointSaved():
                self._saved = event
            case CanvasChanged():
                self._watched(event)
            case Validated():
                self._print(formatting.validation_line(event))
            case SamplesWritten():
                self._print(formatting.samples_lines(event))
            case Notice(message, warning):
                self._console.print(warning_text(message) if warning else message)

    def _watched(self, event: CanvasChanged) -> None:
        if self._watch:
            self._canvas = event
            # Every step is drawn, however quick it is.
            self._live.refresh()

    def _print(self, message: str) -> None:
        self._console.print(message)

    def _remove(self, stage: str) -> None:
        if (task := self._tasks.pop(stage, None)) is not None:
            self._bars.remove_task(task)

    def _draw_all(self) -> RenderableType:
        parts: list[RenderableType] = []
        if self._training is not None:
            parts += [
                Text(_of_loss(self._training), style="dim"),
                training_table(self._training, self._console.width),
                self._training_bar(self._training),
            ]
        if self._saved is not None:
            parts.append(Text(f"last checkpoint: step {self._saved.step:,}", style="dim"))
        if self._tasks:
            parts.append(self._bars)
        if self._canvas is not None:
            parts.append(canvas(self._canvas, self._console.width, self._console.height - CANVAS_MARGIN))
        return Group(*parts)

    def _training_bar(self, event: TrainingProgress) -> RenderableType:
        row = Table.grid(padding=(0, 1))
        left = "" if event.seconds_left is None else f"{formatting.duration(event.seconds_left)} left"
        bar = Progress(BarColumn(bar_width=30), console=self._console)
        bar.add_task(TRAINING, total=1000, completed=round(1000 * event.fraction))
        row.add_row(TRAINING, bar, formatting.steps(event), left)
        return row


def _of_loss(event: TrainingProgress) -> str:
    """What the loss is, which without masked tokens is that of a surrogate that is trained alone."""
    if not event.accuracy_by_mask_ratio:
        return "loss: the surrogate's squared distance from the encoder's vectors"
    return "loss in nats per masked token; accuracy by share of masked tokens"


def training_table(event: TrainingProgress, width: int) -> RenderableType:
    """The figures of a training report; accuracy in columns by percent of the canvas masked.

    Where there is no room for so many columns, they are lines.
    """
    buckets = [f"{bucket} %" for bucket in event.accuracy_by_mask_ratio]
    names = ["loss", *buckets, "sentences/s", "learning rate", "memory"]
    table = new_table(*names, numbers=names)
    table.add_row(
        f"{event.loss:.3f}",
        *(formatting.share(value) for value in event.accuracy_by_mask_ratio.values()),
        formatting.rate(event.sentences_per_second),
        f"{event.learning_rate:.2e}",
        formatting.size(event.memory_bytes),
    )
    if fit_table(table, width) > width:
        return Text(formatting.training_line(event).replace("; ", "\n"))
    return table


def canvas(event: CanvasChanged, width: int, height: int) -> RenderableType:
    """The canvases in the order of their texts, with masked positions dimmed, and no more than there is room for."""
    # They are decoded in the order of their lengths.
    order = sorted(range(len(event.rows)), key=event.rows.__getitem__) or range(len(event.texts))
    lines = [Text(event.texts[i]) for i in order]
    for line in lines:
        line.highlight_regex(r"(?<!\S)_(?!\S)", "dim")
    if sum(-(-line.cell_len // width) for line in lines) > height:
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
    # More lines than the screen has would scroll away and stay.
    if len(lines) > height:
        kept = max(1, height - 1)
        lines = [*lines[:kept], Text(f"\u2026 and {len(lines) - kept:,} more", style="dim")]
    return Group(Text(f"step {event.step} of {event.num_steps}", style="bold"), *lines)
