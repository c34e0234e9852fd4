"""What a run trains: a model shaped by the corpus and fitted to it, or the one of the checkpoint it goes on from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sgdd_engine.checkpoint import checkpoints_of, load_checkpoint, load_training_state, resolve_checkpoint
from sgdd_engine.data.corpus import Corpus, CorpusSplit
from sgdd_engine.distributed import CPU, World
from sgdd_engine.errors import CheckpointError, ConfigError, DataError, EncoderError, TrainingError
from sgdd_engine.events import Listener, Notice, StageFinished, StageStarted
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig, ModelConfig
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.text.embedding_init import initial_embedding
from sgdd_engine.text.encoder import load_encoder_like
from sgdd_engine.training.checkpointing import check_resumable, newest_valid_checkpoint
from sgdd_engine.training.config import TrainConfig, TrainSpec
from sgdd_engine.training.distribution import SharedModel, micro_batches_per_step
from sgdd_engine.training.optimizer_step import Ema, build_optimizer
from sgdd_engine.training.state import Progress, RunContext, Training, restore

# Enough to estimate a 1024 × 1024 covariance; read in pieces so that memory stays small.
COVARIANCE_ROWS = 200_000
COVARIANCE_PIECE = 8_192
# What a second stage may add, or have in another size and start anew; the decoder does as before until it is trained.
ADDED_IN_SECOND_STAGE = ("draft_reader.", "denoiser.before.", "surrogate.")


def model_config(corpus: Corpus, bottleneck: BottleneckConfig, decoder: DecoderConfig) -> ModelConfig:
    """The shapes that a corpus and the user's choices give together."""
    return ModelConfig(
        embedding_dim=corpus.embedding_dim,
        max_tokens=corpus.max_tokens,
        vocabulary=corpus.tokenizer.vocabulary(),
        bottleneck=bottleneck,
        decoder=decoder,
    )


def new_model(
    corpus: Corpus, config: ModelConfig, train: TrainConfig, device: torch.device, on_event: Listener
) -> SemanticDecoder:
    """A model at step 0: random weights from the seed, fitted statistics, the token table's start.

    Raises:
        DataError: the corpus has no training or no validation sentences.
        EncoderError: the table is to start from the encoder's, and the encoder cannot be loaded.
        CheckpointError: the run is to start from a checkpoint that is missing, damaged, or of another shape.
    """
    for name in ("train", "validation"):
        if not len(corpus.split(name)):
            raise DataError(
                f"`{corpus.folder}` has no {name} sentences.",
                "Prepare more text, or raise data.validation_share.",
            )
    model = _seeded(config, train.seed)
    if train.start_from is not None:
        _load_start_weights(model, resolve_checkpoint(train.start_from), corpus, on_event)
        return model.to(device)
    mean, std = corpus.statistics()
    needs_covariance = config.bottleneck.kind == "whitening"
    model.fit_statistics(mean, std, covariance(corpus.split("train"), mean) if needs_covariance else None)
    if train.table_init == "encoder":
        on_event(StageStarted("token table from the encoder's word table", None, "pieces"))
        model.init_table(_encoder_table(corpus, config.decoder.width))
        on_event(StageFinished("token table from the encoder's word table"))
    return model.to(device)


def _load_start_weights(model: SemanticDecoder, folder: Path, corpus: Corpus, on_event: Listener) -> None:
    """Start from another model's weights and statistics; what it lacks, or has in another size, starts anew."""
    found = load_checkpoint(folder)
    if found.tokenizer.fingerprint() != corpus.tokenizer.fingerprint():
        raise CheckpointError(
            f"`{folder}` writes with another vocabulary than the corpus `{corpus.folder}` has.",
            "Start from a checkpoint that was trained on this corpus, or prepare the corpus with its tokenizer.",
        )
    if different := corpus.encoder_reference.differences(found.info.encoder):
        raise CheckpointError(
            f"`{folder}` reads vectors of `{found.info.encoder.name}`; the corpus `{corpus.folder}` holds those of "
            f"`{corpus.encoder_reference.name}`, another encoder: {'; '.join(different)}.",
            "Start from a checkpoint that was trained with this encoder.",
        )
    ours, theirs = model.state_dict(), found.model.state_dict()
    for part in ADDED_IN_SECOND_STAGE:
        if any(
            ours[name].shape != w.shape
            for name, w in theirs.items()
            if name in ours and name.startswith(part)
        ):
            theirs = {name: weights for name, weights in theirs.items() if not name.startswith(part)}
            on_event(Notice(f"`{part[:-1]}` of `{folder}` has another size and starts anew.", warning=True))
    new = {name for name in ours if name not in theirs and not name.startswith(ADDED_IN_SECOND_STAGE)}
    other = {name for name in theirs if name not in ours or ours[name].shape != theirs[name].shape}
    if new or other:
        raise CheckpointError(
            f"`{folder}` has other networks than the settings ask for ({sorted(new | other)[0]} differs).",
            "Use its own settings for bottleneck and decoder; its run folder has them in settings.toml.",
        )
    model.load_state_dict(theirs, strict=False)


