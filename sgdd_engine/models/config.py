"""Shapes of the networks. No torch here: settings are shown without loading it."""

from dataclasses import dataclass
from typing import Literal

from sgdd_engine.config_fields import check_choices, option
from sgdd_engine.errors import require

# No Transformer has more (Wang et al. 2022, arXiv 2203.00555); a million of them would take hours to build.
MOST_LAYERS = 1000
# No layer is wider; the sizes of far wider ones overflow.
WIDEST = 1_000_000
# Temperatures of tokens that can be meant; others would make logits infinite, or all tokens alike.
LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.1, 10.0
# Attention heads of the surrogate encoder.
SURROGATE_HEADS = 4


def require_size(value: int, key: str, least: int = 1) -> None:
    """Refuse a number of units that no layer can have.

    Raises:
        ConfigError: it is below `least`, or above `WIDEST`.
    """
    require(least <= value <= WIDEST, f"{key} is {value}; it must lie between {least} and {WIDEST:,}.")


@dataclass(frozen=True, kw_only=True)
class BottleneckConfig:
    """The layer between the sentence vector and the decoder: vector e [B, D] to latent z [B, latent_dim]."""

    kind: Literal["vib", "whitening", "none"] = option(
        "whitening", "variational information bottleneck, whitening, or nothing"
    )
    latent_dim: int = option(
        256, "dimensions of the latent vector z (vib), or principal directions kept (whitening)"
    )
    hidden_dim: int = option(256, "width of the VIB's hidden layer")

    def __post_init__(self) -> None:
        check_choices(self, "bottleneck")
        require_size(self.latent_dim, "bottleneck.latent_dim")
        require_size(self.hidden_dim, "bottleneck.hidden_dim")


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The bidirectional Transformer that predicts the masked tokens of the canvas."""

    layers: int = option(2, "Transformer blocks")
    width: int = option(256, "hidden size")
    heads: int = option(4, "attention heads")
    mlp_ratio: float = option(4.0, "feed-forward width over hidden size")
    modulation: Literal["block", "shared", "none"] = option(
        "block",
        "which matrix makes AdaLN-Zero's shift, scale and gate: `block`, one in each block; `shared`, one for all "
        "blocks with an offset for each (fewer parameters); `none`, no matrix (the condition is a token before the "
        "text)",
    )
    memory_tokens: int = option(8, "number of vectors made from z that attention can read; 0 for none")
    memory_hidden: int = option(
        0, "hidden width of the network that makes the memory tokens; 0 for a single matrix"
    )
    feedback: bool = option(
        False,
        "the decoder can also read a draft of the sentence, with the difference of the draft's vector from the target",
    )
    feedback_hidden: int = option(
        128, "hidden width of the network that reads the vectors of draft and target (decoder.feedback)"
    )
    self_conditioning: bool = option(
        False, "masked positions also read the decoder's hidden states of the step before (self-conditioning)"
    )
    surrogate_width: int = option(
        0,
        "hidden width of the small network that predicts the encoder's vector of a text, to choose which candidates "
        "are encoded; 0 for none",
    )
    anchors: bool = option(
        True, "visible <s> and </s> around the canvas; without them RoPE cannot tell positions apart"
    )
    dropout: float = option(0.0, "dropout in attention and feed-forward outputs")

    def __post_init__(self) -> None:
        check_choices(self, "decoder")
        require(
            1 <= self.layers <= MOST_LAYERS,
            f"decoder.layers is {self.layers}; it must lie between 1 and {MOST_LAYERS:,}.",
        )
        require_size(self.width, "decoder.width")
        require(
            self.heads >= 1 and self.width % self.heads == 0,
            f"decoder.width ({self.width}) must be a multiple of decoder.heads ({self.heads}).",
        )
        require(
            (self.width // self.heads) % 2 == 0,
            f"decoder.width / decoder.heads is {self.width // self.heads}; rotary positions need an even number.",
        )
        require(
            1 <= self.mlp_ratio * self.width <= WIDEST,
            f"decoder.mlp_ratio is {self.mlp_ratio}; the feed-forward width must lie between 1 and {WIDEST:,}.",
        )
        for name in ("memory_tokens", "memory_hidden", "surrogate_width"):
            require_size(getattr(self, name), f"decoder.{name}", least=0)
        require_size(self.feedback_hidden, "decoder.feedback_hidden")
        require(
            self.surrogate_width % (2 * SURROGATE_HEADS) == 0,
            f"decoder.surrogate_width is {self.surrogate_width}; it must be a multiple of {2 * SURROGATE_HEADS}.",
        )
        require(0 <= self.dropout < 1, f"decoder.dropout is {self.dropout}; it must lie in [0, 1).")


@dataclass(frozen=True, kw_only=True)
class VocabularyConfig:
    """The token space, as the tokenizer of the prepared corpus defines it."""

    size: int
    mask_id: int
    bos_id: int
    eos_id: int

    def __post_init__(self) -> None:
        for name in ("mask_id", "bos_id", "eos_id"):
            value = getattr(self, name)
            require(
                0 <= value < self.size, f"{name} is {value}, outside the vocabulary of {self.size} pieces."
            )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """All that is needed to build the networks: the user's choices, and the shapes that follow from the corpus."""

    embedding_dim: int
    max_tokens: int
    vocabulary: VocabularyConfig
    bottleneck: BottleneckConfig = BottleneckConfig()
    decoder: DecoderConfig = DecoderConfig()

    def __post_init__(self) -> None:
        for name in ("embedding_dim", "max_tokens"):
            require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; it must be at least 1.")
