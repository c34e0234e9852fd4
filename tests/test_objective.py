"""The bound and the training weights, against integrals that can be done by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_for_tests import VOCABULARY, generator, random_tokens

from sgdd_engine.diffusion.objective import (
    accuracy_by_mask_ratio,
    nelbo_nats,
    ratio_bucket,
    ratio_names,
    sums_by_mask_ratio,
    token_weights,
)
from sgdd_engine.diffusion.schedule import SCHEDULES, build_schedule, elbo_weight

MASK = VOCABULARY.mask_id
every_schedule = pytest.mark.parametrize("name", SCHEDULES.names())


def uniform(z_t, t, masked):
    return torch.full((int(masked.sum()),), math.log(VOCABULARY.size))


def by_number_of_masks(cost):
    """A denoiser whose nats for each masked token depend on how many are masked."""

    def nll(z_t, t, masked):
        return cost(masked.sum(dim=1).float())[:, None].expand(masked.shape)[masked]

    return nll


@every_schedule
def test_a_uniform_denoiser_costs_log_v_per_token(name):
    n = 9
    bound = nelbo_nats(random_tokens(64, n), uniform, build_schedule(name), MASK, 3, generator(1)) / n
    # In every sample: where each masked token costs the same, nothing is left to chance.
    torch.testing.assert_close(bound, torch.full((64, 3), math.log(VOCABULARY.size)))


@every_schedule
def test_the_bound_draws_every_number_of_masks_equally_often_and_at_its_time(name):
    n, schedule, seen = 5, build_schedule(name), []

    def recording(z_t, t, masked):
        counts = masked.sum(dim=1)
        torch.testing.assert_close(1 - schedule.alpha(t), counts / n, atol=1e-6, rtol=0)
        seen.append(torch.cat([counts[:, None], masked.long()], dim=1))
        return torch.zeros(int(masked.sum()))

    nelbo_nats(random_tokens(600, n), recording, schedule, MASK, 5, generator(3))
    counts, places = torch.cat(seen).split([1, n], dim=1)
    assert torch.bincount(counts[:, 0], minlength=n + 1).tolist() == [0, *[600] * n]
    # One of five masked: 600 rows, each place of them 120 times but for chance (standard deviation 9.8).
    assert (places[counts[:, 0] == 1].sum(dim=0) - 120).abs().max() < 45


@every_schedule
def test_weight_times_mask_probability_integrates_to_one(name):
    # Over a grid of times like training's, only finer.
    schedule, steps = build_schedule(name), 1_000_000
    t = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    expectation = (elbo_weight(schedule, t) * (1.0 - schedule.alpha(t))).mean()
    assert expectation.item() == pytest.approx(1.0, abs=2 / steps)


@every_schedule
@pytest.mark.parametrize("n", [1, 4, 7])
def test_the_bound_is_that_of_a_random_order(name, n):
    """Each number of masks is passed once on the way from n to 0, whatever the schedule: NELBO = Σₘ cost(m).

    `∫ w(t) C(n,m) (1−α)^m α^(n−m) m dt = C(n,m) · m · B(m, n−m+1) = 1` (arXiv 2406.04329, 2310.01400).
    """

    def cost(m):
        return (1 + m).log() + m / 3

    expected = sum(cost(torch.tensor(float(m))) for m in range(1, n + 1)).item()

    schedule = build_schedule(name)
    t = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    share, integral = 1.0 - schedule.alpha(t), 0.0
    for m in range(1, n + 1):
        probability = math.comb(n, m) * share**m * (1 - share) ** (n - m)
        integral += (elbo_weight(schedule, t) * probability * m * cost(torch.tensor(float(m)))).mean().item()
    assert integral == pytest.approx(expected, rel=1e-4)

    denoiser = by_number_of_masks(cost)
    bound = nelbo_nats(random_tokens(100, n), denoiser, schedule, MASK, 150, generator(n))
    error = (bound.std() / bound.numel() ** 0.5).item()
    assert bound.mean().item() == pytest.approx(expected, abs=1e-5 + 4 * error)


def test_the_bound_scores_only_masked_tokens_of_the_right_row():
    x = random_tokens(5, 8)

    def recording(z_t, t, masked):
        assert torch.equal(z_t == MASK, masked)
        assert torch.equal(z_t[~masked], x[~masked])
        # Only row 2 costs anything.
        return (torch.arange(5) == 2).float()[:, None].expand(masked.shape)[masked]

    bound = nelbo_nats(x, recording, build_schedule("cosine"), MASK, 300, generator(2))
    assert bound.shape == (5, 300)
    assert bound[[0, 1, 3, 4]].abs().max() == 0
    assert bound[2].mean() > 0
    assert torch.isfinite(bound).all()


def test_the_bound_repeats_under_its_generator():
    x = random_tokens(4, 5)
    first, again, other = (
        nelbo_nats(x, uniform, build_schedule("cosine"), MASK, 3, generator(s)) for s in (7, 7, 8)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_training_weights_follow_the_masked_tokens(seed):
    noise, schedule = generator(seed), build_schedule("cosine")
    masked = torch.rand(5, 7, generator=noise) < 0.5
    t = torch.rand(5, generator=noise) * 0.9 + 0.05
    rows = masked.nonzero()[:, 0]
    flat = token_weights(t, masked, schedule, "flat", 123.0)
    elbo = token_weights(t, masked, schedule, "elbo", 123.0)
    torch.testing.assert_close(flat, torch.full((len(rows),), 1 / 123.0))
    torch.testing.assert_close(elbo, elbo_weight(schedule, t)[rows] / 123.0)


def test_a_full_mask_has_its_own_bucket_at_every_length():
    for n in range(1, 129):
        full = torch.ones(1, n, dtype=torch.bool)
        assert ratio_bucket(full).tolist() == [4], n
        if n > 1:
            almost = full.clone()
            almost[0, 0] = False
            assert ratio_bucket(almost).item() == min(3, (n - 1) * 4 // n)


def test_buckets_begin_at_their_quarter():
    masked = torch.arange(8)[None, :] < torch.arange(9)[:, None]
    assert ratio_bucket(masked).tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4]


def test_accuracy_is_counted_by_bucket():
    masked = torch.tensor([[True, False, False, False, False], [True] * 5, [True, True, True, False, False]])
    counts = sums_by_mask_ratio(masked, torch.tensor([[1, 1, 0, 1, 1, 0, 0, 0, 1]]))
    counts += sums_by_mask_ratio(masked[:1], torch.tensor([[0]]))
    found = accuracy_by_mask_ratio(counts)
    assert found == pytest.approx({"0-25": 0.5, "50-75": 1 / 3, "100": 3 / 5})
    assert set(found) < set(ratio_names()) == {"0-25", "25-50", "50-75", "75-100", "100"}


def test_values_are_summed_by_as_many_ranges_as_are_wanted():
    masked = torch.tensor([[True, False, False], [True, True, True], [True, True, False]])
    nats = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.5] * 6], dtype=torch.float64)
    positions = masked.flatten().nonzero().squeeze(1)
    sums = sums_by_mask_ratio(masked, nats, parts=10)
    assert torch.equal(sums, sums_by_mask_ratio(masked, nats, positions, parts=10))
    shown = {name: column for name, column in zip(ratio_names(10), sums.T.tolist(), strict=True) if column[0]}
    assert shown == {"30-40": [1, 1, 0.5], "60-70": [2, 11, 1], "100": [3, 9, 1.5]}


def test_accuracy_counts_on_where_float32_would_stop():
    counts = torch.full((2, 5), 2**24)
    counts += sums_by_mask_ratio(torch.ones(1, 1, dtype=torch.bool), torch.tensor([[True]]).long())
    assert counts[:, 4].tolist() == [2**24 + 1] * 2
