"""The denoiser: a bidirectional Transformer that reads the canvas, the time, the length and the meaning."""

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from sgdd_engine.models.blocks import (
    AdaLNZeroBlock,
    KeysValues,
    TimeEmbedding,
    modulate,
    rotary_angles,
    zero,
)
from sgdd_engine.models.config import DecoderConfig, VocabularyConfig
from sgdd_engine.models.head import VocabularyHead


@dataclass(frozen=True, slots=True)
class Condition:
    """What the decoder is told of the meaning.

    Attributes:
        vector: [B, width], modulates every block.
        memory: [B, K, width], read by attention; None without memory tokens.
        kept: What each block makes of the memory, where that is wanted for more than one step.
        angles: The rotary angles of the canvas for which it is kept.
    """

    vector: Tensor
    memory: Tensor | None
    kept: tuple[KeysValues, ...] = ()
    angles: tuple[Tensor, Tensor] | None = None


class Denoiser(nn.Module):
    """Hidden states of the canvas: `(z_t [B, n], t [B], condition) → [B, n, width]`.

    The canvas is read between visible `<s>` and `</s>`. Without them, and without memory, an all-mask canvas
    is position-blind: all values are equal, so rotary attention returns the same vector everywhere, whatever
    the weights.
    """

    def __init__(self, config: DecoderConfig, vocabulary: VocabularyConfig, max_tokens: int) -> None:
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        self.head = VocabularyHead(vocabulary.size, config.width)
        self.time = TimeEmbedding(config.width)
        self.length = nn.Embedding(max_tokens + 1, config.width)
        self.blocks = nn.ModuleList(AdaLNZeroBlock(config) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(config.width, elementwise_affine=False, eps=1e-6)
        self.final_modulation = nn.Sequential(nn.SiLU(), nn.Linear(config.width, 2 * config.width))
        nn.init.normal_(self.length.weight, std=0.02)
        zero(self.final_modulation[1])

    def keep(self, condition: Condition, length: int) -> Condition:
        """The condition with all that stays the same while canvases of `length` positions fill in, computed once."""
        angles = self._angles(length + 2 * self.config.anchors, condition.vector.device)
        if condition.memory is None:
            return replace(condition, angles=angles)
        # Not in training: a block whose weights are spread over devices has them only while it runs.
        blocks = (cast("AdaLNZeroBlock", block) for block in self.blocks)
        kept = tuple(block.read(condition.memory) for block in blocks)
        return replace(condition, kept=kept, angles=angles)

    def forward(self, z_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        n = z_t.shape[1]
        x = self.head.embed(self._with_anchors(z_t))
        signal = condition.vector + self.time(t) + self.length.weight[n]
        angles = condition.angles or self._angles(x.shape[1], x.device)
        memories = condition.kept or (condition.memory,) * len(self.blocks)
        for block, memory in zip(self.blocks, memories, strict=True):
            x = block(x, signal, angles, memory)
        if self.config.anchors:
            x = x[:, 1:-1]
        shift, scale = self.final_modulation(signal)[:, None, :].chunk(2, dim=-1)
        return modulate(self.final_norm(x), shift, scale)

    def _angles(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        return rotary_angles(length, self.config.width // self.config.heads, device)

    def _with_anchors(self, z_t: Tensor) -> Tensor:
        if not self.config.anchors:
            return z_t
        anchor = z_t.new_empty(len(z_t), 1)
        bos = torch.full_like(anchor, self.vocabulary.bos_id)
        eos = torch.full_like(anchor, self.vocabulary.eos_id)
        return torch.cat([bos, z_t, eos], dim=1)
