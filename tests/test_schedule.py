"""alpha, its derivative and its inverse belong together."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdd_engine.diffusion.schedule import SCHEDULES, build_schedule, elbo_weight
from sgdd_engine.errors import ConfigError

every_schedule = pytest.mark.parametrize("name", SCHEDULES.names())
GRID = torch.linspace(0, 1, 1001, dtype=torch.float64)


@every_schedule
def test_alpha_falls_from_one_to_zero(name):
    alpha = build_schedule(name).alpha(GRID)
    assert alpha[0].item() == pytest.approx(1.0, abs=1e-15)
    assert alpha[-1].item() == 0.0
    assert (alpha.diff() < 0).all()


@every_schedule
def test_ends_are_exact_in_float32(name):
    alpha = build_schedule(name).alpha(torch.tensor([0.0, 1.0]))
    # Corruption masks nothing at t = 0 and everything at t = 1 only if these are not merely close.
    assert alpha.tolist() == [1.0, 0.0]


@every_schedule
def test_dalpha_is_the_derivative_of_alpha(name):
    schedule = build_schedule(name)
    t = GRID.clone().requires_grad_()
    (by_autograd,) = torch.autograd.grad(schedule.alpha(t).sum(), t)
    torch.testing.assert_close(schedule.dalpha(GRID), by_autograd)

    inside, h = GRID[1:-1], 1e-5
    by_difference = (schedule.alpha(inside + h) - schedule.alpha(inside - h)) / (2 * h)
    torch.testing.assert_close(schedule.dalpha(inside), by_difference, atol=1e-8, rtol=1e-7)


@every_schedule
@given(t=st.floats(0, 1))
@settings(deadline=None, max_examples=30)
def test_time_at_inverts_the_mask_share(name, t):
    schedule = build_schedule(name)
    there = 1.0 - schedule.alpha(torch.tensor(t, dtype=torch.float64))
    # The inverse cosine loses half the digits where all is masked.
    assert schedule.time_at(there.clamp(0, 1)).item() == pytest.approx(t, abs=1e-7)


@every_schedule
def test_time_at_is_exact_at_the_ends(name):
    assert build_schedule(name).time_at(torch.tensor([0.0, 1.0])).tolist() == pytest.approx(
        [0.0, 1.0], abs=1e-7
    )


def test_bound_weights_in_closed_form():
    t = GRID[1:]
    cotangent = math.pi / 2 / (math.pi / 2 * t).tan()
    torch.testing.assert_close(elbo_weight(build_schedule("cosine"), t), cotangent, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(elbo_weight(build_schedule("linear"), t), 1 / t)
    torch.testing.assert_close(elbo_weight(build_schedule("polynomial:exponent=3"), t), 3 / t)


def test_a_polynomial_of_exponent_one_is_the_linear_schedule():
    polynomial, linear = build_schedule("polynomial:exponent=1"), build_schedule("linear")
    for of in ("alpha", "dalpha", "time_at"):
        torch.testing.assert_close(getattr(polynomial, of)(GRID), getattr(linear, of)(GRID))


@pytest.mark.parametrize("exponent", ["0", "-1", "inf", "nan"])
def test_an_exponent_that_gives_no_schedule_is_refused(exponent):
    with pytest.raises(ConfigError, match="must be positive"):
        build_schedule(f"polynomial:exponent={exponent}")


def test_cosine_masks_two_over_pi_on_average():
    share = torch.trapezoid(1.0 - build_schedule("cosine").alpha(GRID), GRID)
    assert share.item() == pytest.approx(2 / math.pi, abs=1e-6)
