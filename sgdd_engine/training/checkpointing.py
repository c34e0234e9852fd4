"""Writing a run's checkpoints: gathered from all processes, written by one, with what each says of its origin."""

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sgdd_engine.atomic_files import damage
from sgdd_engine.checkpoint import (
    Checkpoint,
    CheckpointInfo,
    checkpoints_of,
    resolve_checkpoint,
    save_checkpoint,
)
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.events import CheckpointSaved, Listener
from sgdd_engine.models.config import ModelConfig
from sgdd_engine.training.build import Place, Training
from sgdd_engine.training.saving import checkpoint_folder, prune
from sgdd_engine.training.spec import TrainSpec
from sgdd_engine.training.state import Progress, averaged_model, training_state
from sgdd_engine.training.validation import ValidationFigures


@dataclass(frozen=True)
class Keeper:
    """Keeps the checkpoints of a run; every process must ask for the same."""

    corpus: Corpus
    spec: TrainSpec
    place: Place
    dtype: torch.dtype

    def has(self, step: int) -> bool:
        """Whether a sound checkpoint of this step is there already."""
        folder = checkpoint_folder(self.place.run, step)
        main = self.place.world.is_main
        return self.place.world.any(main and folder.exists() and not damage(folder))

    def save(self, training: Training, figures: ValidationFigures | None, tell: Listener) -> None:
        """Write a checkpoint of this step, and remove those that are no longer kept."""
        began, keep, progress = time.perf_counter(), self.place.world.is_main, training.progress
        folder = checkpoint_folder(self.place.run, progress.step)
        model = training.shared.model
        state = training_state(model, training.optimizer, progress, keep=keep)
        averaged = averaged_model(model, training.ema, keep=keep)
        if keep:
            info = self._info(averaged.config, progress, figures)
            save_checkpoint(folder, Checkpoint(info, averaged, self.corpus.tokenizer), state)
            tell(CheckpointSaved(progress.step, folder, time.perf_counter() - began))
            prune(self.place.run, self.spec.train.keep_checkpoints)
        # Nobody leaves while the checkpoint is being written: the launcher would end the writer too.
        self.place.world.barrier()

    def newest_and_best(self) -> tuple[Path, Path]:
        """The newest checkpoint, and the one of the lowest held-out loss."""
        run, world = self.place.run, self.place.world
        newest, best = (checkpoints_of(run)[-1], resolve_checkpoint(run)) if world.is_main else (run, run)
        return Path(world.agree(str(newest))), Path(world.agree(str(best)))

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
                "device": str(self.place.device),
                "precision": str(self.dtype).removeprefix("torch."),
                "torch": torch.__version__,
            },
            "settings": dataclasses.asdict(self.spec.train),
        }
        if figures is not None:
            facts["validation"] = dataclasses.asdict(figures)
        return facts
