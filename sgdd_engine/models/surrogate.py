"""A small surrogate of the frozen encoder: cheap, and good enough to tell which of several drafts is worth encoding."""

from torch import Tensor, nn

from sgdd_engine.models.blocks import Attention, projector, rotary_angles
from sgdd_engine.models.config import SURROGATE_HEADS, ModelConfig

LAYERS = 2
# Feed-forward width over hidden size.
MLP_RATIO = 2


class SurrogateBlock(nn.Module):
    """Attention and feed-forward without a condition. Shapes: x [B, n, width] → [B, n, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, SURROGATE_HEADS)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = projector(width, MLP_RATIO * width, width)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.attention(self.attention_norm(x), angles, None)
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

    def forward(self, embedded: Tensor) -> Tensor:
        """Vectors [B, D] in float32 of token embeddings [B, n, decoder width]."""
        hidden: Tensor = self.words(embedded)
        angles = rotary_angles(embedded.shape[1], self.width // SURROGATE_HEADS, embedded.device)
        for block in self.blocks:
            hidden = block(hidden, angles)
        vectors: Tensor = self.vector(self.norm(hidden).mean(dim=1))
        return vectors.float()
