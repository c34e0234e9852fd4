"""A position rule: `--set sample.position_rule=outside_in`."""

from torch import Tensor

from sgdd_engine.diffusion.position_rules import POSITION_RULES, RevealStep


@POSITION_RULES.register("outside_in")
class OutsideIn:
    """Reveals the masked positions nearest to the two ends, as many as the schedule says."""

    reads_logits = False
    stochastic = False

    def score(self, logits: Tensor) -> Tensor:
        """Zeros [M]: the place alone decides."""
        return logits.new_zeros(len(logits))

    def reveal(self, step: RevealStep) -> Tensor:
        """The first and the last `budget / 2` masked positions of each row [B, n]."""
        from_left = step.masked.cumsum(dim=1)
        from_right = step.masked.flip(1).cumsum(dim=1).flip(1)
        left = (step.budget[:, None] + 1) // 2
        return step.masked & ((from_left <= left) | (from_right <= step.budget[:, None] - left))
