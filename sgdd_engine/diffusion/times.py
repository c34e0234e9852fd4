"""Which times training draws, on the grid 1/T … 1.

torch is imported where it draws: settings are checked without it.
"""

from typing import TYPE_CHECKING, Protocol

from sgdd_engine.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class TimeSampler(Protocol):
    """`(rows, num_steps T, generator) → t [rows]`, each on the grid 1/T … 1, on the generator's device."""

    def __call__(self, rows: int, num_steps: int, generator: "torch.Generator") -> "Tensor":
        """Times of the rows of a batch."""
        ...


TIMES: Registry[TimeSampler] = Registry("distribution of training times")


@TIMES.register("stratified")
def stratified_times(rows: int, num_steps: int, generator: "torch.Generator") -> "Tensor":
    """One offset and even spacing over the batch, in random row order: [rows].

    Stratification lowers the variance of the loss over t (Kingma et al. 2021, arXiv 2107.00630 §I.1).
    """
    return _shuffled(_on_grid(_evenly_spaced(rows, generator), num_steps), generator)


@TIMES.register("uniform")
def uniform_times(rows: int, num_steps: int, generator: "torch.Generator") -> "Tensor":
    """Each row's time drawn by itself: [rows]."""
    import torch  # noqa: PLC0415 - see the module

    return _on_grid(torch.rand(rows, generator=generator, device=generator.device), num_steps)


@TIMES.register("logit_normal", "bell")
def logit_normal_times(
    rows: int, num_steps: int, generator: "torch.Generator", *, scale: float = 1.0
) -> "Tensor":
    """Stratified times that favour the middle: `t = sigmoid(scale · Φ⁻¹(u))` of evenly spaced u: [rows].

    That a bell over t learns faster is found in arXiv 2605.13026, whose bell may be another one.
    """
    import torch  # noqa: PLC0415 - see the module

    # The ends would be infinite; of ten thousand rows none is changed by leaving out so little.
    u = _evenly_spaced(rows, generator).clamp(1e-6, 1 - 1e-6)
    return _shuffled(_on_grid((scale * torch.special.ndtri(u)).sigmoid(), num_steps), generator)


def training_times(
    rows: int,
    num_steps: int,
    full_mask_share: float,
    generator: "torch.Generator",
    times: str = "stratified",
) -> "Tensor":
    """Times [rows] as `times` says (see `TIMES`), of which about `full_mask_share` are set to 1, the full mask."""
    import torch  # noqa: PLC0415 - see the module

    t = TIMES.build(times, "diffusion.times")(rows, num_steps, generator)
    at_one = torch.rand(rows, generator=generator, device=generator.device) < full_mask_share
    return torch.where(at_one, 1.0, t)


def _evenly_spaced(rows: int, generator: "torch.Generator") -> "Tensor":
    """Evenly spaced numbers in [0, 1) with one random offset: [rows]."""
    import torch  # noqa: PLC0415 - see the module

    offset = torch.rand(1, generator=generator, device=generator.device)
    return (torch.arange(rows, device=generator.device) / rows + offset) % 1.0


def _on_grid(u: "Tensor", num_steps: int) -> "Tensor":
    """Numbers in [0, 1) to the upper ends of their grid cells: 1/T … 1."""
    return ((u * num_steps).floor() + 1) / num_steps


def _shuffled(t: "Tensor", generator: "torch.Generator") -> "Tensor":
    import torch  # noqa: PLC0415 - see the module

    return t[torch.randperm(len(t), generator=generator, device=generator.device)]
