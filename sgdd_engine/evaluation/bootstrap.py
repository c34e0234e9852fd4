"""Intervals of figures over sentences: percentile bootstrap, on the same resamples for all that is compared."""

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


def ratio_with_error(numerators: Floats, denominators: Floats) -> tuple[float, float | None]:
    """`Σ a / Σ b` over rows [N], with the standard error of this ratio by the delta method; None for one row."""
    ratio = float(numerators.sum() / denominators.sum())
    rows = len(numerators)
    if rows < 2:
        return ratio, None
    residuals = numerators - ratio * denominators
    spread = float(np.sqrt((residuals**2).sum() / (rows * (rows - 1))))
    return ratio, spread / float(denominators.mean())
