"""What a run trains with, at its first step or at the one it goes on from."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from sgdd_engine.checkpoint import checkpoints_of, load_checkpoint, load_training_state
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.distributed import CPU, World
from sgdd_engine.errors import TrainingError
from sgdd_engine.events import Listener, Notice
from sgdd_engine.models.config import ModelConfig
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.training.compiling import compile_blocks
from sgdd_engine.training.distribution import SharedModel, pieces_per_step
from sgdd_engine.training.optim import Ema, build_optimizer
from sgdd_engine.training.saving import check_fits, newest_sound
from sgdd_engine.training.spec import TrainSpec
from sgdd_engine.training.start import model_config, new_model
from sgdd_engine.training.state import Progress, restore


@dataclass(frozen=True)
class Place:
    """Where a run is trained and written: its folder, this process's device, the processes it belongs to."""

    run: Path
    device: torch.device
    world: World


@dataclass(frozen=True)
class Training:
    """What changes from step to step."""

    shared: SharedModel
    optimizer: torch.optim.Optimizer
    ema: Ema
    progress: Progress


def set_up(corpus: Corpus, spec: TrainSpec, place: Place, *, resume: bool, tell: Listener) -> Training:
    """A new model, or what the newest sound checkpoint of the run holds; every process must ask.

    Raises:
        TrainingError: a new run has checkpoints already.
        CheckpointError: nothing sound to resume from, or it does not fit the corpus or the settings.
        DataError, EncoderError, ConfigError: the corpus, the encoder, the compiler or the number of processes cannot
            be used.
    """
    config = model_config(corpus, spec.bottleneck, spec.decoder)
    found = _found(corpus, config, spec, place, tell) if resume else None
    state = load_training_state(found) if found else None
    progress = Progress() if state is None else Progress.from_dict(state["progress.json"])
    _cut_steps(progress, progress.micro_batches if state else None, spec, place.world, tell)
    model = _model(corpus, config, spec, place, found, tell)
    if spec.train.compile:
        compile_blocks(model, place.device)
    shared = SharedModel(model, place.world, spec.train.parallel, place.device)
    optimizer = build_optimizer(model, spec.train)
    ema = Ema.of(model, spec.train.ema_decay)
    if state is not None:
        restore(state, model, optimizer, ema)
        tell(Notice(f"Going on from step {progress.step:,} of `{found}`."))
    return Training(shared, optimizer, ema, progress)


def _found(corpus: Corpus, config: ModelConfig, spec: TrainSpec, place: Place, tell: Listener) -> Path:
    """The checkpoint to go on from; rank 0 looks for it."""
    name = newest_sound(place.run, tell).name if place.world.is_main else ""
    found = place.run / "checkpoints" / place.world.agree(name)
    check_fits(found, corpus, config, spec.diffusion, spec.train, tell)
    return found


def _cut_steps(progress: Progress, before: int | None, spec: TrainSpec, world: World, tell: Listener) -> None:
    pieces = pieces_per_step(spec.train.micro_batches, before, world)
    if before not in (None, pieces):
        tell(
            Notice(
                f"A step was made of {before} pieces and is made of {pieces}: the sentences come in another order "
                "from here on.",
                warning=True,
            )
        )
    progress.recut(pieces)


def _model(
    corpus: Corpus, config: ModelConfig, spec: TrainSpec, place: Place, found: Path | None, tell: Listener
) -> SemanticDecoder:
    # What is to be sharded may not fit on a device as a whole.
    sharded = spec.train.parallel == "fsdp" and place.world.size > 1
    device = CPU if sharded else place.device
    if found is not None:
        return load_checkpoint(found, device).model.train()
    if place.world.is_main and checkpoints_of(place.run):
        raise TrainingError(
            f"The run `{place.run}` has checkpoints already.",
            "Go on with --resume, or name another folder with --out.",
        )
    # The others take rank 0's numbers, so they need no encoder to start the table from.
    train = spec.train if place.world.is_main else replace(spec.train, table_init="random")
    return new_model(corpus, config, train, device, tell).train()
