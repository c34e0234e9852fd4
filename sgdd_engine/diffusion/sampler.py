"""The denoising loop: choose positions, then tokens, until no mask is left.

Source: MaskGIT, Chang et al. 2022 (arXiv 2202.04200 §3.2), in its choose-then-sample form (arXiv 2510.04525).
Positions are always scored by untempered logits: tempered ones tie, and a tie would fill from left to right.
With `remask`, tokens that were written are masked again (ReMDM, arXiv 2503.00307 §4.1, its confidence form).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.position_rules import POSITION_RULES, PositionRule, RevealStep
from sgdd_engine.diffusion.schedule import SCHEDULES, MaskingSchedule


class LogitChunk(NamedTuple):
    """Logits of a few positions.

    Attributes:
        logits: [m, V], or [m, K] where a denoiser scores some tokens only.
        ids: The tokens that the K columns stand for [m, K], the mask token first; None where they are all tokens.
    """

    logits: Tensor
    ids: Tensor | None = None

    def without_mask(self, mask_id: int) -> Tensor:
        """The logits, the mask token's being −inf; written over."""
        self.logits[:, mask_id if self.ids is None else 0] = -torch.inf
        return self.logits

    def tokens(self, columns: Tensor) -> Tensor:
        """The token that stands in a column of each position [m]."""
        return columns if self.ids is None else self.ids.gather(1, columns[:, None]).squeeze(1)

    def log_prob(self, distribution: Tensor, tokens: Tensor) -> Tensor:
        """The entries [m] of log-probabilities, shaped as the logits are, that belong to tokens [m]."""
        tokens = tokens[:, None].to(distribution.device)
        if self.ids is None:
            return distribution.gather(1, tokens).squeeze(1)
        return distribution.masked_fill(self.ids != tokens, -torch.inf).amax(dim=1)


LogitChunks = Callable[[Tensor], Iterator[LogitChunk]]
"""`which [m] → m₁, m₂, … positions`, chunks that together are the m positions asked for, in their order.

`which` counts the masked positions of the canvas in reading order. The sampler may overwrite a chunk, and a chunk is
valid until the next one is asked for: all of them together need not fit into memory.
"""

Denoiser = Callable[[Tensor, Tensor, Tensor], LogitChunks]
"""`(z_t [B, n], t [B], masked [B, n]) → LogitChunks`: the network runs once a step, the head for what is asked."""

# Breaks exact ties at random without reordering scores that differ: float32 scores differ by more, or not at all.
TIE_BREAK = 1e-9


@dataclass(frozen=True, slots=True)
class TokenTrace:
    """How sure the sampler was of each token when it was written; 0 where a token was given.

    Attributes:
        step: The step that wrote it, from 1 [B, n].
        log_prob: Its log-probability under the untempered (guided) distribution, in nats [B, n] in float32.
        entropy: Of that distribution, in nats [B, n] in float32.
    """

    step: Tensor
    log_prob: Tensor
    entropy: Tensor

    def of_row(self, row: int, length: int) -> "TokenTrace":
        """The trace of one row's `length` tokens, each [length]."""
        return TokenTrace(self.step[row, :length], self.log_prob[row, :length], self.entropy[row, :length])


@dataclass(frozen=True, slots=True)
class SampledTokens:
    """What the sampler wrote.

    Attributes:
        tokens: Without any mask [B, n].
        steps: In how many steps the network read each row [B].
        trace: Where it was asked for.
    """

    tokens: Tensor
    steps: Tensor
    trace: TokenTrace | None


