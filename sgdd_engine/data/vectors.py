"""Stored sentence vectors, their number types (int8 with a scale each, half or single precision), and statistics."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sgdd_engine.data.config import EmbeddingDtype

# From the coarsest to the finest.
_NUMPY: dict[EmbeddingDtype, type[np.generic]] = {"int8": np.int8, "fp16": np.float16, "fp32": np.float32}
_INT8_MAX = 127
_BLOCK_ROWS = 4096
# So many stay in a core's cache: 4 GB of fp16 a second, where 4,096 give 2.
_CACHED_ROWS = 512
# Below this share of the average deviation a dimension counts as constant.
_CONSTANT_BELOW = 1e-3
# Vectors that an encoder has normalised and not shortened have length 1; rounded to 8 bits, 0.4 % more or less (random
# ones of 32 to 1024 dimensions, and MiniLM's of 200 sentences).
_UNIT_FACTOR = 1.05
# The means of MiniLM's token states that it would normalise have lengths from 3.4 to 6.8 (the same sentences).
_OTHER_FACTOR = 10.0
# MiniLM's vectors cut to their first 8 of 384 dimensions have lengths from 0.09 to 0.29.
_SHORTEST = 0.01

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class StoredVectors:
    """Vectors in the number type that is stored on disk.

    Attributes:
        values: `[N, D]`, int8, float16 or float32.
        scale: `[N]` float32, the value of one unit of an int8 vector; None for floating point.
    """

    values: npt.NDArray[Any]
    scale: npt.NDArray[np.float32] | None = None

    @classmethod
    def empty(cls, rows: int, dim: int, dtype: EmbeddingDtype) -> "StoredVectors":
        """Uninitialised storage for `rows` vectors."""
        scale = np.empty(rows, np.float32) if dtype == "int8" else None
        return cls(np.empty((rows, dim), _NUMPY[dtype]), scale)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dtype(self) -> EmbeddingDtype:
        """The number type, by its name in the settings."""
        return next(name for name, kind in _NUMPY.items() if self.values.dtype == kind)

    def select(self, rows: npt.NDArray[np.integer] | slice) -> "StoredVectors":
        """Some of the vectors, in the same number type."""
        return StoredVectors(self.values[rows], None if self.scale is None else self.scale[rows])

    def assign(self, rows: npt.NDArray[np.integer] | slice, vectors: "StoredVectors") -> None:
        """Overwrite some rows with vectors of the same type."""
        self.values[rows] = vectors.values
        if self.scale is not None and vectors.scale is not None:
            self.scale[rows] = vectors.scale

    def dequantize(self, rows: npt.NDArray[np.integer] | slice) -> npt.NDArray[np.floating]:
        """Some of the vectors as floating point, `[M, D]`: float32 for int8 storage, as stored otherwise."""
        values = self.values[rows]
        return values if self.scale is None else values * self.scale[rows, None]


def find_absurd(vectors: StoredVectors, *, normalized: bool) -> tuple[int, str] | None:
    """A vector that no encoder makes among others of the same encoder, and a clause about it; None if there is none.

    Not finite, zero, or of a length far from the median length of all: what a damaged file, a wrong scale, or numbers
    too small or too large for their type look like.

    Args:
        vectors: Any number of vectors.
        normalized: Whether the encoder normalises its vectors; it may then have shortened them.
    """
    lengths = torch.cat([torch.empty(0), *_lengths(vectors)]).numpy()
    if not len(lengths):
        return None
    finite = np.isfinite(lengths)
    typical = float(np.median(lengths[finite])) if finite.any() else 0.0
    is_unit = normalized and 1 / _UNIT_FACTOR <= typical <= _UNIT_FACTOR
    factor = _UNIT_FACTOR if is_unit else _OTHER_FACTOR
    low, high = typical / factor, typical * factor
    if normalized:
        low, high = max(low, _SHORTEST), min(high, _UNIT_FACTOR)
    odd = ~((lengths >= max(low, np.finfo(np.float32).tiny)) & (lengths <= high))
    if not odd.any():
        return None
    row = int(odd.argmax())
    length = float(lengths[row])
    if not finite[row]:
        return row, "is not finite"
    if length == 0:
        return row, "is zero"
    usual = "1" if is_unit else f"about {typical:.3g}"
    return row, f"has the length {length:.3g} where {usual} is usual"


def _lengths(vectors: StoredVectors) -> Iterator[torch.Tensor]:
    for start in range(0, len(vectors), _CACHED_ROWS):
        rows = slice(start, start + _CACHED_ROWS)
        # A copy, since torch complains of what it cannot write; of the numbers as stored, which torch converts faster.
        lengths = torch.from_numpy(vectors.values[rows].copy()).float().norm(dim=1)
        yield lengths if vectors.scale is None else lengths * torch.from_numpy(vectors.scale[rows].copy())


def vector_bytes(dim: int, dtype: EmbeddingDtype) -> int:
    """Bytes of one vector on disk."""
    vector = StoredVectors.empty(1, dim, dtype)
    return vector.values.nbytes + (0 if vector.scale is None else vector.scale.nbytes)


def is_finer(dtype: EmbeddingDtype, than: EmbeddingDtype) -> bool:
    """Whether a type has a higher precision than another one."""
    order = list(_NUMPY)
    return order.index(dtype) > order.index(than)


def store(vectors: torch.Tensor, dtype: EmbeddingDtype) -> tuple[StoredVectors, torch.Tensor]:
    """Vectors `[N, D]` in the number type of the disk: quantised on their own device, then copied to the CPU.

    Returns:
        The vectors, and one minus the cosine between each and its stored form, float32 `[N]`.
    """
    values, scale = quantize(vectors, dtype)
    loss = cosine_loss(vectors, values, scale)
    return StoredVectors(values.cpu().numpy(), None if scale is None else scale.cpu().numpy()), loss.cpu()


def convert_stored(vectors: StoredVectors, dtype: EmbeddingDtype) -> tuple[StoredVectors, torch.Tensor]:
    """Stored vectors in another type that is not finer, as `store` gives it; those of that type stay unchanged."""
    if vectors.dtype == dtype:
        return vectors, torch.zeros(len(vectors))
    return store(torch.from_numpy(vectors.dequantize(slice(None))).float(), dtype)


def quantize(vectors: torch.Tensor, dtype: EmbeddingDtype) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Vectors `[N, D]` in the number type of the disk, on their own device.

    For int8 the largest absolute value of a vector becomes ±127: `scale = max |v| / 127`, `q = round(v / scale)`.

    Returns:
        The numbers `[N, D]`, and the scales float32 `[N]` where the type is int8.
    """
    if dtype != "int8":
        return vectors.to(torch.float16 if dtype == "fp16" else torch.float32), None
    scale = vectors.abs().amax(dim=1) / _INT8_MAX
    units = vectors / torch.where(scale > 0, scale, 1)[:, None]
    return units.round().clamp(-_INT8_MAX, _INT8_MAX).to(torch.int8), scale


