"""Before the first step: a model shaped by the corpus, its input statistics, its token table."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sgdd_engine.checkpoint import load_checkpoint, resolve_checkpoint
from sgdd_engine.data.corpus import Corpus, CorpusSplit
from sgdd_engine.errors import CheckpointError, DataError, EncoderError
from sgdd_engine.events import Listener, Notice, StageFinished, StageStarted
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig, ModelConfig
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.text.encoder import load_encoder_like
from sgdd_engine.text.table import start_table
from sgdd_engine.training.config import TrainConfig

# Enough to estimate a 1024 × 1024 covariance; read in pieces so that memory stays small.
COVARIANCE_ROWS = 200_000
COVARIANCE_PIECE = 8_192
# What a second stage may add, or have in another size and start anew; the decoder does as before until it is trained.
LEARNT_LATER = ("draft_reader.", "denoiser.before.", "surrogate.")


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
        _take_weights(model, resolve_checkpoint(train.start_from), corpus, on_event)
        return model.to(device)
    mean, std = corpus.statistics()
    needs_covariance = config.bottleneck.kind == "whitening"
    model.fit_inputs(mean, std, covariance(corpus.split("train"), mean) if needs_covariance else None)
    if train.table_init == "encoder":
        on_event(StageStarted("token table from the encoder's word table", None, "pieces"))
        model.start_table(_encoder_table(corpus, config.decoder.width))
        on_event(StageFinished("token table from the encoder's word table"))
    return model.to(device)


def _take_weights(model: SemanticDecoder, folder: Path, corpus: Corpus, on_event: Listener) -> None:
    """Start from another model's weights and statistics; what it lacks, or has in another size, starts anew."""
    found = load_checkpoint(folder)
    if found.tokenizer.fingerprint() != corpus.tokenizer.fingerprint():
        raise CheckpointError(
            f"`{folder}` writes with another vocabulary than the corpus `{corpus.folder}` has.",
            "Start from a checkpoint that was trained on this corpus, or prepare the corpus with its tokenizer.",
        )
    if found.info.encoder.weights_sha256 != corpus.encoder_reference.weights_sha256:
        raise CheckpointError(
            f"`{folder}` reads vectors of `{found.info.encoder.name}`; the corpus `{corpus.folder}` holds those of "
            f"`{corpus.encoder_reference.name}`.",
            "Start from a checkpoint that was trained with this encoder.",
        )
    ours, theirs = model.state_dict(), found.model.state_dict()
    for part in LEARNT_LATER:
        if any(
            ours[name].shape != w.shape
            for name, w in theirs.items()
            if name in ours and name.startswith(part)
        ):
            theirs = {name: weights for name, weights in theirs.items() if not name.startswith(part)}
            on_event(Notice(f"`{part[:-1]}` of `{folder}` has another size and starts anew.", warning=True))
    new = {name for name in ours if name not in theirs and not name.startswith(LEARNT_LATER)}
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
    table: Tensor = start_table(encoder, corpus.tokenizer, width)
    return table


def covariance(split: CorpusSplit, mean: Tensor) -> Tensor:
    """Covariance [D, D] in float64 of up to 200,000 evenly spread training vectors about `mean` [D]."""
    rows = np.unique(np.linspace(0, len(split) - 1, min(len(split), COVARIANCE_ROWS)).astype(np.int64))
    total = torch.zeros(len(mean), len(mean), dtype=torch.float64)
    for start in range(0, len(rows), COVARIANCE_PIECE):
        centred = split.embeddings(rows[start : start + COVARIANCE_PIECE]).double() - mean.double()
        total += centred.T @ centred
    return total / len(rows)
