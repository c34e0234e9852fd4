"""Arithmetic on sentence vectors: weighted sums, spherical interpolation, means of groups.

The direction of a vector says what it means, and its length is the encoder's choice. So a result takes its direction
from the sum and its length from the mean length of what went in: where an encoder normalises, all are of length 1.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from sgdd_engine.errors import GenerationError
from sgdd_engine.vectors.source import Vectors

Floats = npt.NDArray[np.float64]
# A sum that is shorter than this share of what went in is rounding of float32, and has no direction.
_CANCELLED = 1e-6


def weighted_sum(vectors: Vectors, weights: Sequence[float]) -> Vectors:
    """The direction of `Σ wᵢ vᵢ`, with the length `Σ |wᵢ| ‖vᵢ‖ / Σ |wᵢ|`; a negative weight subtracts.

    A single vector with a positive weight comes back bit for bit.

    Args:
        vectors: [N, D], N at least 1.
        weights: w, one for each vector.

    Returns:
        [D].

    Raises:
        GenerationError: no weight differs from 0, or the vectors cancel each other out.
    """
    w = np.asarray(weights, dtype=np.float64)
    used = np.flatnonzero(w)
    if not len(used):
        raise GenerationError("All weights are 0, so there is nothing to add.", "Give one text a weight.")
    if len(used) == 1 and w[used[0]] > 0:
        return np.array(vectors[used[0]], dtype=np.float32)
    # Only their ratios count, and the squares of very large or small sums leave the range of float64.
    w /= np.abs(w).max()
    terms = np.asarray(vectors, dtype=np.float64)
    lengths = np.linalg.norm(terms, axis=1)
    return _of_length(w @ terms, float(np.abs(w) @ lengths), float(np.abs(w).sum()))


def spherical_interpolation(start: Vectors, end: Vectors, shares: Sequence[float]) -> Vectors:
    """Points on the great circle between two vectors, at shares of the angle Ω between them.

    `(sin((1 − s) Ω) a + sin(s Ω) b) / sin Ω` for the directions a and b, and the length linear in s (Shoemake 1985,
    "Animating Rotation with Quaternion Curves"). At s = 0 and s = 1 the vectors themselves come back bit for bit.
    Between opposite vectors all great circles are equally short; the one towards the coordinate axis at the widest
    angle to both is taken.

    Args:
        start: [D], not zero.
        end: [D], not zero.
        shares: s of each point, in [0, 1].

    Returns:
        [points, D].

    Raises:
        GenerationError: one of the two is zero and has no direction.
    """
    a, b = (np.asarray(v, dtype=np.float64) for v in (start, end))
    length_a, length_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if not (length_a and length_b):
        raise GenerationError("A vector of zeros has no direction to interpolate from.")
    a, b = a / length_a, b / length_b
    # From both distances: the arc cosine alone loses half of the digits near 0 and π.
    angle = 2.0 * float(np.arctan2(np.linalg.norm(b - a), np.linalg.norm(b + a)))
    across = b - (a @ b) * a
    if np.linalg.norm(across) <= _CANCELLED:
        across = np.eye(len(a))[np.abs(a).argmin()]
        across = across - (a @ across) * a
    across /= np.linalg.norm(across)
    s = np.asarray(shares, dtype=np.float64)[:, None]
    points = (np.cos(s * angle) * a + np.sin(s * angle) * across) * (length_a + s * (length_b - length_a))
    found = points.astype(np.float32)
    found[s[:, 0] == 0], found[s[:, 0] == 1] = start, end
    return found


class GroupMeans:
    """Means of vectors by group, from sums that grow row by row: memory for the groups alone, in float64."""

    def __init__(self) -> None:
        self._sums: dict[str, Floats] = {}
        self._lengths: dict[str, float] = {}
        self.sizes: dict[str, int] = {}
        """Rows of each group, in the order in which the groups came."""
        self.vanished: list[str] = []
        """Groups without a mean, once `means` was read."""

    def add(self, groups: Sequence[str], vectors: Vectors) -> None:
        """Add rows [n, D], each to its group."""
        rows = np.asarray(vectors, dtype=np.float64)
        lengths = np.linalg.norm(rows, axis=1)
        # Row by row, so that the sums do not depend on the sizes of batches.
        for group, row, length in zip(groups, rows, lengths.tolist(), strict=True):
            if group not in self._sums:
                self._sums[group], self._lengths[group] = np.zeros_like(row), 0.0
            self._sums[group] += row
            self._lengths[group] += length
            self.sizes[group] = self.sizes.get(group, 0) + 1

    def means(self) -> Iterator[tuple[str, Vectors]]:
        """Each group with its mean [D]: the direction of its sum, and the mean length of its vectors.

        A group whose vectors cancel each other out has none and is left out; `vanished` then names it.
        """
        self.vanished.clear()
        for group, total in self._sums.items():
            try:
                yield group, _of_length(total, self._lengths[group], self.sizes[group])
            except GenerationError:
                self.vanished.append(group)


def _of_length(total: Floats, weighted_lengths: float, weight: float) -> Vectors:
    """A sum scaled to the mean length of its terms, `weighted_lengths / weight`.

    Raises:
        GenerationError: it is zero but for rounding.
    """
    length = float(np.linalg.norm(total))
    if length <= _CANCELLED * weighted_lengths:
        raise GenerationError(
            "The weighted vectors cancel each other out, and what is left has no direction.",
            "Change a weight or a text.",
        )
    return (total * (weighted_lengths / weight / length)).astype(np.float32)
