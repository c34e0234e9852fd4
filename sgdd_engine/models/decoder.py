"""The denoising network: a bidirectional Transformer that reads the canvas, the time, the length and the condition."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgdd_engine.models.blocks import (
    ADALN_CHUNKS,
    AdaLNZeroBlock,
    KeptKeysValues,
    KeysValues,
    Memory,
    MemoryTokens,
    Offset,
    TimeEmbedding,
    at_positions,
    modulate,
    rotary_angles,
    zero_modulation,
)
from sgdd_engine.models.config import DecoderConfig, VocabularyConfig
from sgdd_engine.models.head import VocabularyHead


@dataclass(frozen=True, slots=True)
class Condition:
    """What the network reads besides the canvas, the time and the length.

    Attributes:
        vector: [B, width], modulates every block.
        memory: What attention reads beside the canvas, that of a draft included; None where there is nothing.
        memory_kv: Keys and values of the memory in each block, where they are cached for many steps.
        angles: Cached rotary angles of the canvas.
        kept: In each block, keys and values of whole canvases and their memory, where they are kept over steps.
        reading: With these, the positions that are read now [B, A], counted with what stands before the canvas; the
            angles are those of the whole canvas.
        lengths: Tokens of each canvas, where they differ [B].
    """

    vector: Tensor
    memory: MemoryTokens | None
    memory_kv: tuple[KeysValues, ...] = ()
    angles: tuple[Tensor, Tensor] | None = None
    kept: tuple[KeptKeysValues, ...] = ()
    reading: Tensor | None = None
    lengths: Tensor | None = None

    def select(self, rows: Tensor) -> "Condition":
        """The condition of some rows [b], in this order; a row may be named several times."""
        return Condition(
            self.vector[rows],
            None if self.memory is None else self.memory.select(rows),
            tuple(known.select(rows) for known in self.memory_kv),
            self.angles,
        )


class DenoisingTransformer(nn.Module):
    """Hidden states of the canvas: `(z_t [B, n], t [B], condition, before [B, n, width]) → [B, n, width]`.

    With `positions` [M], indices into the flattened canvas, or into what is read of it, it returns those of these
    positions [M, width] only.

    The canvas is read between visible `<s>` and `</s>`. Without them, and without memory, an all-mask canvas
    is position-blind: all values are equal, so rotary attention returns the same vector everywhere, whatever
    the weights. Without modulation, a token made of condition, time and length stands before it (in-context
    conditioning, arXiv 2212.09748 §3.2). With `decoder.self_conditioning` the open positions also read `before`,
    what this network returned there one step earlier (arXiv 2208.04202 §3.2, but hidden states, as in arXiv
    2212.11972, instead of guessed tokens: they cost no second projection onto the vocabulary).
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
        self.in_context = config.modulation == "none"
        self.final_modulation = (
            Offset(2 * config.width) if self.in_context else zero_modulation(config.width, 2)
        )
        shared = config.modulation == "shared"
        self.shared_modulation = zero_modulation(config.width, ADALN_CHUNKS) if shared else None
        self.before = nn.Linear(config.width, config.width, bias=False) if config.self_conditioning else None
        if self.before is not None:
            nn.init.zeros_(self.before.weight)
        nn.init.normal_(self.length.weight, std=0.02)

    @property
    def around(self) -> tuple[int, int]:
        """Number of tokens that are read before the canvas, and behind it."""
        return self.config.anchors + self.in_context, int(self.config.anchors)

    def cache_condition(self, condition: Condition, length: int) -> Condition:
        """The condition with what is equal in all denoising steps of canvases of `length` positions, computed once."""
        angles = self.angles(length + sum(self.around), condition.vector.device)
        if condition.memory is None:
            return replace(condition, angles=angles)
        # Not in training: a block whose weights are sharded over devices has them only while it runs.
        blocks = (cast("AdaLNZeroBlock", block) for block in self.blocks)
        memory_kv = tuple(block.project_memory(condition.memory) for block in blocks)
        return replace(condition, memory_kv=memory_kv, angles=angles)

    def forward(
        self,
        z_t: Tensor,
        t: Tensor,
        condition: Condition,
        before: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        lengths: int | Tensor = z_t.shape[1] if condition.lengths is None else condition.lengths
        x = self._embedded(self._with_anchors(z_t, lengths), self._self_conditioning(z_t, before))
        signal = condition.vector + self.time(t) + self.length.weight[lengths]
        if self.in_context:
            x = torch.cat([signal[:, None], x], dim=1)
        modulation, final = self._modulations(signal)
        angles = condition.angles or self.angles(x.shape[1], x.device)
        first, read = self.around[0], z_t.shape
        if condition.reading is not None:
            x = x.gather(1, condition.reading[..., None].expand(-1, -1, x.shape[-1]))
            # [B, 1, A, head_dim / 2]: the same in all heads.
            angles = angles[0][condition.reading][:, None], angles[1][condition.reading][:, None]
            first, read = 0, condition.reading.shape
        memories: Sequence[Memory | None] = (
            condition.kept or condition.memory_kv or (condition.memory,) * len(self.blocks)
        )
        *earlier, last = zip(self.blocks, memories, strict=True)
        for block, memory in earlier:
            x = block(x, modulation, angles, memory)
        block, memory = last
        final = final.unsqueeze(-2)
        if positions is None:
            x = block(x, modulation, angles, memory)[:, first : first + read[1]]
        else:
            # No position reads another one after the attention of the last block.
            final = at_positions(final, positions, read)
            wanted = positions + positions // read[1] * (x.shape[1] - read[1]) + first
            x = block(x, modulation, angles, memory, wanted)
        shift, scale = final.chunk(2, dim=-1)
        return modulate(self.final_norm(x), shift, scale)

    def _modulations(self, signal: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs of the blocks' modulations, and shift and scale of the last norm."""
        if self.in_context:
            # Zero is the input of each module, whose own learned offset is then the modulation.
            zero = signal.new_zeros(1, 1)
            return zero, self.final_modulation(zero)
        shared = self.shared_modulation
        return (signal if shared is None else shared(signal)), self.final_modulation(signal)

    def angles(self, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Rotary angles of what is read, from the first anchor on: cosines and sines, each [length, head_dim / 2]."""
        return rotary_angles(length, self.config.width // self.config.heads, device)

    def _self_conditioning(self, z_t: Tensor, before: Tensor | None) -> Tensor | None:
        if before is None:
            return None
        assert self.before is not None, "the decoder has no self-conditioning"
        features: Tensor = self.before(before)
        return features * (z_t == self.vocabulary.mask_id)[..., None]

    def _embedded(self, tokens: Tensor, addition: Tensor | None) -> Tensor:
        x = self.head.embed(tokens)
        if addition is None:
            return x
        # The anchors get none of it.
        return x + (F.pad(addition, (0, 0, 1, 1)) if self.config.anchors else addition)

    def _with_anchors(self, z_t: Tensor, lengths: int | Tensor) -> Tensor:
        """`z_t` [B, n] between `<s>` and `</s>`, which stands right behind the last token of each canvas."""
        if not self.config.anchors:
            return z_t
        tokens = F.pad(z_t, (1, 1), value=self.vocabulary.bos_id)
        if isinstance(lengths, int):
            tokens[:, -1] = self.vocabulary.eos_id
        else:
            tokens.scatter_(1, lengths[:, None] + 1, self.vocabulary.eos_id)
        return tokens
