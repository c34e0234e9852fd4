"""The head that walks over blocks equals the plain one, and never holds all logits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models_for_tests import generator, scatter
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from sgdd_engine.models import cross_entropy
from sgdd_engine.models.head import VocabularyHead

V, WIDTH, M = 50, 8, 23


def walk_in(patch, rows, columns):
    """Blocks of so many columns, and the exponentials of so many bf16 rows kept at once (half as many in fp32)."""
    patch.setattr(cross_entropy, "KEPT_BYTES", 2 * rows * V)
    patch.setattr(cross_entropy, "BLOCK_ELEMENTS", {})
    patch.setattr(cross_entropy, "BLOCK_ELEMENTS_ELSEWHERE", 1)
    patch.setattr(cross_entropy, "MIN_COLUMNS", columns)


@pytest.fixture(params=[(1, 1), (8, 7), (14, V), (2 * M, 13), (20 * M, 3 * V)])
def blocks(request, monkeypatch):
    """Rows and columns one at a time, with a rest, exactly all, more than there are."""
    walk_in(monkeypatch, *request.param)
    return request.param


def problem(seed=0, m=M):
    noise = generator(seed)
    head = scatter(VocabularyHead(V, WIDTH), seed)
    hidden = torch.randn(m, WIDTH, generator=noise)
    targets = torch.randint(V, (m,), generator=noise)
    weights = torch.rand(m, generator=noise) * 3
    weights[: m // 5] = 0.0
    return head, hidden, targets, weights


def plain(head, hidden, targets, weights, grad=1.0):
    """Loss, nll, guesses and the three gradients by autograd in float32."""
    leaf = hidden.detach().clone().float().requires_grad_()
    logits = F.linear(leaf, head.table) + head.bias
    nll = F.cross_entropy(logits, targets, reduction="none")
    loss = (weights * nll).sum()
    return (
        loss,
        nll,
        logits.argmax(dim=1) == targets,
        torch.autograd.grad(grad * loss, (leaf, head.table, head.bias)),
    )


def walked(head, hidden, targets, weights, grad=1.0):
    leaf = hidden.detach().clone().requires_grad_()
    scores = head.cross_entropy(leaf, targets, weights)
    grads = torch.autograd.grad(grad * scores.loss, (leaf, head.table, head.bias))
    return scores.loss, scores.nll, scores.correct, grads


@pytest.mark.parametrize("grad", [1.0, -2.5])
def test_loss_and_gradients_equal_the_plain_ones(blocks, grad):
    case = problem()
    loss, nll, correct, grads = walked(*case, grad)
    plain_loss, plain_nll, plain_correct, plain_grads = plain(*case, grad)
    torch.testing.assert_close(loss, plain_loss)
    torch.testing.assert_close(nll, plain_nll)
    assert torch.equal(correct, plain_correct)
    for ours, theirs in zip(grads, plain_grads, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@given(seed=st.integers(0, 1000), m=st.integers(0, 9), rows=st.integers(1, 20), columns=st.integers(1, V))
@settings(deadline=None, max_examples=20)
def test_any_number_of_positions(seed, m, rows, columns):
    with pytest.MonkeyPatch.context() as patch:
        walk_in(patch, rows, columns)
        case = problem(seed, m)
        ours, theirs = walked(*case), plain(*case)
    torch.testing.assert_close(ours[:2], theirs[:2])
    torch.testing.assert_close(ours[3], theirs[3], atol=1e-5, rtol=1e-4)


def test_bf16_products_keep_to_their_precision(blocks):
    head, hidden, targets, weights = problem()
    loss, nll, _, grads = walked(head, hidden.bfloat16(), targets, weights)
    plain_loss, plain_nll, _, plain_grads = plain(head, hidden.bfloat16(), targets, weights)
    assert loss.dtype == nll.dtype == torch.float32
    torch.testing.assert_close(loss, plain_loss, atol=0, rtol=5e-3)
    torch.testing.assert_close(nll, plain_nll, atol=0.03, rtol=0.02)
    # The gradient reaches the parameters in their own dtype, and the hidden states in theirs.
    assert [grad.dtype for grad in grads] == [torch.bfloat16, torch.float32, torch.float32]
    for ours, theirs in zip(grads, plain_grads, strict=True):
        assert (ours.float() - theirs).norm() < 0.01 * theirs.norm()


@pytest.mark.parametrize("probability", [0.3, 0.6, 0.99, 0.999])
def test_sure_tokens_keep_their_gradient_in_bf16(blocks, probability):
    """That of one position is small where its target is sure; subtracted afterwards, the target left rounding alone."""
    for seed in range(5):
        head, hidden, targets, _ = problem(seed, 1)
        hidden, others = hidden.bfloat16(), torch.arange(V) != targets
        with torch.no_grad():
            logits = head.logits(hidden.float())[0]
            head.bias[targets] += (
                logits[others].logsumexp(0) + math.log(probability / (1 - probability)) - logits[targets]
            )
        case = head, hidden, targets, torch.ones(1)
        assert plain(*case)[1].exp().reciprocal().item() == pytest.approx(probability)
        for ours, theirs in zip(walked(*case)[3], plain(*case)[3], strict=True):
            assert (ours.float() - theirs).norm() < 0.05 * theirs.norm()


def test_autocast_does_not_change_the_arithmetic():
    case = problem()
    expected = walked(*case)
    with torch.autocast("cpu", torch.bfloat16):
        under = walked(*case)
    assert torch.equal(under[0], expected[0])
    assert all(torch.equal(a, b) for a, b in zip(under[3], expected[3], strict=True))


def test_the_gradient_joins_that_of_the_embedding():
    head, hidden, targets, weights = problem()
    tokens = torch.arange(10)
    (head.cross_entropy(hidden, targets, weights).loss + head.embed(tokens).sum()).backward()
    expected = plain(head, hidden, targets, weights)[3][1].clone()
    expected[tokens] += WIDTH**0.5
    assert head.table.grad.layout == torch.strided  # the embedding's own part is sparse
    torch.testing.assert_close(head.table.grad, expected, atol=1e-5, rtol=1e-4)


def test_frozen_inputs_are_no_trouble():
    head, hidden, targets, weights = problem()
    by_hidden, _, by_bias = plain(head, hidden, targets, weights)[3]
    head.cross_entropy(hidden, targets, weights).loss.backward()
    torch.testing.assert_close(head.bias.grad, by_bias, atol=1e-5, rtol=1e-4)
    head.requires_grad_(False)
    leaf = hidden.detach().clone().requires_grad_()
    (grad,) = torch.autograd.grad(head.cross_entropy(leaf, targets, weights).loss, leaf)
    torch.testing.assert_close(grad, by_hidden, atol=1e-5, rtol=1e-4)
    assert not head.cross_entropy(hidden, targets, weights).loss.requires_grad


def test_nll_carries_no_gradient():
    scores = problem()[0].cross_entropy(*problem()[1:])
    assert scores.loss.requires_grad
    assert not scores.nll.requires_grad
    assert not scores.correct.requires_grad


def test_extreme_logits_stay_finite(blocks):
    head, hidden, targets, weights = problem()
    loss, nll, _, grads = walked(head, hidden * 1e4, targets, weights)
    torch.testing.assert_close(loss, plain(head, hidden * 1e4, targets, weights)[0])
    assert all(torch.isfinite(part).all() for part in (nll, *grads))


class Sizes(TorchDispatchMode):
    """Notes what is computed, and the shape of each result."""

    def __init__(self):
        super().__init__()
        self.calls, self.elements = [], []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        parts = out if isinstance(out, tuple | list) else [out]
        self.calls.append(func.name())
        self.elements += [part.numel() for part in parts if torch.is_tensor(part)]
        return out


@pytest.mark.parametrize("backward", [False, True])
def test_logits_of_all_positions_are_never_held(monkeypatch, backward):
    walk_in(monkeypatch, rows=16, columns=10)
    head, hidden, targets, weights = problem(m=400)
    with Sizes() as sizes:
        scores = head.cross_entropy(hidden.requires_grad_(), targets, weights)
        if backward:
            scores.loss.backward()
    # The exponentials of 8 rows in fp32, or the hidden states themselves: no tensor is larger, let alone [400, V].
    assert max(sizes.elements) == 400 * WIDTH
    assert 8 * V in sizes.elements


@pytest.mark.parametrize("bf16", [False, True])
def test_the_best_log_probability_is_that_of_the_logits_without_ever_holding_them(monkeypatch, bf16):
    walk_in(monkeypatch, rows=16, columns=10)
    head, hidden, *_ = problem(m=400)
    hidden = hidden.to(torch.bfloat16) if bf16 else hidden
    with torch.no_grad():
        logits = head.trained_logits(hidden)
    never = int(logits.sum(dim=0).argmax())
    with Sizes() as sizes:
        found = head.best_log_probability(hidden, never)
    logits[:, never] = -torch.inf
    expected = logits.log_softmax(dim=1).amax(dim=1)
    torch.testing.assert_close(found, expected, atol=3e-2 if bf16 else 1e-5, rtol=0)
    assert max(sizes.elements) <= 400 * WIDTH
    assert not found.requires_grad


def test_what_is_kept_does_not_grow_with_the_batch(monkeypatch):
    walk_in(monkeypatch, rows=16, columns=10)
    kept = [cross_entropy.rows_at_once(m, V, 4) for m in (1, 8, 400, 10**6)]
    assert kept == [1, 8, 8, 8]


def test_memory_for_exponentials_is_used_again_while_it_is_small(monkeypatch):
    head, hidden, targets, weights = problem()
    walked(head, hidden, targets, weights)
    kept = head._workspace._memory
    expected = walked(head, hidden[:9], targets[:9], weights[:9])
    assert head._workspace._memory is kept
    # What an earlier step left in it changes nothing.
    kept.fill_(torch.nan)
    for ours, theirs in zip(walked(head, hidden[:9], targets[:9], weights[:9])[3], expected[3], strict=True):
        assert torch.equal(ours, theirs)
    walked(head, hidden.bfloat16(), targets, weights)
    assert head._workspace._memory.dtype == torch.bfloat16
    kept = head._workspace._memory
    with torch.inference_mode():
        head.cross_entropy(hidden, targets, weights)
    assert head._workspace._memory is kept
    monkeypatch.setattr(cross_entropy, "WORKSPACE_BYTES", M * V)
    walked(head, hidden, targets, weights)
    assert head._workspace._memory is None


@pytest.mark.parametrize("rows", [1, 300, 1370, 100_000])
def test_blocks_of_a_cpu_begin_at_whole_cache_lines(rows):
    width = cross_entropy._columns(rows, 12_000, torch.device("cpu"))
    assert width == 12_000 or width * 4 % 64 == 0
    assert width >= cross_entropy.MIN_COLUMNS


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_grad_nothing_is_computed_for_it(mode):
    head, hidden, targets, weights = problem()
    with mode(), Sizes() as sizes:
        scores = head.cross_entropy(hidden, targets, weights)
    assert not scores.loss.requires_grad
    torch.testing.assert_close(scores.loss, plain(head, hidden, targets, weights)[0].detach())
    # One product for the logits of the one block; gradients would take two more for the table and the rows.
    assert sum("mm" in name for name in sizes.calls) == 1


def test_scoring_and_embedding_share_one_table():
    head = scatter(VocabularyHead(V, WIDTH))
    torch.testing.assert_close(head.embed(torch.tensor([3, 5])), head.table[[3, 5]] * WIDTH**0.5)
    logits = head.logits(torch.eye(WIDTH))
    torch.testing.assert_close(logits, head.table.T + head.bias)
    assert head.logits(torch.eye(WIDTH).bfloat16()).dtype == torch.float32
    assert [name for name, _ in head.named_parameters()] == ["table", "bias"]


def test_embeddings_start_with_unit_variance():
    torch.manual_seed(0)
    embedded = VocabularyHead(2000, 64).embed(torch.arange(2000))
    assert embedded.std().item() == pytest.approx(1.0, abs=0.02)
