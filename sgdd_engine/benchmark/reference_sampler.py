"""The plain way to sample: padded canvases, logits of all positions, and a second pass for the null condition."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sgdd_engine.benchmark.reference import PlainModel
from sgdd_engine.diffusion.schedule import MaskingSchedule


@torch.inference_mode()
def plain_sample(
    model: PlainModel,
    z: Tensor,
    lengths: Tensor,
    *,
    padded: int,
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
        padded: Length of every canvas.
        steps: Denoising steps.
        weight: Of the guidance.
        schedule: Says how many masks are left after each step.
        forbidden: Token ids that are never written.

    Returns:
        Token ids of each row.
    """
    mask_id = model.config.vocabulary.mask_id
    closed = torch.tensor(list(forbidden), device=z.device)
    canvas = torch.where(torch.arange(padded, device=z.device) < lengths[:, None], mask_id, 0)
    null = model.weights["null"].expand_as(z)
    for step in range(steps):
        masked = canvas == mask_id
        left = masked.sum(dim=1)
        t = schedule.time_at(left / lengths)
        passes = [model.logits(canvas, lengths, t, given) for given in (z, null)]
        c, u = (logits.float().index_fill(2, closed, -1e4).log_softmax(dim=-1) for logits in passes)
        term = (weight - 1.0) * (c - u)
        term.scatter_(2, canvas[:, None].expand(-1, padded, -1), 0.0)
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
