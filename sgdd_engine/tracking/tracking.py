"""From the events of training to its trackers."""

import math
from collections.abc import Callable, Mapping
from typing import TypeVar

from sgdd_engine.errors import SgddError
from sgdd_engine.events import Event, Listener, Notice, SamplesWritten, TrainingProgress, Validated
from sgdd_engine.tracking.tracker import FINAL, TRACKERS, Ending, TrackedRun, Tracker

T = TypeVar("T")


class Tracking:
    """Hands a run's events to its log and to the tracker that was chosen.

    Args:
        run: The run.
        tracker: The chosen one, with its parameters; see `TRACKERS`.
        on_event: Told what a tracker says, and when one fails.

    Raises:
        SgddError: the chosen tracker cannot be used here.
    """

    def __init__(self, run: TrackedRun, tracker: str, on_event: Listener) -> None:
        # The log first: other trackers may read it.
        names = dict.fromkeys(("jsonl", tracker))
        self._trackers: dict[str, Tracker] = {
            name: TRACKERS.build(name, "train.tracker")(run) for name in names
        }
        self._on_event = on_event
        self._final: dict[str, float] = {}

    def start(self, step: int) -> None:
        """Begin after `step` steps of training.

        Raises:
            SgddError: a tracker says that it cannot begin.
        """
        for name in list(self._trackers):
            if (
                sentence := self._attempt(name, lambda tracker: tracker.start(step), refusal=SgddError)
            ) is not None:
                self._on_event(Notice(sentence))

    def __call__(self, event: Event) -> None:
        """Record figures and texts; other events are ignored."""
        if isinstance(event, TrainingProgress):
            values = {
                "loss": event.loss,
                "learning_rate": event.learning_rate,
                "sentences_per_second": event.sentences_per_second,
                "tokens_per_second": event.tokens_per_second,
                "memory_bytes": event.memory_bytes,
                "seconds": event.seconds,
                **event.terms,
            }
            self._scalars("train", event.step, values, event.accuracy_by_mask_ratio)
        elif isinstance(event, Validated):
            values = {"loss": event.loss, "nelbo_nats_per_token": event.nelbo_nats_per_token}
            if event.surrogate_error is not None:
                values["surrogate_error"] = event.surrogate_error
            if event.validation_set:
                values["set"] = event.validation_set
            self._scalars("validation", event.step, values, event.accuracy_by_mask_ratio)
        elif isinstance(event, SamplesWritten):
            self._each(lambda tracker: tracker.texts(event.step, event.pairs))

    def _scalars(
        self, split: str, step: int, values: Mapping[str, float], accuracy: Mapping[str, float]
    ) -> None:
        values = {**values, **{f"accuracy_at_mask_percent/{name}": value for name, value in accuracy.items()}}
        named = {f"{split}/{name}": value for name, value in values.items() if math.isfinite(value)}
        self._final |= {name: named[name] for name in FINAL if name in named}
        self._each(lambda tracker: tracker.scalars(step, named))

    def flush(self) -> None:
        """Have what was recorded so far survive a power cut; called before each checkpoint."""
        self._each(lambda tracker: tracker.flush())

    def end(self, step: int, ending: Ending, best_loss: float) -> None:
        """Record how the session ended and close the trackers.

        Args:
            step: Steps that were taken.
            ending: `finished` when the run took all its steps or minutes.
            best_loss: The lowest held-out loss of the run; infinite where there is none.
        """
        metrics = dict(self._final)
        if math.isfinite(best_loss):
            metrics["validation/best_loss"] = best_loss
        self._each(lambda tracker: tracker.end(step, ending, metrics))
        self._trackers = {}

    def _each(self, act: Callable[[Tracker], None]) -> None:
        for name in list(self._trackers):
            self._attempt(name, act)

    def _attempt(
        self, name: str, act: Callable[[Tracker], T], *, refusal: type[Exception] | tuple[()] = ()
    ) -> T | None:
        """Let a tracker act. One that fails is left out from here on: a full disk must not end a run."""
        try:
            return act(self._trackers[name])
        except refusal:
            raise
        except Exception as error:
            del self._trackers[name]
            sentence = f"The tracker {name} failed and records nothing more: {type(error).__name__}: {error}"
            self._on_event(Notice(sentence, warning=True))
            return None
