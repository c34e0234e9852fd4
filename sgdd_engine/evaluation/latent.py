"""How healthy the bottleneck is: what a variational one tells, and over how many directions the latent spreads."""

from typing import Any

import torch
from torch import Tensor

from sgdd_engine.generation import SGDD

# A latent dimension whose mean varies less than this over sentences says nothing (arXiv 1509.00519).
ACTIVE_VARIANCE = 0.01
# A posterior that tells less than this of a sentence, or moves fewer of its dimensions, tells nothing.
COLLAPSED_NATS = 1.0
COLLAPSED_SHARE = 0.02


@torch.inference_mode()
def latent_figures(model: SGDD, vectors: Tensor) -> dict[str, Any]:
    """What the bottleneck lets through of the vectors [N, D], N ≥ 2.

    Returns:
        `kind`, `dimensions`, `spectrum` (eigenvalues of the latents' covariance, the largest first) and
        `effective_rank` (their participation ratio, `(Σλ)² / Σλ²`, below N). For a variational bottleneck also
        `kl_nats_per_sentence`, `kl_nats_by_dimension` (the largest first), `active_units` (dimensions whose mean
        varies over sentences) and `collapsed`.
    """
    latent = model.model.latent(vectors.to(model.device))
    # On the CPU first: Apple's GPUs have no float64.
    z = latent.z.cpu().double()
    spectrum = torch.linalg.eigvalsh(torch.cov(z.T).view(z.shape[1], -1)).clamp_min(0).flip(0)
    figures: dict[str, Any] = {
        "kind": model.info.model.bottleneck.kind,
        "dimensions": z.shape[1],
        "spectrum": spectrum.tolist(),
        "effective_rank": float(spectrum.sum() ** 2 / spectrum.square().sum().clamp_min(1e-30)),
    }
    if latent.kl is not None:
        figures |= _posterior_figures(z, latent.kl.cpu().double())
    return figures


def _posterior_figures(means: Tensor, kl: Tensor) -> dict[str, Any]:
    by_dimension = kl.mean(dim=0).sort(descending=True).values
    active, total = int((means.var(dim=0) > ACTIVE_VARIANCE).sum()), float(by_dimension.sum())
    return {
        "kl_nats_per_sentence": total,
        "kl_nats_by_dimension": by_dimension.tolist(),
        "active_units": active,
        "collapsed": total < COLLAPSED_NATS or active < COLLAPSED_SHARE * means.shape[1],
    }
