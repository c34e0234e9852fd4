"""What is measured, how often, and at which sizes. No torch here: usage errors are told without loading it."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sgdd_engine.config_fields import check_choices
from sgdd_engine.errors import ConfigError, require

Precision = Literal["auto", "fp32", "bf16"]

MEASURES: Mapping[str, str] = {
    "train-step": "training step against the plain reference",
    "step-memory": "peak memory of a training step against the plain reference's",
    "compact-vocabulary": "training step with a vocabulary made for the corpus against the full one",
    "mfu": "share of the machine's matrix-multiply rate that a training step reaches",
    "head": "vocabulary head against its three bare matrix products",
    "cached-epoch": "training from stored vectors against encoding on the fly",
    "sampling": "sampling against all-position logits with a separate null pass",
    "latency": "one sentence, from its latent to its tokens",
    "prepare-overhead": "preparation against a bare encoder loop",
    "prepare-memory": "peak memory of preparing ten times the text (takes minutes)",
    "command-line": "what `sgdd` itself costs to start",
}
# Only when asked for by name or with --long.
LONG = ("prepare-memory",)


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """One run of the benchmark.

    Attributes:
        only: Measures to take; empty means all but the long ones.
        text: Text file, one sentence per line; None means the built-in corpus.
        repeats: Interleaved repetitions of each measure.
        precision: Arithmetic of training; auto is bf16 where the hardware has it.
        quick: Small shapes that show that everything runs; no goal applies to them.
        long: Also take the measures of several minutes.
    """

    only: tuple[str, ...] = ()
    text: Path | None = None
    repeats: int = 5
    precision: Precision = "auto"
    quick: bool = False
    long: bool = False

    def __post_init__(self) -> None:
        check_choices(self, "bench")
        require(
            self.repeats >= 1,
            f"The number of repetitions is {self.repeats}; it must be at least 1.",
            "--repeats 5",
        )
        for name in self.only:
            if name not in MEASURES:
                raise ConfigError(f"There is no measure `{name}`.", _suggestion(name))

    @property
    def wanted(self) -> tuple[str, ...]:
        """The measures to take, in their order."""
        chosen = self.only or tuple(name for name in MEASURES if self.long or name not in LONG)
        return tuple(name for name in MEASURES if name in chosen)


def _suggestion(name: str) -> str:
    near = difflib.get_close_matches(name, MEASURES, n=1)
    lines = [f"Did you mean --only {near[0]}?"] if near else []
    return "\n".join([*lines, f"The measures are {', '.join(MEASURES)}."])


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Sizes of everything that is timed.

    Attributes:
        full_vocab, compact_vocab: Pieces of the encoder's own vocabulary, and of one made for the corpus.
        layers, width, heads: The decoder.
        embedding_dim, compact_dim: Sentence vectors of the reference and of the compact configuration.
        padded: Tokens that the plain reference pads every sentence to; longer sentences are left out.
        batch_sentences: Sentences of a training batch, and of a sampling batch.
        batches: Batches per repetition, one from each equal part of the sentences by length.
        text_sentences: Sentences that lengths and the vocabulary are taken from.
        corpus_sentences, epoch_batches, batch_tokens: The corpus that the epoch is part of, the batches of it that
            a repetition takes, and their size.
        overhead_sentences: Sentences that are prepared against a bare encoder loop.
        memory_sentences: The small and the large text whose preparation is watched.
        steps: Denoising steps.
        matmul: Side of the square matrices that measure the machine's rate.
        minilm: Whether vectors come from MiniLM (offline extra) or from a tiny encoder that the benchmark writes.
    """

    full_vocab: int = 250_002
    compact_vocab: int = 16_000
    layers: int = 2
    width: int = 256
    heads: int = 4
    embedding_dim: int = 1024
    compact_dim: int = 384
    padded: int = 64
    batch_sentences: int = 64
    batches: int = 4
    text_sentences: int = 40_000
    corpus_sentences: int = 12_000
    epoch_batches: int = 6
    batch_tokens: int = 4096
    overhead_sentences: int = 4_000
    memory_sentences: tuple[int, int] = (75_000, 750_000)
    steps: int = 16
    matmul: int = 2048
    minilm: bool = True


QUICK = Shapes(
    full_vocab=3000,
    compact_vocab=400,
    layers=1,
    width=32,
    heads=2,
    embedding_dim=48,
    compact_dim=32,
    batch_sentences=8,
    batches=2,
    text_sentences=1500,
    corpus_sentences=400,
    epoch_batches=2,
    batch_tokens=256,
    overhead_sentences=300,
    memory_sentences=(200, 1000),
    steps=4,
    matmul=128,
    minilm=False,
)
