"""Which checkpoints a run keeps, which one it goes on from, and what each one says of its origin."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sgdd_engine.checkpoint import checkpoints_of, read_info, resolve_checkpoint
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.errors import CheckpointError, DataError
from sgdd_engine.events import Listener, Notice, ignore
from sgdd_engine.models.config import ModelConfig
from sgdd_engine.storage import damage, remove_folder
from sgdd_engine.training.config import TrainConfig
from sgdd_engine.training.state import Progress
from sgdd_engine.training.validation import ValidationFigures

SETTINGS = "settings.toml"


def checkpoint_folder(run: Path, step: int) -> Path:
    """Where the checkpoint of a step stands."""
    return run / "checkpoints" / f"step-{step:07d}"


def newest_sound(run: Path, on_event: Listener = ignore) -> Path:
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


def check_fits(
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
        CheckpointError: it has another model or noise process.
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
class Origin:
    """Where a checkpoint comes from."""

    corpus: Corpus
    config: TrainConfig
    device: torch.device
    dtype: torch.dtype

    def facts(self, progress: Progress, figures: ValidationFigures | None) -> dict[str, Any]:
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
                "device": str(self.device),
                "precision": str(self.dtype).removeprefix("torch."),
                "torch": torch.__version__,
            },
            "settings": dataclasses.asdict(self.config),
        }
        if figures is not None:
            facts["validation"] = dataclasses.asdict(figures)
        return facts
