"""The latents of a model: KL and active units of a variational bottleneck, spectrum and effective rank of any."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from sgdd_engine.generation import SGDD

# A latent dimension whose mean varies less than this over sentences is inactive (arXiv 1509.00519).
ACTIVE_VARIANCE = 0.01
# A posterior has collapsed where its KL is below this (n nats distinguish at most eⁿ sentences, and bottlenecks of 256
# dimensions that worked had more than 100), or where a smaller share of the dimensions is active (5 of 256).
COLLAPSED_NATS = 1.0
COLLAPSED_SHARE = 0.02


@dataclass(frozen=True)
class PosteriorFigures:
    """How much a variational bottleneck passes on of a sentence.

    Attributes:
        kl_nats_per_sentence: KL to the prior, summed over dimensions.
        kl_nats_by_dimension: Its parts, the largest first.
        active_units: Dimensions whose mean varies over sentences.
        collapsed: Whether it passes on next to nothing.
    """

    kl_nats_per_sentence: float
    kl_nats_by_dimension: Sequence[float]
    active_units: int
    collapsed: bool


@dataclass(frozen=True)
class LatentFigures:
    """The latents of the evaluated sentences.

    Attributes:
        kind: Of the bottleneck.
        dimensions: Of the latent.
        spectrum: Eigenvalues of the latents' covariance, the largest first.
        effective_rank: Their participation ratio, `(Σλ)² / Σλ²`, below the number of sentences.
        posterior: Of a variational bottleneck; None for a deterministic one.
    """

    kind: str
    dimensions: int
    spectrum: Sequence[float]
    effective_rank: float
    posterior: PosteriorFigures | None = None

    @property
    def directions(self) -> list[int]:
        """How many directions hold half, nine tenths and 99 % of the variance."""
        held = list(accumulate(self.spectrum))
        # Rounding must not ask for one direction more than there are.
        return [bisect_left(held, share * held[-1] * (1 - 1e-9)) + 1 for share in (0.5, 0.9, 0.99)]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, those of the posterior among the others."""
        figures = asdict(self)
        return figures | (figures.pop("posterior") or {})


@torch.inference_mode()
def latent_figures(model: SGDD, vectors: Tensor) -> LatentFigures:
    """The figures of the latents of vectors [N, D], N ≥ 2."""
    latent = model.model.latent(vectors.to(model.device))
    # On the CPU first: Apple's GPUs have no float64.
    z = latent.z.cpu().double()
    spectrum = torch.linalg.eigvalsh(torch.cov(z.T).view(z.shape[1], -1)).clamp_min(0).flip(0)
    return LatentFigures(
        kind=model.info.model.bottleneck.kind,
        dimensions=z.shape[1],
        spectrum=spectrum.tolist(),
        effective_rank=float(spectrum.sum() ** 2 / spectrum.square().sum().clamp_min(1e-30)),
        posterior=None if latent.kl is None else _posterior_figures(z, latent.kl.cpu().double()),
    )


def _posterior_figures(means: Tensor, kl: Tensor) -> PosteriorFigures:
    by_dimension = kl.mean(dim=0).sort(descending=True).values
    active, total = int((means.var(dim=0) > ACTIVE_VARIANCE).sum()), float(by_dimension.sum())
    return PosteriorFigures(
        kl_nats_per_sentence=total,
        kl_nats_by_dimension=by_dimension.tolist(),
        active_units=active,
        collapsed=total < COLLAPSED_NATS or active < COLLAPSED_SHARE * means.shape[1],
    )
