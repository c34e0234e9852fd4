"""The training run: steps, validations, checkpoints, and stopping well."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal, NoReturn

import torch

from sgdd_engine.atomic_files import remove_leftovers, write_text
from sgdd_engine.checkpoint import checkpoints_of
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.distributed import ALONE, World
from sgdd_engine.errors import TrainingError
from sgdd_engine.events import Event, Listener, Validated, ignore
from sgdd_engine.models.device import compute_dtype, resolve_device
from sgdd_engine.training.build import build_training
from sgdd_engine.training.checkpointing import SETTINGS, Checkpointer, locked
from sgdd_engine.training.config import TrainConfig, TrainSpec
from sgdd_engine.training.dataloading import Prefetcher, training_batches
from sgdd_engine.training.distribution import micro_batches_per_step
from sgdd_engine.training.generate_drafts import drafts_for_run
from sgdd_engine.training.log import MetricAccumulator, TensorBoardLog
from sgdd_engine.training.optimizer_step import OptimizerStep, learning_rate, reduce_status
from sgdd_engine.training.state import RunContext
from sgdd_engine.training.validation import Validation, ValidationFigures


class StopSignals:
    """While entered, the first SIGINT or SIGTERM is only remembered in `received`."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        # Only the main thread may set handlers; elsewhere the embedding program decides.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        self.received = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


