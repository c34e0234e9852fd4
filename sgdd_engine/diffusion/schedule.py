"""Masking schedules: how the share of clean tokens falls from 1 at t = 0 to 0 at t = 1.

Source: Shi et al. 2024, "Simplified and generalized masked diffusion" (arXiv 2406.04329, table 4); the cosine
schedule is also MaskGIT's (arXiv 2202.04200 §3.3). No torch is imported here: settings are checked without it.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sgdd_engine.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


class MaskingSchedule(Protocol):
    """`alpha(t)`, its derivative and its inverse, elementwise on tensors of times in [0, 1]."""

    def alpha(self, t: "Tensor") -> "Tensor":
        """Probability that a token is still clean at time t."""
        ...

    def dalpha(self, t: "Tensor") -> "Tensor":
        """Derivative of `alpha` with respect to t; never positive."""
        ...

    def time_at(self, mask_share: "Tensor") -> "Tensor":
        """The time at which a share of the tokens is masked: the inverse of `1 − alpha`."""
        ...


SCHEDULES: Registry[MaskingSchedule] = Registry("masking schedule")


@SCHEDULES.register("cosine")
class CosineSchedule:
    """`alpha(t) = 1 − cos(π/2 · (1 − t))`; the mean share of masks over t is 2/π, the largest of the schedules."""

    def alpha(self, t: "Tensor") -> "Tensor":
        """Probability that a token is still clean at time t."""
        return 1.0 - (math.pi / 2 * (1.0 - t)).cos()

    def dalpha(self, t: "Tensor") -> "Tensor":
        """Derivative of `alpha`."""
        return -math.pi / 2 * (math.pi / 2 * (1.0 - t)).sin()

    def time_at(self, mask_share: "Tensor") -> "Tensor":
        """The inverse of `1 − alpha`."""
        return 1.0 - mask_share.acos() * 2 / math.pi


@SCHEDULES.register("linear")
class LinearSchedule:
    """`alpha(t) = 1 − t`."""

    def alpha(self, t: "Tensor") -> "Tensor":
        """Probability that a token is still clean at time t."""
        return 1.0 - t

    def dalpha(self, t: "Tensor") -> "Tensor":
        """Derivative of `alpha`."""
        return -t.new_ones(t.shape)

    def time_at(self, mask_share: "Tensor") -> "Tensor":
        """The inverse of `1 − alpha`."""
        return mask_share


@SCHEDULES.register("polynomial")
@dataclass(frozen=True)
class PolynomialSchedule:
    """`alpha(t) = 1 − t^exponent`; an exponent of 1 is the linear schedule, 2 masks less at small times."""

    exponent: float = 2.0

    def __post_init__(self) -> None:
        if not 0 < self.exponent < math.inf:
            raise ValueError(f"the exponent is {self.exponent:g}; it must be positive.")

    def alpha(self, t: "Tensor") -> "Tensor":
        """Probability that a token is still clean at time t."""
        return 1.0 - t**self.exponent

    def dalpha(self, t: "Tensor") -> "Tensor":
        """Derivative of `alpha`."""
        return -self.exponent * t ** (self.exponent - 1.0)

    def time_at(self, mask_share: "Tensor") -> "Tensor":
        """The inverse of `1 − alpha`."""
        return mask_share ** (1.0 / self.exponent)


def build_schedule(spec: str) -> MaskingSchedule:
    """The schedule of a name, such as `cosine` or `polynomial:exponent=3`."""
    return SCHEDULES.build(spec, "diffusion.schedule")


def elbo_weight(schedule: MaskingSchedule, t: "Tensor") -> "Tensor":
    """`−alpha'(t) / (1 − alpha(t))`: the weight of a masked token in the bound (arXiv 2406.04329 eq. 5)."""
    return -schedule.dalpha(t) / (1.0 - schedule.alpha(t))
