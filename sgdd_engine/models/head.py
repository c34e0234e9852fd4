"""The tied vocabulary head: logits and cross-entropy of chosen positions only.

The head is about 95 % of the model's arithmetic, so it never sees a position whose score is not needed, and
training never holds logits of all positions at once: each chunk's gradient is computed while its logits are there.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Logits held at once, in elements: 4 Mi of them are 16 MiB in fp32 and stay in a CPU's cache; a few hundred rows
# are what it takes to keep the matrix product busy, whatever the vocabulary.
CHUNK_ELEMENTS = 1 << 22
MIN_CHUNK_ROWS = 256


@dataclass(frozen=True, slots=True)
class TokenScores:
    """The score of M chosen positions.

    Attributes:
        loss: Σ weights · nll, a scalar that can be differentiated.
        nll: Negative log-likelihood of the targets in nats [M], detached.
        correct: Whether the likeliest token is the target [M].
    """

    loss: Tensor
    nll: Tensor
    correct: Tensor


class VocabularyHead(nn.Module):
    """Token table [V, width], used to embed tokens and, transposed, to score them."""

    def __init__(self, vocab_size: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.table = nn.Parameter(torch.empty(vocab_size, width))
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        nn.init.normal_(self.table, std=width**-0.5)

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings [..., width] of token ids, scaled to about unit variance per coordinate."""
        scale: float = self.width**0.5
        return nn.functional.embedding(tokens, self.table) * scale

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [M, V] in float32 of hidden states [M, width]."""
        return nn.functional.linear(hidden, self.table.to(hidden.dtype)).float() + self.bias

    def cross_entropy(self, hidden: Tensor, targets: Tensor, weights: Tensor) -> TokenScores:
        """Weighted cross-entropy without ever holding [M, V] at once.

        Args:
            hidden: Hidden states of the scored positions [M, width]; their dtype is the dtype of the products.
            targets: Clean token ids [M].
            weights: Weight of each position in the loss [M].
        """
        loss, nll, correct = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
            hidden, self.table, self.bias, targets, weights.float(), torch.is_grad_enabled()
        )
        return TokenScores(loss, nll, correct)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Loss and gradient in one pass over chunks of positions; nothing of size [M, V] outlives its chunk."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's context has no public type
        hidden: Tensor,
        table: Tensor,
        bias: Tensor,
        targets: Tensor,
        weights: Tensor,
        grad_enabled: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        # `needs_input_grad` knows nothing of no_grad, and in here the mode is always off: hence the argument.
        wants_grad = grad_enabled and any(ctx.needs_input_grad[:3])
        with torch.autocast(hidden.device.type, enabled=False):
            return _score_chunks(ctx, hidden, table, bias, targets, weights, wants_grad)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        grads = [grad.mul_(grad_loss) for grad in ctx.grads]
        ctx.grads = None
        return (*grads, None, None, None)


def _score_chunks(
    ctx: Any,  # noqa: ANN401
    hidden: Tensor,
    table: Tensor,
    bias: Tensor,
    targets: Tensor,
    weights: Tensor,
    wants_grad: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    cast = table.detach().to(hidden.dtype)
    nll = torch.empty(len(hidden), device=hidden.device)
    correct = torch.empty(len(hidden), dtype=torch.bool, device=hidden.device)
    grad_hidden = torch.empty_like(hidden) if wants_grad else None
    grad_table = torch.zeros_like(table) if wants_grad else None
    grad_bias = torch.zeros_like(bias) if wants_grad else None
    chunk = max(MIN_CHUNK_ROWS, CHUNK_ELEMENTS // table.shape[0])
    for start in range(0, len(hidden), chunk):
        rows = slice(start, start + chunk)
        logits = (hidden[rows] @ cast.T).float().add_(bias)
        picked = logits.gather(1, targets[rows, None])
        correct[rows] = (logits.argmax(dim=1, keepdim=True) == targets[rows, None]).squeeze(1)
        normaliser = logits.logsumexp(dim=1, keepdim=True)
        nll[rows] = (normaliser - picked).squeeze(1)
        if grad_hidden is None or grad_table is None or grad_bias is None:
            continue
        grad = logits.sub_(normaliser).exp_().mul_(weights[rows, None])
        grad.scatter_add_(1, targets[rows, None], -weights[rows, None])
        grad_bias += grad.sum(dim=0)
        grad = grad.to(hidden.dtype)
        torch.matmul(grad, cast, out=grad_hidden[rows])
        grad_table += grad.T @ hidden[rows]
    ctx.grads = (grad_hidden, grad_table, grad_bias)
    ctx.mark_non_differentiable(nll, correct)
    return (nll * weights).sum(), nll, correct
