"""Which tokens are masked, and which times training draws."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_for_tests import VOCABULARY, generator, random_tokens

from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.diffusion.corruption import mask_lowest, q_sample
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.diffusion.times import TIMES, stratified_times, training_times
from sgdd_engine.errors import ConfigError

MASK = VOCABULARY.mask_id
both = pytest.mark.parametrize("name", ["cosine", "linear"])


@both
@given(seed=st.integers(0, 1000), rows=st.integers(1, 6), n=st.integers(1, 12))
@settings(deadline=None, max_examples=20)
def test_only_masked_positions_change(name, seed, rows, n):
    x, t = random_tokens(rows, n, seed), torch.rand(rows, generator=generator(seed))
    z_t, masked = q_sample(x, t, build_schedule(name), MASK, generator(seed))
    assert torch.equal(z_t[~masked], x[~masked])
    assert (z_t[masked] == MASK).all()
    assert z_t.dtype == x.dtype


@both
def test_nothing_is_masked_at_zero_and_all_at_one(name):
    x = random_tokens(2, 5000)
    _, masked = q_sample(x, torch.tensor([0.0, 1.0]), build_schedule(name), MASK, generator())
    assert masked.sum(dim=1).tolist() == [0, 5000]


@both
def test_each_row_is_masked_at_its_own_rate(name):
    schedule, n = build_schedule(name), 40_000
    t = torch.linspace(0.05, 0.95, 10)
    _, masked = q_sample(random_tokens(10, n), t, schedule, MASK, generator(3))
    rate = 1.0 - schedule.alpha(t)
    deviation = (rate * (1 - rate) / n).sqrt()
    assert ((masked.float().mean(dim=1) - rate).abs() < 4 * deviation).all()
    # Neighbouring tokens know nothing of each other.
    pairs = (masked[:, 1:] & masked[:, :-1]).float().mean(dim=1)
    assert (pairs - rate.square()).abs().max() < 0.015


def test_the_generator_decides():
    x, t = random_tokens(3, 50), torch.full((3,), 0.5)
    draw = [q_sample(x, t, build_schedule("cosine"), MASK, generator(s))[0] for s in (1, 1, 2)]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])


def test_the_lowest_scores_are_masked_as_many_as_asked_for():
    x, scores = random_tokens(3, 4), torch.tensor([[0.3, 0.1, 0.4, 0.2]]).expand(3, 4)
    z_t, masked = mask_lowest(x, torch.tensor([0, 2, 4]), scores, MASK)
    assert masked.tolist() == [[False] * 4, [False, True, False, True], [True] * 4]
    assert torch.equal(z_t, x.masked_fill(masked, MASK))


@given(rows=st.integers(1, 40), per_stratum=st.integers(1, 30), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=30)
def test_times_lie_on_the_grid_one_in_each_stratum(rows, per_stratum, seed):
    # A stratum is a whole number of grid points here, so that "in it" needs no care at the borders; one offset moves
    # all rows alike, and float32 may carry a row across a border, hence the one point of slack.
    num_steps = rows * per_stratum
    t = stratified_times(rows, num_steps, generator(seed))
    points = (t.double() * num_steps).round()
    torch.testing.assert_close(t.double() * num_steps, points, atol=1e-3, rtol=0)
    assert points.min() >= 1
    assert points.max() <= num_steps
    gaps = torch.cat([points.sort().values, points.min()[None] + num_steps]).diff()
    assert (gaps - per_stratum).abs().max() <= 1


def test_times_stand_in_random_row_order_and_cover_the_grid():
    draws = torch.stack([stratified_times(50, 1000, generator(s)) for s in range(200)])
    assert not (draws.diff(dim=1) > 0).all(dim=1).any()
    # Each row, by itself, is uniform.
    assert (draws.mean(dim=0) - 0.5).abs().max() < 4 * (1 / 12 / 200) ** 0.5
    assert draws.max().item() == 1.0


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_a_share_of_the_rows_stands_at_one(share):
    rows, num_steps = 20_000, 1000
    t = training_times(rows, num_steps, share, generator(5))
    at_one = (t == 1.0).float().mean().item()
    expected = share + (1 - share) / num_steps
    assert at_one == pytest.approx(expected, abs=4 * (share * (1 - share) / rows) ** 0.5 + 1e-4)
    assert t.dtype == torch.float32


@pytest.mark.parametrize("times", TIMES.names())
@given(rows=st.integers(1, 40), num_steps=st.integers(2, 2000), seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_however_times_are_drawn_they_lie_on_the_grid(times, rows, num_steps, seed):
    t = training_times(rows, num_steps, 0.0, generator(seed), times).double() * num_steps
    assert t.shape == (rows,)
    torch.testing.assert_close(t, t.round(), atol=1e-3, rtol=0)
    assert t.min().round() >= 1
    assert t.max().round() <= num_steps


def distance(t, cdf):
    """Kolmogorov and Smirnov's: the largest distance of the sample's distribution function to `cdf`."""
    x = t.double().sort().values
    ranks = torch.arange(1, len(x) + 1, dtype=torch.float64) / len(x)
    return (ranks - cdf(x)).abs().max().item()


def uniform(t):
    return t


def logit_normal(t):
    return torch.special.ndtr(t.clamp(1e-9, 1 - 1e-9).logit())


@pytest.mark.parametrize(
    ("times", "cdf", "other"),
    [
        ("stratified", uniform, logit_normal),
        ("uniform", uniform, logit_normal),
        ("logit_normal", logit_normal, uniform),
    ],
)
def test_times_have_the_distribution_that_their_name_says(times, cdf, other):
    rows, num_steps = 20_000, 100_000
    t = TIMES.build(times)(rows, num_steps, generator(1))
    # Twice the 5 % point of the statistic of independent draws; stratified ones come far closer.
    assert distance(t, cdf) < 2 * 1.36 / rows**0.5
    assert distance(t, other) > 0.1


@pytest.mark.parametrize("times", ["stratified", "logit_normal"])
def test_stratified_draws_scatter_less_than_independent_ones(times):
    means = {
        name: torch.stack([TIMES.build(name)(64, 1000, generator(s)).mean() for s in range(100)]).std().item()
        for name in (times, "uniform")
    }
    assert means[times] < 0.2 * means["uniform"]


def test_a_bell_is_no_bound():
    with pytest.raises(ConfigError, match=r"diffusion\.times=logit_normal"):
        DiffusionConfig(weighting="elbo", times="logit_normal")


def test_masks_in_the_order_of_decoding_are_no_bound():
    with pytest.raises(ConfigError, match=r"diffusion\.masks=decoding_order"):
        DiffusionConfig(weighting="elbo", masks="decoding_order")