@torch.no_grad()
def sample(
    denoiser: Denoiser,
    canvas: Tensor,
    *,
    mask_id: int,
    schedule: MaskingSchedule,
    config: SamplingConfig,
    generators: Sequence[torch.Generator],
    lengths: Sequence[int] | None = None,
    trace: bool = False,
    on_step: Callable[[int, Tensor, TokenTrace | None], None] | None = None,
) -> SampledTokens:
    """Fill every masked position of a canvas; tokens that stand on it stay.

    The canvas stays on the CPU, where the noise is drawn; only what the network reads need leave it.

    Args:
        denoiser: The (guided) denoiser.
        canvas: Tokens [B, n] on the CPU, `mask_id` where open. A canvas partly filled is an infilling task.
        mask_id: The absorbing token.
        schedule: The schedule of training: the time at which a share of the tokens is masked.
        config: Steps, the masks left after each step, position rule, temperature.
        generators: One CPU generator per row, so that a row's text does not depend on its batch.
        lengths: Tokens of each row, where some rows are shorter than the canvas; what stands behind them is
            never looked at.
        trace: Whether to say how sure each token was; costs a second look at the logits of what is written.
        on_step: Called with (steps done, canvas [B, n], the trace so far where it is asked for) after each step.

    Returns:
        Tokens [B, n]. Rows with fewer masks than steps, and rows of an adaptive rule, need fewer steps.
    """
    rule, unmasking = POSITION_RULES.build(config.position_rule), SCHEDULES.build(config.unmasking)
    z_t = canvas.clone()
    ends = torch.tensor([z_t.shape[1]] * len(z_t) if lengths is None else list(lengths))
    open_at_start = z_t == mask_id
    masks_at_start = open_at_start.sum(dim=1)
    steps_taken = torch.zeros_like(masks_at_start)
    written = TokenTrace(torch.zeros_like(z_t), torch.zeros(z_t.shape), torch.zeros(z_t.shape))
    needs_trace = trace or config.remask > 0
    for step in range(config.steps):
        masked = z_t == mask_id
        masks_left = masked.sum(dim=1)
        if not masks_left.any():
            break
        steps_taken += masks_left > 0
        budget = masks_left - _masks_after(step, masks_at_start, masks_left, config.steps, unmasking)
        logit_chunks = denoiser(z_t, schedule.time_at(masks_left / ends), masked)
        # Drawn in any case, so that a row's later draws do not depend on what its batch needs.
        noise = _uniform_noise(masks_left, ends, generators, z_t.shape)
        # Where a row writes all it has left, there is no position to choose; tokens that are drawn wait for the choice.
        needs_scores = rule.reads_logits and not (config.temperature > 0 and torch.equal(budget, masks_left))
        scores, likeliest = _score(logit_chunks, int(masks_left.sum()), rule, mask_id, config, needs_scores)
        revealed = _reveal(rule, scores, masked, budget, noise, config, step)
        which = revealed[masked].nonzero().squeeze(1)
        if likeliest is None:
            rows = revealed.nonzero()[:, 0].tolist()
            tokens = _choose_tokens(logit_chunks, which, [generators[r] for r in rows], mask_id, config)
        else:
            tokens = likeliest[which]
        if needs_trace:  # before the canvas changes: coverage-aware logits depend on it
            written.step[revealed] = step + 1
            written.log_prob[revealed], written.entropy[revealed] = _certainty(
                logit_chunks, which, tokens, mask_id
            )
        z_t[revealed] = tokens
        if config.remask and step + 1 < config.steps:
            standing = open_at_start & (z_t != mask_id)
            unsure = _remasked(standing, masks_left, written.log_prob, ends, config, generators)
            z_t[unsure] = mask_id
        if on_step is not None:
            on_step(step + 1, z_t.clone(), written if trace else None)
    return SampledTokens(z_t, steps_taken, written if trace else None)


def _certainty(
    logit_chunks: LogitChunks, which: Tensor, tokens: Tensor, mask_id: int
) -> tuple[Tensor, Tensor]:
    """Log-probability of the tokens [m] that were written at these positions, and the entropy there, in nats."""
    log_probs, entropies, done = [], [], 0
    for chunk in logit_chunks(which):
        distribution = chunk.without_mask(mask_id).log_softmax(dim=-1)
        chosen = tokens[done : done + len(distribution)]
        log_probs.append(chunk.log_prob(distribution, chosen).float().cpu())
        # The mask token has probability 0, and 0 · −inf would be NaN.
        entropies.append(-(distribution.exp() * distribution.clamp_min(-1e4)).sum(dim=-1).float().cpu())
        done += len(distribution)
    return torch.cat(log_probs), torch.cat(entropies)


