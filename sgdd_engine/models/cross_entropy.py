"""Cross-entropy of M positions over V tokens with its gradients, never holding the logits [M, V].

The walk goes over blocks of the vocabulary that fit a cache. Each block leaves its exponentials, relative to the
block's own peak, in the dtype of the products; once all blocks were seen, the log-normaliser is known, and one factor
per row and block turns exponentials into probabilities inside the two products of the backward pass. So every product
is computed once, and what is kept is bounded by `KEPT_BYTES`, whatever the batch and the vocabulary.

Where the target is likelier than not, its exponential is replaced by what gives p − 1 before the products. To subtract
the one-hot target from them afterwards would leave little but rounding where p is nearly 1: in bf16 the whole gradient
at p = .999.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

# Logits of one block, in elements: 8 MiB in fp32 stay near a CPU's cores. On a GPU each block costs the host thirty
# launches: there a block has 256 MiB.
BLOCK_ELEMENTS = {"cpu": 1 << 21}
BLOCK_ELEMENTS_ELSEWHERE = 1 << 26
# Narrower blocks would starve the matrix product.
MIN_COLUMNS = 256
# Columns of a block are a multiple of this: on an AVX2 processor a product of 1,530 columns runs at 57 GFLOP/s, one of
# 1,536 at 75, because rows of the result that begin off a cache line are written slowly.
COLUMN_MULTIPLE = 64
# Exponentials kept at once. With fewer of them the table's gradient is read and written more often.
KEPT_BYTES = 1 << 29
# A target of a lower nll is likelier than not.
SURE_NLL = math.log(2)
# A workspace up to this size stays allocated between training steps.
WORKSPACE_BYTES = 1 << 27


class Workspace:
    """Memory for exponentials that stays allocated from one call to the next, on a CPU and up to `WORKSPACE_BYTES`.

    The C library returns pieces of more than 32 MiB to the system when they are freed. To fetch the 66 MB of 1,370
    positions and 12,000 tokens again took 5 % of a training step. A GPU has an allocator that keeps them.
    """

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def take(self, elements: int, like: Tensor) -> Tensor:
        """At least so many elements like those of `like`, uninitialised; nobody else has them."""
        memory, self._memory = self._memory, None
        if (
            memory is None
            or memory.numel() < elements
            or memory.dtype != like.dtype
            or like.device != memory.device
        ):
            return like.new_empty(elements)
        return memory

    def give_back(self, memory: Tensor) -> None:
        """Keep the memory for the next call."""
        if memory.device.type == "cpu" and memory.nbytes <= WORKSPACE_BYTES:
            self._memory = memory


class Gradients(NamedTuple):
    """Gradients of Σ weights · nll: hidden states [M, width], table [V, width], bias [V]."""

    hidden: Tensor
    table: Tensor
    bias: Tensor


@dataclass(frozen=True, slots=True)
class Scored:
    """What the walk found.

    Attributes:
        nll: Negative log-likelihood of the targets in nats [M], float32.
        correct: Whether no token is likelier than the target [M].
        gradients: None unless asked for.
    """

    nll: Tensor
    correct: Tensor
    gradients: Gradients | None


@dataclass(frozen=True, slots=True)
class _Block:
    """Some columns of the logits of r positions: exp(logits − peak) [r, c], and each row's peak [r]."""

    columns: slice
    exps: Tensor
    peak: Tensor


@dataclass(frozen=True, slots=True)
class _Rows:
    """Scores of r positions; `blocks` hold exponentials only where gradients will want them."""

    log_normaliser: Tensor
    picked: Tensor
    best: Tensor
    blocks: list[_Block]


