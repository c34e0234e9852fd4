"""The training run: steps, validations, checkpoints, and stopping well."""

import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from sgdd_engine.checkpoint import (
    Checkpoint,
    CheckpointInfo,
    checkpoints_of,
    load_checkpoint,
    load_training_state,
    resolve_checkpoint,
    save_checkpoint,
)
from sgdd_engine.data.batching import ExactLengthBatches
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.errors import TrainingError
from sgdd_engine.events import CheckpointSaved, Event, Listener, Notice, Validated, ignore
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig
from sgdd_engine.models.device import compute_dtype, resolve_device
from sgdd_engine.storage import damage, remove_leftovers, write_text
from sgdd_engine.training.config import TrainConfig
from sgdd_engine.training.log import Meter, TensorBoardLog
from sgdd_engine.training.optim import Ema, build_optimizer, learning_rate
from sgdd_engine.training.saving import (
    SETTINGS,
    Origin,
    check_fits,
    checkpoint_folder,
    newest_sound,
    prune,
)
from sgdd_engine.training.signals import StopSignals
from sgdd_engine.training.start import model_config, new_model
from sgdd_engine.training.state import Progress, restore, training_state
from sgdd_engine.training.step import BatchLoss, batch_loss, dropout_noise, step_generator
from sgdd_engine.training.validation import Validation, ValidationFigures

LOCK = ".lock"


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
    stopped: Literal["steps", "minutes", "signal"]
    signal: int | None = None


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """Everything a run is made from, besides its corpus and its folder."""

    train: TrainConfig = field(default_factory=TrainConfig)
    bottleneck: BottleneckConfig = field(default_factory=BottleneckConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)


def train(
    corpus: Corpus,
    run: Path,
    spec: TrainSpec,
    *,
    device: str = "auto",
    resume: bool = False,
    settings_text: str = "",
    on_event: Listener = ignore,
) -> TrainResult:
    """Train a decoder on a prepared corpus.

    Killed at any moment and resumed, a run of so many steps on a CPU ends with the weights of a run that was never
    stopped. (The learning rate of a run of so many minutes follows the clock, so no two of them are alike.)

    Args:
        corpus: The prepared corpus.
        run: The run's folder; made if missing.
        spec: Settings.
        device: See `resolve_device`.
        resume: Go on from the newest sound checkpoint of `run`.
        settings_text: The resolved settings as TOML, kept in the run's folder.
        on_event: Told of progress, validations and checkpoints.

    Raises:
        TrainingError: the run is in use, has checkpoints already, or the loss is not finite.
        CheckpointError: nothing sound to resume from, or it does not fit the corpus or the settings.
        DataError, EncoderError, ConfigError: the corpus, the encoder or the device cannot be used.
    """
    place = resolve_device(device)
    made = not run.exists()
    run.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run / LOCK, timeout=0):
            return _Run(corpus, run, spec, place, on_event).go(resume, settings_text)
    except Timeout:
        raise TrainingError(
            f"The run `{run}` is being trained by another process.",
            "Wait for it, or name another folder with --out.",
        ) from None
    finally:
        if made:
            _remove_if_unused(run)


def _remove_if_unused(run: Path) -> None:
    """A run that could not start leaves no folder behind."""
    if [path.name for path in run.iterdir()] == [LOCK]:
        (run / LOCK).unlink()
        run.rmdir()


