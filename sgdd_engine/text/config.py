"""Settings: the sentence encoder, and the vocabulary of the decoder."""

from dataclasses import dataclass
from typing import Literal

from sgdd_engine.config_fields import check_choices, option
from sgdd_engine.errors import require
from sgdd_engine.text.pooling import POOLINGS

BGE_M3 = "BAAI/bge-m3"
# The commit that public code pins; a moving branch would change vectors under trained decoders.
BGE_M3_REVISION = "5617a9f61b028005a4858fdac845db406aefb181"
MINILM = "minilm"


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The frozen sentence encoder."""

    name: str = option(BGE_M3, "Hugging Face name, a local folder, or `minilm` (offline extra)")
    revision: str | None = option(None, "hub commit; empty means the pinned or newest one, which is recorded")
    pooling: str = option(
        "auto",
        f"how token states become one vector: {', '.join(POOLINGS.names())}; auto reads the model's files",
    )
    max_tokens: int = option(512, "encoder tokens read per sentence; longer text is truncated, with a notice")
    batch_tokens: int = option(8192, "encoder tokens per batch")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto", "number format that the encoder computes in; auto is fp16 on a GPU, fp32 on a CPU"
    )

    def __post_init__(self) -> None:
        check_choices(self, "encoder")
        if self.pooling != "auto":
            POOLINGS.canonical(self.pooling, "encoder.pooling")
        require(bool(self.name.strip()), "encoder.name is empty.", f"Name an encoder, for example {BGE_M3}.")
        require(self.max_tokens >= 8, f"encoder.max_tokens is {self.max_tokens}; it must be at least 8.")
        require(
            self.batch_tokens >= 64, f"encoder.batch_tokens is {self.batch_tokens}; it must be at least 64."
        )


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """The decoder's vocabulary."""

    kind: Literal["encoder", "unigram"] = option(
        "encoder", "`encoder`: the vocabulary of the encoder; `unigram`: one trained on the corpus"
    )
    vocab_size: int = option(16_000, "pieces of a trained vocabulary (unigram)")

    def __post_init__(self) -> None:
        check_choices(self, "tokenizer")
        require(
            64 <= self.vocab_size <= 1_000_000,
            f"tokenizer.vocab_size is {self.vocab_size}; it must lie between 64 and 1,000,000.",
        )
