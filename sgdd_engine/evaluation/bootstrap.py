"""How sure a figure over sentences is: percentile bootstrap, on the same resamples for all that is compared."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Figures = npt.NDArray[np.float64]

BOOTSTRAP_RESAMPLES = 2000
# Counts held at once, in elements: 32 MiB.
CHUNK = 1 << 22


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval."""

    mean: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """As JSON values: `mean`, `low`, `high`."""
        return {"mean": self.mean, "low": self.low, "high": self.high}


class Resampling:
    """The bootstrap's resamples of N sentences.

    They are drawn anew, by the same seed, at every use, so that memory stays small and all figures of one set are
    paired. Each method gives the figure of the sentences themselves first, then that of each resample: [1 + R].

    Args:
        size: N.
        seed: Seed of the draws.
        resamples: R.
    """

    def __init__(self, size: int, seed: int, resamples: int = BOOTSTRAP_RESAMPLES) -> None:
        self.size = size
        self._seed = seed
        self._resamples = resamples

    def sums(self, columns: Figures) -> Figures:
        """Sums over sentences of columns [N, C]: [1 + R, C]."""
        return np.concatenate(
            [columns.sum(axis=0, keepdims=True), *(counts @ columns for counts in self._counts())]
        )

    def means(self, columns: Figures) -> Figures:
        """Means over sentences of columns [N, C]: [1 + R, C]."""
        return self.sums(columns) / self.size

    def medians(self, values: Figures) -> Figures:
        """Medians of values [N]: [1 + R]; of an even number the mean of the middle two."""
        order = np.argsort(values, kind="stable")
        ordered, middle = values[order], ((self.size - 1) // 2, self.size // 2)
        reached = (counts[:, order].cumsum(axis=1) for counts in self._counts())
        parts = [
            np.mean([ordered[(reach > place).argmax(axis=1)] for place in middle], axis=0)
            for reach in reached
        ]
        return np.concatenate([[np.median(values)], *parts])

    def _counts(self) -> Iterator[Figures]:
        """How often each sentence is in each resample, some resamples at a time [r, N]."""
        generator = np.random.default_rng(self._seed)
        at_once = max(1, CHUNK // self.size)
        for start in range(0, self._resamples, at_once):
            rows = min(at_once, self._resamples - start)
            drawn = generator.integers(self.size, size=(rows, self.size))
            drawn += np.arange(rows)[:, None] * self.size
            counts = np.bincount(drawn.ravel(), minlength=rows * self.size)
            yield counts.reshape(rows, self.size).astype(np.float64)


def interval(figures: Figures) -> Interval:
    """The figure of the sentences themselves with the 95 % percentile interval of the resamples' [1 + R]."""
    low, high = np.quantile(figures[1:], [0.025, 0.975])
    return Interval(float(figures[0]), float(low), float(high))


def bootstrap_interval(values: Figures, seed: int, resamples: int = BOOTSTRAP_RESAMPLES) -> Interval:
    """Mean of per-sentence values [N] with its 95 % interval over sentences.

    For a difference of two systems pass the differences sentence by sentence: the resamples are then paired.
    """
    return interval(Resampling(len(values), seed, resamples).means(values[:, None])[:, 0])


def ratio_with_error(numerators: Figures, denominators: Figures) -> tuple[float, float]:
    """`Σ a / Σ b` over rows [N], with the standard error of this ratio by the delta method; 0 for one row."""
    ratio = float(numerators.sum() / denominators.sum())
    rows = len(numerators)
    if rows < 2:
        return ratio, 0.0
    residuals = numerators - ratio * denominators
    spread = float(np.sqrt((residuals**2).sum() / (rows * (rows - 1))))
    return ratio, spread / float(denominators.mean())