def _seeded(config: ModelConfig, seed: int) -> SemanticDecoder:
    """Random weights from the seed, without touching the process's own random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return SemanticDecoder(config)


def _encoder_table(corpus: Corpus, width: int) -> Tensor:
    try:
        encoder = load_encoder_like(corpus.encoder_reference, torch.device("cpu"))
    except EncoderError as error:
        raise EncoderError(
            f"The token table cannot start from the encoder's. {error.message}",
            "\n".join(
                filter(
                    None,
                    [
                        error.hint,
                        "Or start it at random: --set train.table_init=random (learns more slowly).",
                    ],
                )
            ),
        ) from error
    table: Tensor = initial_embedding(encoder, corpus.tokenizer, width)
    return table


def covariance(split: CorpusSplit, mean: Tensor) -> Tensor:
    """Covariance [D, D] in float64 of up to 200,000 evenly spread training vectors about `mean` [D]."""
    rows = np.unique(np.linspace(0, len(split) - 1, min(len(split), COVARIANCE_ROWS)).astype(np.int64))
    total = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for start in range(0, len(rows), COVARIANCE_PIECE):
        centred = split.embeddings(rows[start : start + COVARIANCE_PIECE]).double() - mean.double()
        total += centred.T @ centred
    return total / len(rows)


def compile_blocks(model: SemanticDecoder, device: torch.device) -> None:
    """Compile each block for any number of rows and any length; names of weights stay as they are.

    Raises:
        ConfigError: PyTorch finds no compiler for the device.
    """
    _require_compiler(device)
    blocks = list(model.denoiser.blocks)
    if model.surrogate is not None:
        blocks.extend(model.surrogate.blocks)
    for block in blocks:
        # The method and not the module: hooks of FSDP2 stay outside of what is compiled.
        block.forward = torch.compile(block.forward, dynamic=True)


def _require_compiler(device: torch.device) -> None:
    try:
        torch.compile(torch.cos)(torch.zeros(2, device=device))
    except Exception as error:
        # The reason stands in the first line of a long report.
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(
            f"PyTorch cannot compile for the device {device} here: {reason}",
            "Install a C++ compiler (and Triton for a GPU), or leave out train.compile.",
        ) from error


def build_training(
    corpus: Corpus, spec: TrainSpec, context: RunContext, *, resume: bool, tell: Listener
) -> Training:
    """A new model, or what the newest sound checkpoint of the run holds; every process must ask.

    Raises:
        TrainingError: a new run has checkpoints already.
        CheckpointError: nothing sound to resume from, or it does not fit the corpus or the settings.
        DataError, EncoderError, ConfigError: the corpus, the encoder, the compiler or the number of processes cannot
            be used.
    """
    config = model_config(corpus, spec.bottleneck, spec.decoder)
    found = _found(corpus, config, spec, context, tell) if resume else None
    state = load_training_state(found) if found else None
    progress = Progress() if state is None else Progress.from_dict(state["progress.json"])
    _set_micro_batches(progress, progress.micro_batches if state else None, spec, context.world, tell)
    model = _model(corpus, config, spec, context, found, tell)
    if spec.train.compile:
        compile_blocks(model, context.device)
    shared = SharedModel(model, context.world, spec.train.parallel, context.device)
    optimizer = build_optimizer(model, spec.train)
    ema = Ema.of(model, spec.train.ema_decay)
    if state is not None:
        restore(state, model, optimizer, ema)
        tell(Notice(f"Going on from step {progress.step:,} of `{found}`."))
    return Training(shared, optimizer, ema, progress)


def _found(corpus: Corpus, config: ModelConfig, spec: TrainSpec, context: RunContext, tell: Listener) -> Path:
    """The checkpoint to go on from; rank 0 looks for it."""
    name = newest_valid_checkpoint(context.run, tell).name if context.world.is_main else ""
    found = context.run / "checkpoints" / context.world.broadcast_text(name)
    check_resumable(found, corpus, config, spec.diffusion, spec.train, tell)
    return found


def _set_micro_batches(
    progress: Progress, before: int | None, spec: TrainSpec, world: World, tell: Listener
) -> None:
    pieces = micro_batches_per_step(spec.train.micro_batches, before, world)
    if before not in (None, pieces):
        tell(
            Notice(
                f"A step was made of {before} pieces and is made of {pieces}: the sentences come in another order "
                "from here on.",
                warning=True,
            )
        )
    progress.rescale_position(pieces)


def _model(
    corpus: Corpus,
    config: ModelConfig,
    spec: TrainSpec,
    context: RunContext,
    found: Path | None,
    tell: Listener,
) -> SemanticDecoder:
    # What is to be sharded may not fit on a device as a whole.
    sharded = spec.train.parallel == "fsdp" and context.world.size > 1
    device = CPU if sharded else context.device
    if found is not None:
        return load_checkpoint(found, device).model.train()
    if context.world.is_main and checkpoints_of(context.run):
        raise TrainingError(
            f"The run `{context.run}` has checkpoints already.",
            "Go on with --resume, or name another folder with --out.",
        )
    # The others take rank 0's numbers, so they need no encoder to start the table from.
    train = spec.train if context.world.is_main else replace(spec.train, table_init="random")
    return new_model(corpus, config, train, device, tell).train()
