"""Whether a token that is given probability p is right in a share p of the cases. Pure functions of counts."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sgdd_engine.evaluation.bootstrap import Floats

BINS = 15


@dataclass(frozen=True, slots=True)
class Bin:
    """Guesses of confidence `low` … `high`: their mean confidence, the share that was right, and their count."""

    low: float
    high: float
    confidence: float
    accuracy: float
    count: int


@dataclass(frozen=True)
class Calibration:
    """Confidences of guesses, counted in bins of equal width.

    Attributes:
        count: Guesses in each bin [BINS].
        confidence: Sum of their confidences [BINS].
        right: How many were right [BINS].
    """

    count: Floats
    confidence: Floats
    right: Floats

    @classmethod
    def of(cls, confidence: Floats, correct: Floats) -> "Calibration":
        """Count guesses by confidence [M] in 0–1 and correctness [M]."""
        bins = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
        sums = (
            np.bincount(bins, weights, BINS) for weights in (np.ones_like(confidence), confidence, correct)
        )
        return cls(*(part.astype(np.float64) for part in sums))

    def __add__(self, other: "Calibration") -> "Calibration":
        """The guesses of both."""
        return Calibration(
            self.count + other.count, self.confidence + other.confidence, self.right + other.right
        )

    @property
    def expected_error(self) -> float:
        """Expected calibration error: `Σ bins share · |accuracy − mean confidence|` (Guo et al. 2017, eq. 3)."""
        return float(np.abs(self.right - self.confidence).sum() / max(1.0, self.count.sum()))

    @property
    def overconfidence(self) -> float:
        """Mean confidence less accuracy over all guesses; above 0 where the model is too sure of itself."""
        return float((self.confidence - self.right).sum() / max(1.0, self.count.sum()))

    @property
    def bins(self) -> list[Bin]:
        """The bins that hold a guess."""
        return [
            Bin(
                low=index / BINS,
                high=(index + 1) / BINS,
                confidence=float(self.confidence[index] / self.count[index]),
                accuracy=float(self.right[index] / self.count[index]),
                count=int(self.count[index]),
            )
            for index in np.flatnonzero(self.count).tolist()
        ]

    def to_dict(self) -> dict[str, Any]:
        """`ece`, `overconfidence`, `tokens`, and the bins that hold a guess."""
        return {
            "ece": self.expected_error,
            "overconfidence": self.overconfidence,
            "tokens": int(self.count.sum()),
            "bins": [asdict(one) for one in self.bins],
        }
