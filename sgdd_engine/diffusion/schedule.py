"""How the share of clean tokens falls from 1 at t = 0 to 0 at t = 1.

Source: Shi et al. 2024, "Simplified and generalized masked diffusion" (arXiv 2406.04329, table 4); the cosine
schedule is also MaskGIT's (arXiv 2202.04200 §3.3).
"""

import math
from typing import Protocol

from torch import Tensor


class MaskingSchedule(Protocol):
    """`alpha(t)`, its derivative and its inverse, elementwise on tensors of times in [0, 1]."""

    def alpha(self, t: Tensor) -> Tensor:
        """Probability that a token is still clean at time t."""
        ...

    def dalpha(self, t: Tensor) -> Tensor:
        """Derivative of `alpha` with respect to t; never positive."""
        ...

    def time_at(self, mask_share: Tensor) -> Tensor:
        """The time at which a share of the tokens is masked: the inverse of `1 − alpha`."""
        ...


class CosineSchedule:
    """`alpha(t) = 1 − cos(π/2 · (1 − t))`: most of the time is spent at many masks (mean share 2/π)."""

    def alpha(self, t: Tensor) -> Tensor:
        """Probability that a token is still clean at time t."""
        return 1.0 - (math.pi / 2 * (1.0 - t)).cos()

    def dalpha(self, t: Tensor) -> Tensor:
        """Derivative of `alpha`."""
        return -math.pi / 2 * (math.pi / 2 * (1.0 - t)).sin()

    def time_at(self, mask_share: Tensor) -> Tensor:
        """The inverse of `1 − alpha`."""
        return 1.0 - mask_share.acos() * 2 / math.pi


class LinearSchedule:
    """`alpha(t) = 1 − t`."""

    def alpha(self, t: Tensor) -> Tensor:
        """Probability that a token is still clean at time t."""
        return 1.0 - t

    def dalpha(self, t: Tensor) -> Tensor:
        """Derivative of `alpha`."""
        return -t.new_ones(t.shape)

    def time_at(self, mask_share: Tensor) -> Tensor:
        """The inverse of `1 − alpha`."""
        return mask_share


SCHEDULES: dict[str, MaskingSchedule] = {"cosine": CosineSchedule(), "linear": LinearSchedule()}


def build_schedule(name: str) -> MaskingSchedule:
    """The schedule of that name: `cosine` or `linear`."""
    return SCHEDULES[name]


def elbo_weight(schedule: MaskingSchedule, t: Tensor) -> Tensor:
    """`−alpha'(t) / (1 − alpha(t))`: the weight of a masked token in the bound (arXiv 2406.04329 eq. 5)."""
    return -schedule.dalpha(t) / (1.0 - schedule.alpha(t))
