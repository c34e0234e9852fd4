"""A small surrogate of the frozen encoder: cheap, and good enough to tell which of several drafts is worth encoding."""

import torch
from torch import Tensor, nn

from sgdd_engine.models.blocks import Attention, projector, rotary_angles
from sgdd_engine.models.config import SURROGATE_HEADS, ModelConfig

LAYERS = 2
# Feed-forward width over hidden size.
MLP_RATIO = 2


class SurrogateBlock(nn.Module):
    """Attention and feed-forward without a condition.

    Shapes: x [B, n, width], mask added to the scores [B, 1, 1, n] → [B, n, width].
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, SURROGATE_HEADS)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = projector(width, MLP_RATIO * width, width)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        x = x + self.attention(self.attention_norm(x), angles, mask)
        out: Tensor = x + self.mlp(self.mlp_norm(x))
        return out


class SurrogateEncoder(nn.Module):
    """Predicts the vector that the encoder would give a text: a small Transformer whose mean over tokens is projected.

    It reads the decoder's token embeddings and is trained by squared distance, so a prediction is near the mean
    where tokens say little, and differences of predictions estimate differences of vectors.

    Args:
        config: Shapes; `decoder.surrogate_width` is above 0.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.width = config.decoder.surrogate_width
        self.words = nn.Linear(config.decoder.width, self.width)
        self.blocks = nn.ModuleList(SurrogateBlock(self.width) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(self.width)
        self.vector = nn.Linear(self.width, config.embedding_dim)

    def forward(self, embedded: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Vectors [B, D] in float32 of token embeddings [B, n, decoder width], the first `lengths` [B] of each text."""
        hidden: Tensor = self.words(embedded)
        angles = rotary_angles(embedded.shape[1], self.width // SURROGATE_HEADS, embedded.device)
        inside = mask = None
        if lengths is not None:
            inside = torch.arange(embedded.shape[1], device=embedded.device) < lengths[:, None]
            mask = torch.zeros_like(inside, dtype=torch.float32).masked_fill_(~inside, -torch.inf)[
                :, None, None
            ]
        for block in self.blocks:
            hidden = block(hidden, angles, mask)
        hidden = self.norm(hidden)
        if inside is None or lengths is None:
            mean = hidden.mean(dim=1)
        else:
            mean = (hidden * inside[..., None]).sum(dim=1) / lengths[:, None]
        vectors: Tensor = self.vector(mean)
        return vectors.float()
