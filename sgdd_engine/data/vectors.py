"""Sentence vectors as they are stored: half or single precision, or 8-bit integers with a scale per vector."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sgdd_engine.data.config import EmbeddingDtype

# From the coarsest to the finest.
_TORCH: dict[EmbeddingDtype, torch.dtype] = {
    "int8": torch.int8,
    "fp16": torch.float16,
    "fp32": torch.float32,
}
_NUMPY: dict[EmbeddingDtype, type[np.generic]] = {"int8": np.int8, "fp16": np.float16, "fp32": np.float32}
_INT8_MAX = 127


@dataclass(frozen=True)
class StoredVectors:
    """Vectors in the numbers that go to disk.

    Attributes:
        values: `[N, D]`, int8, float16 or float32.
        scale: `[N]` float32, what one unit of an int8 vector stands for; None for floating point.
    """

    values: npt.NDArray[Any]
    scale: npt.NDArray[np.float32] | None = None

    @classmethod
    def empty(cls, rows: int, dim: int, dtype: EmbeddingDtype) -> "StoredVectors":
        """Room for `rows` vectors."""
        scale = np.empty(rows, np.float32) if dtype == "int8" else None
        return cls(np.empty((rows, dim), _NUMPY[dtype]), scale)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def dtype(self) -> EmbeddingDtype:
        """The type of the numbers, as the settings call it."""
        return next(name for name, kind in _NUMPY.items() if self.values.dtype == kind)

    def chosen(self, which: npt.NDArray[np.integer] | slice) -> "StoredVectors":
        """Some of the vectors, in the same numbers."""
        return StoredVectors(self.values[which], None if self.scale is None else self.scale[which])

    def put(self, where: npt.NDArray[np.integer] | slice, vectors: "StoredVectors") -> None:
        """Overwrite the vectors at `where` with others of the same type."""
        self.values[where] = vectors.values
        if self.scale is not None and vectors.scale is not None:
            self.scale[where] = vectors.scale

    def rows(self, which: npt.NDArray[np.integer] | slice) -> npt.NDArray[np.floating]:
        """Some of the vectors as numbers, `[M, D]`; float32 where they are scaled, as stored otherwise."""
        chosen = self.values[which]
        return chosen if self.scale is None else chosen * self.scale[which, None]


def vector_bytes(dim: int, dtype: EmbeddingDtype) -> int:
    """Bytes that one vector takes on disk."""
    room = StoredVectors.empty(1, dim, dtype)
    return room.values.nbytes + (0 if room.scale is None else room.scale.nbytes)


def is_finer(dtype: EmbeddingDtype, than: EmbeddingDtype) -> bool:
    """Whether a type keeps digits that another one drops."""
    order = list(_TORCH)
    return order.index(dtype) > order.index(than)


def stored_again(vectors: StoredVectors, dtype: EmbeddingDtype) -> tuple[StoredVectors, torch.Tensor]:
    """Stored vectors in a type that is not finer; those that have it already stay as they are, bit by bit.

    Returns:
        The vectors, and one minus the cosine that another type costs, float32 `[N]`.
    """
    if vectors.dtype == dtype:
        return vectors, torch.zeros(len(vectors))
    before = torch.from_numpy(vectors.rows(slice(None))).float()
    values, scale = stored(before, dtype)
    numbers = StoredVectors(values.numpy(), None if scale is None else scale.numpy())
    return numbers, lost_cosine(before, values, scale)


def stored(vectors: torch.Tensor, dtype: EmbeddingDtype) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Vectors `[N, D]` in the type that goes to disk, on the device where they are.

    For int8 the largest absolute value of a vector becomes ±127: `scale = max |v| / 127`, `q = round(v / scale)`.

    Returns:
        The numbers `[N, D]`, and the scales float32 `[N]` where the type is int8.
    """
    if dtype != "int8":
        return vectors.to(_TORCH[dtype]), None
    scale = vectors.abs().amax(dim=1) / _INT8_MAX
    units = vectors / torch.where(scale > 0, scale, 1)[:, None]
    return units.round().clamp(-_INT8_MAX, _INT8_MAX).to(torch.int8), scale


def lost_cosine(vectors: torch.Tensor, values: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    """One minus the cosine between each vector and what is stored of it, float32 `[N]`.

    As `(|u - w|² - (|u| - |w|)²) / 2|u||w|`, because the cosine itself has no digits left this close to 1. It is
    not finite where a stored vector is not; two zero vectors agree.
    """
    largest = vectors.abs().amax(dim=1, keepdim=True)
    unit = torch.where(largest > 0, largest, 1)
    u = vectors / unit
    w = (values.float() if scale is None else values * scale[:, None]) / unit
    norm_u, norm_w = u.norm(dim=1), w.norm(dim=1)
    lost = ((u - w).square().sum(dim=1) - (norm_u - norm_w).square()).clamp(min=0)
    both_zero = (norm_u == 0) & (norm_w == 0)
    one_zero = (norm_u == 0) ^ (norm_w == 0)
    cosine_lost = lost / torch.where((norm_u == 0) | (norm_w == 0), 1, 2 * norm_u * norm_w)
    return torch.where(both_zero, 0.0, torch.where(one_zero, 1.0, cosine_lost))
