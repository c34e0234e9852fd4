"""The tied vocabulary head: logits and cross-entropy of chosen positions only.

The head is about 95 % of the model's arithmetic, so it never sees a position whose score is not needed.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sgdd_engine.models.cross_entropy import Workspace, best_log_probability, score

# Low enough to have no probability, and finite.
NO_LOGIT = -1e4


@dataclass(frozen=True, slots=True)
class TokenScores:
    """The score of M chosen positions.

    Attributes:
        loss: Σ weights · nll, a scalar that can be differentiated.
        nll: Negative log-likelihood of the targets in nats [M], detached.
        correct: Whether no token is likelier than the target [M].
    """

    loss: Tensor
    nll: Tensor
    correct: Tensor


class VocabularyHead(nn.Module):
    """Token table [V, width], used to embed tokens and, transposed, to score them.

    Attributes:
        temperature: What the logits are divided by after training, so that the probabilities of tokens are right as
            often as they say (`evaluation.token_temperature`); the loss of training knows nothing of it.
    """

    def __init__(self, vocab_size: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.temperature = 1.0
        self._workspace = Workspace()
        self.table = nn.Parameter(torch.empty(vocab_size, width))
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        nn.init.normal_(self.table, std=width**-0.5)

    def embed(self, tokens: Tensor) -> Tensor:
        """Embeddings [..., width] of token ids, scaled to about unit variance per coordinate."""
        scale: float = self.width**0.5
        # Few rows of the table are embedded and all are scored: a sparse gradient is added to the scores' dense one
        # without a second tensor of the table's size.
        sparse = self.table.device.type != "mps"
        return nn.functional.embedding(tokens, self.table, sparse=sparse) * scale

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits [M, V] in float32 of hidden states [M, width]."""
        return self.trained_logits(hidden) / self.temperature

    def trained_logits(self, hidden: Tensor) -> Tensor:
        """Logits [M, V] in float32 as training made them, before the temperature."""
        return nn.functional.linear(hidden, self.table.to(hidden.dtype)).float() + self.bias

    def scaled(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., width] in float32, of which the table and `scaled_bias` make the logits."""
        return hidden.float() / self.temperature

    @property
    def scaled_bias(self) -> Tensor:
        """The bias [V] in float32 that goes with `scaled`."""
        return self.bias.float() / self.temperature

    def cross_entropy(self, hidden: Tensor, targets: Tensor, weights: Tensor) -> TokenScores:
        """Weighted cross-entropy without ever holding [M, V] at once.

        Args:
            hidden: Hidden states of the scored positions [M, width]; their dtype is the dtype of the products.
            targets: Clean token ids [M].
            weights: Weight of each position in the loss [M].
        """
        loss, nll, correct = _CrossEntropy.apply(  # type: ignore[no-untyped-call]
            hidden, self.table, self.bias, targets, weights.float(), torch.is_grad_enabled(), self._workspace
        )
        return TokenScores(loss, nll, correct)

    @torch.no_grad()
    def best_log_probability(self, hidden: Tensor, never: int) -> Tensor:
        """Log-probability [M] in float32 of the likeliest token, without ever holding [M, V] at once.

        Args:
            hidden: Hidden states of the scored positions [M, width]; their dtype is the dtype of the products.
            never: A token that is never written, such as the mask: it has no probability.
        """
        bias = self.bias.float().clone()
        bias[never] = NO_LOGIT
        with torch.autocast(hidden.device.type, enabled=False):
            return best_log_probability(hidden, self.table, bias)


class _CrossEntropy(torch.autograd.Function):
    """Loss and gradient in one walk over the vocabulary."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401 - autograd's context has no public type
        hidden: Tensor,
        table: Tensor,
        bias: Tensor,
        targets: Tensor,
        weights: Tensor,
        grad_enabled: bool,
        workspace: Workspace,
    ) -> tuple[Tensor, Tensor, Tensor]:
        # `needs_input_grad` knows nothing of no_grad, and in here the mode is always off: hence the argument.
        wants_grad = grad_enabled and any(ctx.needs_input_grad[:3])
        with torch.autocast(hidden.device.type, enabled=False):
            found = score(
                hidden, table.detach(), bias.detach(), targets, weights, workspace, wants_grad=wants_grad
            )
        ctx.grads = found.gradients
        ctx.mark_non_differentiable(found.nll, found.correct)
        return (found.nll * weights).sum(), found.nll, found.correct

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        grads, ctx.grads = ctx.grads, None
        # A loss that is differentiated itself has the gradient 1, and the table's is large; a GPU does not wait to ask.
        if grad_loss.device.type != "cpu" or grad_loss != 1:
            grads = tuple(grad.mul_(grad_loss) for grad in grads)
        return (*grads, None, None, None, None)
