"""The training weights, the evaluation bound, and accuracy by mask ratio.

Both the loss and the bound are sums of masked tokens' cross-entropies; they differ in their weights alone. The
cross-entropy itself is the caller's, so any denoiser can be scored, a two-line oracle included.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from sgdd_engine.diffusion.corruption import mask_some
from sgdd_engine.diffusion.schedule import MaskingSchedule, elbo_weight
from sgdd_engine.diffusion.times import stratified_times

MaskedNll = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(z_t [B, n], t [B], masked [B, n]) → nll [M]` in nats, of the clean tokens at the M masked positions."""

# Equal ranges of the share of masked tokens; the full mask is counted apart.
RATIO_PARTS = 4


def token_weights(
    t: Tensor, masked: Tensor, schedule: MaskingSchedule, weighting: str, normaliser: float
) -> Tensor:
    """Weight of each masked token in the training loss: [M].

    The sum is divided by a fixed number of tokens, not by the random number of masked ones, which would
    favour lightly masked rows.

    Args:
        t: Times [B].
        masked: Where tokens are masked [B, n]; M is its sum.
        schedule: The masking schedule.
        weighting: `flat` (every masked token counts the same) or `elbo` (the bound's weights).
        normaliser: The fixed token count of a batch.
    """
    rows = elbo_weight(schedule, t) if weighting == "elbo" else torch.ones_like(t)
    return (rows / normaliser)[:, None].expand(masked.shape)[masked]


def nelbo_nats(
    x: Tensor,
    nll: MaskedNll,
    schedule: MaskingSchedule,
    mask_id: int,
    samples: int,
    generator: torch.Generator,
) -> Tensor:
    """Negative evidence lower bound of each row, in nats, by Monte Carlo over stratified numbers of masks.

    `Σₘ 1/m · E[Σ_masked nll]` over m = 1 … n masks in random places: the continuous-time bound (arXiv 2406.04329
    eq. 6) with the integral over t done, given the length; it is the bound of a random order (arXiv 2406.03736). Drawn
    over t instead, a rare token masked near t = 0 weighs 1/t, and the estimate has no finite variance.

    Args:
        x: Clean tokens [B, n].
        nll: Scores the clean tokens at masked positions; its t is the time at which m of n are masked.
        schedule: The masking schedule.
        mask_id: The absorbing token.
        samples: Masks per row, stratified over rows and samples together.
        generator: On the device of `x`.

    Returns:
        [B, samples]; the mean over samples estimates the bound of a row.
    """
    rows, n = x.shape
    counts = stratified_times(rows * samples, n, generator).mul(n).round().view(samples, rows)
    estimates = []
    for count in counts:
        z_t, masked = mask_some(x, count, mask_id, generator)
        total = torch.zeros_like(masked, dtype=torch.float32)
        total[masked] = nll(z_t, schedule.time_at(count / n), masked).float()
        estimates.append(n / count * total.sum(dim=1))
    return torch.stack(estimates, dim=1)


def ratio_bucket(masked: Tensor, parts: int = RATIO_PARTS) -> Tensor:
    """Which of `parts` equal ranges the share of masked tokens of each row of `masked` [B, n] lies in: [B].

    A full mask has a number of its own, `parts`; the numbers are indices into `ratio_names`.
    """
    # In whole numbers: a mean that multiplies by 1/n puts a full mask of 41 tokens just below 1.
    return masked.sum(dim=1) * parts // masked.shape[1]


def ratio_names(parts: int = RATIO_PARTS) -> list[str]:
    """The ranges in percent, without their upper end: "0-25" … "75-100", and "100", the full mask alone."""
    width = 100 // parts
    return [*(f"{low}-{low + width}" for low in range(0, 100, width)), "100"]


def sums_by_mask_ratio(
    masked: Tensor, values: Tensor, positions: Tensor | None = None, parts: int = RATIO_PARTS
) -> Tensor:
    """Number of masked tokens, and sums of their values, by the share of their canvas that is masked.

    Args:
        masked: Where tokens are masked [B, n]; M is its sum.
        values: Values of the masked tokens [C, M], such as whether each was guessed; their dtype is that of the sums
            (float32 would stop counting at 2²⁴).
        positions: Indices of the masked tokens in the flattened `masked` [M], if they are known already: on a GPU the
            host waits for them.
        parts: Ranges.

    Returns:
        [1 + C, parts + 1]: in the order of `ratio_names`, the count first.
    """
    if positions is None:
        positions = masked.flatten().nonzero().squeeze(1)
    bucket = ratio_bucket(masked, parts).index_select(0, positions // masked.shape[1])
    columns = torch.cat([torch.ones_like(values[:1]), values])
    return columns.new_zeros(len(columns), parts + 1).index_add_(1, bucket, columns)


def accuracy_by_mask_ratio(counts: Tensor) -> dict[str, float]:
    """Share of masked tokens guessed, by range; those without a token are left out.

    Args:
        counts: All and right guesses [2, parts + 1], as `sums_by_mask_ratio` gives them.
    """
    pairs = zip(ratio_names(counts.shape[1] - 1), *counts.tolist(), strict=True)
    return {name: right / total for name, total, right in pairs if total}
