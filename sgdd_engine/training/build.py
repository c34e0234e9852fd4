"""The model, optimiser and average that a run trains: new ones, or those of the checkpoint that is resumed."""

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sgdd_engine.checkpoint import (
    CheckpointInfo,
    checkpoints_of,
    load_checkpoint,
    load_training_state,
    read_info,
    resolve_checkpoint,
)
from sgdd_engine.data.corpus import Corpus, CorpusSplit
from sgdd_engine.distributed import CPU, World
from sgdd_engine.errors import CheckpointError, ConfigError, DataError, EncoderError, TrainingError
from sgdd_engine.events import Listener, Notice, StageFinished, StageStarted
from sgdd_engine.generation.confidence import record_of, recorded_fits
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig, ModelConfig
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.text.embedding_init import initial_embedding
from sgdd_engine.text.encoder import load_encoder_like
from sgdd_engine.training.checkpointing import check_resumable, newest_valid_checkpoint
from sgdd_engine.training.config import TrainSpec
from sgdd_engine.training.distribution import SharedModel, micro_batches_per_step
from sgdd_engine.training.optimizer_step import Ema, build_optimizer
from sgdd_engine.training.state import Progress, RunContext, Training, restore

# Enough to estimate a 1024 × 1024 covariance; read in chunks so that memory stays small.
COVARIANCE_ROWS = 200_000
COVARIANCE_CHUNK = 8_192
# Networks that a second stage may leave out, add, or have in another size, by the beginnings of their names; and the
# settings that ask for them. Until they are trained their output is zero, or the decoder does not read it.
ADDED_IN_SECOND_STAGE = {
    "draft_reader.": "decoder.feedback",
    "denoiser.before.": "decoder.self_conditioning",
    "surrogate.": "decoder.surrogate_width",
}


def model_config(corpus: Corpus, bottleneck: BottleneckConfig, decoder: DecoderConfig) -> ModelConfig:
    """The shapes that follow from a corpus and the settings together."""
    return ModelConfig(
        embedding_dim=corpus.embedding_dim,
        max_tokens=corpus.max_tokens,
        vocabulary=corpus.tokenizer.vocabulary(),
        bottleneck=bottleneck,
        decoder=decoder,
    )


def new_model(
    corpus: Corpus, config: ModelConfig, spec: TrainSpec, device: torch.device, on_event: Listener
) -> SemanticDecoder:
    """A model at step 0: weights from the seed, fitted statistics, initialised token table; or those of `start_from`.

    Raises:
        ConfigError: a network would be added to the checkpoint to start from that this run could not train.
        DataError: the corpus has no training or no validation sentences.
        EncoderError: the token table starts from the encoder's, and the encoder cannot be loaded.
        CheckpointError: the checkpoint to start from is missing, damaged, or of another shape.
    """
    for name in ("train", "validation"):
        if not len(corpus.split(name)):
            raise DataError(
                f"`{corpus.folder}` has no {name} sentences.",
                "Prepare more text, or raise data.validation_share.",
            )
    train = spec.train
    model = _seeded(config, train.seed)
    if train.start_from is not None:
        _load_start_weights(model, resolve_checkpoint(train.start_from), corpus, spec, on_event)
        return model.to(device)
    mean, std = corpus.statistics()
    needs_covariance = config.bottleneck.kind == "whitening"
    model.fit_statistics(mean, std, covariance(corpus.split("train"), mean) if needs_covariance else None)
    if train.table_init == "encoder":
        on_event(StageStarted("token embeddings, from the encoder's", None, "pieces"))
        model.init_table(_encoder_table(corpus, config.decoder.width))
        on_event(StageFinished("token embeddings, from the encoder's"))
    return model.to(device)


def _load_start_weights(
    model: SemanticDecoder, folder: Path, corpus: Corpus, spec: TrainSpec, on_event: Listener
) -> None:
    """Copy another model's weights and statistics, except networks that a second stage adds, leaves out or resizes."""
    start = load_checkpoint(folder)
    if start.tokenizer.fingerprint() != corpus.tokenizer.fingerprint():
        raise CheckpointError(
            f"`{folder}` has another vocabulary than the corpus `{corpus.folder}`.",
            "Start from a checkpoint that was trained on this corpus, or prepare the corpus with its tokenizer.",
        )
    if different := corpus.encoder_reference.differences(start.info.encoder):
        raise CheckpointError(
            f"`{folder}` reads vectors of `{start.info.encoder.name}`; the corpus `{corpus.folder}` holds those of "
            f"`{corpus.encoder_reference.name}`, another encoder: {'; '.join(different)}.",
            "Start from a checkpoint that was trained with this encoder.",
        )
    schedule = start.info.diffusion.schedule
    if spec.train.part == "surrogate" and schedule != spec.diffusion.schedule:
        raise CheckpointError(
            f"`{folder}` was trained with diffusion.schedule={schedule}, and train.part=surrogate leaves its decoder "
            "as it is.",
            f"Use the same: --set diffusion.schedule={schedule}",
        )
    ours, theirs = model.state_dict(), start.model.state_dict()
    for part, setting in ADDED_IN_SECOND_STAGE.items():
        wanted, held = (
            {name: tensor.shape for name, tensor in tensors.items() if name.startswith(part)}
            for tensors in (ours, theirs)
        )
        if wanted == held:
            continue
        if wanted and (reason := _why_untrained(part, spec)):
            raise ConfigError(
                f"`{part[:-1]}` would stay untrained: `{folder}` has none of this size, and {reason}.",
                f"Start from a checkpoint that has it, or leave it out: --set {setting}=false",
            )
        theirs = {name: weights for name, weights in theirs.items() if name not in held}
        if held:
            why = (
                "has another size, so it starts untrained"
                if wanted
                else f"is left out, since {setting} is off"
            )
            on_event(Notice(f"`{part[:-1]}` of `{folder}` {why}.", warning=True))
    new = {name for name in ours if name not in theirs and not name.startswith(tuple(ADDED_IN_SECOND_STAGE))}
    other = {name for name in theirs if name not in ours or ours[name].shape != theirs[name].shape}
    if new or other:
        raise CheckpointError(
            f"`{folder}` has other networks than the settings ask for ({sorted(new | other)[0]} differs).",
            "Use its own settings for bottleneck and decoder; its run folder has them in settings.toml.",
        )
    model.load_state_dict(theirs, strict=False)


