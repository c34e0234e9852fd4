"""VIB against torch.distributions, whitening against its definition."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_for_tests import EMBEDDING_DIM, covariance_of, generator, scatter, tiny_model
from torch.distributions import Normal, kl_divergence

from sgdd_engine.models import bottleneck as module
from sgdd_engine.models.bottleneck import (
    LOGVAR_RANGE,
    VIB,
    WHITENING_SHRINKAGE,
    GaussianPosterior,
    Whitening,
    build_bottleneck,
    kl_nats_per_sentence,
)
from sgdd_engine.models.config import BottleneckConfig

D = EMBEDDING_DIM


def posterior(seed=0, rows=5, dims=6):
    mu, logvar = torch.randn(2, rows, dims, generator=generator(seed)).unbind()
    return GaussianPosterior(mu, 2 * logvar)


def vectors(seed=0, rows=4000):
    """Correlated vectors with an off-centre mean and scales from 0.003 to 0.3."""
    noise = generator(seed)
    mixing = torch.randn(D, D, generator=noise) * torch.logspace(-2.5, -0.5, D)
    return torch.randn(rows, D, generator=noise) @ mixing.T + torch.randn(D, generator=noise)


def fitted(kind, latent_dim, e):
    model = tiny_model(bottleneck=BottleneckConfig(kind=kind, latent_dim=latent_dim, hidden_dim=8))
    model.fit_statistics(e.mean(dim=0), e.std(dim=0), covariance_of(e))
    return model


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_kl_is_that_of_torch_distributions(seed):
    p = posterior(seed)
    expected = kl_divergence(Normal(p.mu, (0.5 * p.logvar).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(p.kl(), expected, atol=1e-5, rtol=1e-4)


def test_draws_have_the_mean_and_the_variance():
    p = posterior(rows=1)
    many = GaussianPosterior(p.mu.expand(40_000, -1), p.logvar.expand(40_000, -1)).sample(generator(1))
    deviation = (0.5 * p.logvar[0]).exp()
    assert ((many.mean(dim=0) - p.mu[0]).abs() < 4 * deviation / 200).all()
    assert ((many.var(dim=0) / deviation.square() - 1).abs() < 4 * math.sqrt(2 / 40_000)).all()
    # Dimensions and rows share no noise.
    assert (torch.corrcoef(many.T) - torch.eye(6)).abs().max() < 0.03


def test_draws_are_reparameterised():
    p = posterior()
    mu, logvar = p.mu.requires_grad_(), p.logvar.requires_grad_()
    draw = GaussianPosterior(mu, logvar).sample(generator(2))
    by_mu, by_logvar = torch.autograd.grad(draw.sum(), (mu, logvar))
    torch.testing.assert_close(by_mu, torch.ones_like(mu))
    torch.testing.assert_close(by_logvar, 0.5 * (draw - mu).detach())


def test_vib_draws_in_training_only():
    vib = scatter(VIB(D, BottleneckConfig(kind="vib", latent_dim=6, hidden_dim=8)))
    e = torch.randn(3, D, generator=generator())
    assert torch.equal(vib.eval()(e).z, vib.posterior(e).mu)
    draws = [vib.train()(e, generator(s)).z for s in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    torch.testing.assert_close(vib(e).kl, vib.posterior(e).kl())


def test_log_variance_is_clamped():
    vib = scatter(VIB(D, BottleneckConfig(kind="vib", latent_dim=6, hidden_dim=8)), std=30.0)
    p = vib.posterior(torch.randn(50, D, generator=generator()))
    assert (p.logvar.min().item(), p.logvar.max().item()) == LOGVAR_RANGE
    assert torch.isfinite(p.kl()).all()


def test_kl_is_averaged_over_rows_and_summed_over_dimensions():
    kl = torch.tensor([[1.0, 0.0, 0.2], [3.0, 0.0, 0.0]])
    assert kl_nats_per_sentence(kl, 0.0).item() == pytest.approx(2.1)
    # Free bits are per dimension, after the mean over the batch.
    assert kl_nats_per_sentence(kl, 0.05).item() == pytest.approx(2.0 + 0.05 + 0.1)
    assert kl_nats_per_sentence(kl, 0.5).item() == pytest.approx(2.0 + 0.5 + 0.5)


def test_below_the_free_bits_nothing_pulls():
    kl = torch.tensor([[1.0, 0.01], [1.0, 0.03]], requires_grad=True)
    kl_nats_per_sentence(kl, 0.05).backward()
    torch.testing.assert_close(kl.grad, torch.tensor([[0.5, 0.0], [0.5, 0.0]]))


@pytest.mark.parametrize("latent_dim", [D, 5, 100])
def test_whitening_gives_unit_covariance_up_to_the_shrinkage(latent_dim):
    e = vectors()
    model = fitted("whitening", latent_dim, e)
    z = model.latent(e).z
    kept = min(latent_dim, D)
    assert z.shape == (len(e), kept)
    values = torch.linalg.eigvalsh(covariance_of((e - e.mean(dim=0)) / e.std(dim=0))).flip(0)[:kept]
    expected = values / (
        (1 - WHITENING_SHRINKAGE) * values + WHITENING_SHRINKAGE
    )  # standardised: the mean is 1
    torch.testing.assert_close(covariance_of(z), torch.diag(expected), atol=1e-3, rtol=1e-3)
    assert (expected <= 1 / (1 - WHITENING_SHRINKAGE)).all()


def test_without_shrinkage_the_covariance_is_the_identity(monkeypatch):
    monkeypatch.setattr(module, "WHITENING_SHRINKAGE", 0.0)
    e = vectors()
    z = fitted("whitening", D, e).latent(e).z
    torch.testing.assert_close(covariance_of(z), torch.eye(D).double(), atol=2e-3, rtol=0)
    assert z.mean(dim=0).abs().max() < 1e-2


@pytest.mark.parametrize("latent_dim", [D, 5])
def test_the_inverse_inverts_on_kept_directions(latent_dim):
    e = vectors()
    model = fitted("whitening", latent_dim, e)
    matrix = model.bottleneck.matrix
    inverse = torch.linalg.pinv(matrix.double()).float()
    torch.testing.assert_close(inverse @ matrix, torch.eye(latent_dim), atol=1e-5, rtol=0)
    projector = matrix @ inverse
    torch.testing.assert_close(projector @ projector, projector, atol=1e-5, rtol=0)
    standard = model.standardize(e)
    back = model.latent(e).z @ inverse
    torch.testing.assert_close(back, standard @ projector, atol=1e-3, rtol=1e-3)
    lost = (standard - back).square().mean() / standard.square().mean()
    values = torch.linalg.eigvalsh(covariance_of(standard)).flip(0)
    assert lost.item() == pytest.approx((values[latent_dim:].sum() / values.sum()).item(), abs=1e-3)


def test_whitening_survives_a_direction_without_variance():
    e = vectors()
    e[:, 3] = e[:, 2]
    z = fitted("whitening", D, e).latent(e).z
    assert torch.isfinite(z).all()
    assert z.std(dim=0).max() < 1.1


def test_whitening_keeps_float32_under_autocast():
    e = vectors(rows=50)
    model = fitted("whitening", D, e)
    with torch.autocast("cpu", torch.bfloat16):
        z = model.latent(e).z
    assert z.dtype == torch.float32
    torch.testing.assert_close(z, model.latent(e).z)


def test_the_map_is_saved_with_the_model():
    model = fitted("whitening", 5, vectors())
    assert {"bottleneck.matrix", "standardize.mean", "standardize.std"} <= set(model.state_dict())
    assert isinstance(model.bottleneck, Whitening)
    assert not list(model.bottleneck.parameters())


@pytest.mark.parametrize(("kind", "dim"), [("vib", 6), ("whitening", 6), ("none", D)])
def test_each_kind_names_its_width_and_whether_it_pays(kind, dim):
    b = build_bottleneck(D, BottleneckConfig(kind=kind, latent_dim=6, hidden_dim=8)).eval()
    latent = b(torch.randn(3, D, generator=generator()))
    assert latent.z.shape == (3, b.output_dim) == (3, dim)
    assert (latent.kl is not None) == (kind == "vib")


def test_no_bottleneck_lets_everything_through():
    e = vectors(rows=20)
    model = fitted("none", 6, e)
    torch.testing.assert_close(model.latent(e).z, (e - e.mean(dim=0)) / e.std(dim=0))