class _Run:
    """One run in progress."""

    def __init__(
        self, corpus: Corpus, run: Path, spec: TrainSpec, device: torch.device, on_event: Listener
    ) -> None:
        self.corpus, self.folder, self.spec, self.device, self.on_event = corpus, run, spec, device, on_event
        self.config = spec.train
        self.dtype = compute_dtype(self.config.precision, device)
        self.progress = Progress()
        self.split = corpus.split("train")
        self.listeners: list[Listener] = [on_event]
        self.validated: tuple[int, ValidationFigures] | None = None

    def go(self, resume: bool, settings_text: str) -> TrainResult:
        """Start or resume, train to the end, save."""
        remove_leftovers(self.folder, SETTINGS)
        remove_leftovers(self.folder / "checkpoints", "step-*")
        self._start(resume)
        if settings_text:
            write_text(self.folder / SETTINGS, settings_text)
        self.batches = ExactLengthBatches(
            self.split.lengths, batch_tokens=self.config.batch_tokens, seed=self.config.seed
        )
        self.validation = Validation(
            self.corpus.split("validation"),
            self.config.validation_sentences,
            self.config.batch_tokens,
            self.spec.diffusion,
        )
        log = TensorBoardLog(self.folder, self.progress.step)
        self.listeners.append(log)
        try:
            with StopSignals() as signals:
                stopped = self._train_until_done(signals)
            self._save(validate=stopped != "signal")
        finally:
            log.close()
        newest = checkpoints_of(self.folder)[-1]
        return TrainResult(
            self.progress.step, newest, resolve_checkpoint(self.folder), stopped, signals.received
        )

    def _start(self, resume: bool) -> None:
        config = model_config(self.corpus, self.spec.bottleneck, self.spec.decoder)
        if resume:
            found = newest_sound(self.folder, self.on_event)
            check_fits(found, self.corpus, config, self.spec.diffusion, self.config, self.on_event)
            self.model = load_checkpoint(found, self.device).model.train()
        else:
            if checkpoints_of(self.folder):
                raise TrainingError(
                    f"The run `{self.folder}` has checkpoints already.",
                    "Go on with --resume, or name another folder with --out.",
                )
            self.model = new_model(self.corpus, config, self.config, self.device, self.on_event).train()
        self.optimizer = build_optimizer(self.model, self.config)
        self.ema = Ema.of(self.model, self.config.ema_decay)
        if resume:
            self.progress = restore(load_training_state(found), self.model, self.optimizer, self.ema)
            self._tell(Notice(f"Going on from step {self.progress.step:,} of `{found}`."))

    def _train_until_done(self, signals: StopSignals) -> Literal["steps", "minutes", "signal"]:
        meter = Meter()
        while True:
            if signals.received is not None:
                return "signal"
            if self.config.max_steps is not None and self.progress.step >= self.config.max_steps:
                return "steps"
            if self.config.max_minutes is not None and self.progress.seconds >= 60 * self.config.max_minutes:
                return "minutes"
            began = time.perf_counter()
            rate = learning_rate(self.progress.step, self._fraction(), self.config)
            loss, norm = self._step(rate)
            self.progress.step += 1
            self.progress.seconds += time.perf_counter() - began
            meter.add(loss, norm)
            self._after_step(meter, rate)

    def _after_step(self, meter: Meter, rate: float) -> None:
        step = self.progress.step
        if step % self.config.log_every == 0:
            fraction = self._fraction()
            left = self.progress.seconds * (1 - fraction) / fraction if fraction > 0 else None
            self._tell(meter.report(step, self.config.max_steps, fraction, rate, left, self.device))
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

    def _step(self, rate: float) -> tuple[BatchLoss, float]:
        x, e = self.split.batch(self.batches.batch(self.progress.step))
        x, e = x.to(self.device, non_blocking=True), e.to(self.device, non_blocking=True)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        noise = (self.config.seed, self.progress.step, self.device)
        with (
            torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32),
            dropout_noise(*noise) if self.spec.decoder.dropout else nullcontext(),
        ):
            loss = batch_loss(
                self.model,
                x,
                e,
                config=self.config,
                diffusion=self.spec.diffusion,
                step=self.progress.step,
                generator=step_generator(*noise),
            )
        loss.total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        self._refuse_non_finite(loss.total, norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.ema.update(self.model, self.progress.step)
        self.progress.sentences += len(x)
        return loss, float(norm)

    def _refuse_non_finite(self, loss: Tensor, norm: Tensor) -> None:
        if torch.isfinite(loss) and torch.isfinite(norm):
            return
        kept = checkpoints_of(self.folder)
        last = f"The last good checkpoint is `{kept[-1]}`." if kept else "There is no checkpoint yet."
        raise TrainingError(
            f"The loss or its gradient is not finite at step {self.progress.step + 1}; the step was not taken. {last}",
            "Lower train.learning_rate (--set train.learning_rate=0.0003), then go on with --resume.",
        )

    def _validate(self) -> ValidationFigures:
        if self.validated is not None and self.validated[0] == self.progress.step:
            return self.validated[1]
        with self.ema.applied_to(self.model):
            figures = self.validation(self.model, self.dtype)
        best = figures.loss < self.progress.best_loss
        self.progress.best_loss = min(self.progress.best_loss, figures.loss)
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
        began = time.perf_counter()
        folder = checkpoint_folder(self.folder, self.progress.step)
        if folder.exists() and not damage(folder):
            return
        figures = self._validate() if validate else None
        state = training_state(self.model, self.optimizer, self.progress)
        info = self._info(figures)
        with self.ema.applied_to(self.model):
            save_checkpoint(folder, Checkpoint(info, self.model, self.corpus.tokenizer), state)
        self._tell(CheckpointSaved(self.progress.step, folder, time.perf_counter() - began))
        prune(self.folder, self.config.keep_checkpoints)

    def _info(self, figures: ValidationFigures | None) -> CheckpointInfo:
        origin = Origin(self.corpus, self.config, self.device, self.dtype)
        return CheckpointInfo(
            model=self.model.config,
            diffusion=self.spec.diffusion,
            encoder=self.corpus.encoder_reference,
            trained_null=self.config.condition_dropout > 0,
            step=self.progress.step,
            facts=origin.facts(self.progress, figures),
        )

    def _tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener(event)
