"""A small stand-in for the frozen encoder: quick, and good enough to tell which of several drafts is worth reading."""

import torch
from torch import Tensor, nn

from sgdd_engine.models.config import SURROGATE_HEADS, ModelConfig

LAYERS = 2
# Feed-forward width over hidden size.
MLP_RATIO = 2


class SurrogateEncoder(nn.Module):
    """Guesses the vector that the encoder would give a text: a small Transformer whose mean over tokens is projected.

    It reads the decoder's token embeddings and is trained by squared distance, so a guess shrinks towards the mean
    where the tokens do not tell, and differences of guesses are estimates of differences of vectors.

    Args:
        config: Shapes; `decoder.surrogate_width` is above 0.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.decoder.surrogate_width
        self.words = nn.Linear(config.decoder.width, width)
        self.positions = nn.Parameter(torch.randn(config.max_tokens, width) * 0.02)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width,
                SURROGATE_HEADS,
                MLP_RATIO * width,
                dropout=0.0,
                activation="gelu",
                batch_first=True,
                norm_first=True,
            )
            for _ in range(LAYERS)
        )
        self.norm = nn.LayerNorm(width)
        self.vector = nn.Linear(width, config.embedding_dim)

    def forward(self, embedded: Tensor) -> Tensor:
        """Vectors [B, D] in float32 of token embeddings [B, n, decoder width]."""
        hidden: Tensor = self.words(embedded) + self.positions[: embedded.shape[1]]
        for block in self.blocks:
            hidden = block(hidden)
        vectors: Tensor = self.vector(self.norm(hidden).mean(dim=1))
        return vectors.float()
