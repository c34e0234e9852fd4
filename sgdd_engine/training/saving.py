"""Which checkpoints a run keeps, which one it goes on from, and what each one says of its origin."""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sgdd_engine.checkpoint import checkpoints_of, resolve_checkpoint
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.errors import CheckpointError
from sgdd_engine.events import Listener, Notice, ignore
from sgdd_engine.storage import damage
from sgdd_engine.training.config import TrainConfig
from sgdd_engine.training.state import Progress
from sgdd_engine.training.validation import ValidationFigures


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


def prune(run: Path, keep: int) -> None:
    """Remove old checkpoints: never the `keep` newest, never the best."""
    old = checkpoints_of(run)[:-keep]
    if not old:
        return
    best = resolve_checkpoint(run)
    for folder in old:
        if folder != best:
            shutil.rmtree(folder, ignore_errors=True)


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