def _why_untrained(part: str, spec: TrainSpec) -> str | None:
    """Why a run does not train a network of `ADDED_IN_SECOND_STAGE`, as a clause; None if it does."""
    if part != "surrogate." and spec.train.part == "surrogate":
        return "train.part=surrogate trains the surrogate alone"
    if part == "draft_reader." and spec.feedback.share == 0:
        return "with feedback.share=0 no batch comes with drafts"
    if part == "draft_reader." and spec.train.condition_dropout == 1:
        return "with train.condition_dropout=1 no row is shown its draft"
    return None


def _seeded(config: ModelConfig, seed: int) -> SemanticDecoder:
    """A model with random weights from the seed; the process's own random state stays as it is."""
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
    for start in range(0, len(rows), COVARIANCE_CHUNK):
        centred = split.embeddings(rows[start : start + COVARIANCE_CHUNK]).double() - mean.double()
        total += centred.T @ centred
    return total / len(rows)


def compile_blocks(model: SemanticDecoder, device: torch.device) -> None:
    """Compile each Transformer block for any number of rows and any length; names of weights stay as they are.

    Only in training mode is compiled code used: validation and its samples are few batches of several kinds (one row,
    no gradient, a memory projected once), for each of which the compiler takes seconds.

    Raises:
        ConfigError: PyTorch finds no compiler for the device.
    """
    _require_compiler(device)
    # Methods and not modules: hooks of FSDP2 stay outside of what is compiled. The decoder's blocks are compiled in two
    # parts: between them positions are chosen, whose backward pass the compiler would write one number at a time.
    # The surrogate is small, and reads texts of one length and of several in turn: the compiler wrote eight versions of
    # it in two minutes and gave up.
    methods = [(block, name) for block in model.denoiser.blocks for name in ("mix", "add_branches")]
    for block, name in methods:
        setattr(block, name, _compiled_in_training(block, getattr(block, name)))