Ending = Literal["steps", "minutes", "signal"]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        step: Optimiser steps taken.
        checkpoint: The newest checkpoint. best: The one of the lowest held-out loss.
        stopped: Why it ended. signal: The signal's number, when it was one.
    """

    step: int
    checkpoint: Path
    best: Path
    stopped: Ending
    signal: int | None = None


def train(
    corpus: Corpus,
    run: Path,
    spec: TrainSpec,
    *,
    device: str = "auto",
    resume: bool = False,
    settings_text: str = "",
    on_event: Listener = ignore,
    world: World = ALONE,
) -> TrainResult:
    """Train a decoder on a prepared corpus.

    Killed at any moment and resumed, a run of so many steps on a CPU ends with the weights of a run that was never
    stopped. (The learning rate of a run of so many minutes follows the clock, so no two of them are alike.)

    Several processes that call this together train one model; rank 0 writes the run and reports.

    Args:
        corpus: The prepared corpus.
        run: The run's folder; made if missing. All processes see the same one.
        spec: Settings.
        device: See `resolve_device`.
        resume: Go on from the newest sound checkpoint of `run`.
        settings_text: The resolved settings as TOML, kept in the run's folder.
        on_event: Told of progress, validations and checkpoints.
        world: The processes that train together.

    Raises:
        TrainingError: the run is in use, has checkpoints already, or the loss is not finite.
        CheckpointError: nothing sound to resume from, or it does not fit the corpus or the settings.
        DataError, EncoderError, ConfigError: the corpus, the encoder, the device or the number of processes cannot
            be used.
    """
    context = RunContext(run, resolve_device(device), world)
    micro_batches_per_step(spec.train.micro_batches, None, world)
    if not world.is_main:
        return _Run(corpus, spec, context, ignore).go(resume, settings_text)
    with locked(run):
        return _Run(corpus, spec, context, on_event).go(resume, settings_text)


class _Run:
    """One run in progress, in one of its processes."""

    def __init__(self, corpus: Corpus, spec: TrainSpec, context: RunContext, on_event: Listener) -> None:
        self.corpus, self.spec, self.context, self.world = corpus, spec, context, context.world
        self.config: TrainConfig = spec.train
        self.dtype = compute_dtype(self.config.precision, context.device)
        self.listeners: list[Listener] = [on_event]
        self.stop_asked: int | None = None
        self.validated: tuple[int, ValidationFigures] | None = None

    def go(self, resume: bool, settings_text: str) -> TrainResult:
        """Start or resume, train to the end, save."""
        if self.world.is_main:
            remove_leftovers(self.context.run, SETTINGS)
            remove_leftovers(self.context.run / "checkpoints", "step-*")
        self.training = build_training(self.corpus, self.spec, self.context, resume=resume, tell=self._tell)
        self.progress = self.training.progress
        self.clock = self.progress.seconds
        if settings_text and self.world.is_main:
            write_text(self.context.run / SETTINGS, settings_text)
        self.piece_tokens = self.config.batch_tokens // self.progress.micro_batches
        self.checkpointer = Checkpointer(self.corpus, self.spec, self.context, self.dtype)
        self.drafts = drafts_for_run(self.corpus, self.spec, self.context, self._tell)
        self.validation = Validation(
            self.corpus.split("validation"),
            self.config.validation_sentences,
            self.piece_tokens,
            self.spec.diffusion,
            None if self.drafts is None else self.drafts.validation,
        )
        with self._drawn(), StopSignals() as signals, self._feed() as feed:
            stopped = self._train_until_done(signals, self._update(feed))
            self._save(validate=stopped != "signal")
        newest, best = self.checkpointer.newest_and_best()
        return TrainResult(self.progress.step, newest, best, stopped, self.stop_asked)

    @contextmanager
    def _drawn(self) -> Iterator[None]:
        """While entered, rank 0 draws the run's curves."""
        if not self.world.is_main:
            yield
            return
        log = TensorBoardLog(self.context.run, self.progress.step)
        self.listeners.append(log)
        try:
            yield
        finally:
            log.close()

    def _feed(self) -> Prefetcher:
        rows = training_batches(
            self.corpus.split("train"),
            None if self.drafts is None else self.drafts.train,
            self.spec.feedback.share,
            batch_tokens=self.piece_tokens,
            seed=self.config.seed,
        )
        first = self.progress.position + self.world.rank
        return Prefetcher(rows, self.context.device, first=first, stride=self.world.size)

    def _update(self, feed: Prefetcher) -> OptimizerStep:
        return OptimizerStep(
            self.training.shared,
            self.training.optimizer,
            self.training.ema,
            feed,
            self.spec,
            pieces=self.progress.micro_batches // self.world.size,
            device=self.context.device,
            dtype=self.dtype,
        )

    def _train_until_done(self, signals: StopSignals, update: OptimizerStep) -> Ending:
        meter = MetricAccumulator(self.world)
        while True:
            if self.world.size == 1:
                self.stop_asked = signals.received
            if self.stop_asked is not None:
                return "signal"
            if self.config.max_steps is not None and self.progress.step >= self.config.max_steps:
                return "steps"
            if self.config.max_minutes is not None and self.progress.seconds >= 60 * self.config.max_minutes:
                return "minutes"
            began = time.perf_counter()
            rate = self._step(update, meter, signals)
            self.clock += time.perf_counter() - began
            if self.world.size == 1:
                self.progress.seconds = self.clock
            self._after_step(meter, rate)

    def _step(self, update: OptimizerStep, meter: MetricAccumulator, signals: StopSignals) -> float:
        """One optimiser step; returns its learning rate."""
        sound, sentences = update.gradient(self.progress.step, meter)
        agreed = reduce_status(
            self.world, sound=sound, sentences=sentences, seconds=self.clock, signal=signals.received
        )
        if not agreed.sound:
            self._refuse_step()
        # Every process goes by rank 0's clock, and stops at the same step.
        self.progress.seconds = agreed.seconds
        self.stop_asked = agreed.signal
        rate = learning_rate(self.progress.step, self._fraction(), self.config)
        update.apply(self.progress.step, rate)
        self.progress.step += 1
        self.progress.position += self.progress.micro_batches
        self.progress.sentences += agreed.sentences
        return rate

    def _after_step(self, meter: MetricAccumulator, rate: float) -> None:
        step = self.progress.step
        if step % self.config.log_every == 0:
            fraction = self._fraction()
            left = self.progress.seconds * (1 - fraction) / fraction if fraction > 0 else None
            self._tell(meter.report(step, self.config.max_steps, fraction, rate, left, self.context.device))
            meter.reset()
        if step % self.config.validate_every == 0:
            self._validate()
            meter.reset()
        if step % self.config.save_every == 0:
            self._save(validate=True)
            meter.reset()

    def _fraction(self) -> float:
        """Share of the run that is done, by steps or by time, whichever is further."""
        shares = [0.0]
        if self.config.max_steps is not None:
            shares.append(self.progress.step / self.config.max_steps)
        if self.config.max_minutes is not None:
            shares.append(self.progress.seconds / (60 * self.config.max_minutes))
        return min(1.0, max(shares))

    def _refuse_step(self) -> NoReturn:
        kept = checkpoints_of(self.context.run)
        last = f"The last good checkpoint is `{kept[-1]}`." if kept else "There is no checkpoint yet."
        raise TrainingError(
            f"The loss or its gradient is not finite at step {self.progress.step + 1}; the step was not taken. {last}",
            "Lower train.learning_rate (--set train.learning_rate=0.0003), then go on with --resume.",
        )

    def _validate(self) -> ValidationFigures:
        if self.validated is not None and self.validated[0] == self.progress.step:
            return self.validated[1]
        figures = self.training.shared.evaluate(
            lambda model: self.validation(model, self.dtype), self.training.ema.weights
        )
        # Devices of different makes may differ in the last digit; which checkpoint is best is decided once.
        loss = float(
            self.world.broadcast(torch.tensor(figures.loss, dtype=torch.float64, device=self.world.device))
        )
        best = loss < self.progress.best_loss
        self.progress.best_loss = min(self.progress.best_loss, loss)
        self.validated = (self.progress.step, figures)
        self._tell(
            Validated(
                self.progress.step,
                figures.loss,
                figures.nelbo_nats_per_token,
                figures.accuracy_by_mask_ratio,
                best,
            )
        )
        return figures

    def _save(self, validate: bool) -> None:
        if self.checkpointer.has(self.progress.step):
            return
        figures = self._validate() if validate else None
        self.checkpointer.save(self.training, figures, self._tell)

    def _tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)