def cosine_loss(vectors: torch.Tensor, values: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    """One minus the cosine between each vector u and its stored form w, float32 `[N]`.

    Computed as `(|u - w|² - (|u| - |w|)²) / 2|u||w|`, because `1 - cos` cancels in float32 this close to 1. It is
    not finite where a stored vector is not; the loss of two zero vectors is 0.
    """
    largest = vectors.abs().amax(dim=1, keepdim=True)
    unit = torch.where(largest > 0, largest, 1)
    u = vectors / unit
    w = (values.float() if scale is None else values * scale[:, None]) / unit
    norm_u, norm_w = u.norm(dim=1), w.norm(dim=1)
    loss = ((u - w).square().sum(dim=1) - (norm_u - norm_w).square()).clamp(min=0)
    both_zero = (norm_u == 0) & (norm_w == 0)
    one_zero = (norm_u == 0) ^ (norm_w == 0)
    scaled = loss / torch.where((norm_u == 0) | (norm_w == 0), 1, 2 * norm_u * norm_w)
    return torch.where(both_zero, 0.0, torch.where(one_zero, 1.0, scaled))


@dataclass(frozen=True)
class RunningStatistics:
    """Count, mean `[D]` and sum of squared distances from the mean `[D]` of vectors, block by block in float64."""

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
