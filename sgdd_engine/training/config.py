"""How the decoder is trained. No torch here: settings are shown without loading it."""

from dataclasses import dataclass, field
from typing import Literal

from sgdd_engine.config_fields import check_choices, check_seed, choice, option
from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.errors import require
from sgdd_engine.models.config import BottleneckConfig, DecoderConfig
from sgdd_engine.tracking import TRACKERS


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Optimisation, validation and checkpoints."""

    max_steps: int | None = option(100_000, "optimiser steps")
    max_minutes: float | None = option(
        None, "end the run after this many minutes of training steps; saving and validation are not counted"
    )
    batch_tokens: int = option(4096, "tokens of one optimiser step, over all devices")
    micro_batches: int | None = option(
        None,
        "number of parts (micro-batches) in which the batch of a step is computed, one after the other (gradient "
        "accumulation): more parts need less memory; by default one per device",
    )
    parallel: Literal["ddp", "fsdp"] = option(
        "ddp",
        "how several devices share the work: ddp keeps the whole model on each; fsdp shards weights, gradients and "
        "moments, for decoders that are too large for one GPU",
    )
    compile: bool = option(
        False,
        "compile the blocks with torch.compile, which takes a minute or more; faster in long runs, on a CPU too",
    )
    part: Literal["all", "surrogate"] = option(
        "all",
        "what is trained: the whole model, or the surrogate of the encoder alone (decoder.surrogate_width), which is "
        "many times faster; all else stays as it is in train.start_from",
    )
    optimizer: Literal["adamw", "muon"] = option(
        "adamw", "muon orthogonalises the updates of the blocks' matrices; AdamW trains all the rest"
    )
    learning_rate: float = option(1e-3, "peak learning rate")
    min_learning_rate_share: float = option(0.05, "the cosine decays to this share of the peak")
    warmup_steps: int = option(200, "steps of linear warm-up")
    weight_decay: float = option(0.01, "decoupled decay of matrices; tables, gains and biases have none")
    beta2: float = option(0.98, "AdamW's second moment decay")
    grad_clip: float = option(1.0, "largest norm of the gradient")
    skip_nonfinite: int = option(
        0,
        "number of batches that a run may leave out because their loss or gradient is not a finite number; at the next "
        "one it stops",
    )
    condition_dropout: float = option(
        0.1, "share of rows that train the null condition, which guidance needs"
    )
    length_weight: float = option(
        1.0, "weight of the length's cross-entropy (nats per sentence, divided by its tokens)"
    )
    beta: float = option(1e-3, "weight of the VIB's KL (nats per sentence, divided by its tokens)")
    free_bits: float = option(0.05, "KL below this many nats per latent dimension costs nothing")
    anneal_steps: int = option(1000, "steps over which beta rises from 0")
    ema_decay: float = option(0.999, "decay of the fp32 average of the weights")
    start_from: str | None = option(
        None,
        "checkpoint whose weights a new run starts from; decoder.feedback, decoder.feedback_hidden, "
        "decoder.self_conditioning and decoder.surrogate_width may differ from it, all other sizes must be the same",
    )
    table_init: Literal["encoder", "random"] = option(
        "encoder", "start the token table from the encoder's word table by PCA, or at random"
    )
    precision: Literal["auto", "fp32", "bf16"] = option(
        "auto", "number format that the decoder computes in; auto is bf16 if the hardware has it, else fp32"
    )
    log_every: int = option(20, "steps between progress reports")
    validate_every: int = option(500, "steps between validations")
    validation_sentences: int = option(512, "held-out sentences of the fixed validation set")
    save_every: int = option(500, "steps between checkpoints")
    keep_checkpoints: int = option(2, "newest checkpoints kept, besides the best")
    tracker: str = choice(
        "tensorboard",
        TRACKERS,
        "where the run is recorded besides its file log.jsonl, which is always written",
    )
    seed: int = option(0, "seed of weights, order of sentences, masks and noise")

    def __post_init__(self) -> None:
        check_choices(self, "train")
        check_seed(self.seed, "train.seed")
        require(
            self.max_steps is not None or self.max_minutes is not None,
            "train.max_steps and train.max_minutes are both empty.",
            "Set at least one, for example --max-steps 10000.",
        )
        for name in (
            "max_steps",
            "max_minutes",
            "batch_tokens",
            "micro_batches",
            "learning_rate",
            "grad_clip",
            "log_every",
            "validate_every",
            "validation_sentences",
            "save_every",
            "keep_checkpoints",
        ):
            value = getattr(self, name)
            require(value is None or value > 0, f"train.{name} is {value}; it must be positive.")
        require(
            self.batch_tokens >= (self.micro_batches or 1),
            f"train.micro_batches is {self.micro_batches}, more than the {self.batch_tokens} of train.batch_tokens.",
        )
        require(
            (self.optimizer, self.parallel) != ("muon", "fsdp"),
            "train.optimizer=muon works on whole matrices, which train.parallel=fsdp shards.",
            "Choose --set train.parallel=ddp or --set train.optimizer=adamw.",
        )
        for name in (
            "warmup_steps",
            "weight_decay",
            "skip_nonfinite",
            "length_weight",
            "beta",
            "free_bits",
            "anneal_steps",
        ):
            require(
                getattr(self, name) >= 0, f"train.{name} is {getattr(self, name)}; it must not be negative."
            )
        for name in ("condition_dropout", "min_learning_rate_share"):
            require(
                0 <= getattr(self, name) <= 1,
                f"train.{name} is {getattr(self, name)}; it must lie in [0, 1].",
            )
        for name in ("ema_decay", "beta2"):
            require(
                0 <= getattr(self, name) < 1, f"train.{name} is {getattr(self, name)}; it must lie in [0, 1)."
            )


# Later corrections change almost nothing, and each takes longer than the first draft.
MOST_ROUNDS = 8


@dataclass(frozen=True, kw_only=True)
class FeedbackConfig:
    """The second stage of training, in which the decoder learns to correct drafts (decoder.feedback)."""

    sentences: int = option(100_000, "training sentences of which the starting checkpoint writes a draft")
    share: float = option(
        0.5,
        "share of batches that come with drafts; the others are trained as in the first stage. With 0 no draft is "
        "written",
    )
    rounds: tuple[int, ...] = option(
        (0, 1, 2),
        "how often drafts were corrected before, in turn, by a starting checkpoint that corrects already; 0 alone, "
        "first drafts, takes a third of the time",
    )

    def __post_init__(self) -> None:
        require(bool(self.rounds), "feedback.rounds is empty; 0 alone asks for first drafts.")
        require(
            all(0 <= rounds <= MOST_ROUNDS for rounds in self.rounds),
            f"feedback.rounds is {', '.join(map(str, self.rounds))}; each must be from 0 to {MOST_ROUNDS}.",
        )
        require(self.sentences >= 1, f"feedback.sentences is {self.sentences}; it must be at least 1.")
        require(0 <= self.share <= 1, f"feedback.share is {self.share}; it must lie in [0, 1].")


@dataclass(frozen=True, kw_only=True)
class TrainSpec:
    """Everything a run is made from, besides its corpus and its folder."""

    train: TrainConfig = field(default_factory=TrainConfig)
    bottleneck: BottleneckConfig = field(default_factory=BottleneckConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    feedback: FeedbackConfig = field(default_factory=FeedbackConfig)

    def __post_init__(self) -> None:
        require(
            not self.decoder.feedback or self.train.start_from is not None,
            "decoder.feedback needs a trained decoder whose drafts it learns to correct.",
            "Train without it first, then name that run: --set train.start_from=runs/NAME",
        )
        require(
            self.train.part == "all"
            or (self.train.start_from is not None and self.decoder.surrogate_width > 0),
            "train.part=surrogate trains a surrogate beside a trained decoder, and there is no such decoder or no "
            "surrogate.",
            "Name the decoder's run with --set train.start_from=runs/NAME, and give the surrogate a width: "
            "--set decoder.surrogate_width=192",
        )
