"""The training run: optimiser steps, validations, checkpoints, and stopping without losing any."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from sgdd_engine.atomic_files import remove_leftovers, write_text
from sgdd_engine.checkpoint import STEP_NAME, checkpoint_folder, require_pinned
from sgdd_engine.counted import counted
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.distributed import ALONE, World
from sgdd_engine.errors import TrainingError
from sgdd_engine.events import Event, Listener, Notice, SamplesWritten, Validated, ignore
from sgdd_engine.models.device import compute_dtype, resolve_device
from sgdd_engine.stop_signals import StopSignals
from sgdd_engine.tracking import TrackedRun, Tracking
from sgdd_engine.training.build import build_training
from sgdd_engine.training.checkpointing import SETTINGS, Checkpointer, describe_last, exclusive_run
from sgdd_engine.training.config import TrainConfig, TrainSpec
from sgdd_engine.training.cost import (
    describe_time,
    flops_per_token,
    seconds_per_step,
    surrogate_flops_per_token,
)
from sgdd_engine.training.dataloading import Prefetcher, TrainingBatches, training_batches
from sgdd_engine.training.distribution import micro_batches_per_step
from sgdd_engine.training.generate_drafts import drafts_for_run
from sgdd_engine.training.log import MetricAccumulator
from sgdd_engine.training.nonfinite import write_down
from sgdd_engine.training.optimizer_step import OptimizerStep, learning_rate, reduce_status
from sgdd_engine.training.state import RunContext
from sgdd_engine.training.validation import HeldOutSamples, Validation, ValidationFigures

Ending = Literal["steps", "minutes", "signal"]


@dataclass(frozen=True)
class TrainResult:
    """How a run ended.

    Attributes:
        step: Optimiser steps taken.
        checkpoint: The checkpoint of that step. best: The one of the lowest held-out loss.
        stopped: Why it ended. signal: The signal's number, if one ended it.
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
    encoder_batch_tokens: int | None = None,
) -> TrainResult:
    """Train a decoder on a prepared corpus.

    A run that is limited by steps, killed at any moment on a CPU and resumed, ends with the weights of a run that was
    never stopped. (The learning rate of a run that is limited by minutes follows the clock, so no two are alike.)

    Several processes that call this together train one model; rank 0 writes the run and reports.

    Args:
        corpus: The prepared corpus.
        run: The run's folder; made if missing. All processes see the same one.
        spec: Settings.
        device: See `resolve_device`.
        resume: Go on from the newest undamaged checkpoint of `run`.
        settings_text: The resolved settings as TOML, written into the run's folder.
        on_event: Receives progress, validations and checkpoints.
        world: The processes that train together.
        encoder_batch_tokens: Tokens that the encoder of drafts computes at once; by default as in `EncoderConfig`.

    Raises:
        TrainingError: the run is in use, has checkpoints already, or the loss is not finite.
        CheckpointError: there is nothing to resume, or it does not fit the settings.
        DataError, EncoderError, ConfigError: the corpus, the encoder, the device or the number of processes cannot
            be used.
    """
    if spec.train.start_from is not None:
        require_pinned(spec.train.start_from)
    context = RunContext(run, resolve_device(device), world, encoder_batch_tokens)
    micro_batches_per_step(spec.train.micro_batches, None, world)
    if not world.is_main:
        return _Run(corpus, spec, context, ignore).go(resume, settings_text)
    with exclusive_run(run):
        return _Run(corpus, spec, context, on_event).go(resume, settings_text)


