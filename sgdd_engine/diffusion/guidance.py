"""Classifier-free guidance for tokens, plain and coverage-aware.

Plain: `log p = u + w (c − u)`, renormalised (Ho and Salimans 2022, arXiv 2207.12598, on log-probabilities).
Coverage-aware: the guidance term `(w − 1)(c − u)` is zero for every token that stands on the row's canvas
already. The plain form multiplies a content word's odds at every open position, also after it has been written,
so words repeat; here a word that the meaning calls for is pushed until it is written, and then no more.

What is added to all tokens of a position says nothing, so neither form renormalises: their results are logits.
"""

from collections.abc import Callable

from torch import Tensor

Guidance = Callable[[Tensor, Tensor, float, Tensor, Tensor], Tensor]
"""`(conditional [M, V], unconditional [M, V], w, rows [M], canvas [B, n]) → logits [M, V]`."""


def plain_guidance(
    conditional: Tensor,
    unconditional: Tensor,
    weight: float,
    rows: Tensor,  # noqa: ARG001 - one call for both forms
    canvas: Tensor,  # noqa: ARG001
) -> Tensor:
    """`u + w (c − u)`; `w = 1` is conditional, `w = 0` unconditional.

    It is linear, so on hidden states before an affine head it says the same as on the head's logits.

    Args:
        conditional: Logits [M, V] given the meaning.
        unconditional: Logits [M, V] of the null branch.
        weight: w.
        rows: The row of the canvas that each of the M positions belongs to [M].
        canvas: Tokens [B, n].
    """
    return unconditional.lerp(conditional, weight)


def coverage_guidance(
    conditional: Tensor, unconditional: Tensor, weight: float, rows: Tensor, canvas: Tensor
) -> Tensor:
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
