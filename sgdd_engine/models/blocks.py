"""The Transformer block: attention with rotary positions and memory, conditioned by AdaLN-Zero.

Sources: AdaLN-Zero, Peebles and Xie 2022 (arXiv 2212.09748 §3.2); rotary positions, Su et al. 2021
(arXiv 2104.09864); normalised queries and keys, Dehghani et al. 2023 (arXiv 2302.05442).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgdd_engine.models.config import DecoderConfig

# Shift, scale and gate, for attention and for the feed-forward.
ADALN_CHUNKS = 6
# Sinusoids of the time embedding: half as many as DiT has (arXiv 2212.09748), at the same scale, that of 1,000 discrete
# steps, and with the period of arXiv 1706.03762 §3.5.
TIME_FREQUENCIES = 64
TIME_SCALE = 1000.0
MAX_PERIOD = 10_000.0


def projector(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two matrices with a GELU between them: [..., inputs] → [..., outputs].

    The exact GELU: PyTorch's tanh form takes five to eight times as long on a CPU.
    """
    return nn.Sequential(nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, outputs))


class TimeEmbedding(nn.Module):
    """Diffusion time to a vector: sinusoids of `1000 t` at 64 frequencies, then a two-layer network.

    Shapes: t [B] in [0, 1] → [B, width].
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2 * TIME_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        exponent = torch.arange(TIME_FREQUENCIES, device=t.device, dtype=torch.float32) / TIME_FREQUENCIES
        angles = TIME_SCALE * t.float()[:, None] * torch.exp(-math.log(MAX_PERIOD) * exponent)
        out: Tensor = self.net(torch.cat([angles.cos(), angles.sin()], dim=-1))
        return out


def rotary_angles(length: int, head_dim: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary angles (arXiv 2104.09864 §3.4.2), each [length, head_dim / 2]."""
    inverse = MAX_PERIOD ** (-torch.arange(0, head_dim, 2, device=device, dtype=torch.float32) / head_dim)
    angles = torch.arange(length, device=device, dtype=torch.float32)[:, None] * inverse
    return angles.cos(), angles.sin()


def rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
    """Turn each pair of coordinates of `x` [B, H, L, head_dim] by its position's angle."""
    cos, sin = (a.to(x.dtype) for a in angles)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def normalize(x: Tensor, gain: Tensor) -> Tensor:
    """Root-mean-square normalisation of the last dimension, in the dtype of `x`."""
    return F.rms_norm(x, x.shape[-1:], gain.to(x.dtype), eps=1e-6)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(q · kᵀ / √head_dim + mask) · v: [B, H, L, head_dim], with K keys and values [B, H, K, head_dim]."""
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v, None if mask is None else mask.to(q.dtype))
    # The fused kernel is made for long sequences: for a sentence its backward pass takes several times as long.
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores += mask
    mixed: Tensor = scores.softmax(dim=-1) @ v
    return mixed


class MemoryTokens(NamedTuple):
    """Vectors that attention reads beside its input.

    Attributes:
        vectors: [B, K, width].
        angles: Cosines and sines that turn their keys, each [K, head_dim / 2]; None where no key is turned.
        mask: Added to the scores, −inf where a row has no such vector [B, 1, 1, K]; None where each row has all.
    """

    vectors: Tensor
    angles: tuple[Tensor, Tensor] | None = None
    mask: Tensor | None = None

    def select(self, rows: Tensor) -> "MemoryTokens":
        """The memory of some rows [b], in this order."""
        mask = None if self.mask is None else self.mask[rows]
        return MemoryTokens(self.vectors[rows], self.angles, mask)


class KeysValues(NamedTuple):
    """Keys and values of memory tokens, each [B, H, K, head_dim]; the same in every denoising step.

    `mask` is that of the memory tokens.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor | None = None

    def select(self, rows: Tensor) -> "KeysValues":
        """The keys and values of some rows [b], in this order."""
        mask = None if self.mask is None else self.mask[rows]
        return KeysValues(self.keys[rows], self.values[rows], mask)

    def join(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Keys and values of a canvas [B, H, L, head_dim] with the memory behind them [B, H, L + K, head_dim]."""
        mask = None if self.mask is None else F.pad(self.mask, (k.shape[2], 0))
        return torch.cat([k, self.keys], dim=2), torch.cat([v, self.values], dim=2), mask


class KeptKeysValues(NamedTuple):
    """Keys and values of whole canvases and, behind them, their memory, kept over denoising steps.

    Attributes:
        keys: Of all canvases that are kept [S, L + K, H, head_dim]; written over.
        values: As `keys`.
        slots: Which canvases are read now [B].
        positions: Their positions that are computed anew [B, A]; at the others what was kept serves again.
        mask: Added to the scores, −inf behind the end of a canvas [B, 1, 1, L + K].
    """

    keys: Tensor
    values: Tensor
    slots: Tensor
    positions: Tensor
    mask: Tensor

    def join(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Put in those of the positions [B, H, A, head_dim]; all of these canvases [B, H, L + K, head_dim]."""
        at = self.slots[:, None], self.positions
        # Autocast on a GPU normalises in float32, and an assignment to what is indexed converts nothing.
        self.keys[at] = k.transpose(1, 2).to(self.keys.dtype)
        self.values[at] = v.transpose(1, 2).to(self.values.dtype)
        return self.keys[self.slots].transpose(1, 2), self.values[self.slots].transpose(1, 2), self.mask


Memory = MemoryTokens | KeysValues | KeptKeysValues
"""What attention reads besides its input: memory tokens, or keys and values that were computed before."""


class Attention(nn.Module):
    """Bidirectional self-attention that can also read memory.

    Memory without angles is not rotated, so the score of a position against it depends on where the position stands.
    Shapes: x [B, L, width], memory of K tokens, mask added to the scores [B, 1, 1, L] without memory → [B, L, width].
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = width // heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.q_gain = nn.Parameter(torch.ones(self.head_dim))
        self.k_gain = nn.Parameter(torch.ones(self.head_dim))

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor], mask: Tensor | None = None) -> Tensor:
        out: Tensor = self.out(self.mix(x, angles, None, mask))
        return out

    def mix(
        self, x: Tensor, angles: tuple[Tensor, Tensor], memory: Memory | None, mask: Tensor | None = None
    ) -> Tensor:
        """The values that each position reads, of all heads [B, L, width], before the last matrix."""
        q, k, v = (self._split(part) for part in self.qkv(x).chunk(3, dim=-1))
        q, k = rotate(normalize(q, self.q_gain), angles), rotate(normalize(k, self.k_gain), angles)
        if memory is not None:
            known = self.project_memory(memory) if isinstance(memory, MemoryTokens) else memory
            k, v, mask = known.join(k, v)
        return attend(q, k, v, mask).transpose(1, 2).flatten(2)

    def project_memory(self, memory: MemoryTokens) -> KeysValues:
        """Keys and values of memory."""
        vectors = memory.vectors
        keys, values = F.linear(vectors, self.qkv.weight[vectors.shape[-1] :]).chunk(2, dim=-1)
        k = normalize(self._split(keys), self.k_gain)
        if memory.angles is not None:
            k = rotate(k, memory.angles)
        return KeysValues(k, self._split(values), memory.mask)

    def _split(self, x: Tensor) -> Tensor:
        rows, length, _ = x.shape
        return x.view(rows, length, self.heads, self.head_dim).transpose(1, 2)


class Offset(nn.Module):
    """A learned vector, added to what is given; it starts at zero. Shapes: [..., size] → [..., size]."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.offset


def zero_modulation(width: int, parts: int) -> nn.Sequential:
    """A condition [B, width] to `parts` vectors of that width [B, parts · width], all zero at the start."""
    modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, parts * width))
    for parameter in modulation[1].parameters():
        nn.init.zeros_(parameter)
    return modulation