class _Run:
    """One run in progress, in one of its processes."""

    def __init__(self, corpus: Corpus, spec: TrainSpec, context: RunContext, on_event: Listener) -> None:
        self.corpus, self.spec, self.context, self.world = corpus, spec, context, context.world
        self.config: TrainConfig = spec.train
        self.dtype = compute_dtype(self.config.precision, context.device)
        self.listeners: list[Listener] = [on_event]
        self.stop_signal: int | None = None
        self.finished = False
        self.validated: tuple[int, ValidationFigures] | None = None
        self.tracking = self._tracking() if self.world.is_main else None

    def go(self, resume: bool, settings_text: str) -> TrainResult:
        """Start or resume, train to the end, save."""
        if self.world.is_main:
            remove_leftovers(self.context.run)
            remove_leftovers(self.context.run / "checkpoints", STEP_NAME, locked=True)
        self.training = build_training(
            self.corpus, self.spec, self.context, resume=resume, on_event=self._emit
        )
        self.progress = self.training.progress
        self.clock = self.progress.seconds
        if settings_text and self.world.is_main:
            write_text(self.context.run / SETTINGS, settings_text)
        self.micro_batch_tokens = self.config.batch_tokens // self.progress.micro_batches
        self.checkpointer = Checkpointer(self.corpus, self.spec, self.context, self.dtype, self._emit)
        self.drafts = drafts_for_run(self.corpus, self.spec, self.context, self._emit, resumed=resume)
        self.validation = Validation(
            self.corpus.split("validation"),
            self.config.validation_sentences,
            self.micro_batch_tokens,
            self.spec.diffusion,
            None if self.drafts is None else self.drafts["validation"],
            surrogate_alone=self.config.part == "surrogate",
        )
        self.samples = HeldOutSamples(
            self.corpus.split("validation"), self.corpus.tokenizer, self.spec.diffusion, self.world
        )
        self._say_how_long()
        with (
            self._tracked(),
            StopSignals() as signals,
            self.checkpointer,
            self._prefetcher() as prefetcher,
        ):
            stopped = self._train_until_done(signals, self._optimizer_step(prefetcher))
            self._save(validate=stopped != "signal")
            self.checkpointer.finish()
            self.finished = stopped != "signal"
            self._say_what_was_left_out()
        checkpoint = checkpoint_folder(self.context.run, self.progress.step)
        return TrainResult(
            self.progress.step, checkpoint, self.checkpointer.best(), stopped, self.stop_signal
        )

    def _say_how_long(self) -> None:
        """Say before the first step about how long the run takes, and how it is made shorter where that is long."""
        model = self.training.shared.model.config
        if self.config.part == "surrogate":
            per_token = surrogate_flops_per_token(model)
        else:
            per_token = sum(flops_per_token(model, self.spec.diffusion))
        flops = per_token * self.config.batch_tokens / self.world.size
        per_step = seconds_per_step(flops, self.context.device, self.dtype)
        self._emit(Notice(describe_time(self.config, per_step, self.progress.step, self.progress.seconds)))

    def _tracking(self) -> Tracking:
        sections = {name: value for name, value in asdict(self.spec).items() if name != "feedback"}
        if self.spec.decoder.feedback:
            sections["feedback"] = asdict(self.spec.feedback)
        settings = {f"{name}.{key}": value for name, part in sections.items() for key, value in part.items()}
        settings["corpus"] = self.corpus.folder.name
        run = TrackedRun(self.context.run, settings)
        return Tracking(run, self.config.tracker, self._emit)

    @contextmanager
    def _tracked(self) -> Iterator[None]:
        """While entered, rank 0 records the run's metrics."""
        if self.tracking is None:
            yield
            return
        self.tracking.start(self.progress.step)
        self.listeners.append(self.tracking)
        try:
            yield
        finally:
            self.tracking.end(
                self.progress.step, "finished" if self.finished else "stopped", self.progress.best_loss
            )

    def _batches(self) -> TrainingBatches:
        return training_batches(
            self.corpus.split("train"),
            None if self.drafts is None else self.drafts["train"],
            self.spec.feedback.share,
            batch_tokens=self.micro_batch_tokens,
            seed=self.config.seed,
        )

    def _prefetcher(self) -> Prefetcher:
        first = self.progress.position + self.world.rank
        return Prefetcher(self._batches(), self.context.device, first=first, stride=self.world.size)

    def _optimizer_step(self, prefetcher: Prefetcher) -> OptimizerStep:
        return OptimizerStep(
            self.training.shared,
            self.training.optimizer,
            self.training.ema,
            prefetcher,
            self.spec,
            micro_batches=self.progress.micro_batches // self.world.size,
            device=self.context.device,
            dtype=self.dtype,
        )

    def _train_until_done(self, signals: StopSignals, optimizer_step: OptimizerStep) -> Ending:
        metrics = MetricAccumulator(self.world, self._absent_terms())
        while True:
            self.checkpointer.check()
            if self.world.size == 1:
                self.stop_signal = signals.received
            if self.stop_signal is not None:
                return "signal"
            if self.config.max_steps is not None and self.progress.step >= self.config.max_steps:
                return "steps"
            if self.config.max_minutes is not None and self.progress.seconds >= 60 * self.config.max_minutes:
                return "minutes"
            began = time.perf_counter()
            rate = self._step(optimizer_step, metrics, signals)
            self.clock += time.perf_counter() - began
            if self.world.size == 1:
                self.progress.seconds = self.clock
            if rate is not None:
                self._after_step(metrics, rate)

    def _absent_terms(self) -> frozenset[str]:
        present = {
            "kl_nats": self.spec.bottleneck.kind == "vib",
            "surrogate_error": self.training.shared.model.surrogate is not None,
        }
        return frozenset(name for name, is_present in present.items() if not is_present)

    def _step(
        self, optimizer_step: OptimizerStep, metrics: MetricAccumulator, signals: StopSignals
    ) -> float | None:
        """One optimiser step; returns its learning rate, or None if the batch was left out."""
        gradient = optimizer_step.gradient(self.progress.step, metrics)
        status = reduce_status(self.world, gradient, seconds=self.clock, signal=signals.received)
        # Every process goes by rank 0's clock, and stops at the same step.
        self.progress.seconds = status.seconds
        self.stop_signal = status.signal
        if not status.finite:
            self._skip_or_refuse(optimizer_step, metrics)
            return None
        rate = learning_rate(self.progress.step, self._fraction(), self.config)
        optimizer_step.apply(self.progress.step, rate)
        self.progress.step += 1
        self.progress.position += self.progress.micro_batches
        self.progress.sentences += status.sentences
        self.progress.null_rows += status.null_rows
        return rate

    def _after_step(self, metrics: MetricAccumulator, rate: float) -> None:
        step = self.progress.step
        fraction = self._fraction()
        # The end is reported too: what was said last would be old, and "left" wrong.
        if step % self.config.log_every == 0 or fraction >= 1:
            left = self.progress.seconds * (1 - fraction) / fraction if fraction > 0 else None
            report = metrics.report(
                step,
                self.config.max_steps,
                fraction,
                rate,
                self.progress.seconds,
                left,
                self.context.device,
            )
            if self.config.skip_nonfinite:
                report = replace(report, terms={**report.terms, "skipped_batches": self.progress.skipped})
            self._emit(report)
            metrics.reset()
        if step % self.config.validate_every == 0:
            self._validate()
            metrics.reset()
        if step % self.config.save_every == 0:
            self._save(validate=True)
            metrics.reset()

    def _fraction(self) -> float:
        """Share of the run that is done, by steps or by time, whichever is further."""
        shares = [0.0]
        if self.config.max_steps is not None:
            shares.append(self.progress.step / self.config.max_steps)
        if self.config.max_minutes is not None:
            shares.append(self.progress.seconds / (60 * self.config.max_minutes))
        return min(1.0, max(shares))

    def _skip_or_refuse(self, optimizer_step: OptimizerStep, metrics: MetricAccumulator) -> None:
        """Leave out a batch whose loss or gradient is not finite; all processes know it and decide alike.

        Raises:
            TrainingError: as many were left out as may be.
        """
        first, step = self.progress.position, self.progress.step + 1
        listed = ""
        if self.world.is_main:
            positions = range(first, first + self.progress.micro_batches)
            listed = optimizer_step.look_up(
                lambda batches: write_down(self.context.run, step, self.corpus, batches, positions)
            )
        what = f"The loss or its gradient is not finite at step {step}"
        if self.progress.skipped >= self.config.skip_nonfinite:
            self.checkpointer.finish()
            last = describe_last(self.context.run) if self.world.is_main else ""
            told = self.world.broadcast_text(f"{listed} {last}")
            raise TrainingError(
                f"{what}; the step was not taken. {told}",
                f"Leave such batches out (--skip-nonfinite {self.progress.skipped + 1}), or lower the learning rate "
                "(--set train.learning_rate=0.0003); then go on with --resume.",
            )
        self.progress.position += self.progress.micro_batches
        self.progress.skipped += 1
        optimizer_step.skip(metrics)
        self._emit(
            Notice(
                f"{what}: the batch is left out, {self.progress.skipped} of at most {self.config.skip_nonfinite}. "
                f"{listed}",
                warning=True,
            )
        )

    def _say_what_was_left_out(self) -> None:
        if self.progress.skipped:
            left_out = counted(self.progress.skipped, "batch", "batches")
            self._emit(
                Notice(
                    f"Left out of this run, since loss or gradient was not finite: {left_out}. The sentences are "
                    f"listed in `{self.context.run / 'nonfinite-*.json'}`.",
                    warning=True,
                )
            )

    def _validate(self) -> ValidationFigures:
        if self.validated is not None and self.validated[0] == self.progress.step:
            return self.validated[1]
        guided = self.progress.null_rows > 0
        # The sampler keeps what it computes of the condition, which sharded weights do not allow; and a decoder that is
        # not trained writes what it wrote before.
        unwritten = self.config.part == "surrogate" or (
            self.config.parallel == "fsdp" and self.world.size > 1
        )
        figures, written = self.training.shared.evaluate(
            lambda model: (
                self.validation(model, self.dtype),
                () if unwritten else self.samples(model, self.dtype, guided=guided),
            ),
            self.training.ema.weights,
        )
        # Devices of different makes may differ in the last digit; rank 0's loss decides which checkpoint is best.
        loss = float(
            self.world.broadcast(torch.tensor(figures.loss, dtype=torch.float64, device=self.world.device))
        )
        best = loss < self.progress.best_loss
        self.progress.best_loss = min(self.progress.best_loss, loss)
        self.validated = (self.progress.step, figures)
        self._emit(
            Validated(
                self.progress.step,
                figures.loss,
                figures.nelbo_nats_per_token,
                figures.accuracy_by_mask_ratio,
                best,
                figures.surrogate_error,
                self.progress.validation_set,
            )
        )
        if written:
            self._emit(SamplesWritten(self.progress.step, written))
        return figures

    def _save(self, validate: bool) -> None:
        if self.checkpointer.has(self.progress.step, validated=validate):
            # Killed after it was complete, the session before may not have removed the old ones.
            self.checkpointer.prune(self.progress.step)
            return
        figures = self._validate() if validate else None
        if self.tracking is not None:
            self.tracking.flush()
        self.checkpointer.save(self.training, figures)

    def _emit(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)
