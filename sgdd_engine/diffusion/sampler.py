"""The one denoising loop: choose positions, then tokens, until no mask is left.

Source: MaskGIT, Chang et al. 2022 (arXiv 2202.04200 §3.2), in its choose-then-sample form (arXiv 2510.04525).
Confidence always comes from untempered log-probabilities: tempered ones tie and fill from left to right.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.schedule import MaskingSchedule

MaskedLogProbs = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`(z_t [B, n], t [B], masked [B, n]) → log-probabilities [M, V]` at the M masked positions."""

OrderRule = Callable[[Tensor], Tensor]
"""`log-probabilities [M, V] → score [M]`; the highest scores are filled first."""

# Breaks exact ties at random without reordering scores that differ.
TIE_BREAK = 1e-9


def confidence(log_probs: Tensor) -> Tensor:
    """Log-probability of the likeliest token."""
    return log_probs.amax(dim=-1)


def margin(log_probs: Tensor) -> Tensor:
    """Probability of the likeliest token less that of the second (arXiv 2502.06768)."""
    first, second = log_probs.topk(2, dim=-1).values.exp().unbind(dim=-1)
    return first - second


def negative_entropy(log_probs: Tensor) -> Tensor:
    """Minus the entropy, in nats."""
    return (log_probs.exp() * log_probs.clamp_min(-1e4)).sum(dim=-1)


def any_order(log_probs: Tensor) -> Tensor:
    """The same score for all, so that the random tie-break decides."""
    return log_probs.new_zeros(len(log_probs))


ORDERS: dict[str, OrderRule] = {
    "confidence": confidence,
    "margin": margin,
    "entropy": negative_entropy,
    "random": any_order,
}


@torch.inference_mode()
def sample(
    log_probs: MaskedLogProbs,
    canvas: Tensor,
    *,
    mask_id: int,
    schedule: MaskingSchedule,
    config: SamplingConfig,
    generators: Sequence[torch.Generator],
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Fill every masked position of a canvas; tokens that stand on it stay.

    Args:
        log_probs: The (guided) denoiser.
        canvas: Tokens [B, n], `mask_id` where open. A canvas that is partly filled is an infilling task.
        mask_id: The absorbing token.
        schedule: Says how many masks are left after each step.
        config: Steps, order, temperature.
        generators: One CPU generator per row, so that a row's text does not depend on its batch.
        on_step: Called with (steps done, canvas [B, n]) after each step.

    Returns:
        Tokens [B, n] without any mask. Rows with fewer masks than steps need fewer steps.
    """
    z_t = canvas.clone()
    at_start = (z_t == mask_id).sum(dim=1)
    for step in range(config.steps):
        masked = z_t == mask_id
        left = masked.sum(dim=1)
        if not left.any():
            break
        t = schedule.time_at(left / z_t.shape[1])
        fill = left - _masks_after(step, at_start, left, config.steps, schedule)
        scores = log_probs(z_t, t, masked)
        chosen = _choose_positions(scores, masked, fill, config, step, generators)
        z_t[chosen] = _choose_tokens(scores[chosen[masked]], chosen, mask_id, config, generators)
        if on_step is not None:
            on_step(step + 1, z_t.clone())
    return z_t


def _masks_after(step: int, at_start: Tensor, left: Tensor, steps: int, schedule: MaskingSchedule) -> Tensor:
    """Masks left after this step [B]: what the schedule says, at least one fewer than now, none after the last."""
    if step + 1 >= steps:
        return torch.zeros_like(left)
    s = torch.tensor(1.0 - (step + 1) / steps, dtype=torch.float64)
    share = float(1.0 - schedule.alpha(s))
    return torch.minimum((at_start * share).floor().long(), (left - 1).clamp_min(0))


def _choose_positions(
    scores: Tensor,
    masked: Tensor,
    fill: Tensor,
    config: SamplingConfig,
    step: int,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Where to write now [B, n]: in each row the `fill` masked positions of the highest score."""
    device = masked.device
    # On the CPU: the noise is drawn there, and Apple's GPUs have no float64.
    masked, fill = masked.cpu(), fill.cpu()
    rank_by = torch.full(masked.shape, -torch.inf, dtype=torch.float64)
    noise = torch.stack([torch.rand(masked.shape[1], generator=g, dtype=torch.float64) for g in generators])
    noise = noise[masked]
    order = ORDERS[config.order](scores).cpu().double() + TIE_BREAK * noise
    if config.order_noise:
        fading = config.order_noise * (1.0 - (step + 1) / config.steps)
        order = order + fading * -(-noise.clamp_min(1e-300).log()).log()
    rank_by[masked] = order
    rank = rank_by.argsort(dim=1, descending=True).argsort(dim=1)
    return ((rank < fill[:, None]) & masked).to(device)


def _choose_tokens(
    scores: Tensor,
    chosen: Tensor,
    mask_id: int,
    config: SamplingConfig,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """A token, never the mask, for each chosen position: the likeliest, or a tempered draw from the nucleus."""
    scores = scores.index_fill(1, torch.tensor([mask_id], device=scores.device), -torch.inf)
    if config.temperature == 0:
        return scores.argmax(dim=-1)
    # Apple's GPUs have no float64.
    place = torch.device("cpu") if scores.device.type == "mps" else scores.device
    tempered = (scores.to(place).double() / config.temperature).log_softmax(dim=-1)
    if config.top_p < 1:
        tempered = _nucleus(tempered, config.top_p)
    # float32 Gumbel noise cuts off the tail and lowers diversity (arXiv 2409.02908), hence float64.
    counts = chosen.sum(dim=1).tolist()
    draws = [
        torch.rand(k, scores.shape[1], generator=g, dtype=torch.float64)
        for k, g in zip(counts, generators, strict=True)
    ]
    uniform = torch.cat(draws).to(place).clamp_min(1e-300)
    return (tempered - (-uniform.log()).log()).argmax(dim=-1).to(scores.device)


def _nucleus(log_probs: Tensor, top_p: float) -> Tensor:
    """Log-probabilities with everything outside the smallest set of mass `top_p` removed."""
    ordered, index = log_probs.sort(dim=-1, descending=True)
    outside = ordered.exp().cumsum(dim=-1) - ordered.exp() >= top_p
    return log_probs.scatter(1, index, ordered.masked_fill(outside, -torch.inf))
