"""The one denoising loop: choose positions, then tokens, until no mask is left.

Source: MaskGIT, Chang et al. 2022 (arXiv 2202.04200 §3.2), in its choose-then-sample form (arXiv 2510.04525).
Confidence always comes from untempered log-probabilities: tempered ones tie and fill from left to right.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.schedule import MaskingSchedule

LogitChunks = Callable[[Tensor], Iterator[Tensor]]
"""`which [m] → logits [m₁, V], [m₂, V], …`, pieces that together are the m rows asked for, in their order.

`which` counts the masked positions of the canvas in reading order. The pieces are the sampler's to write on, and
each may be gone when the next one comes: all of them together need not fit into memory.
"""

Denoiser = Callable[[Tensor, Tensor, Tensor], LogitChunks]
"""`(z_t [B, n], t [B], masked [B, n]) → LogitChunks`: the network runs once a step, the head for what is asked."""

OrderRule = Callable[[Tensor], Tensor]
"""`logits [M, V] → score [M]`; the highest scores are filled first."""

# Breaks exact ties at random without reordering scores that differ.
TIE_BREAK = 1e-9


def confidence(logits: Tensor) -> Tensor:
    """Log-probability of the likeliest token."""
    return -(logits - logits.amax(dim=-1, keepdim=True)).exp_().sum(dim=-1).log()


def margin(logits: Tensor) -> Tensor:
    """Probability of the likeliest token less that of the second (arXiv 2502.06768)."""
    first, token = logits.max(dim=-1, keepdim=True)
    # Twice the maximum: `topk` sorts the whole vocabulary on a CPU.
    second = logits.scatter(1, token, -torch.inf).amax(dim=-1, keepdim=True)
    mass = (logits - first).exp_().sum(dim=-1, keepdim=True)
    return ((1.0 - (second - first).exp()) / mass).squeeze(1)


def negative_entropy(logits: Tensor) -> Tensor:
    """Minus the entropy, in nats."""
    log_probs = logits.log_softmax(dim=-1)
    return (log_probs.exp() * log_probs.clamp_min(-1e4)).sum(dim=-1)


def any_order(logits: Tensor) -> Tensor:
    """The same score for all, so that the random tie-break decides."""
    return logits.new_zeros(len(logits))


ORDERS: dict[str, OrderRule] = {
    "confidence": confidence,
    "margin": margin,
    "entropy": negative_entropy,
    "random": any_order,
}


@torch.inference_mode()
def sample(
    denoiser: Denoiser,
    canvas: Tensor,
    *,
    mask_id: int,
    schedule: MaskingSchedule,
    config: SamplingConfig,
    generators: Sequence[torch.Generator],
    lengths: Sequence[int] | None = None,
    on_step: Callable[[int, Tensor], None] | None = None,
) -> Tensor:
    """Fill every masked position of a canvas; tokens that stand on it stay.

    The canvas stays on the CPU, where the noise is drawn; only what the network reads need leave it.

    Args:
        denoiser: The (guided) denoiser.
        canvas: Tokens [B, n] on the CPU, `mask_id` where open. A canvas partly filled is an infilling task.
        mask_id: The absorbing token.
        schedule: Says how many masks are left after each step.
        config: Steps, order, temperature.
        generators: One CPU generator per row, so that a row's text does not depend on its batch.
        lengths: Tokens of each row, where some rows are shorter than the canvas; what stands behind them is
            never looked at.
        on_step: Called with (steps done, canvas [B, n]) after each step.

    Returns:
        Tokens [B, n] without any mask. Rows with fewer masks than steps need fewer steps.
    """
    z_t = canvas.clone()
    ends = torch.tensor([z_t.shape[1]] * len(z_t) if lengths is None else list(lengths))
    at_start = (z_t == mask_id).sum(dim=1)
    for step in range(config.steps):
        masked = z_t == mask_id
        left = masked.sum(dim=1)
        if not left.any():
            break
        fill = left - _masks_after(step, at_start, left, config.steps, schedule)
        scores = denoiser(z_t, schedule.time_at(left / ends), masked)
        # Drawn in any case, so that a row's later draws do not depend on what its batch needs.
        noise = _noise(masked, left, ends, generators)
        rank, tokens = _look(scores, fill, left, mask_id, config)
        chosen = _choose_positions(rank, masked, fill, noise, config, step)
        which = chosen[masked].nonzero().squeeze(1)
        if tokens is None:
            rows = chosen.nonzero()[:, 0].tolist()
            z_t[chosen] = _choose_tokens(scores, which, [generators[row] for row in rows], mask_id, config)
        else:
            z_t[chosen] = tokens[which]
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


def _noise(masked: Tensor, left: Tensor, ends: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """One uniform number per position [B, n] in float64; rows that are done draw nothing."""
    noise = torch.zeros(masked.shape, dtype=torch.float64)
    for row in left.nonzero().squeeze(1).tolist():
        end = int(ends[row])
        noise[row, :end] = torch.rand(end, generator=generators[row], dtype=torch.float64)
    return noise


def _look(
    scores: LogitChunks, fill: Tensor, left: Tensor, mask_id: int, config: SamplingConfig
) -> tuple[Tensor, Tensor | None]:
    """The rank of each masked position [M], and its likeliest token where that is what it will get."""
    count = int(left.sum())
    # Nothing to choose between, or nothing to choose by: the chosen positions are looked at later, and alone.
    if config.order == "random" or (config.temperature > 0 and torch.equal(fill, left)):
        return torch.zeros(count), None
    ranks, tokens = [], []
    for logits in scores(torch.arange(count)):
        logits[:, mask_id] = -torch.inf
        ranks.append(ORDERS[config.order](logits))
        if config.temperature == 0:
            tokens.append(logits.max(dim=-1).indices)
    return torch.cat(ranks).cpu(), torch.cat(tokens).cpu() if tokens else None


def _choose_positions(
    rank: Tensor, masked: Tensor, fill: Tensor, noise: Tensor, config: SamplingConfig, step: int
) -> Tensor:
    """Where to write now [B, n]: in each row the `fill` masked positions of the highest rank."""
    order = torch.full(masked.shape, -torch.inf, dtype=torch.float64)
    order[masked] = rank.double() + TIE_BREAK * noise[masked]
    if config.order_noise:
        fading = config.order_noise * (1.0 - (step + 1) / config.steps)
        order = order + fading * -(-noise.clamp_min(1e-300).log()).log()
    first = torch.arange(masked.shape[1]) < fill[:, None]
    return torch.zeros_like(masked).scatter_(1, order.argsort(dim=1, descending=True), first)


def _choose_tokens(
    scores: LogitChunks,
    which: Tensor,
    generators: Sequence[torch.Generator],
    mask_id: int,
    config: SamplingConfig,
) -> Tensor:
    """A token, never the mask, for each chosen position: the likeliest, or a tempered draw from the nucleus."""
    tokens: list[Tensor] = []
    done = 0
    for logits in scores(which):
        logits[:, mask_id] = -torch.inf
        if config.temperature == 0:
            tokens.append(logits.max(dim=-1).indices)
        else:
            tokens.append(_draw(logits, generators[done : done + len(logits)], config))
        done += len(logits)
    return torch.cat(tokens).cpu()


def _draw(logits: Tensor, generators: Sequence[torch.Generator], config: SamplingConfig) -> Tensor:
    # Apple's GPUs have no float64.
    place = torch.device("cpu") if logits.device.type == "mps" else logits.device
    tempered = (logits.to(place).double() / config.temperature).log_softmax(dim=-1)
    if config.top_p < 1:
        tempered = _nucleus(tempered, config.top_p)
    # float32 Gumbel noise cuts off the tail and lowers diversity (arXiv 2409.02908), hence float64.
    draws = [torch.rand(logits.shape[1], generator=g, dtype=torch.float64) for g in generators]
    uniform = torch.stack(draws).to(place).clamp_min(1e-300)
    return (tempered - (-uniform.log()).log()).argmax(dim=-1)


def _nucleus(log_probs: Tensor, top_p: float) -> Tensor:
    """Log-probabilities with everything outside the smallest set of mass `top_p` removed."""
    ordered, index = log_probs.sort(dim=-1, descending=True)
    outside = ordered.exp().cumsum(dim=-1) - ordered.exp() >= top_p
    return log_probs.scatter(1, index, ordered.masked_fill(outside, -torch.inf))
