"""The forward process: which tokens are masked at time t."""

import torch
from torch import Tensor

from sgdd_engine.diffusion.schedule import MaskingSchedule


def q_sample(
    x: Tensor, t: Tensor, schedule: MaskingSchedule, mask_id: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mask each token independently with probability `1 − alpha(t)`.

    Args:
        x: Clean tokens [B, n].
        t: Times in [0, 1], one a row [B].
        schedule: The masking schedule.
        mask_id: The absorbing token.
        generator: On the device of `x`.

    Returns:
        The corrupted tokens [B, n], and where they are masked [B, n].
    """
    keep = schedule.alpha(t)[:, None]
    masked = torch.rand(x.shape, generator=generator, device=x.device) >= keep
    return torch.where(masked, mask_id, x), masked


def mask_some(x: Tensor, counts: Tensor, mask_id: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mask so many tokens of each row, any set of them equally likely.

    Args:
        x: Clean tokens [B, n].
        counts: How many to mask [B], at most n.
        mask_id: The absorbing token.
        generator: On the device of `x`.

    Returns:
        The corrupted tokens [B, n], and where they are masked [B, n].
    """
    return mask_lowest(x, counts, torch.rand(x.shape, generator=generator, device=x.device), mask_id)


def mask_lowest(x: Tensor, counts: Tensor, scores: Tensor, mask_id: int) -> tuple[Tensor, Tensor]:
    """Mask so many tokens of each row, those of the lowest scores.

    Args:
        x: Clean tokens [B, n].
        counts: How many to mask [B], at most n.
        scores: Of each position [B, n].
        mask_id: The absorbing token.

    Returns:
        The corrupted tokens [B, n], and where they are masked [B, n].
    """
    first = torch.arange(x.shape[1], device=x.device) < counts[:, None]
    masked = torch.zeros_like(first).scatter_(1, scores.argsort(dim=1), first)
    return torch.where(masked, mask_id, x), masked
