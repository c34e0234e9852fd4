"""A run's checkpoints: what must be remembered, who may write, which ones are kept, which one a run goes on from."""

import dataclasses
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from sgdd_engine.atomic_files import damage, remove_folder
from sgdd_engine.checkpoint import (
    Checkpoint,
    CheckpointInfo,
    checkpoints_of,
    read_info,
    resolve_checkpoint,
    save_checkpoint,
)
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.errors import CheckpointError, DataError, TrainingError
from sgdd_engine.events import CheckpointSaved, Listener, Notice, ignore
from sgdd_engine.models.config import ModelConfig
from sgdd_engine.training.config import TrainConfig, TrainSpec
from sgdd_engine.training.state import Progress, RunContext, Training, averaged_model, training_state
from sgdd_engine.training.validation import ValidationFigures

SETTINGS = "settings.toml"
LOCK = ".lock"


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """While entered, the run's folder is there and nobody else writes it; one that stays unused is removed.

    Raises:
        TrainingError: another process is writing it.
    """
    made = not run.exists()
    run.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run / LOCK, timeout=0):
            yield
    except Timeout:
        raise TrainingError(
            f"The run `{run}` is being trained by another process.",
            "Wait for it, or name another folder with --out.",
        ) from None
    finally:
        if made and [path.name for path in run.iterdir()] == [LOCK]:
            (run / LOCK).unlink()
            run.rmdir()


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of a step stands."""
    return run / "checkpoints" / f"step-{step:07d}"


def newest_valid_checkpoint(run: Path, on_event: Listener = ignore) -> Path:
    """The newest checkpoint of a run that verifies; damaged ones are passed over with a warning.

    Raises:
        CheckpointError: there is none.
    """
    for folder in reversed(checkpoints_of(run)):
        problem = damage(folder)
        if problem is None:
            return folder
        on_event(Notice(f"Passing over `{folder}`: {problem}.", warning=True))
    raise CheckpointError(f"`{run}` holds no sound checkpoint to go on from.", "Start anew without --resume.")


def check_resumable(
    checkpoint: Path,
    corpus: Corpus,
    model: ModelConfig,
    diffusion: DiffusionConfig,
    train: TrainConfig,
    on_event: Listener = ignore,
) -> None:
    """Check that a run can go on from its checkpoint with this corpus and these settings.

    What changes the order of the sentences is allowed, and said.

    Raises:
        DataError: it was trained on another corpus.
        CheckpointError: it has another model, noise process or optimiser.
    """
    info, run = read_info(checkpoint), checkpoint.parents[1]
    if info.facts.get("corpus", {}).get("fingerprint") != corpus.manifest.fingerprint():
        raise DataError(
            f"The run `{run}` was trained on another corpus than `{corpus.folder}`.",
            "Name the corpus it was started with.",
        )
    if info.model != model or info.diffusion != diffusion:
        raise CheckpointError(
            f"The run `{run}` has another model than the settings ask for.",
            f"Use the run's own settings: --config {run / SETTINGS}",
        )
    then = info.facts.get("settings", {})
    if then.get("optimizer", "adamw") != train.optimizer:
        raise CheckpointError(
            f"The run `{run}` was trained with train.optimizer={then.get('optimizer', 'adamw')}, whose moments are of "
            f"no use to {train.optimizer}.",
            f"Use the run's own settings: --config {run / SETTINGS}",
        )
    for name in ("seed", "batch_tokens"):
        before, now = then.get(name), getattr(train, name)
        if before != now:
            on_event(
                Notice(
                    f"train.{name} was {before} and is {now}: the sentences come in another order from here on.",
                    warning=True,
                )
            )


def prune(run: Path, keep: int) -> None:
    """Remove old checkpoints: never the `keep` newest, never the best."""
    old = checkpoints_of(run)[:-keep]
    if not old:
        return
    best = resolve_checkpoint(run)
    for folder in old:
        if folder != best:
            remove_folder(folder)


@dataclass(frozen=True)
class Checkpointer:
    """Keeps the checkpoints of a run; every process must ask for the same."""

    corpus: Corpus
    spec: TrainSpec
    context: RunContext
    dtype: torch.dtype

    def has(self, step: int) -> bool:
        """Whether a sound checkpoint of this step is there already."""
        folder = checkpoint_folder(self.context.run, step)
        main = self.context.world.is_main
        return self.context.world.any(main and folder.exists() and not damage(folder))

    def save(self, training: Training, figures: ValidationFigures | None, tell: Listener) -> None:
        """Write a checkpoint of this step, and remove those that are no longer kept."""
        began, keep, progress = time.perf_counter(), self.context.world.is_main, training.progress
        folder = checkpoint_folder(self.context.run, progress.step)
        model = training.shared.model
        state = training_state(model, training.optimizer, progress, keep=keep)
        averaged = averaged_model(model, training.ema, keep=keep)
        if keep:
            info = self._info(averaged.config, progress, figures)
            save_checkpoint(folder, Checkpoint(info, averaged, self.corpus.tokenizer), state)
            tell(CheckpointSaved(progress.step, folder, time.perf_counter() - began))
            prune(self.context.run, self.spec.train.keep_checkpoints)
        # Nobody leaves while the checkpoint is being written: the launcher would end the writer too.
        self.context.world.barrier()

    def newest_and_best(self) -> tuple[Path, Path]:
        """The newest checkpoint, and the one of the lowest held-out loss."""
        run, world = self.context.run, self.context.world
        newest, best = (checkpoints_of(run)[-1], resolve_checkpoint(run)) if world.is_main else (run, run)
        return Path(world.broadcast_text(str(newest))), Path(world.broadcast_text(str(best)))

    def _info(
        self, config: ModelConfig, progress: Progress, figures: ValidationFigures | None
    ) -> CheckpointInfo:
        return CheckpointInfo(
            model=config,
            diffusion=self.spec.diffusion,
            encoder=self.corpus.encoder_reference,
            trained_null=self.spec.train.condition_dropout > 0,
            step=progress.step,
            facts=self._facts(progress, figures),
        )

    def _facts(self, progress: Progress, figures: ValidationFigures | None) -> dict[str, Any]:
        """Corpus, training and held-out figures as JSON values."""
        manifest = self.corpus.manifest
        facts: dict[str, Any] = {
            "corpus": {
                "name": self.corpus.folder.name,
                "folder": str(self.corpus.folder.resolve()),
                "source": manifest.source,
                "fingerprint": manifest.fingerprint(),
                "train_sentences": len(self.corpus.split("train")),
            },
            "training": {
                "seconds": round(progress.seconds, 1),
                "sentences_seen": progress.sentences,
                "device": str(self.context.device),
                "precision": str(self.dtype).removeprefix("torch."),
                "torch": torch.__version__,
            },
            "settings": dataclasses.asdict(self.spec.train),
        }
        if figures is not None:
            facts["validation"] = dataclasses.asdict(figures)
        return facts
