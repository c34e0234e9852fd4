"""The plain reference, as public implementations do it: the same function of the same weights, without any shortcut.

Every sentence is padded, attention gets a mask, and the logits of all positions are made in one piece over the whole
vocabulary. Sampling makes a second pass for the null condition. It reads the weights of a `SemanticDecoder` with a VIB
and with memory tokens. Tests compare the engine with it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sgdd_engine.diffusion.schedule import MaskingSchedule
from sgdd_engine.models.config import ModelConfig
from sgdd_engine.models.model import SemanticDecoder


@dataclass(frozen=True)
class Noise:
    """The random numbers of a batch.

    Attributes:
        posterior: Standard normal [B, latent_dim].
        dropped: Rows whose condition is the null latent [B].
        t: Times [B].
        masked: Masked positions [B, L].
    """

    posterior: Tensor
    dropped: Tensor
    t: Tensor
    masked: Tensor


class PlainModel:
    """The model in plain tensor operations.

    Args:
        config: Its shapes.
        weights: Parameters and buffers of a `SemanticDecoder` by name.
    """

    def __init__(self, config: ModelConfig, weights: Mapping[str, Tensor]) -> None:
        self.config, self.weights = config, weights

    @classmethod
    def of(cls, model: SemanticDecoder) -> "PlainModel":
        """The plain model that shares the weights of `model`."""
        return cls(model.config, {**dict(model.named_parameters()), **dict(model.named_buffers())})

    def posterior(self, e: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance [B, latent_dim] of vectors [B, D]."""
        standard = (e - self.weights["standardize.mean"]) / self.weights["standardize.std"]
        mu, logvar = self.two_layers("bottleneck.net", standard).float().chunk(2, dim=-1)
        return mu, logvar.clamp(-10.0, 4.0)

    def logits(self, z_t: Tensor, lengths: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """Logits of all positions [B, L, V] of canvases [B, L] that are padded behind `lengths` [B]."""
        width, vocabulary = self.config.decoder.width, self.config.vocabulary
        edge = torch.full_like(z_t[:, :1], vocabulary.bos_id)
        tokens = torch.cat([edge, z_t, edge], dim=1).scatter(1, lengths[:, None] + 1, vocabulary.eos_id)
        x = F.embedding(tokens, self.weights["denoiser.head.table"]) * width**0.5
        positions = torch.arange(tokens.shape[1], device=z_t.device)
        seen = positions < (lengths + 2)[:, None]
        frequencies = torch.exp(-math.log(10_000.0) * torch.arange(64, device=z_t.device) / 64)
        angles = 1000.0 * t[:, None] * frequencies
        time = self._linear("denoiser.time.net.0", torch.cat([angles.cos(), angles.sin()], dim=-1))
        condition = self.two_layers("conditioner.vector", z) + self.weights["denoiser.length.weight"][lengths]
        condition = condition + self._linear("denoiser.time.net.2", F.silu(time))
        memory = self._linear("conditioner.memory", z).view(len(z), -1, width)
        for number in range(self.config.decoder.layers):
            x = self._block(f"denoiser.blocks.{number}", x, condition, memory, positions, seen)
        shift, scale = self._linear("denoiser.final_modulation.1", F.silu(condition))[:, None].chunk(
            2, dim=-1
        )
        x = _norm(x) * (1 + scale) + shift
        return F.linear(x[:, 1:-1], self.weights["denoiser.head.table"], self.weights["denoiser.head.bias"])

    def two_layers(self, name: str, x: Tensor) -> Tensor:
        """Linear, GELU, linear."""
        return self._linear(f"{name}.2", F.gelu(self._linear(f"{name}.0", x)))

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def _block(
        self, name: str, x: Tensor, condition: Tensor, memory: Tensor, positions: Tensor, seen: Tensor
    ) -> Tensor:
        parts = self._linear(f"{name}.modulation.1", F.silu(condition))[:, None].chunk(6, dim=-1)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = parts
        h = _norm(x) * (1 + scale_a) + shift_a
        x = x + gate_a * self._attention(f"{name}.attention", h, _norm(memory), positions, seen)
        return x + gate_m * self.two_layers(f"{name}.mlp", _norm(x) * (1 + scale_m) + shift_m)

    def _attention(self, name: str, x: Tensor, memory: Tensor, positions: Tensor, seen: Tensor) -> Tensor:
        heads = self.config.decoder.heads

        def split(part: Tensor, gain: str = "") -> Tensor:
            part = part.view(*part.shape[:2], heads, -1).transpose(1, 2)
            size = part.shape[-1:]
            return F.rms_norm(part, size, self.weights[gain].to(part.dtype), eps=1e-6) if gain else part

        q, k, v = self._linear(f"{name}.qkv", x).chunk(3, dim=-1)
        _, memory_k, memory_v = self._linear(f"{name}.qkv", memory).chunk(3, dim=-1)
        q = _rotated(split(q, f"{name}.q_gain"), positions)
        k = _rotated(split(k, f"{name}.k_gain"), positions)
        k = torch.cat([k, split(memory_k, f"{name}.k_gain")], dim=2)
        v = torch.cat([split(v), split(memory_v)], dim=2)
        allowed = torch.cat([seen, seen.new_ones(memory.shape[:2])], dim=1)[:, None, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2).flatten(2)
        return self._linear(f"{name}.out", mixed)


def _norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], eps=1e-6)


