"""The Transformer block: identity at start, positions only where they should be."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_for_tests import generator, scatter

from sgdd_engine.models.blocks import (
    AdaLNZeroBlock,
    Attention,
    MemoryTokens,
    TimeEmbedding,
    rotary_angles,
    rotate,
)
from sgdd_engine.models.config import DecoderConfig

CPU = torch.device("cpu")
WIDTH, HEADS, LENGTH = 16, 2, 7


def inputs(seed=0, memory=3):
    noise = generator(seed)
    x, condition = torch.randn(4, LENGTH, WIDTH, generator=noise), torch.randn(4, WIDTH, generator=noise)
    return x, condition, MemoryTokens(torch.randn(4, memory, WIDTH, generator=noise)) if memory else None


def block(**changes):
    return AdaLNZeroBlock(DecoderConfig(width=WIDTH, heads=HEADS, **changes))


@pytest.mark.parametrize("memory", [0, 3])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_a_block_starts_as_the_identity(memory, dropout):
    x, condition, m = inputs(memory=memory)
    # Bit for bit, in training too, whatever the condition says.
    assert torch.equal(block(dropout=dropout)(x, 100 * condition, rotary_angles(LENGTH, 8, CPU), m), x)


def test_a_block_can_leave_the_identity():
    x, condition, m = inputs()
    b, angles = block(), rotary_angles(LENGTH, 8, CPU)
    b(x, condition, angles, m).square().sum().backward()
    gates = b.modulation[1].weight.grad.unflatten(0, (6, WIDTH)).abs().sum(dim=(1, 2)) > 0
    # Only the two gates hear anything while they are closed.
    assert gates.tolist() == [False, False, True, False, False, True]
    assert not torch.allclose(scatter(b)(x, condition, angles, m), x, atol=1e-2)


@given(shift=st.integers(0, 20), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=20)
def test_rotary_scores_depend_on_distance_alone(shift, seed):
    q, k = torch.randn(2, 8, generator=generator(seed)).unbind()
    angles = rotary_angles(40, 8, CPU)
    turned_q, turned_k = (rotate(v.expand(1, 1, 40, 8), angles)[0, 0] for v in (q, k))
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm().expand(40))
    torch.testing.assert_close(turned_q[0], q)
    scores = turned_q @ turned_k.T
    torch.testing.assert_close(scores[3, 5], scores[3 + shift, 5 + shift], atol=1e-4, rtol=1e-4)


def attend(angles, *, x=None, memory=None, seed=0):
    attention = scatter(Attention(WIDTH, HEADS), seed)
    with torch.no_grad():
        return attention.out(attention.mix(inputs(seed)[0] if x is None else x, angles, memory))


def test_without_rotation_attention_reads_a_set():
    x, _, memory = inputs()
    still = (torch.ones(LENGTH, 4), torch.zeros(LENGTH, 4))
    order = torch.randperm(LENGTH, generator=generator(3))
    torch.testing.assert_close(
        attend(still, x=x[:, order], memory=memory), attend(still, x=x, memory=memory)[:, order]
    )


def test_with_rotation_it_reads_a_sequence():
    x = inputs()[0]
    angles, order = rotary_angles(LENGTH, 8, CPU), torch.arange(LENGTH).flip(0)
    assert not torch.allclose(attend(angles, x=x[:, order]), attend(angles, x=x)[:, order], atol=1e-2)


def test_memory_is_a_set_and_is_read():
    angles, memory = rotary_angles(LENGTH, 8, CPU), inputs()[2]
    out = attend(angles, memory=memory)
    torch.testing.assert_close(attend(angles, memory=MemoryTokens(memory.vectors.flip(1))), out)
    assert not torch.allclose(attend(angles, memory=MemoryTokens(memory.vectors + 1)), out, atol=1e-2)


def test_memory_with_angles_is_read_as_if_it_stood_at_these_positions():
    attention, (x, _, memory) = Attention(WIDTH, 2), inputs(memory=LENGTH)
    angles = rotary_angles(LENGTH, 8, CPU)
    turned = tuple(a[2:5] for a in angles)
    known = attention.project_memory(MemoryTokens(memory.vectors[:, 2:5], turned))
    beside = attention.project_memory(memory._replace(angles=angles))
    torch.testing.assert_close(known.keys, beside.keys[:, :, 2:5])
    # Where the memory is the input itself, each position finds all twice.
    both = attention.mix(x, angles, MemoryTokens(x, angles))
    torch.testing.assert_close(both, attention.mix(x, angles, None))


def test_masked_memory_is_not_read():
    attention, (x, _, memory) = Attention(WIDTH, 2), inputs()
    angles = rotary_angles(LENGTH, 8, CPU)
    mask = torch.zeros(4, 1, 1, 3)
    mask[1] = -torch.inf
    mask[2, ..., 1] = -torch.inf
    out = attention.mix(x, angles, memory._replace(mask=mask))
    torch.testing.assert_close(out[0], attention.mix(x, angles, memory)[0])
    torch.testing.assert_close(out[1], attention.mix(x, angles, None)[1])
    torch.testing.assert_close(out[2], attention.mix(x, angles, MemoryTokens(memory.vectors[:, [0, 2]]))[2])
    assert not torch.allclose(attend(angles), out, atol=1e-2)


def test_equal_values_come_out_equal_whatever_the_positions():
    x = inputs()[0][:, :1].expand(-1, LENGTH, -1)
    out = attend(rotary_angles(LENGTH, 8, CPU), x=x)
    torch.testing.assert_close(out, out[:, :1].expand_as(out), atol=1e-5, rtol=1e-5)
    # Memory has other values and keys that are not turned, so it makes a difference where one stands.
    out = attend(rotary_angles(LENGTH, 8, CPU), x=x, memory=inputs()[2])
    assert (out - out[:, :1]).abs().max() > 1e-2


def test_neighbouring_times_are_told_apart():
    embedding = scatter(TimeEmbedding(WIDTH))
    with torch.no_grad():
        out = embedding(torch.arange(1, 1001) / 1000)
    assert out.shape == (1000, WIDTH)
    assert out.diff(dim=0).norm(dim=1).min() > 1e-3
    assert torch.isfinite(out).all()
