"""The forward process: which tokens are masked at time t, and which times training draws."""

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


def stratified_times(rows: int, num_steps: int, generator: torch.Generator) -> Tensor:
    """Times on the grid 1/T … 1, one offset and even spacing over the batch, in random row order: [rows].

    Stratification lowers the variance of the loss over t (Kingma et al. 2021, arXiv 2107.00630 §I.1).
    """
    device = generator.device
    offset = torch.rand(1, generator=generator, device=device)
    even = (torch.arange(rows, device=device) / rows + offset) % 1.0
    grid = (even * num_steps).floor() + 1
    return grid[torch.randperm(rows, generator=generator, device=device)] / num_steps


def training_times(rows: int, num_steps: int, full_mask_share: float, generator: torch.Generator) -> Tensor:
    """Stratified times [rows], of which about `full_mask_share` are set to t = 1, where decoding starts."""
    t = stratified_times(rows, num_steps, generator)
    at_one = torch.rand(rows, generator=generator, device=generator.device) < full_mask_share
    return torch.where(at_one, 1.0, t)