def _rotated(x: Tensor, positions: Tensor) -> Tensor:
    size = x.shape[-1]
    angles = positions[:, None] * 10_000.0 ** (-torch.arange(0, size, 2, device=x.device) / size)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, first * sin + second * cos], dim=-1)


def plain_loss(
    model: PlainModel,
    x: Tensor,
    lengths: Tensor,
    e: Tensor,
    noise: Noise,
    batch_tokens: int,
    beta: float,
    free_bits: float,
) -> Tensor:
    """The training loss of tokens `x` [B, L], padded behind `lengths` [B], with vectors `e` [B, D]."""
    mu, logvar = model.posterior(e)
    z = torch.where(noise.dropped[:, None], model.weights["null"], mu + (logvar / 2).exp() * noise.posterior)
    z_t = torch.where(noise.masked, model.config.vocabulary.mask_id, x)
    logits = model.logits(z_t, lengths, noise.t, z)
    labels = torch.where(noise.masked, x, -100)
    tokens = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
    length = F.cross_entropy(model.two_layers("length_head", z).float(), lengths - 1)
    kl = 0.5 * (mu.square() + logvar.exp() - 1.0 - logvar)
    kl = kl.mean(dim=0).clamp_min(free_bits).sum()
    return (tokens + len(x) * (length + beta * kl)) / batch_tokens


@torch.inference_mode()
def plain_sample(
    model: PlainModel,
    z: Tensor,
    lengths: Tensor,
    *,
    padded_to: int,
    steps: int,
    weight: float,
    schedule: MaskingSchedule,
    forbidden: Sequence[int],
) -> list[list[int]]:
    """Greedy decoding under coverage-aware guidance, the most confident positions first.

    Args:
        model: The plain model.
        z: Latents [B, latent_dim].
        lengths: Tokens to write for each [B].
        padded_to: Length of every canvas.
        steps: Denoising steps.
        weight: Of the guidance.
        schedule: Says how many masks are left after each step.
        forbidden: Token ids that are never written.

    Returns:
        Token ids of each row.
    """
    mask_id = model.config.vocabulary.mask_id
    closed = torch.tensor(list(forbidden), device=z.device)
    canvas = torch.where(torch.arange(padded_to, device=z.device) < lengths[:, None], mask_id, 0)
    null = model.weights["null"].expand_as(z)
    for step in range(steps):
        masked = canvas == mask_id
        left = masked.sum(dim=1)
        t = schedule.time_at(left / lengths)
        passes = [model.logits(canvas, lengths, t, given) for given in (z, null)]
        c, u = (logits.float().index_fill(2, closed, -1e4).log_softmax(dim=-1) for logits in passes)
        term = (weight - 1.0) * (c - u)
        term.scatter_(2, canvas[:, None].expand(-1, padded_to, -1), 0.0)
        best, token = (c + term).log_softmax(dim=-1).max(dim=-1)
        rank = best.masked_fill(~masked, -torch.inf).argsort(dim=1, descending=True).argsort(dim=1)
        fill = left - _masks_after(step, steps, lengths, left, schedule)
        canvas = torch.where(masked & (rank < fill[:, None]), token, canvas)
    return [row[:n] for row, n in zip(canvas.tolist(), lengths.tolist(), strict=True)]


def _masks_after(step: int, steps: int, lengths: Tensor, left: Tensor, schedule: MaskingSchedule) -> Tensor:
    """Masks left after a step [B]: as the schedule says, fewer than now, none at the end."""
    if step + 1 == steps:
        return torch.zeros_like(left)
    share = float(1.0 - schedule.alpha(torch.tensor(1.0 - (step + 1) / steps, dtype=torch.float64)))
    return torch.minimum((lengths * share).floor().long(), (left - 1).clamp_min(0))