class AdaLNZeroBlock(nn.Module):
    """Attention and feed-forward, each shifted, scaled and gated by the condition.

    The modulation starts at zero, so every block starts as the identity. Where it is shared the block adds an offset
    of its own (adaLN-single, arXiv 2310.00426 §2.3); where there is none the offset is all there is.
    Shapes: x [B, L, width], condition [B, width], or [B, 6 · width] of a shared modulation, or a zero [1, 1],
    memory of K tokens, or its keys and values, or None → [B, L, width]; with `positions` [M], indices into the
    flattened [B · L], → [M, width].
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width, inner = config.width, int(config.width * config.mlp_ratio)
        self.attention_norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.attention = Attention(width, config.heads)
        self.mlp_norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.mlp = projector(width, inner, width)
        self.memory_norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        own = config.modulation == "block"
        self.modulation = zero_modulation(width, ADALN_CHUNKS) if own else Offset(ADALN_CHUNKS * width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        angles: tuple[Tensor, Tensor],
        memory: Memory | None,
        positions: Tensor | None = None,
    ) -> Tensor:
        width = x.shape[-1]
        modulation = self.modulation(condition).unsqueeze(-2)
        mixed = self.mix(x, modulation[..., : 2 * width], angles, memory)
        rest = modulation[..., 2 * width :]
        if positions is not None:
            rest = at_positions(rest, positions, x.shape)
            x, mixed = (each.flatten(0, 1).index_select(0, positions) for each in (x, mixed))
        return self.add_branches(x, mixed, rest)

    def mix(
        self, x: Tensor, modulation: Tensor, angles: tuple[Tensor, Tensor], memory: Memory | None
    ) -> Tensor:
        """What attention reads [B, L, width], before its last matrix: the only part where positions meet.

        `modulation` [B, 1, 2 · width] holds shift and scale.
        """
        shift, scale = modulation.chunk(2, dim=-1)
        if isinstance(memory, MemoryTokens):
            memory = self._normalized(memory)
        return self.attention.mix(modulate(self.attention_norm(x), shift, scale), angles, memory)

    def add_branches(self, x: Tensor, mixed: Tensor, modulation: Tensor) -> Tensor:
        """`x` [..., width] with the branches of attention, which read `mixed`, and of the feed-forward added to it.

        `modulation` [..., 4 · width] holds attention's gate, and shift, scale and gate of the feed-forward.
        """
        gate_a, shift_m, scale_m, gate_m = modulation.chunk(4, dim=-1)
        x = x + gate_a * self.dropout(self.attention.out(mixed))
        h = self.mlp(modulate(self.mlp_norm(x), shift_m, scale_m))
        out: Tensor = x + gate_m * self.dropout(h)
        return out

    def project_memory(self, memory: MemoryTokens) -> KeysValues:
        """Keys and values of memory in this block's attention, to be computed once for many steps."""
        return self.attention.project_memory(self._normalized(memory))

    def _normalized(self, memory: MemoryTokens) -> MemoryTokens:
        return memory._replace(vectors=self.memory_norm(memory.vectors))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """`x · (1 + scale) + shift`."""
    return x * (1 + scale) + shift


def at_positions(modulation: Tensor, positions: Tensor, canvas: Sequence[int]) -> Tensor:
    """The modulation [B, 1, C], or [1, 1, C] for all rows, of positions [M] of the flattened canvas [B, L]: [M, C]."""
    rows, length = canvas[:2]
    return modulation.squeeze(-2).expand(rows, -1).index_select(0, positions // length)
