"""The forward process: which tokens are masked at time t, and which times training draws."""

from collections.abc import Callable

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
    order = torch.rand(x.shape, generator=generator, device=x.device).argsort(dim=1)
    first = torch.arange(x.shape[1], device=x.device) < counts[:, None]
    masked = torch.zeros_like(first).scatter_(1, order, first)
    return torch.where(masked, mask_id, x), masked


def stratified_times(rows: int, num_steps: int, generator: torch.Generator) -> Tensor:
    """Times on the grid 1/T … 1, one offset and even spacing over the batch, in random row order: [rows].

    Stratification lowers the variance of the loss over t (Kingma et al. 2021, arXiv 2107.00630 §I.1).
    """
    return _in_random_order(_on_grid(_even(rows, generator), num_steps), generator)


def uniform_times(rows: int, num_steps: int, generator: torch.Generator) -> Tensor:
    """Times on the grid 1/T … 1, each drawn by itself: [rows]."""
    return _on_grid(torch.rand(rows, generator=generator, device=generator.device), num_steps)


def bell_times(rows: int, num_steps: int, generator: torch.Generator) -> Tensor:
    """Stratified times on the grid 1/T … 1 that favour the middle: [rows].

    `t = sigmoid(Φ⁻¹(u))`, the standard logit-normal, of evenly spaced u. That a bell over t learns faster is found in
    arXiv 2605.13026, whose bell may be another one.
    """
    # The ends would be infinite; of ten thousand rows none is changed by leaving out so little.
    u = _even(rows, generator).clamp(1e-6, 1 - 1e-6)
    return _in_random_order(_on_grid(torch.special.ndtri(u).sigmoid(), num_steps), generator)


TIMES: dict[str, Callable[[int, int, torch.Generator], Tensor]] = {
    "stratified": stratified_times,
    "uniform": uniform_times,
    "bell": bell_times,
}


def training_times(
    rows: int,
    num_steps: int,
    full_mask_share: float,
    generator: torch.Generator,
    times: str = "stratified",
) -> Tensor:
    """Times [rows] as `times` says (see `TIMES`), of which about `full_mask_share` are set to 1, the full mask."""
    t = TIMES[times](rows, num_steps, generator)
    at_one = torch.rand(rows, generator=generator, device=generator.device) < full_mask_share
    return torch.where(at_one, 1.0, t)


def _even(rows: int, generator: torch.Generator) -> Tensor:
    """Evenly spaced numbers in [0, 1) with one random offset: [rows]."""
    offset = torch.rand(1, generator=generator, device=generator.device)
    return (torch.arange(rows, device=generator.device) / rows + offset) % 1.0


def _on_grid(u: Tensor, num_steps: int) -> Tensor:
    """Numbers in [0, 1) to the upper ends of their grid cells: 1/T … 1."""
    return ((u * num_steps).floor() + 1) / num_steps


def _in_random_order(t: Tensor, generator: torch.Generator) -> Tensor:
    return t[torch.randperm(len(t), generator=generator, device=generator.device)]
