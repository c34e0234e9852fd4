"""Which masked positions a denoising step reveals. No torch is imported here: settings are checked without it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sgdd_engine.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class RevealStep:
    """What a rule sees when it chooses.

    Attributes:
        scores: What the rule made of the logits of each masked position, with the step's noise [B, n] in float64;
            −inf where a token stands.
        masked: Where a position is masked [B, n].
        budget: How many positions of each row the masking schedule reveals in this step [B]; 0 in finished rows.
        step: Number of this step, from 0.
        num_steps: Number of steps; the last one reveals all that is left, whatever the rule says.
    """

    scores: "Tensor"
    masked: "Tensor"
    budget: "Tensor"
    step: int
    num_steps: int


class PositionRule(Protocol):
    """Scores masked positions by their logits, then says which of them are revealed.

    Attributes:
        reads_logits: Whether `score` depends on the logits. Where not, positions are chosen before the head runs, and
            only the chosen ones are projected onto the vocabulary.
        stochastic: Whether two seeds give two orders, but for exact ties.
    """

    reads_logits: bool
    stochastic: bool

    def score(self, logits: "Tensor") -> "Tensor":
        """Score [M] of logits [M, V], the mask token's being −inf; untempered, and the caller's to keep."""
        ...

    def reveal(self, step: RevealStep) -> "Tensor":
        """Where to write in this step [B, n]; at least one position in each row that has a masked one."""
        ...


POSITION_RULES: Registry[PositionRule] = Registry("position rule")


class HighestScores:
    """Reveals, in each row, as many positions as the schedule says: those of the highest scores."""

    reads_logits = True
    stochastic = False

    def reveal(self, step: RevealStep) -> "Tensor":
        """The `budget` positions of the highest scores [B, n]."""
        ranked = step.scores.argsort(dim=1, descending=True)
        # 0 … n − 1 in each row: a running count less one.
        rank = step.masked.new_ones(step.masked.shape).cumsum(dim=1) - 1
        return step.masked.new_zeros(step.masked.shape).scatter_(1, ranked, rank < step.budget[:, None])


@POSITION_RULES.register("confidence")
class Confidence(HighestScores):
    """Log-probability of the likeliest token (MaskGIT, arXiv 2202.04200 §3.2)."""

    def score(self, logits: "Tensor") -> "Tensor":
        """`max log softmax(logits)` [M]."""
        return -(logits - logits.amax(dim=-1, keepdim=True)).exp_().sum(dim=-1).log()


@POSITION_RULES.register("margin")
class Margin(HighestScores):
    """Probability of the likeliest token less that of the second (arXiv 2502.06768)."""

    def score(self, logits: "Tensor") -> "Tensor":
        """`p₁ − p₂` [M]."""
        first, token = logits.max(dim=-1, keepdim=True)
        # Twice the maximum: `topk` sorts the whole vocabulary on a CPU.
        second = logits.scatter(1, token, float("-inf")).amax(dim=-1, keepdim=True)
        mass = (logits - first).exp_().sum(dim=-1, keepdim=True)
        return ((1.0 - (second - first).exp()) / mass).squeeze(1)


@POSITION_RULES.register("entropy")
class NegativeEntropy(HighestScores):
    """Minus the entropy of the token distribution, in nats (arXiv 2502.06768)."""

    def score(self, logits: "Tensor") -> "Tensor":
        """`Σ p log p` [M]."""
        log_probs = logits.log_softmax(dim=-1)
        # The mask token has probability 0, and 0 · −inf would be NaN.
        return (log_probs.exp() * log_probs.clamp_min(-1e4)).sum(dim=-1)


@POSITION_RULES.register("random")
class RandomOrder(HighestScores):
    """Any order is equally likely: scores are equal, and the random tie-break decides."""

    reads_logits = False
    stochastic = True

    def score(self, logits: "Tensor") -> "Tensor":
        """Zeros [M]."""
        return logits.new_zeros(len(logits))
