"""Mean and standard deviation of many vectors, accumulated block by block in float64."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sgdd_engine.data.vectors import StoredVectors

Vector = npt.NDArray[np.float64]

_BLOCK_ROWS = 4096
# Below this share of the average deviation a dimension counts as constant.
_CONSTANT_BELOW = 1e-3


@dataclass(frozen=True)
class RunningStatistics:
    """Count, mean `[D]` and sum of squared distances from the mean `[D]`, in float64."""

    count: int
    mean: Vector
    squares: Vector

    @classmethod
    def from_vectors(cls, vectors: StoredVectors) -> "RunningStatistics":
        """The statistics of stored vectors; blocks keep the float64 copies small."""
        dim = vectors.values.shape[1]
        result = cls(0, np.zeros(dim), np.zeros(dim))
        for start in range(0, len(vectors), _BLOCK_ROWS):
            block = vectors.dequantize(slice(start, start + _BLOCK_ROWS)).astype(np.float64)
            mean = block.mean(axis=0)
            result = result.merged(cls(len(block), mean, np.square(block - mean).sum(axis=0)))
        return result

    def merged(self, other: "RunningStatistics") -> "RunningStatistics":
        """The statistics of both sets of vectors together (Chan, Golub and LeVeque 1979, eq. 2.1)."""
        count = self.count + other.count
        if count == 0:
            return self
        delta = other.mean - self.mean
        return RunningStatistics(
            count,
            self.mean + delta * (other.count / count),
            self.squares + other.squares + delta**2 * (self.count * other.count / count),
        )

    def std(self) -> Vector:
        """The standard deviation `[D]`, above 0 everywhere.

        A constant dimension gets the average deviation of all dimensions: divided by a tiny deviation, rounding
        noise would become large.
        """
        std = np.sqrt(self.squares / max(self.count - 1, 1))
        average = float(std.mean()) or 1.0
        return np.where(std > _CONSTANT_BELOW * average, std, average)
