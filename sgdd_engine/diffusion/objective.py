"""The training weights, the evaluation bound, and accuracy by mask ratio.

Both the loss and the bound are sums of masked tokens' cross-entropies; they differ in their weights alone. The
cross-entropy itself is the caller's, so any denoiser can be scored, a two-line oracle included.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sgdd_engine.diffusion.corruption import mask_some
from sgdd_engine.diffusion.schedule import MaskingSchedule, elbo_weight
from sgdd_engine.diffusion.times import stratified_times

MaskedNll = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(z_t [B, n], t [B], masked [B, n]) → nll [M]` in nats, of the clean tokens at the M masked positions."""

# Ranges of the share of masked tokens, in percent, without their upper end; "100" is the full mask alone.
RATIO_BUCKETS = ("0-25", "25-50", "50-75", "75-100", "100")


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


def ratio_bucket(masked: Tensor, parts: int = 4) -> Tensor:
    """Which of `parts` equal ranges the share of masked tokens of each row of `masked` [B, n] lies in: [B].

    A full mask has a number of its own, `parts`; with four parts the numbers are indices into `RATIO_BUCKETS`.
    """
    # In whole numbers: a mean that multiplies by 1/n puts a full mask of 41 tokens just below 1.
    return masked.sum(dim=1) * parts // masked.shape[1]


def guesses_by_mask_ratio(masked: Tensor, places: Tensor, correct: Tensor) -> Tensor:
    """How many masked tokens were guessed right, and how many there are, by `RATIO_BUCKETS`: [2, buckets].

    Args:
        masked: Where tokens are masked [B, n].
        places: Where the masked tokens stand in the flattened `masked` [M].
        correct: Whether each was guessed [M].
    """
    bucket = ratio_bucket(masked).index_select(0, places // masked.shape[1])
    counts = torch.zeros(2, len(RATIO_BUCKETS), dtype=torch.long, device=bucket.device)
    counts[0].index_add_(0, bucket, correct.long())
    counts[1].index_add_(0, bucket, torch.ones_like(bucket))
    return counts


@dataclass(slots=True)
class AccuracyByMaskRatio:
    """Running share of masked tokens guessed right, by the share of the canvas that was masked."""

    # float32 would stop counting at 2²⁴.
    right: Tensor = field(default_factory=lambda: torch.zeros(len(RATIO_BUCKETS), dtype=torch.float64))
    total: Tensor = field(default_factory=lambda: torch.zeros(len(RATIO_BUCKETS), dtype=torch.float64))

    def add(self, masked: Tensor, correct: Tensor) -> None:
        """Count the M masked tokens of `masked` [B, n], of which `correct` [M] were guessed."""
        places = masked.flatten().nonzero().squeeze(1)
        right, total = guesses_by_mask_ratio(masked, places, correct).cpu().double()
        self.right += right
        self.total += total

    def result(self) -> Mapping[str, float]:
        """Accuracy in 0–1 by bucket; buckets without a token are left out."""
        pairs = zip(RATIO_BUCKETS, self.right.tolist(), self.total.tolist(), strict=True)
        return {name: right / total for name, right, total in pairs if total}
