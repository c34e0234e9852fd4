"""Defences of vectors, and attackers who know of them: each a transformation of vectors and its best linear inverse.

What is published or stored in the place of a vector e [D] is

    s = A e + n,

where A [k, D] keeps all of it, some coordinates or some directions, and n is noise of known variance. An attacker with
vectors of texts of their own takes these for a Gaussian with mean μ and covariance C, and writes from the mean of e
given s (Bishop 2006, "Pattern Recognition and Machine Learning", equations 2.113–2.117):

    E[e | s] = μ + C Aᵀ (A C Aᵀ + v I)⁻¹ (s − A μ).

With A = I this is the Wiener estimator that takes noise away; with v = 0 it fills in what was left out.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sgdd_engine.audit.config import parse_defence
from sgdd_engine.counted import counted
from sgdd_engine.errors import require
from sgdd_engine.evaluation.bootstrap import Floats
from sgdd_engine.vectors.linear_map import RidgeRegression

# The attacker's texts: two folds of ridge regression, and a covariance that is not all shrinkage.
LEAST_OWN_TEXTS = 50
# Pairs of a plain and a rotated vector that the attacker has come by: a row that is known, or texts of the attacker's
# own that the database took in.
PAIRS = (100, 300, 1000)
_FRACTIONS = (2, 4, 8)


@dataclass(frozen=True, eq=False)
class GaussianPrior:
    """What an attacker expects of vectors before seeing one.

    Attributes:
        mean: μ [D].
        covariance: C [D, D].
    """

    mean: Floats
    covariance: Floats

    @classmethod
    def fit(cls, vectors: Floats) -> "GaussianPrior":
        """Mean and covariance of vectors [N, D], the latter shrunk towards a multiple of the identity.

        `C = (1 − ρ) S + ρ (tr S / D) I` with the ρ of Ledoit and Wolf 2004 ("A well-conditioned estimator for
        large-dimensional covariance matrices", Lemma 3.2 to 3.4), which needs fewer vectors than dimensions.
        """
        count, dim = vectors.shape
        mean = vectors.mean(axis=0)
        centred = vectors - mean
        sample = centred.T @ centred / count
        scale = float(np.trace(sample)) / dim
        distance = float(np.square(sample).sum()) - dim * scale**2
        # Σ‖x xᵀ − S‖² = Σ‖x‖⁴ − N ‖S‖², since Σ xᵀ S x = N ‖S‖².
        fourth = float(np.square(np.square(centred).sum(axis=1)).sum())
        spread = (fourth / count - float(np.square(sample).sum())) / count
        weight = min(1.0, max(0.0, spread / distance)) if distance > 0 else 1.0
        return cls(mean, (1 - weight) * sample + weight * scale * np.eye(dim))

    def posterior_mean(self, stored: Floats, kept: Floats, variance: float) -> Floats:
        """E[e | s] for s = A e + n.

        Args:
            stored: s [N, k].
            kept: A [k, D].
            variance: v, of each number of n.

        Returns:
            [N, D].
        """
        both = self.covariance @ kept.T
        seen = kept @ both + variance * np.eye(len(kept))
        gain = np.linalg.solve(seen, both.T)
        found: Floats = self.mean + (stored - kept @ self.mean) @ gain
        return found


Estimate = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Attacker:
    """Someone who has what is stored, and writes from an estimate of the vectors.

    Attributes:
        name: `as_stored`, `denoise`, `fill` or `pairs-N`.
        label: In tables.
        estimate: From what is stored [N, k] to vectors [N, D].
    """

    name: str
    label: str
    estimate: Estimate


@dataclass(frozen=True, eq=False)
class OwnVectors:
    """What an attacker knows besides what is stored: vectors of texts of their own [M, D]."""

    vectors: Floats

    @cached_property
    def prior(self) -> GaussianPrior | None:
        """Their mean and covariance; None of too few."""
        return GaussianPrior.fit(self.vectors) if len(self.vectors) >= LEAST_OWN_TEXTS else None


@dataclass(frozen=True)
class Defence:
    """One defence at one strength.

    Attributes:
        name: As `--defences` names it.
        label: In tables.
        meaning: What exactly is done, and whether to queries too.
        queries_too: Whether queries must be transformed as the stored vectors are, to be compared with them.
        protect: From vectors [N, D] to what is stored [N, k]; noise is drawn by the generator.
        attackers: Those who can be imitated with what an attacker knows.
    """

    name: str
    label: str
    meaning: str
    queries_too: bool
    protect: Callable[[Floats, np.random.Generator], Floats]
    attackers: Callable[[OwnVectors], Sequence[Attacker]]


def _as_stored(label: str = "as stored", estimate: Estimate = lambda stored: stored) -> Attacker:
    return Attacker("as_stored", label, estimate)


def noise(strength: float, dim: int) -> Defence:
    """Gaussian noise: `s = e + σ ‖e‖ n / √D`, n standard normal, so that the noise is about σ times as long as e.

    vec2text (arXiv 2310.06816 §6) adds λ n to vectors of length 1: λ = σ / √D. With a variance of the noise that
    depends on ‖e‖ the attacker uses the mean of ‖e‖² over their own texts.
    """
    require(
        0 <= strength <= 100,
        f"The noise is {strength:g}; it must lie between 0 and 100 times the vector's length.",
    )

    def protect(e: Floats, generator: np.random.Generator) -> Floats:
        lengths = np.linalg.norm(e, axis=1, keepdims=True)
        noisy: Floats = e + strength * lengths / np.sqrt(dim) * generator.standard_normal(e.shape)
        return noisy

    def attackers(own: OwnVectors) -> list[Attacker]:
        found = [_as_stored()]
        if (prior := own.prior) is not None:
            variance = strength**2 * float(np.square(own.vectors).sum(axis=1).mean()) / dim
            found.append(
                Attacker("denoise", "denoised", lambda s: prior.posterior_mean(s, np.eye(dim), variance))
            )
        return found

    return Defence(
        f"noise:{strength:g}",
        f"noise, {strength:g} × the length",
        f"Gaussian noise is added to each stored vector, {strength:g} times as long as the vector (λ = "
        f"{strength / np.sqrt(dim):.3f} for each number of a vector of length 1); queries stay as they are",
        False,
        protect,
        attackers,
    )


def bits(strength: float, dim: int) -> Defence:
    """Numbers rounded to so many bits: `s = step · round(e / step)`, `step = max |e| / (2^(bits − 1) − 1)`.

    The step is each vector's own. No number changes by more than half a step. With one bit only the sign is kept:
    `s = sign(e) · mean |e|`.
    """
    require(strength in range(1, 17), f"The bits are {strength:g}; they must be a whole number from 1 to 16.")
    count = int(strength)

    def protect(e: Floats, generator: np.random.Generator) -> Floats:  # noqa: ARG001 - of the protocol
        rounded: Floats
        if count == 1:
            rounded = np.where(e >= 0, 1.0, -1.0) * np.abs(e).mean(axis=1, keepdims=True)
        else:
            step = np.abs(e).max(axis=1, keepdims=True) / (2 ** (count - 1) - 1)
            step = np.where(step > 0, step, 1.0)
            rounded = step * np.round(e / step)
        return rounded

    def attackers(own: OwnVectors) -> list[Attacker]:
        found = [_as_stored()]
        if (prior := own.prior) is not None and count < 4:  # of 4 bits and more hardly anything is lost
            # Rounding is taken for noise, as large as it is on the attacker's own texts.
            rounded = protect(own.vectors, np.random.default_rng(0))
            variance = float(np.square(rounded - own.vectors).mean())
            found.append(
                Attacker("denoise", "denoised", lambda s: prior.posterior_mean(s, np.eye(dim), variance))
            )
        return found

    return Defence(
        f"bits:{count}",
        "1 bit" if count == 1 else f"{count} bits",
        (
            "Of each number of a stored vector only the sign is kept; queries stay as they are"
            if count == 1
            else f"Each number of a stored vector is rounded to {count} bits, between plus and minus the vector's "
            "largest; queries stay as they are"
        ),
        False,
        protect,
        attackers,
    )


def _kept(name: str, label: str, meaning: str, kept: Floats) -> Defence:
    """Fewer dimensions: `s = A e` with orthonormal rows A [k, D], which the attacker knows."""

    def attackers(own: OwnVectors) -> list[Attacker]:
        found = [_as_stored("rest zero", lambda s: s @ kept)]
        if (prior := own.prior) is not None:
            # Rounding alone: without it A C Aᵀ may not be invertible.
            variance = 1e-9 * float(np.trace(prior.covariance)) / len(prior.mean)
            found.append(
                Attacker("fill", "rest filled in", lambda s: prior.posterior_mean(s, kept, variance))
            )
        return found

    return Defence(name, label, meaning, True, lambda e, _: e @ kept.T, attackers)


def first(strength: float, dim: int) -> Defence:
    """The first k numbers of each vector, as for Matryoshka embeddings (arXiv 2205.13147)."""
    count = _dimensions(strength, dim)
    return _kept(
        f"first:{count}",
        f"first {count} numbers",
        f"The first {count} of {dim} numbers of a vector are stored; of queries, too, only these are used",
        np.eye(dim)[:count],
    )


def pca(strength: float, dim: int, vectors: Floats) -> Defence:
    """The k directions that hold most of the squares of vectors [N, D] (uncentred principal components)."""
    count = _dimensions(strength, dim)
    require(
        count <= len(vectors),
        f"{counted(len(vectors), 'vector')} are too few for {count} principal directions.",
        "Give more texts, or fewer directions: --defences pca:N",
    )
    directions = np.linalg.svd(vectors, full_matrices=False)[2][:count]
    return _kept(
        f"pca:{count}",
        f"PCA, {count} directions",
        f"The {count} of {dim} directions that hold most of all vectors are stored (uncentred PCA); queries are "
        "projected too",
        directions,
    )


def rotation(dim: int, seed: int) -> Defence:
    """A secret rotation: `s = R e`, R orthogonal, drawn uniformly (Haar; Mezzadri 2007, arXiv math-ph/0609050)."""
    q, r = np.linalg.qr(np.random.default_rng([seed, dim]).standard_normal((dim, dim)))
    rotated = q * np.sign(np.diag(r))

    def with_pairs(own: Floats) -> Estimate:
        regression = RidgeRegression()
        regression.add(own @ rotated.T, own, np.arange(len(own)))
        return regression.fit()

    def attackers(own: OwnVectors) -> list[Attacker]:
        known = [count for count in PAIRS if LEAST_OWN_TEXTS <= count <= len(own.vectors)]
        return [
            _as_stored("knows no pair"),
            *(
                Attacker(f"pairs-{count}", f"knows {count:,} pairs", with_pairs(own.vectors[:count]))
                for count in known
            ),
        ]

    return Defence(
        "rotation",
        "secret rotation",
        "Every vector, queries too, is multiplied by one orthogonal matrix that is kept secret; an attacker who has "
        "some vectors both plain and rotated fits a linear map between them (ridge regression)",
        True,
        lambda e, _: e @ rotated.T,
        attackers,
    )


def _dimensions(strength: float, dim: int) -> int:
    require(
        strength in range(1, dim + 1),
        f"The dimensions are {strength:g}; they must be a whole number from 1 to {dim}.",
    )
    return int(strength)


def usual_strengths(dim: int) -> Mapping[str, Sequence[float]]:
    """The strengths of each kind of defence where none is named; () for a kind that has none.

    Noise from a quarter of the vector's length to twice of it: with 0.28 (λ = 0.01 of 768 dimensions) vec2text lost 2 %
    of NDCG (arXiv 2310.06816 §6). 8, 4 and 1 bits as databases offer them. A half, a quarter and an eighth of the
    dimensions.
    """
    fewer = tuple(float(size) for part in _FRACTIONS if (size := dim // part) >= 1)
    return {"noise": (0.25, 0.5, 1.0, 2.0), "bits": (8, 4, 1), "first": fewer, "pca": fewer, "rotation": ()}


def build_defences(names: Sequence[str], vectors: Floats, seed: int) -> list[Defence]:
    """The defences that names such as `noise`, `noise:0.5`, `bits:8` and `rotation` stand for.

    Args:
        names: A kind stands for all of its usual strengths; usual numbers of directions that are more than there are
            vectors are left out.
        vectors: All vectors of the database [N, D], of which `pca` takes its directions.
        seed: Of the rotation.

    Raises:
        ConfigError: no such defence, or a strength that cannot be.
    """
    dim = vectors.shape[1]
    usual = usual_strengths(dim)
    found: dict[str, Defence] = {}
    for name in names:
        kind, strength = parse_defence(name)
        strengths = list(usual[kind]) if strength is None else [strength]
        if kind == "pca" and strength is None:
            strengths = [count for count in strengths if count <= len(vectors)]
        if kind == "rotation":
            made = [rotation(dim, seed)]
        elif kind == "pca":
            made = [pca(count, dim, vectors) for count in strengths]
        else:
            made = [_WITH_STRENGTH[kind](strength, dim) for strength in strengths]
        found |= {defence.name: defence for defence in made}
    return list(found.values())


_WITH_STRENGTH: Mapping[str, Callable[[float, int], Defence]] = {"noise": noise, "bits": bits, "first": first}
