"""From the vectors of one encoder to those of another: ridge regression in closed form, and the file of its map.

With pairs x [D1], y [D2] of the same texts and their means μ_x, μ_y, the map is `y ≈ μ_y + (x − μ_x) W`, where
`W = (C_xx + λ I)⁻¹ C_xy` minimises the mean squared error plus `λ ‖W‖²`. The covariances C add up over pairs, so that
memory does not grow with their number; λ > 0 makes fewer pairs than dimensions work.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sgdd_engine.atomic_files import write_bytes
from sgdd_engine.bounded_files import parse_json
from sgdd_engine.errors import EncoderError, VectorSourceError
from sgdd_engine.text.reference import EncoderReference
from sgdd_engine.vectors.source import Vectors
from sgdd_engine.version import __version__

Floats = npt.NDArray[np.float64]

FOLDS = 5
# λ in units of the mean variance of a coordinate of x, in half decades: from no penalty beyond rounding to one that
# leaves little but the mean. Noise takes the upper end, an exactly linear relation the lower one (tests).
PENALTIES = tuple(10.0 ** (half / 2) for half in range(-16, 9))
# Vectors of so nearly the same length are those of an encoder that normalises; bfloat16 changes lengths by 0.04 %.
_UNIT_TOLERANCE = 0.01
_FORMAT = "sgdd linear map"
_FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class PairStatistics:
    """What ridge regression needs of N pairs, and all that is kept of them.

    Attributes:
        count: N.
        mean_x: [D1].
        mean_y: [D2].
        xx: Sum of (x − μ_x)ᵀ (x − μ_x): [D1, D1].
        xy: Sum of (x − μ_x)ᵀ (y − μ_y): [D1, D2].
        yy: Sum of ‖y − μ_y‖².
    """

    count: int
    mean_x: Floats
    mean_y: Floats
    xx: Floats
    xy: Floats
    yy: float

    @classmethod
    def of(cls, x: npt.ArrayLike, y: npt.ArrayLike) -> "PairStatistics":
        """The statistics of pairs x [N, D1], y [N, D2], at least one, in float64."""
        all_x, all_y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        mean_x, mean_y = all_x.mean(axis=0), all_y.mean(axis=0)
        dx, dy = all_x - mean_x, all_y - mean_y
        return cls(len(dx), mean_x, mean_y, dx.T @ dx, dx.T @ dy, float(np.square(dy).sum()))

    def __add__(self, other: "PairStatistics") -> "PairStatistics":
        """The statistics of both sets of pairs, without the cancellation of raw sums of squares.

        Source: Chan, Golub, LeVeque 1983, "Algorithms for Computing the Sample Variance", equation 2.1.
        """
        count = self.count + other.count
        x, y = other.mean_x - self.mean_x, other.mean_y - self.mean_y
        weight = self.count * other.count / count
        return PairStatistics(
            count,
            self.mean_x + x * (other.count / count),
            self.mean_y + y * (other.count / count),
            self.xx + other.xx + weight * np.outer(x, x),
            self.xy + other.xy + weight * np.outer(x, y),
            self.yy + other.yy + weight * float(y @ y),
        )

    def about(self, mean_x: Floats, mean_y: Floats) -> tuple[Floats, Floats, float]:
        """`xx`, `xy` and `yy` with other means subtracted than their own."""
        x, y = self.mean_x - mean_x, self.mean_y - mean_y
        return (
            self.xx + self.count * np.outer(x, x),
            self.xy + self.count * np.outer(x, y),
            self.yy + self.count * float(y @ y),
        )


@dataclass(frozen=True, eq=False)
class RidgeMap:
    """`y ≈ mean_y + (x − mean_x) weight`, fitted.

    Attributes:
        weight: [D1, D2].
        mean_x: [D1].
        mean_y: [D2].
        penalty: The chosen λ, in units of the mean variance of a coordinate of x.
        unexplained: By λ of `PENALTIES`: share of the variance of y that the maps of the other folds leave unexplained.
    """

    weight: Floats
    mean_x: Floats
    mean_y: Floats
    penalty: float
    unexplained: Sequence[float]

    def __call__(self, x: npt.ArrayLike) -> Floats:
        """Vectors [N, D1] mapped: [N, D2]."""
        mapped: Floats = self.mean_y + (np.asarray(x, np.float64) - self.mean_x) @ self.weight
        return mapped


class RidgeRegression:
    """Ridge regression on pairs that come in batches; λ is chosen by cross-validation in the same pass.

    The statistics of each fold are kept apart: those of all other folds together are their sum. Memory:
    `folds · D1 · (D1 + D2)` numbers of 8 bytes, whatever the number of pairs.

    Args:
        folds: Parts of the cross-validation.
    """

    def __init__(self, folds: int = FOLDS) -> None:
        self._folds: list[PairStatistics | None] = [None] * folds

    @property
    def pairs(self) -> int:
        """Pairs so far."""
        return sum(part.count for part in self._folds if part is not None)

    def add(self, x: npt.ArrayLike, y: npt.ArrayLike, numbers: npt.ArrayLike) -> None:
        """Add pairs.

        Args:
            x: [N, D1].
            y: [N, D2].
            numbers: Whole numbers [N] that divide the pairs into folds, by their remainder; equal texts should have
                equal ones.
        """
        x, y = np.asarray(x), np.asarray(y)
        fold_of = np.asarray(numbers) % len(self._folds)
        for fold, before in enumerate(self._folds):
            if (here := fold_of == fold).any():
                new = PairStatistics.of(x[here], y[here])
                self._folds[fold] = new if before is None else before + new

    def fit(self) -> RidgeMap:
        """The map of all pairs so far, with the λ whose maps leave the least of the other folds unexplained.

        Of equally good ones the largest λ is taken.

        Raises:
            VectorSourceError: the pairs are in fewer than two folds, or all vectors are equal.
        """
        parts = [part for part in self._folds if part is not None]
        if len(parts) < 2:
            raise VectorSourceError("A map needs pairs in at least two folds.", "Give more pairs.")
        whole = reduce(PairStatistics.__add__, parts)
        scale = float(np.trace(whole.xx)) / whole.count / len(whole.mean_x)
        # What rounding alone leaves of the squares of equal numbers.
        if scale <= np.finfo(np.float32).eps ** 2 * float(np.square(whole.mean_x).mean()) or whole.yy <= 0:
            raise VectorSourceError(
                "All vectors are equal, so nothing can be learned from them.", "Name another column."
            )
        penalties = np.array(PENALTIES) * scale
        errors = np.zeros(len(penalties))
        for number, held_out in enumerate(parts):
            others = reduce(PairStatistics.__add__, (part for i, part in enumerate(parts) if i != number))
            errors += _held_out_errors(others, held_out, penalties)
        best = len(errors) - 1 - int(np.argmin(errors[::-1]))
        spectrum, basis = _spectrum(whole)
        weight = basis @ ((basis.T @ whole.xy / whole.count) / (spectrum + penalties[best])[:, None])
        return RidgeMap(
            weight, whole.mean_x, whole.mean_y, PENALTIES[best], tuple((errors / whole.yy).tolist())
        )


def _spectrum(statistics: PairStatistics) -> tuple[Floats, Floats]:
    """Eigenvalues [D1] and eigenvectors [D1, D1] of the covariance of x; rounding leaves none below zero."""
    spectrum, basis = np.linalg.eigh(statistics.xx / statistics.count)
    return np.maximum(spectrum, 0), basis


def _held_out_errors(fitted: PairStatistics, held_out: PairStatistics, penalties: Floats) -> Floats:
    """Sum of squared errors on held-out pairs of the maps that other pairs give with each λ: [len(penalties)].

    With `C_xx = U S Uᵀ`, `A = Uᵀ C_xy` and `W = U (S + λ)⁻¹ A` it is `yy − 2 Σ W ∘ xy + Σ W ∘ (xx W)` of the held-out
    statistics about the fitted means; in the basis U it costs D1² for each λ.
    """
    spectrum, basis = _spectrum(fitted)
    a = basis.T @ fitted.xy / fitted.count
    xx, xy, yy = held_out.about(fitted.mean_x, fitted.mean_y)
    linear = (a * (basis.T @ xy)).sum(axis=1)
    quadratic = (basis.T @ xx @ basis) * (a @ a.T)
    shrunk = 1 / (spectrum + penalties[:, None])
    errors: Floats = yy - 2 * shrunk @ linear + np.einsum("pi,ij,pj->p", shrunk, quadratic, shrunk)
    return errors


def have_unit_length(x: npt.ArrayLike) -> bool:
    """Whether all vectors [N, D] have length 1, up to rounding: their encoder normalises."""
    lengths = np.linalg.norm(np.asarray(x, np.float64), axis=1)
    return bool((np.abs(lengths - 1) <= _UNIT_TOLERANCE).all())


@dataclass(frozen=True, eq=False)
class LinearMap:
    """A map from the vectors of another encoder to those of a model's encoder, with what is known of it.

    Attributes:
        weight: [D1, D2] float32.
        mean_x: [D1] float32.
        mean_y: [D2] float32.
        encoder: The encoder to whose vectors it leads; the model's.
        unit_inputs: Whether the vectors it was fitted on have length 1; others are then scaled to it.
        penalty: λ, in units of the mean variance of a coordinate of x.
        pairs: Pairs that it was fitted on.
        figures: What it gave on held-out pairs, as JSON values: among them `cosine`, of mapped vectors with the true
            ones, and `mean_cosine`, of the mean vector with them.
    """

    weight: Vectors
    mean_x: Vectors
    mean_y: Vectors
    encoder: EncoderReference
    unit_inputs: bool
    penalty: float
    pairs: int
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def input_dim(self) -> int:
        """Numbers of a vector that it reads."""
        return int(self.weight.shape[0])

    def __call__(self, x: npt.ArrayLike) -> Vectors:
        """Map vectors, each for itself: a result does not depend on the others.

        Args:
            x: [N, D1].

        Returns:
            [N, D2] float32, of length 1 where the model's encoder normalises.

        Raises:
            VectorSourceError: the vectors have another width.
        """
        rows: Floats = np.asarray(x, np.float64)
        if rows.ndim != 2 or rows.shape[1] != self.input_dim:
            raise VectorSourceError(
                f"The vectors have shape {list(rows.shape)}; the map reads [N, {self.input_dim}].",
                "Use the map that was made for these vectors, or make one: sgdd align PAIRS",
            )
        if self.unit_inputs:
            rows = _normalised(rows)
        y: Floats = (rows - self.mean_x) @ self.weight.astype(np.float64) + self.mean_y
        return (_normalised(y) if self.encoder.normalize else y).astype(np.float32)

    def validate_encoder(self, encoder: EncoderReference) -> None:
        """Check that it leads to the vectors of an encoder.

        Raises:
            EncoderError: it leads to those of another.
        """
        if different := self.encoder.differences(encoder):
            raise EncoderError(
                f"The map was made for the encoder `{self.encoder.name}`, not for this model's, `{encoder.name}`: "
                f"{'; '.join(different)}.",
                "Name a model of that encoder with --checkpoint, or make a map for this one: sgdd align PAIRS",
            )

    def save(self, path: str | Path) -> None:
        """Write it as a safetensors file, which is complete under its name or not there.

        Raises:
            VectorSourceError: the file cannot be written.
        """
        from safetensors.numpy import save  # noqa: PLC0415 - not needed to map

        tensors = {"weight": self.weight, "mean_x": self.mean_x, "mean_y": self.mean_y}
        tensors = {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}
        facts = {
            "encoder": self.encoder.to_dict(),
            "unit_inputs": self.unit_inputs,
            "penalty": self.penalty,
            "pairs": self.pairs,
            "figures": dict(self.figures),
        }
        metadata = {
            "format": _FORMAT,
            "format_version": str(_FORMAT_VERSION),
            "sgdd": __version__,
            "facts": json.dumps(facts, ensure_ascii=False),
        }
        metadata["sha256"] = _fingerprint(tensors, metadata["facts"])
        try:
            write_bytes(Path(path), save(tensors, metadata))
        except OSError as error:
            raise VectorSourceError(
                f"The map `{path}` cannot be written: {(error.strerror or str(error)).lower()}.",
                "Name another file with --out.",
            ) from error


def load_map(path: str | Path) -> LinearMap:
    """Read what `LinearMap.save` wrote, and verify it.

    Raises:
        VectorSourceError: there is no such file, it is no map, is damaged, or from a later version.
    """
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415 - as in `save`

    if not Path(path).is_file():
        raise VectorSourceError(f"There is no map `{path}`.", "Make one: sgdd align PAIRS --out FILE")
    again = "Make it again: sgdd align PAIRS --out FILE"
    try:
        with safe_open(str(path), "np") as file:
            metadata: dict[str, str] = file.metadata() or {}
            is_map = metadata.get("format") == _FORMAT
            tensors = {name: file.get_tensor(name) for name in file.keys()} if is_map else {}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise VectorSourceError(f"The map `{path}` cannot be read: {error}.", again) from error
    if not is_map:
        raise VectorSourceError(f"`{path}` is not a map of `sgdd align`.", again)
    if metadata.get("format_version") != str(_FORMAT_VERSION):
        raise VectorSourceError(
            f"The map `{path}` is from sgdd {metadata.get('sgdd')}, in a format that this version does not know.",
            "Upgrade sgdd: pip install -U sgdd",
        )
    facts = metadata.get("facts", "")
    if _fingerprint(tensors, facts) != metadata.get("sha256"):
        raise VectorSourceError(f"The map `{path}` is damaged: its content is not what was written.", again)
    try:
        values = parse_json(facts, Path(path))
        found = LinearMap(**tensors, **{**values, "encoder": EncoderReference.from_dict(values["encoder"])})
        sizes = (found.weight.shape, found.mean_x.shape, found.mean_y.shape)
        if sizes[0] != (*sizes[1], *sizes[2]) or not all(np.isfinite(one).all() for one in tensors.values()):
            raise ValueError("its numbers are no map")
    except (TypeError, KeyError, ValueError, AttributeError, EncoderError) as error:
        raise VectorSourceError(
            f"The map `{path}` is damaged: its description is another's.", again
        ) from error
    return found


def _fingerprint(tensors: Mapping[str, npt.NDArray[Any]], facts: str) -> str:
    """SHA-256, in hex, of the tensors with their names and shapes, and of the facts."""
    hashed = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        hashed.update(f"{name}{tensors[name].dtype}{tensors[name].shape}".encode())
        hashed.update(np.ascontiguousarray(tensors[name]).tobytes())
    return hashed.hexdigest()


def _normalised(vectors: Floats) -> Floats:
    """Vectors [N, D] of length 1; zeros stay."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)
