"""Guidance at its fixed points, and what coverage leaves alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_for_tests import VOCABULARY, generator, random_tokens

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.guidance import GUIDANCE, GUIDANCE_SCHEDULES, plain_guidance
from sgdd_engine.errors import ConfigError

V, MASK = VOCABULARY.size, VOCABULARY.mask_id
ROWS = torch.tensor([0, 0, 1, 2, 2, 2])


def branches(seed=0):
    noise = generator(seed)
    return tuple(3 * torch.randn(len(ROWS), V, generator=noise) for _ in range(2))


def guided(form, c, u, weight, tokens, rows=ROWS):
    """As log-probabilities."""
    return GUIDANCE[form](c, u, weight, rows, tokens).log_softmax(-1)


def canvas(seed=0):
    """Three rows that are partly written."""
    tokens = random_tokens(3, 5, seed)
    return torch.where(torch.rand(3, 5, generator=generator(seed)) < 0.4, MASK, tokens)


def test_plain_at_one_and_at_zero():
    c, u = branches()
    torch.testing.assert_close(guided("plain", c, u, 1.0, canvas()), c.log_softmax(-1))
    torch.testing.assert_close(guided("plain", c, u, 0.0, canvas()), u.log_softmax(-1))


def test_coverage_at_one_is_conditional():
    c, u = branches()
    torch.testing.assert_close(guided("coverage", c, u, 1.0, canvas()), c.log_softmax(-1))


@pytest.mark.parametrize("form", GUIDANCE)
@given(weight=st.floats(0, 8), seed=st.integers(0, 100), shift=st.floats(-20, 20))
@settings(deadline=None, max_examples=20)
def test_logits_may_be_shifted(form, weight, seed, shift):
    c, u = branches(seed)
    out = guided(form, c, u, weight, canvas(seed))
    moved = guided(form, c + shift, u - 2 * shift, weight, canvas(seed))
    torch.testing.assert_close(out, moved, atol=2e-3, rtol=1e-3)


@given(weight=st.floats(0, 5), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=20)
def test_coverage_leaves_tokens_on_the_canvas_alone(weight, seed):
    (c, u), tokens = branches(seed), canvas(seed)
    out = guided("coverage", c, u, weight, tokens)
    c, u = c.log_softmax(-1), u.log_softmax(-1)
    written = torch.zeros(len(ROWS), V, dtype=torch.bool).scatter(1, tokens[ROWS], True)
    term = torch.where(written, 0.0, (weight - 1) * (c - u))
    # Before renormalisation nothing was added to them, so all that is left against c is the normaliser of the row.
    normaliser = (c + term).logsumexp(-1, keepdim=True)
    torch.testing.assert_close(out - c + normaliser, term, atol=1e-4, rtol=1e-4)
    for position in range(len(ROWS)):
        ratio = (out - c)[position, written[position]]
        assert (ratio - ratio[0]).abs().max() < 1e-4


@given(weight=st.floats(0, 5), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=20)
def test_coverage_is_plain_on_an_empty_canvas(weight, seed):
    c, u = branches(seed)
    c[:, MASK] = u[:, MASK] = -1e4  # the mask, which stands on every open position, is never written
    empty = torch.full((3, 5), MASK)
    coverage, plain = (guided(form, c, u, weight, empty) for form in ("coverage", "plain"))
    torch.testing.assert_close(coverage[:, :MASK], plain[:, :MASK], atol=1e-4, rtol=1e-4)
    assert coverage[:, MASK].max() < -1e3


def test_a_row_sees_only_its_own_canvas():
    (c, u), tokens = branches(), canvas()
    other = tokens.clone()
    other[2] = random_tokens(1, 5, seed=9)[0]
    first, second = (guided("coverage", c, u, 2.0, k) for k in (tokens, other))
    assert torch.equal(first[:3], second[:3])
    assert not torch.allclose(first[3:], second[3:])


def test_a_wanted_word_is_pushed_until_it_is_written():
    c, u = torch.zeros(1, V), torch.zeros(1, V)
    c[0, 7] = 2.0
    open_canvas, written = torch.full((1, 4), MASK), torch.tensor([[MASK, 7, MASK, MASK]])
    rows = torch.tensor([0])
    before, after = (guided("coverage", c, u, 3.0, k, rows)[0, 7] for k in (open_canvas, written))
    gain = before - c.log_softmax(-1)[0, 7]
    assert gain > 1
    # What is left of the gain comes from the other tokens alone, which the meaning does not call for.
    assert after - c.log_softmax(-1)[0, 7] < 0.25 * gain
    assert torch.equal(*(guided("plain", c, u, 3.0, k, rows) for k in (open_canvas, written)))


@given(weight=st.floats(0, 8), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=20)
def test_plain_guidance_may_be_done_before_an_affine_head(weight, seed):
    noise = generator(seed)
    c, u, table = (torch.randn(n, 8, generator=noise) for n in (len(ROWS), len(ROWS), V))
    bias = torch.randn(V, generator=noise)
    before = plain_guidance(c, u, weight, ROWS, canvas()) @ table.T + bias
    after = plain_guidance(c @ table.T + bias, u @ table.T + bias, weight, ROWS, canvas())
    torch.testing.assert_close(before, after, atol=1e-4, rtol=1e-4)


WRITTEN = torch.tensor([0.0, 0.25, 0.5, 0.75])


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("constant", [1.5, 1.5, 1.5, 1.5]),
        ("ramp", [1.0, 1.125, 1.25, 1.375]),
        ("ramp:start=3", [3.0, 2.625, 2.25, 1.875]),
        ("interval", [1.5, 1.5, 1.0, 1.0]),
        ("interval:start=0.25,end=0.75", [1.0, 1.5, 1.5, 1.0]),
    ],
)
def test_the_weight_while_a_sentence_is_written(spec, expected):
    weight = GUIDANCE_SCHEDULES.build(spec).weight(1.5, WRITTEN)
    torch.testing.assert_close(weight, torch.tensor(expected))


@pytest.mark.parametrize("spec", ["ramp:start=-1", "interval:start=0.5,end=0.5", "interval:end=2"])
def test_parameters_of_guidance_out_of_range(spec):
    with pytest.raises(ConfigError, match=r"sample\.guidance_schedule"):
        SamplingConfig(guidance_schedule=spec)


@pytest.mark.parametrize("form", GUIDANCE)
def test_each_position_has_a_weight_of_its_own(form):
    (c, u), tokens = branches(), canvas()
    weights = torch.tensor([1.0, 2.0, 0.5, 1.0, 3.0, 1.7])
    out = guided(form, c.clone(), u.clone(), weights[:, None], tokens)
    for position, weight in enumerate(weights.tolist()):
        alone = guided(form, c.clone(), u.clone(), weight, tokens)[position]
        torch.testing.assert_close(out[position], alone, atol=1e-5, rtol=1e-5)