def rows_at_once(positions: int, vocab_size: int, element_bytes: int) -> int:
    """Positions whose exponentials are kept together."""
    return max(1, min(positions, KEPT_BYTES // (element_bytes * vocab_size)))


def score(
    hidden: Tensor,
    table: Tensor,
    bias: Tensor,
    targets: Tensor,
    weights: Tensor,
    workspace: Workspace,
    *,
    wants_grad: bool,
) -> Scored:
    """Score `targets` [M] under softmax(hidden · tableᵀ + bias).

    Args:
        hidden: [M, width]; its dtype is the dtype of the products.
        table: [V, width] in the dtype of the parameters.
        bias: [V].
        targets: Token ids [M].
        weights: Float32 weights [M] of the loss Σ weights · nll.
        workspace: Memory for the exponentials that the gradients want.
        wants_grad: Whether to compute the gradients too.
    """
    cast = table.to(hidden.dtype)
    nll = torch.empty(len(hidden), device=hidden.device)
    correct = torch.empty(len(hidden), dtype=torch.bool, device=hidden.device)
    gradients = Gradients(*map(torch.empty_like, (hidden, table, bias))) if wants_grad else None
    rows = rows_at_once(len(hidden), len(table), hidden.element_size())
    width = _columns(rows, len(table), hidden.device)
    kept = workspace.take(rows * len(table), hidden) if wants_grad else hidden.new_empty(rows * width)
    for start in range(0, len(hidden), rows):
        part = slice(start, start + rows)
        found = _score_rows(hidden[part], cast, bias, targets[part], kept, width, wants_grad)
        nll[part] = found.log_normaliser - found.picked
        correct[part] = found.picked >= found.best
        if gradients is not None:
            scales = _scales(found)
            _put_in_sure_targets(found, scales, targets[part])
            scales *= weights[part]
            gradients.hidden[part] = _add_softmax(gradients, hidden[part], cast, found, scales, start == 0)
    if wants_grad:
        workspace.give_back(kept)
    if gradients is not None:
        _subtract_targets(gradients, hidden, cast, targets, weights.where(nll >= SURE_NLL, 0.0))
    return Scored(nll, correct, gradients)


@torch.no_grad()
def best_log_probability(hidden: Tensor, table: Tensor, bias: Tensor) -> Tensor:
    """Log-probability of the likeliest token under softmax(hidden · tableᵀ + bias): [M] in float32.

    Args:
        hidden: [M, width]; its dtype is the dtype of the products.
        table: [V, width] in the dtype of the parameters.
        bias: [V] in float32.
    """
    cast = table.to(hidden.dtype)
    found = torch.empty(len(hidden), device=hidden.device)
    rows = rows_at_once(len(hidden), len(table), hidden.element_size())
    width = _columns(rows, len(table), hidden.device)
    room = hidden.new_empty(rows * width)
    for start in range(0, len(hidden), rows):
        part = hidden[start : start + rows]
        no_targets = torch.zeros(len(part), dtype=torch.long, device=hidden.device)
        scores = _score_rows(part, cast, bias, no_targets, room, width, wants_grad=False)
        found[start : start + rows] = scores.best - scores.log_normaliser
    return found


def _columns(rows: int, vocab_size: int, device: torch.device) -> int:
    elements = BLOCK_ELEMENTS.get(device.type, BLOCK_ELEMENTS_ELSEWHERE)
    return min(vocab_size, max(MIN_COLUMNS, elements // rows // COLUMN_MULTIPLE * COLUMN_MULTIPLE))


def _slices(vocab_size: int, width: int) -> Iterator[slice]:
    for start in range(0, vocab_size, width):
        yield slice(start, min(start + width, vocab_size))


def _score_rows(
    hidden: Tensor, cast: Tensor, bias: Tensor, targets: Tensor, kept: Tensor, width: int, wants_grad: bool
) -> _Rows:
    rows = len(hidden)
    in_place = hidden.dtype == torch.float32
    work = torch.empty(0 if in_place else rows * width, device=hidden.device)
    best = torch.full((rows,), -torch.inf, device=hidden.device)
    picked = torch.zeros_like(best)
    blocks: list[_Block] = []
    sums: list[Tensor] = []
    for columns in _slices(len(cast), width):
        products = _shaped(kept[rows * columns.start if wants_grad else 0 :], rows, columns)
        torch.mm(hidden, cast[columns].T, out=products)
        # A sum of mixed dtypes is slow on a CPU, hence the copy; fp32 needs none.
        logits = products if in_place else _shaped(work, rows, columns).copy_(products)
        logits.add_(bias[columns])
        peak = logits.amax(dim=1)
        best = torch.maximum(best, peak)
        picked += _at(logits, targets - columns.start)
        exps = logits.sub_(peak[:, None]).exp_()
        sums.append(exps.sum(dim=1))
        if wants_grad and not in_place:
            products.copy_(exps)
        blocks.append(_Block(columns, products, peak))
    peaks = torch.stack([block.peak for block in blocks])
    return _Rows((peaks + torch.stack(sums).log()).logsumexp(dim=0), picked, best, blocks)


def _shaped(memory: Tensor, rows: int, columns: slice) -> Tensor:
    """The beginning of flat memory as [rows, columns]."""
    width: int = columns.stop - columns.start
    return memory[: rows * width].view(rows, width)


def _at(logits: Tensor, column: Tensor) -> Tensor:
    """The logit in each row's `column` [r], or 0 where that lies outside this block."""
    width = logits.shape[1]
    found = logits.gather(1, column.clamp(0, width - 1)[:, None]).squeeze(1)
    return torch.where((column >= 0) & (column < width), found, 0.0)


def _scales(rows: _Rows) -> Tensor:
    """What makes exponentials into probabilities, per block and row: [blocks, r]."""
    return (torch.stack([block.peak for block in rows.blocks]) - rows.log_normaliser).exp()


def _put_in_sure_targets(rows: _Rows, scales: Tensor, targets: Tensor) -> None:
    """Replace the exponentials of targets that are likelier than not: their scale makes p − 1 of them, not p."""
    log_probability = rows.picked - rows.log_normaliser
    sure, less_one = -log_probability < SURE_NLL, log_probability.expm1()
    for block, scale in zip(rows.blocks, scales, strict=True):
        width = block.exps.shape[1]
        column = targets - block.columns.start
        place = column.clamp(0, width - 1)[:, None]
        here = (sure & (column >= 0) & (column < width))[:, None]
        # The block of a sure target has its peak: the scale is at least 1/2.
        wanted = (less_one / scale)[:, None].to(block.exps.dtype)
        block.exps.scatter_(1, place, torch.where(here, wanted, block.exps.gather(1, place)))


def _add_softmax(
    to: Gradients, hidden: Tensor, cast: Tensor, rows: _Rows, scales: Tensor, first: bool
) -> Tensor:
    """Add Σ weight · p to the gradients of table and bias (or set them, at first); that of the rows is returned."""
    total = torch.zeros_like(hidden, dtype=torch.float32)
    for block, scale in zip(rows.blocks, scales, strict=True):
        total.addcmul_((block.exps @ cast[block.columns]).float(), scale[:, None])
        _accumulate(to.table[block.columns], block.exps.T, (hidden * scale[:, None]).to(hidden.dtype), first)
        _accumulate(to.bias[block.columns, None], block.exps.T, scale[:, None].to(hidden.dtype), first)
    return total.to(hidden.dtype)


def _accumulate(to: Tensor, left: Tensor, right: Tensor, first: bool) -> None:
    """`to` += left · right, or `to` = left · right at first."""
    if to.dtype == left.dtype:
        torch.addmm(to, left, right, beta=0 if first else 1, out=to)
    elif first:
        to.copy_(left @ right)
    else:
        to.add_(left @ right)


def _subtract_targets(to: Gradients, hidden: Tensor, cast: Tensor, targets: Tensor, weights: Tensor) -> None:
    """The share of the one-hot targets whose weights are not 0."""
    if not len(hidden):  # no block has set them
        to.table.zero_()
        to.bias.zero_()
    to.hidden.sub_((cast[targets] * weights[:, None]).to(hidden.dtype))
    to.table.index_add_(0, targets, (hidden * weights[:, None]).to(to.table.dtype), alpha=-1)
    to.bias.index_add_(0, targets, weights.to(to.bias.dtype), alpha=-1)