def _compiled_in_training(block: nn.Module, method: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The block's method, compiled, while the block is in training mode; as it is, otherwise."""
    compiled = torch.compile(method, dynamic=True)

    def call(*args: object) -> Tensor:
        return (compiled if block.training else method)(*args)

    return call


def _require_compiler(device: torch.device) -> None:
    try:
        torch.compile(torch.cos)(torch.zeros(2, device=device))
    except Exception as error:
        # The first line of a long report gives the reason.
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(
            f"PyTorch cannot compile for the device {device} here: {reason}",
            "Install a C++ compiler (and Triton for a GPU), or leave out train.compile.",
        ) from error


def build_training(
    corpus: Corpus, spec: TrainSpec, context: RunContext, *, resume: bool, on_event: Listener
) -> Training:
    """A new model, or the state of the newest undamaged checkpoint of the run; every rank must call it.

    Raises:
        TrainingError: a new run's folder has checkpoints already.
        CheckpointError: there is nothing to resume, or it does not fit the settings.
        DataError, EncoderError, ConfigError: the corpus, the encoder or the device cannot be used.
    """
    config = model_config(corpus, spec.bottleneck, spec.decoder)
    # A sharded model may not fit on one device as a whole.
    sharded = spec.train.parallel == "fsdp" and context.world.size > 1
    device = CPU if sharded else context.device
    state = None
    if resume:
        checkpoint = _checkpoint_to_resume(corpus, spec, context, config, on_event)
        state = load_training_state(checkpoint)
        progress = _saved_progress(state, checkpoint, spec, context, on_event)
        records = _lasting_records(read_info(checkpoint), spec)
        model = load_checkpoint(checkpoint, device, config).model.train()
        # Found on the finished weights, which change now.
        model.head.temperature = 1.0
    else:
        if context.world.is_main and checkpoints_of(context.run):
            raise TrainingError(
                f"The run `{context.run}` has checkpoints already.",
                "Go on with --resume, or name another folder with --out.",
            )
        start = (
            None if spec.train.start_from is None else read_info(resolve_checkpoint(spec.train.start_from))
        )
        progress = _new_progress(spec, context.world, start)
        records = {} if start is None else _lasting_records(start, spec)
        # The other ranks take rank 0's values, so they need no encoder to initialise the table from.
        table_init = spec.train.table_init if context.world.is_main else "random"
        own = replace(spec, train=replace(spec.train, table_init=table_init))
        model = new_model(corpus, config, own, device, on_event).train()
    if spec.train.part == "surrogate":
        _train_surrogate_alone(model)
    if spec.train.compile:
        compile_blocks(model, context.device)
    shared = SharedModel(model, context.world, spec.train.parallel, context.device)
    optimizer = build_optimizer(model, spec.train)
    ema = Ema.of(model, spec.train.ema_decay)
    if state is not None:
        restore(state, model, optimizer, ema)
    return Training(shared, optimizer, ema, progress, records)


def _train_surrogate_alone(model: SemanticDecoder) -> None:
    """Let no weights but the surrogate's be trained."""
    assert model.surrogate is not None, "checked with the settings"
    model.requires_grad_(requires_grad=False)
    model.surrogate.requires_grad_()


def _checkpoint_to_resume(
    corpus: Corpus, spec: TrainSpec, context: RunContext, config: ModelConfig, on_event: Listener
) -> Path:
    """The newest undamaged checkpoint of the run, which rank 0 looks for; it fits the corpus and the settings."""
    name = newest_valid_checkpoint(context.run, on_event).name if context.world.is_main else ""
    checkpoint = context.run / "checkpoints" / context.world.broadcast_text(name)
    check_resumable(checkpoint, corpus, spec, config, on_event)
    return checkpoint


def _lasting_records(before: CheckpointInfo, spec: TrainSpec) -> dict[str, Any]:
    """What was found of a checkpoint, as fields of `CheckpointInfo`, where a run leaves its decoder as it is.

    Sentences that are chosen by their cosine are others with another surrogate; the confidence in them is left out.
    """
    if (
        spec.train.part != "surrogate"
        or before.model.decoder.self_conditioning != spec.decoder.self_conditioning
    ):
        return {}
    fits = {way: fit for way, fit in recorded_fits(before).items() if way != "feedback"}
    return {
        "sampling": before.sampling,
        "token_temperature": before.token_temperature,
        "confidence": record_of(fits) if fits else {},
    }


def _new_progress(spec: TrainSpec, world: World, start: CheckpointInfo | None) -> Progress:
    # Whether the null condition has been trained does not depend on in which run it was.
    null_rows = 0 if start is None else start.null_rows
    return Progress(
        micro_batches=micro_batches_per_step(spec.train.micro_batches, None, world), null_rows=null_rows
    )


def _saved_progress(
    state: dict[str, Any], checkpoint: Path, spec: TrainSpec, context: RunContext, on_event: Listener
) -> Progress:
    info = read_info(checkpoint)
    # Older versions did not count the rows that trained the null condition.
    saved = {"null_rows": info.null_rows, **state["progress.json"]}
    progress = Progress.from_dict(saved)
    before = progress.micro_batches
    now = micro_batches_per_step(spec.train.micro_batches, before, context.world)
    if now != before:
        on_event(
            Notice(
                f"A step was made of {before} micro-batches and is made of {now}: the sentences come in another order "
                "from here on.",
                warning=True,
            )
        )
    if _validated_on(info, spec, before, context.device) != _validated_on(None, spec, now, context.device):
        progress.validation_set += 1
        progress.best_loss = math.inf
        on_event(
            Notice(
                "Validation is on other sentences, drafts or batches than before, or on another kind of device: its "
                "losses are on another scale, and the best checkpoint is sought anew from here on.",
                warning=True,
            )
        )
    progress.rescale_position(now)
    return progress


def _validated_on(
    info: CheckpointInfo | None, spec: TrainSpec, micro_batches: int, device: torch.device
) -> tuple[object, ...]:
    """What a held-out loss follows from besides the weights: sentences, drafts, and the batches that draw the noise.

    The kind of device is among it: a GPU draws other noise from the same seed.

    Args:
        info: The checkpoint whose settings count where they differ from those of `spec`; None for none.
        spec: The settings.
        micro_batches: Micro-batches per step.
        device: The device of the run now.
    """
    facts = {} if info is None else info.facts
    before = facts.get("training", {}).get("device", str(device))
    train = {**asdict(spec.train), **facts.get("settings", {})}
    feedback = {**asdict(spec.feedback), **facts.get("feedback", {})}
    diffusion = spec.diffusion if info is None else info.diffusion
    with_drafts = spec.decoder.feedback and feedback["share"] > 0
    return (
        train["validation_sentences"],
        train["batch_tokens"] // micro_batches,
        diffusion.num_steps,
        train["seed"] if with_drafts else None,
        torch.device(before).type,
    )