def _remasked(
    written: Tensor,
    masks_left: Tensor,
    log_prob: Tensor,
    ends: Tensor,
    config: SamplingConfig,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Tokens that are masked again [B, n]: of each row that was open, the share `config.remask` of what is written.

    Drawn without replacement in proportion to `1 / p(token)` as it was when the token was written.
    """
    unsure = torch.zeros_like(written)
    noise = _uniform_noise(masks_left, ends, generators, written.shape)
    # Gumbel top-k.
    keys = (-log_prob.double() - (-noise.clamp_min(1e-300).log()).log()).masked_fill(~written, -torch.inf)
    for row in masks_left.nonzero().squeeze(1).tolist():
        unsure[row, keys[row].topk(round(config.remask * int(written[row].sum()))).indices] = True
    return unsure


def _masks_after(
    step: int, masks_at_start: Tensor, masks_left: Tensor, num_steps: int, schedule: MaskingSchedule
) -> Tensor:
    """Masks left after this step [B]: what the schedule says, at least one fewer than now, none after the last."""
    if step + 1 >= num_steps:
        return torch.zeros_like(masks_left)
    s = torch.tensor(1.0 - (step + 1) / num_steps, dtype=torch.float64)
    share = float(1.0 - schedule.alpha(s))
    return torch.minimum((masks_at_start * share).floor().long(), (masks_left - 1).clamp_min(0))


def _uniform_noise(
    masks_left: Tensor, ends: Tensor, generators: Sequence[torch.Generator], shape: torch.Size
) -> Tensor:
    """One uniform number per position [B, n] in float64; finished rows draw nothing."""
    noise = torch.zeros(shape, dtype=torch.float64)
    for row in masks_left.nonzero().squeeze(1).tolist():
        end = int(ends[row])
        noise[row, :end] = torch.rand(end, generator=generators[row], dtype=torch.float64)
    return noise


def _score(
    logit_chunks: LogitChunks,
    count: int,
    rule: PositionRule,
    mask_id: int,
    config: SamplingConfig,
    needs_scores: bool,
) -> tuple[Tensor, Tensor | None]:
    """The rule's score of each masked position [M], and its likeliest token [M] where tokens are not drawn."""
    if not needs_scores:
        return torch.zeros(count), None
    scores, tokens = [], []
    for chunk in logit_chunks(torch.arange(count)):
        logits = chunk.without_mask(mask_id)
        scores.append(rule.score(logits))
        if config.temperature == 0:
            tokens.append(chunk.tokens(logits.max(dim=-1).indices))
    return torch.cat(scores).cpu(), torch.cat(tokens).cpu() if tokens else None


def _reveal(
    rule: PositionRule,
    scores: Tensor,
    masked: Tensor,
    budget: Tensor,
    noise: Tensor,
    config: SamplingConfig,
    step: int,
) -> Tensor:
    """Where to write now [B, n]: what the rule says, and in the last step every masked position."""
    if step + 1 == config.steps:
        return masked
    of_each = torch.full(masked.shape, -torch.inf, dtype=torch.float64)
    of_each[masked] = scores.double()
    priorities = of_each + TIE_BREAK * noise
    if config.position_noise:
        scale = config.position_noise * (1.0 - (step + 1) / config.steps)
        priorities = priorities + scale * -(-noise.clamp_min(1e-300).log()).log()
    return rule.reveal(RevealStep(of_each, priorities, masked, budget, step, config.steps)) & masked


def _choose_tokens(
    logit_chunks: LogitChunks,
    which: Tensor,
    generators: Sequence[torch.Generator],
    mask_id: int,
    config: SamplingConfig,
) -> Tensor:
    """A token, never the mask, for each chosen position [m]: the likeliest, or a tempered draw from the nucleus."""
    tokens: list[Tensor] = []
    done = 0
    for chunk in logit_chunks(which):
        logits = chunk.without_mask(mask_id)
        if config.temperature == 0:
            columns = logits.max(dim=-1).indices
        else:
            columns = _draw(logits, generators[done : done + len(logits)], config)
        tokens.append(chunk.tokens(columns))
        done += len(logits)
    return torch.cat(tokens).cpu()


def _draw(logits: Tensor, generators: Sequence[torch.Generator], config: SamplingConfig) -> Tensor:
    """A token drawn from each row of logits [m, V] by the Gumbel-max trick: [m]."""
    # Apple's GPUs have no float64.
    device = torch.device("cpu") if logits.device.type == "mps" else logits.device
    tempered = (logits.to(device).double() / config.temperature).log_softmax(dim=-1)
    if 0 < config.top_k < tempered.shape[1]:
        least = tempered.topk(config.top_k, dim=-1).values[:, -1:]
        tempered = tempered.masked_fill(tempered < least, -torch.inf).log_softmax(dim=-1)
    if config.top_p < 1:
        tempered = _nucleus(tempered, config.top_p)
    # float32 Gumbel noise cuts off the tail and lowers diversity (arXiv 2409.02908), hence float64.
    draws = [torch.rand(logits.shape[1], generator=g, dtype=torch.float64) for g in generators]
    uniform = torch.stack(draws).to(device).clamp_min(1e-300)
    return (tempered - (-uniform.log()).log()).argmax(dim=-1)


def _nucleus(log_probs: Tensor, top_p: float) -> Tensor:
    """Log-probabilities with everything outside the smallest set of mass `top_p` removed (arXiv 1904.09751)."""
    ordered, index = log_probs.sort(dim=-1, descending=True)
    outside = ordered.exp().cumsum(dim=-1) - ordered.exp() >= top_p
    return log_probs.scatter(1, index, ordered.masked_fill(outside, -torch.inf))
