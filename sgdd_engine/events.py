"""What the engine reports while it works. The engine never draws: a listener does.

Long-running functions take `on_event: Listener = ignore`. Events are facts, with units in their names.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class StageStarted:
    """A piece of work begins; `total` is None where its size is unknown."""

    stage: str
    total: int | None = None
    unit: str = "sentences"
    done: int = 0


@dataclass(frozen=True, slots=True)
class StageProgress:
    """`done` units of the stage are finished, counted from its start."""

    stage: str
    done: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class StageFinished:
    """The stage is complete; `summary` is a sentence for the log."""

    stage: str
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the user should know; `warning` when it may change a result."""

    message: str
    warning: bool = False


@dataclass(frozen=True, slots=True)
class TrainingProgress:
    """Figures averaged over the steps since the last such event; `seconds` of training so far."""

    step: int
    max_steps: int | None
    fraction: float
    loss: float
    accuracy_by_mask_ratio: Mapping[str, float]
    sentences_per_second: float
    tokens_per_second: float
    learning_rate: float
    memory_bytes: int
    seconds_left: float | None
    terms: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Validated:
    """Held-out figures of the averaged weights, on a fixed noise set.

    `validation_set` says how often what is validated on has changed: losses compare only within one number.
    """

    step: int
    loss: float
    nelbo_nats_per_token: float
    accuracy_by_mask_ratio: Mapping[str, float]
    best: bool
    surrogate_error: float | None = None
    validation_set: int = 0


@dataclass(frozen=True, slots=True)
class SamplesWritten:
    """What training's averaged weights write now from the vectors of held-out sentences: (source, written) each."""

    step: int
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """A complete checkpoint stands in `folder`, `seconds` after its step; for `stopped_seconds` nothing was trained."""

    step: int
    folder: Path
    seconds: float
    stopped_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class CanvasChanged:
    """One denoising step is done.

    Attributes:
        step: Steps done.
        num_steps: Steps in all.
        texts: Each canvas, masked positions as `_`.
        rows: The index of each canvas's vector, where it is known.
        tokens: The positions of each canvas: the piece, empty where masked, and its probability when it was written.
            Empty unless it was asked how sure each token was.
    """

    step: int
    num_steps: int
    texts: tuple[str, ...]
    rows: tuple[int, ...] = ()
    tokens: tuple[tuple[tuple[str, float], ...], ...] = ()


Event = (
    StageStarted
    | StageProgress
    | StageFinished
    | Notice
    | TrainingProgress
    | Validated
    | SamplesWritten
    | CheckpointSaved
    | CanvasChanged
)
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The listener of callers who want no reports."""
