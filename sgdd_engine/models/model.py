"""The whole trainable model: vector → latent → condition → hidden states, and the length of the sentence."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sgdd_engine.models.blocks import MemoryTokens, projector
from sgdd_engine.models.bottleneck import Latent, Whitening, build_bottleneck
from sgdd_engine.models.config import DecoderConfig, ModelConfig
from sgdd_engine.models.decoder import Condition, DenoisingTransformer
from sgdd_engine.models.feedback import Draft, DraftReader
from sgdd_engine.models.head import VocabularyHead
from sgdd_engine.models.surrogate import SurrogateEncoder


class Standardize(nn.Module):
    """`(e − mean) / std` with the statistics of the training vectors, saved with the model.

    A unit-norm vector of D dimensions has coordinates near 1/√D, which a unit-variance posterior would drown.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def forward(self, e: Tensor) -> Tensor:
        return (e.float() - self.mean) / self.std


class Conditioner(nn.Module):
    """Latent vectors [B, latent_dim] to what the decoder reads."""

    def __init__(self, latent_dim: int, config: DecoderConfig) -> None:
        super().__init__()
        width, tokens, hidden = config.width, config.memory_tokens, config.memory_hidden
        self.memory_shape = (tokens, width)
        self.vector = projector(latent_dim, width, width)
        self.memory: nn.Module | None = None
        if tokens and hidden:
            self.memory = projector(latent_dim, hidden, tokens * width)
        elif tokens:
            self.memory = nn.Linear(latent_dim, tokens * width)

    def forward(self, z: Tensor) -> Condition:
        if self.memory is None:
            return Condition(self.vector(z), None)
        return Condition(self.vector(z), MemoryTokens(self.memory(z).unflatten(-1, self.memory_shape)))


class SemanticDecoder(nn.Module):
    """Everything that is trained, and the statistics that are fitted.

    Args:
        config: Shapes; see `ModelConfig`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        width = config.decoder.width
        self.standardize = Standardize(config.embedding_dim)
        self.bottleneck = build_bottleneck(config.embedding_dim, config.bottleneck)
        latent_dim = self.bottleneck.output_dim
        self.null = nn.Parameter(torch.zeros(latent_dim))
        self.conditioner = Conditioner(latent_dim, config.decoder)
        self.length_head = projector(latent_dim, width, config.max_tokens)
        self.draft_reader = (
            DraftReader(latent_dim, config.max_tokens, config.decoder) if config.decoder.feedback else None
        )
        self.surrogate = SurrogateEncoder(config) if config.decoder.surrogate_width else None
        self.denoiser = DenoisingTransformer(config.decoder, config.vocabulary, config.max_tokens)

    @property
    def head(self) -> VocabularyHead:
        """The tied vocabulary head."""
        return self.denoiser.head

    def latent(self, embeddings: Tensor, generator: torch.Generator | None = None) -> Latent:
        """Sentence vectors [B, D] through standardisation and bottleneck (a draw in training, the mean otherwise)."""
        latent: Latent = self.bottleneck(self.standardize(embeddings), generator)
        return latent

    def null_latent(self, rows: int) -> Tensor:
        """The learned latent of the null condition: [rows, latent_dim]."""
        return self.null.expand(rows, -1)

    def drop_condition(self, z: Tensor, dropped: Tensor) -> Tensor:
        """`z` [B, latent_dim] with the rows of `dropped` [B] replaced by the null latent."""
        return torch.where(dropped[:, None], self.null, z)

    def condition(self, z: Tensor, draft: Draft | None = None) -> Condition:
        """What the decoder reads of latents [B, latent_dim], and of drafts if it is given any."""
        if draft is None:
            plain: Condition = self.conditioner(z)
            return plain
        reader = self._reader
        condition: Condition = self.conditioner(reader.corrected_latent(z, draft))
        first, m = self.denoiser.around[0], draft.tokens.shape[1]
        cos, sin = self.denoiser.angles(first + m, z.device)
        embedded = self.head.embed(draft.tokens)
        memory = reader.memory(z, draft, embedded, (cos[first:], sin[first:]), condition.memory)
        return replace(condition, memory=memory)

    def length_logits(self, z: Tensor, draft: Draft | None = None) -> Tensor:
        """Logits [B, max_tokens] in float32; entry `i` stands for a sentence of `i + 1` tokens.

        With drafts they are those of a sentence that is to take a draft's place.
        """
        if draft is None:
            logits: Tensor = self.length_head(z)
            return logits.float()
        corrected: Tensor = self.length_head(self._reader.corrected_latent(z, draft))
        return corrected.float() + self._reader.length_correction(draft).float()

    @property
    def _reader(self) -> DraftReader:
        assert self.draft_reader is not None, "the decoder cannot read drafts"
        return self.draft_reader

    def hidden(
        self,
        z_t: Tensor,
        t: Tensor,
        condition: Condition,
        before: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Hidden states [B, n, width] of the canvas `z_t` [B, n] at times `t` [B].

        `before` is what this returned one step earlier; without it, or where it is zero, there was no step before.
        With `positions` [M], indices into the flattened canvas, only theirs are returned [M, width], which takes less.
        """
        hidden: Tensor = self.denoiser(z_t, t, condition, before, positions)
        return hidden

    def predict_embedding(self, tokens: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Vectors [B, D] in float32 that the surrogate predicts for texts [B, n]; the token table gets no gradient.

        Args:
            tokens: Token ids.
            lengths: How many tokens each text has, where they differ [B].
        """
        assert self.surrogate is not None, "the model has no surrogate of the encoder"
        with torch.no_grad():
            embedded = self.head.embed(tokens)
        vectors: Tensor = self.surrogate(embedded, lengths)
        return vectors

    @torch.no_grad()
    def fit_statistics(self, mean: Tensor, std: Tensor, covariance: Tensor | None = None) -> None:
        """Set the statistics of the training vectors.

        Args:
            mean: Per coordinate [D].
            std: Per coordinate [D], above 0.
            covariance: [D, D] of the raw vectors, in float64; needed by whitening only.
        """
        self.standardize.mean.copy_(mean)
        self.standardize.std.copy_(std)
        if isinstance(self.bottleneck, Whitening):
            assert covariance is not None, "whitening is fitted to a covariance"
            scale = std.double().cpu()
            self.bottleneck.fit(covariance.double().cpu() / (scale[:, None] * scale[None, :]))

    @torch.no_grad()
    def init_table(self, table: Tensor) -> None:
        """Start the token table from `table` [V, width]."""
        self.head.table.copy_(table)


def outline(config: ModelConfig) -> SemanticDecoder:
    """The model on the meta device: names and shapes, no numbers and no memory."""
    with _Unfilled(), torch.device("meta"):
        return SemanticDecoder(config)


class _Unfilled(TorchFunctionMode):
    """While entered, new tensors get no numbers: on the meta device torch would load its compiler to give them some."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever torch gives
        """Leave out what only fills a tensor."""
        if func is torch.eye:
            return torch.empty(*args, **(kwargs or {}))
        if getattr(func, "__name__", "") in _FILLS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


_FILLS = frozenset({"zero_", "fill_", "normal_", "uniform_", "kaiming_uniform_"})
