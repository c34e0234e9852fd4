"""Classifier-free guidance for tokens, plain and coverage-aware.

Plain: `log p = u + w (c − u)`, renormalised (Ho and Salimans 2022, arXiv 2207.12598, on log-probabilities).
Coverage-aware: the guidance term `(w − 1)(c − u)` is zero for every token that stands on the row's canvas
already. The plain form multiplies a content word's odds at every open position, also after it has been written,
so words repeat; here a word that the meaning calls for is pushed until it is written, and then no more.

What is added to all tokens of a position says nothing, so neither form renormalises: their results are logits.

How strong guidance is may change while a sentence is written (`GUIDANCE_SCHEDULES`). Where w = 1 the null branch is not
computed. No torch is imported here: settings are checked without it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from sgdd_engine.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

Guidance = Callable[["Tensor", "Tensor", "Tensor | float", "Tensor", "Tensor"], "Tensor"]
"""`(conditional [M, V], unconditional [M, V], w or w [M, 1], rows [M], canvas [B, n]) → logits [M, V]`."""


class GuidanceSchedule(Protocol):
    """The guidance weight as a sentence is written."""

    def weight(self, cfg: float, written: "Tensor") -> "Tensor":
        """The weight w [B] of rows of whose positions the share `written` [B] in [0, 1) stands on the canvas.

        Args:
            cfg: The weight that was asked for, above 0.
            written: 0 for an all-mask canvas.
        """
        ...


GUIDANCE_SCHEDULES: Registry[GuidanceSchedule] = Registry("guidance schedule")


@GUIDANCE_SCHEDULES.register("constant")
class ConstantGuidance:
    """The same weight in every step."""

    def weight(self, cfg: float, written: "Tensor") -> "Tensor":
        """`w = cfg` [B]."""
        return written.new_full(written.shape, cfg)


@GUIDANCE_SCHEDULES.register("ramp")
class GuidanceRamp:
    """From one weight at the start to `cfg` at the end, linear in the share that is written (arXiv 2507.08965 §4).

    Args:
        start: The weight on an all-mask canvas; 1 is plain conditional.
    """

    def __init__(self, start: float = 1.0) -> None:
        if start < 0:
            raise ValueError("start must not be negative")
        self.start = start

    def weight(self, cfg: float, written: "Tensor") -> "Tensor":
        """`w = start + (cfg − start) · written` [B]."""
        return self.start + (cfg - self.start) * written


@GUIDANCE_SCHEDULES.register("interval")
class GuidanceInterval:
    """`cfg` while the share that is written lies in an interval, and 1 outside it (arXiv 2404.07724).

    Args:
        start: Share that is written where guidance begins.
        end: Share that is written where it ends, exclusive.
    """

    def __init__(self, start: float = 0.0, end: float = 0.5) -> None:
        if not 0 <= start < end <= 1:
            raise ValueError("start and end must lie in [0, 1], start below end")
        self.start, self.end = start, end

    def weight(self, cfg: float, written: "Tensor") -> "Tensor":
        """`w = cfg` inside the interval, else 1 [B]."""
        inside = (written >= self.start) & (written < self.end)
        return inside.to(written.dtype) * (cfg - 1.0) + 1.0


def plain_guidance(
    conditional: "Tensor",
    unconditional: "Tensor",
    weight: "Tensor | float",
    rows: "Tensor",  # noqa: ARG001 - one call for both forms
    canvas: "Tensor",  # noqa: ARG001
) -> "Tensor":
    """`u + w (c − u)`; `w = 1` is conditional, `w = 0` unconditional.

    It is linear, so on hidden states before an affine head it says the same as on the head's logits.

    Args:
        conditional: Logits [M, V] given the meaning.
        unconditional: Logits [M, V] of the null branch.
        weight: w, one number or one for each position [M, 1].
        rows: The row of the canvas that each of the M positions belongs to [M].
        canvas: Tokens [B, n].
    """
    return unconditional.lerp(conditional, weight)


def coverage_guidance(
    conditional: "Tensor", unconditional: "Tensor", weight: "Tensor | float", rows: "Tensor", canvas: "Tensor"
) -> "Tensor":
    """As `plain_guidance`, with no guidance for tokens that stand on the canvas of their row already."""
    # Of logits the branches' normalisers matter after all: as the distance between guided tokens and the others.
    distance = (weight - 1.0) * (
        conditional.logsumexp(-1, keepdim=True) - unconditional.logsumexp(-1, keepdim=True)
    )
    # The mask token is among them where a row has open positions; it is never drawn, so its term does not matter.
    covered = canvas[rows]
    guided = unconditional.lerp(conditional, weight)
    return guided.scatter_(1, covered, conditional.gather(1, covered) + distance)


GUIDANCE: dict[str, Guidance] = {"coverage": coverage_guidance, "plain": plain_guidance}
