"""Which masked positions a denoising step reveals. No torch is imported here: settings are checked without it."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from sgdd_engine.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class RevealStep:
    """What a rule sees when it chooses.

    Attributes:
        scores: What the rule made of the logits of each masked position [B, n] in float64; −inf where a token stands.
        priorities: The same with the step's noise [B, n]: what positions are ranked by.
        masked: Where a position is masked [B, n].
        budget: How many positions of each row the masking schedule reveals in this step [B]; 0 in finished rows.
        step: Number of this step, from 0.
        num_steps: Number of steps; the last one reveals all that is left, whatever the rule says.
    """

    scores: "Tensor"
    priorities: "Tensor"
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


# More than scores differ by, so that what is set back by it comes after all that is not.
FAR_BEHIND = 1e6


class HighestScores:
    """Reveals, in each row, as many positions as `count` says, by default the budget: those of the highest scores.

    Args:
        apart: Tokens that are to lie between two positions of one step, as long as there are such positions: what is
            written side by side in one step cannot agree, and a word is often written twice (dilated unmasking, arXiv
            2506.19037).
    """

    reads_logits = True
    stochastic = False

    def __init__(self, apart: int = 0) -> None:
        if apart < 0 or apart != int(apart):
            raise ValueError("apart must be a whole number of at least 0")
        self.apart = int(apart)

    def reveal(self, step: RevealStep) -> "Tensor":
        """The `count` positions of the highest scores [B, n]."""
        ranked = step.priorities.argsort(dim=1, descending=True)
        count = self.count(step, ranked)
        if self.apart:
            return self._reveal_apart(step, count)
        # 0 … n − 1 in each row: a running count less one.
        rank = step.masked.new_ones(step.masked.shape).cumsum(dim=1) - 1
        return step.masked.new_zeros(step.masked.shape).scatter_(1, ranked, rank < count[:, None])

    def _reveal_apart(self, step: RevealStep, count: "Tensor") -> "Tensor":
        left, last = step.priorities.clone(), step.masked.shape[1] - 1
        revealed = step.masked.new_zeros(step.masked.shape)
        for number in range(int(count.max())):
            best = left.argmax(dim=1, keepdim=True)
            revealed.scatter_(1, best, revealed.gather(1, best) | (number < count)[:, None])
            for distance in range(1, self.apart + 1):
                # Behind all others, in their own order.
                for near in (best - distance, best + distance):
                    inside = (near >= 0) & (near <= last)
                    left.scatter_add_(1, near.clamp(0, last), left.new_tensor(-FAR_BEHIND) * inside)
            left.scatter_(1, best, float("-inf"))
        return revealed

    def count(self, step: RevealStep, ranked: "Tensor") -> "Tensor":  # noqa: ARG002 - adaptive rules look at it
        """How many positions of each row to reveal [B]: the budget. `ranked` [B, n] are positions, the first best."""
        return step.budget


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


@POSITION_RULES.register("left_to_right")
class LeftToRight(HighestScores):
    """In reading order, as an autoregressive model writes."""

    reads_logits = False

    def score(self, logits: "Tensor") -> "Tensor":
        """Zeros [M]."""
        return logits.new_zeros(len(logits))

    def reveal(self, step: RevealStep) -> "Tensor":
        """The first `budget` masked positions [B, n]."""
        return step.masked & (step.masked.cumsum(dim=1) <= step.budget[:, None])


@POSITION_RULES.register("entropy_bound")
class EntropyBound(NegativeEntropy):
    """As many positions as can be revealed together at a bounded error, surest first (EB-sampler, arXiv 2505.24857 §4).

    Positions in the order of their entropies H₁ ≤ H₂ ≤ … are revealed while `H₁ + … + H₍ₖ₋₁₎ ≤ bound`: their joint
    entropy is bounded so that tokens chosen side by side hardly depend on each other. A bound of 0 is one position a
    step, but for positions that are certain. `sample.steps` is the most there can be: a row never falls behind the
    masking schedule.

    Args:
        bound: In nats.
    """

    def __init__(self, bound: float = 0.5) -> None:
        super().__init__()
        if bound < 0:
            raise ValueError("bound must not be negative")
        self.bound = bound

    def count(self, step: RevealStep, ranked: "Tensor") -> "Tensor":
        """Positions within the bound, at least the budget [B]."""
        entropies = -step.scores.gather(1, ranked)
        before = entropies.cumsum(dim=1) - entropies
        # Where a token stands the entropy is infinite, and the comparison with NaN is false.
        return (before <= self.bound).logical_and(entropies.isfinite()).sum(dim=1).maximum(step.budget)


@POSITION_RULES.register("threshold")
class ConfidenceThreshold(Confidence):
    """Every position whose likeliest token has a probability above a threshold (Fast-dLLM, arXiv 2505.22618 §3.3).

    At least as many as the masking schedule says, so `sample.steps` is the most there can be.

    Args:
        probability: In (0, 1].
    """

    def __init__(self, probability: float = 0.9) -> None:
        super().__init__()
        if not 0 < probability <= 1:
            raise ValueError("probability must lie in (0, 1]")
        self.probability = probability

    def count(self, step: RevealStep, ranked: "Tensor") -> "Tensor":  # noqa: ARG002 - one signature for all rules
        """Positions above the threshold, at least the budget [B]."""
        return (step.scores > math.log(self.probability)).sum(dim=1).maximum(step.budget)
