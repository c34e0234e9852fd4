"""Intervals of figures over sentences: percentile bootstrap, on the same resamples for all that is compared."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# The ends of a 95 % interval then vary by about 2 % of its width from seed to seed.
RESAMPLES = 2000
# Counts held at once, in elements: 32 MiB.
CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval.

    Attributes:
        mean: The figure.
        low: Lower end; None where a single sentence was scored, which tells nothing of the spread.
        high: Upper end, or None likewise.
    """

    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float] | None:
        """Both ends, where there is an interval."""
        return None if self.low is None or self.high is None else (self.low, self.high)

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval lies above zero; never without an interval."""
        return self.ends is not None and self.ends[0] > 0

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval lies below zero; never without an interval."""
        return self.ends is not None and self.ends[1] < 0


class Resampling:
    """The bootstrap's resamples of N sentences.

    They are drawn anew, by the same seed, at every use, so that memory stays small and all figures of one set are
    paired. Each method gives the figure of the sentences themselves first, then that of each of the R resamples:
    [1 + R]. A single sentence is not resampled (R = 0): all its resamples would be itself, and seem certain.

    Args:
        size: N.
        seed: Seed of the draws.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self._seed = seed
        self._resamples = RESAMPLES if size > 1 else 0

    def sums(self, columns: Floats) -> Floats:
        """Sums over sentences of columns [N, C]: [1 + R, C]."""
        return np.concatenate(
            [columns.sum(axis=0, keepdims=True), *(counts @ columns for counts in self._counts())]
        )

    def means(self, columns: Floats) -> Floats:
        """Means over sentences of columns [N, C]: [1 + R, C]."""
        return self.sums(columns) / self.size

    def medians(self, values: Floats) -> Floats:
        """Medians of values [N]: [1 + R]; of an even number the mean of the middle two."""
        parts = (np.median(values[drawn], axis=1) for drawn in self._drawn())
        return np.concatenate([[np.median(values)], *parts])

    def _counts(self) -> Iterator[Floats]:
        """How often each sentence is in each resample, some resamples at a time [r, N]."""
        for drawn in self._drawn():
            first = np.arange(len(drawn))[:, None] * self.size
            counts = np.bincount((drawn + first).ravel(), minlength=drawn.size)
            yield counts.reshape(drawn.shape).astype(np.float64)

    def _drawn(self) -> Iterator[npt.NDArray[np.int64]]:
        """The sentences of each resample, some resamples at a time [r, N]."""
        generator = np.random.default_rng(self._seed)
        at_once = max(1, CHUNK // self.size)
        for start in range(0, self._resamples, at_once):
            rows = min(at_once, self._resamples - start)
            yield generator.integers(self.size, size=(rows, self.size))


def interval(figures: Floats) -> Interval:
    """The figure of the sentences themselves with the 95 % percentile interval of the resamples' [1 + R]."""
    if len(figures) == 1:
        return Interval(float(figures[0]))
    low, high = np.quantile(figures[1:], [0.025, 0.975])
    return Interval(float(figures[0]), float(low), float(high))


def bootstrap_interval(values: Floats, seed: int) -> Interval:
    """Mean of per-sentence values [N] with its 95 % interval over sentences.

    For a difference of two systems pass the differences sentence by sentence: the resamples are then paired.
    """
    return interval(Resampling(len(values), seed).means(values[:, None])[:, 0])


def share_interval(figures: Floats, count: int) -> Interval:
    """A share with its 95 % interval, from the share and those of the resamples [1 + R].

    Where none or all of `count` independent cases are found, all resamples are alike and say nothing of what others
    would give; the interval is then that of Clopper and Pearson 1934, `1 − 0.025^(1/count)` wide.
    """
    found = interval(figures)
    if found.mean not in (0.0, 1.0):
        return found
    width = 1 - 0.025 ** (1 / count)
    return Interval(found.mean, max(0.0, found.mean - width), min(1.0, found.mean + width))


def share_difference(first: Floats, second: Floats) -> Interval:
    """The share of one outcome [N] less that of another one of the same cases [N], with its 95 % interval.

    What is rare is in few resamples or in none, so this is no bootstrap: the difference is that of the shares of cases
    with the first outcome alone and with the second alone, whose intervals by Wilson 1927 are put together as by
    Newcombe 1998 ("Interval estimation for the difference between independent proportions", method 10).
    """
    count = len(first)
    alone = [float((one > other).mean()) for one, other in ((first, second), (second, first))]
    if count == 1:
        return Interval(alone[0] - alone[1])
    (below, above), (second_below, second_above) = (_wilson_distances(share, count) for share in alone)
    mean = alone[0] - alone[1]
    return Interval(mean, mean - math.hypot(below, second_above), mean + math.hypot(above, second_below))


def _wilson_distances(share: float, count: int) -> tuple[float, float]:
    """How far the ends of Wilson's 95 % interval lie below and above a share of so many cases."""
    z = 1.959964
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    width = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return share - (centre - width), centre + width - share


def ratio_with_error(numerators: Floats, denominators: Floats) -> tuple[float, float | None]:
    """`Σ a / Σ b` over rows [N], with the standard error of this ratio by the delta method; None for one row."""
    ratio = float(numerators.sum() / denominators.sum())
    rows = len(numerators)
    if rows < 2:
        return ratio, None
    residuals = numerators - ratio * denominators
    spread = float(np.sqrt((residuals**2).sum() / (rows * (rows - 1))))
    return ratio, spread / float(denominators.mean())
