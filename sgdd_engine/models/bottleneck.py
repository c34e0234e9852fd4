"""What stands between the sentence vector and the decoder: VIB, whitening, or nothing.

Sources: VIB, Alemi et al. 2017 (arXiv 1612.00410); free bits, Kingma et al. 2016 (arXiv 1606.04934 §C.8);
whitening of sentence vectors, Su et al. 2021 (arXiv 2103.15316).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sgdd_engine.models.config import BottleneckConfig

LOGVAR_RANGE = (-10.0, 4.0)
START_LOGVAR = -4.0
# Share of the mean eigenvalue mixed into each one: the smallest directions are mostly noise, and are not blown up.
WHITENING_SHRINKAGE = 0.02


@dataclass(frozen=True, slots=True)
class GaussianPosterior:
    """A diagonal Gaussian per row; `mu` and `logvar` are [B, latent_dim]."""

    mu: Tensor
    logvar: Tensor

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """One reparameterised draw per row, `mu + exp(logvar / 2) · noise`: [B, latent_dim]."""
        noise = torch.randn(self.mu.shape, generator=generator, device=self.mu.device, dtype=self.mu.dtype)
        return self.mu + (0.5 * self.logvar).exp() * noise

    def kl(self) -> Tensor:
        """KL to the standard normal, in nats, per row and dimension: [B, latent_dim]."""
        return 0.5 * (self.mu.square() + self.logvar.exp() - 1.0 - self.logvar)


@dataclass(frozen=True, slots=True)
class Latent:
    """What the bottleneck lets through.

    Attributes:
        z: The latent vectors [B, latent_dim].
        kl: KL in nats per row and dimension [B, latent_dim]; None where the bottleneck is deterministic.
    """

    z: Tensor
    kl: Tensor | None = None


class VIB(nn.Module):
    """Variational information bottleneck: a draw from the posterior in training, its mean otherwise."""

    def __init__(self, embedding_dim: int, config: BottleneckConfig) -> None:
        super().__init__()
        self.output_dim = config.latent_dim
        last = nn.Linear(config.hidden_dim, 2 * config.latent_dim)
        # Start with little noise: at unit variance it would drown the means before they have grown.
        nn.init.constant_(last.bias[config.latent_dim :], START_LOGVAR)
        self.net = nn.Sequential(nn.Linear(embedding_dim, config.hidden_dim), nn.GELU(), last)

    def posterior(self, e: Tensor) -> GaussianPosterior:
        """The posterior of standardised vectors `e` [B, D]; log-variances are clamped."""
        mu, logvar = self.net(e).float().chunk(2, dim=-1)
        return GaussianPosterior(mu, logvar.clamp(*LOGVAR_RANGE))

    def forward(self, e: Tensor, generator: torch.Generator | None = None) -> Latent:
        posterior = self.posterior(e)
        z = posterior.sample(generator) if self.training else posterior.mu
        return Latent(z, posterior.kl())


class Whitening(nn.Module):
    """A fixed linear map onto the principal directions, each scaled to about unit variance (weak ones to less).

    Must be fitted on training vectors; the map is saved with the model.
    """

    matrix: Tensor

    def __init__(self, embedding_dim: int, config: BottleneckConfig) -> None:
        super().__init__()
        self.output_dim = min(config.latent_dim, embedding_dim)
        self.register_buffer("matrix", torch.eye(embedding_dim, self.output_dim))

    def fit(self, covariance: Tensor) -> None:
        """Fit to the covariance [D, D] of standardised training vectors; computed in float64."""
        values, vectors = torch.linalg.eigh(covariance.double().cpu())
        keep = torch.arange(len(values) - 1, len(values) - 1 - self.output_dim, -1)
        values, vectors = values[keep], vectors[:, keep]
        floor = WHITENING_SHRINKAGE * covariance.double().diagonal().mean().cpu()
        deviation = (values.clamp_min(0) * (1 - WHITENING_SHRINKAGE) + floor).sqrt()
        self.matrix.copy_(vectors / deviation)

    def forward(self, e: Tensor, generator: torch.Generator | None = None) -> Latent:  # noqa: ARG002 - one call for all kinds
        with torch.autocast(e.device.type, enabled=False):
            return Latent(e.float() @ self.matrix)


class Identity(nn.Module):
    """No bottleneck: the standardised vector itself."""

    def __init__(self, embedding_dim: int) -> None:
        super().__init__()
        self.output_dim = embedding_dim

    def forward(self, e: Tensor, generator: torch.Generator | None = None) -> Latent:  # noqa: ARG002 - one call for all kinds
        return Latent(e)


Bottleneck = VIB | Whitening | Identity


def build_bottleneck(embedding_dim: int, config: BottleneckConfig) -> Bottleneck:
    """The bottleneck that `config.kind` names."""
    if config.kind == "vib":
        return VIB(embedding_dim, config)
    if config.kind == "whitening":
        return Whitening(embedding_dim, config)
    return Identity(embedding_dim)


def kl_nats_per_sentence(kl: Tensor, free_bits: float) -> Tensor:
    """The KL that training pays: mean over the batch, at least `free_bits` nats per dimension, summed.

    Args:
        kl: KL in nats per row and dimension [B, latent_dim].
        free_bits: Nats per dimension below which nothing is gained by lowering the KL.

    Returns:
        A scalar in nats per sentence.
    """
    return kl.mean(dim=0).clamp_min(free_bits).sum()
