"""What a tracker is, and which there are by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sgdd_engine.registry import Registry

Ending = Literal["finished", "stopped"]
# The last value of each is among the metrics of a run's end, beside the best held-out loss.
FINAL = (
    "train/loss",
    "validation/loss",
    "validation/nelbo_nats_per_token",
    "validation/accuracy_at_mask_percent/100",
)


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told about its run.

    Attributes:
        folder: The run's folder, in which a tracker may make a folder of its own.
        settings: All settings that the run is trained with: `train.learning_rate` and so on.
    """

    folder: Path
    settings: Mapping[str, Any]


class Tracker:
    """Records what a run measures; a subclass overrides what it has a place for.

    A method that fails ends this tracker with a warning, and not the run; only `start` may refuse, by an `SgddError`.
    They are called between two steps of training, so they must not wait for a network.

    Args:
        run: The run. What the tracker needs is imported here, so that a missing package is said before anything is
            computed, by an `SgddError`.
    """

    def __init__(self, run: TrackedRun) -> None:
        self.run = run

    def start(self, step: int) -> str | None:
        """Begin, after `step` steps of training; what an earlier session recorded of later steps is void.

        Returns:
            A sentence for the user, such as where to look.
        """

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Record values by name: `train/loss`, `validation/accuracy_at_mask_percent/0-25`, …; all are finite."""

    def texts(self, step: int, pairs: Sequence[tuple[str, str]]) -> None:
        """Record held-out sentences and what was written from their vectors: (source, written) each."""

    def flush(self) -> None:
        """Have what was recorded so far survive a power cut, where that matters; called before each checkpoint."""

    def end(self, step: int, ending: Ending, metrics: Mapping[str, float]) -> None:
        """Record how the session ended, and its last figures, and close what is open."""


TRACKERS: Registry[Callable[[TrackedRun], Tracker]] = Registry("tracker")
