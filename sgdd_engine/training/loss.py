"""The training loss of one micro-batch: joins bottleneck, corruption, decoder, head and objective."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.diffusion.corruption import mask_lowest, q_sample
from sgdd_engine.diffusion.objective import token_weights
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.diffusion.times import training_times
from sgdd_engine.models.bottleneck import kl_nats_per_sentence
from sgdd_engine.models.decoder import Condition
from sgdd_engine.models.feedback import Draft
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.training.config import TrainConfig
from sgdd_engine.training.dataloading import DraftBatch

# Nats: above the rounding of a log-probability in float32, below what tells positions apart.
TIE_BREAK = 1e-4


@dataclass(frozen=True)
class BatchLoss:
    """The loss of one micro-batch and its terms.

    Attributes:
        total: Scalar to differentiate: masked cross-entropy + length + beta · KL, each in nats over a fixed
            number of tokens, so that the micro-batches of a step add up to its loss; plus the surrogate's error.
        shown: What is reported as the loss: the mean of `nll`, or the surrogate's error where it is trained alone.
        nll: Negative log-likelihood of each masked token, in nats [M].
        correct: Whether the likeliest token is the true one [M]. masked: Which tokens are masked [B, n].
        positions: Indices of the masked tokens in the flattened `masked` [M].
        length_nats: Mean cross-entropy of the length, per sentence.
        kl_nats: KL per sentence, summed over dimensions; 0 where the bottleneck has none.
        surrogate_error: Mean squared distance of the surrogate's vectors from the encoder's; 0 without a surrogate.
        null_rows: Rows whose condition was dropped, which train the null condition; a scalar.
    """

    total: Tensor
    shown: Tensor
    nll: Tensor
    correct: Tensor
    masked: Tensor
    positions: Tensor
    length_nats: Tensor
    kl_nats: Tensor
    surrogate_error: Tensor
    null_rows: Tensor


def batch_loss(
    model: SemanticDecoder,
    x: Tensor,
    e: Tensor,
    *,
    config: TrainConfig,
    diffusion: DiffusionConfig,
    step: int,
    generator: torch.Generator,
    drafts: DraftBatch | None = None,
) -> BatchLoss:
    """The loss of clean tokens `x` [B, n] with their sentence vectors `e` [B, D].

    Every parameter takes part even if no token is masked: DDP waits for the gradient of each. All noise (posterior,
    dropped conditions, times, masks) comes from `generator`, except that of `decoder.dropout`, which PyTorch draws
    from its global state: see `dropout_noise`. A row whose condition is dropped sees no draft either.

    Args:
        model: The model, in training mode.
        x: Clean tokens.
        e: Their sentence vectors.
        config: Weights of the terms, share of dropped conditions, tokens of a step.
        diffusion: The corruption.
        step: Optimiser steps taken, which anneal beta and decide about self-conditioning.
        generator: The noise.
        drafts: Drafts of the rows, if the batch comes with drafts.
    """
    if config.part == "surrogate":
        return _surrogate_loss(model, x, e, config, drafts)
    rows, n = x.shape
    schedule = build_schedule(diffusion.schedule)
    latent = model.latent(e, generator)
    dropped = torch.rand(rows, generator=generator, device=x.device) < config.condition_dropout
    z = model.drop_condition(latent.z, dropped)
    t = training_times(rows, diffusion.num_steps, diffusion.share_at_one, generator, diffusion.times)
    mask_id = model.config.vocabulary.mask_id
    z_t, masked = q_sample(x, t, schedule, mask_id, generator)
    draft = None if drafts is None else _draft(model, drafts, dropped, generator)
    condition = model.condition(z, draft)
    if diffusion.masks == "decoding_order":
        # A network that has learnt nothing is equally sure of all positions: noise decides among equals.
        noise = TIE_BREAK * torch.rand(x.shape, generator=generator, device=x.device)
        sureness = _confidence(model, x, condition) + noise
        z_t, masked = mask_lowest(x, masked.sum(dim=1), sureness, mask_id)
    # The host waits here for the number of masked tokens: once, and before the loss's pass is queued on a GPU.
    positions = masked.flatten().nonzero().squeeze(1)
    weights = token_weights(t, masked, schedule, diffusion.weighting, config.batch_tokens)

    previous = _self_condition(model, z_t, t, condition, positions, step)
    hidden = model.hidden(z_t, t, condition, previous, positions)
    targets = x.flatten().index_select(0, positions)
    scores = model.head.cross_entropy(hidden.to(_product_dtype(x.device)), targets, weights)

    length_nats = F.cross_entropy(model.length_logits(z, draft), torch.full_like(x[:, 0], n - 1))
    kl_nats = torch.zeros_like(length_nats)
    if latent.kl is not None:
        kl_nats = kl_nats_per_sentence(latent.kl, config.free_bits)
    sentences = rows / config.batch_tokens
    error = torch.zeros_like(length_nats) if model.surrogate is None else surrogate_error(model, x, e, drafts)
    beta = annealed_beta(step, config)
    total = scores.loss + sentences * (config.length_weight * length_nats + beta * kl_nats + error)
    if drafts is None and model.draft_reader is not None:
        total = total + _zero(model.draft_reader)
    return BatchLoss(
        total,
        scores.nll.detach().sum() / max(1, len(scores.nll)),
        scores.nll,
        scores.correct,
        masked,
        positions,
        length_nats.detach(),
        kl_nats.detach(),
        error.detach(),
        dropped.sum(),
    )


def annealed_beta(step: int, config: TrainConfig) -> float:
    """The weight of the KL at a step: `beta` after a linear rise over `anneal_steps` steps (arXiv 1511.06349 §3.1)."""
    return config.beta * min(1.0, (step + 1) / max(1, config.anneal_steps))


def _surrogate_loss(
    model: SemanticDecoder, x: Tensor, e: Tensor, config: TrainConfig, drafts: DraftBatch | None
) -> BatchLoss:
    """The loss of a run that trains the surrogate alone: nothing is masked, and the decoder does not compute."""
    error = surrogate_error(model, x, e, drafts)
    nothing, zero = x.new_zeros(0), torch.zeros_like(error)
    return BatchLoss(
        total=error * (len(x) / config.batch_tokens),
        shown=error.detach(),
        nll=e.new_zeros(0),
        correct=nothing.bool(),
        masked=torch.zeros_like(x, dtype=torch.bool),
        positions=nothing,
        length_nats=zero,
        kl_nats=zero,
        surrogate_error=error.detach(),
        null_rows=x.new_zeros(()),
    )


def surrogate_error(model: SemanticDecoder, x: Tensor, e: Tensor, drafts: DraftBatch | None) -> Tensor:
    """Mean squared distance of the surrogate's vectors from the encoder's, a scalar.

    The mean of that over sentences `x` [B, n] with `e` [B, D] and that over the drafts. The surrogate shares
    only the gradient norm that is clipped with the decoder, and Adam's steps do not depend on the scale of a loss: it
    needs no weight of its own.
    """
    error = (model.predict_embedding(x) - e).square().sum(dim=-1).mean()
    if drafts is None:
        return error
    of_drafts = model.predict_embedding(drafts.tokens, drafts.lengths) - drafts.vectors
    return (error + of_drafts.square().sum(dim=-1).mean()) / 2


def _draft(model: SemanticDecoder, drafts: DraftBatch, dropped: Tensor, generator: torch.Generator) -> Draft:
    """The drafts as the decoder reads them: in all rows but those whose condition is dropped."""
    latent = model.latent(drafts.vectors, generator)
    return Draft(drafts.tokens, drafts.lengths, latent.z, ~dropped)


def _zero(module: nn.Module) -> Tensor:
    """0, of which each parameter has a gradient of 0: one process may have drafts while another has none."""
    return sum((parameter.sum() for parameter in module.parameters()), torch.zeros(())) * 0


def uses_first_pass(step: int) -> bool:
    """Whether a step conditions the decoder on its own first pass: half of the steps do.

    Multiples of the golden ratio, modulo 1, fall evenly on both halves of [0, 1], and are correlated with nothing that
    comes at regular steps, as drafts do.
    """
    return step * (5**0.5 - 1) / 2 % 1 > 1 / 2


def _self_condition(
    model: SemanticDecoder, z_t: Tensor, t: Tensor, condition: Condition, positions: Tensor, step: int
) -> Tensor | None:
    """The hidden states [B, n, width] that a decoder with self-conditioning reads; None for other decoders.

    It reads them at the masked `positions` [M] only; elsewhere they are zero.

    In half of the steps those of a first pass, without gradient (arXiv 2208.04202 §3.2), in the others zeros. The step
    decides and not the noise of the micro-batch: under FSDP all processes must call the decoder equally often.
    """
    if not model.config.decoder.self_conditioning:
        return None
    states = torch.zeros(z_t.numel(), model.config.decoder.width, device=z_t.device)
    if uses_first_pass(step):
        with torch.no_grad():
            first = model.hidden(z_t, t, condition, positions=positions)
        torch.clear_autocast_cache()  # PyTorch up to 2.10 keeps weights cast without gradient for the next pass
        states.index_copy_(0, positions, first.float())
    return states.view(*z_t.shape, -1)


@torch.no_grad()
def _confidence(model: SemanticDecoder, x: Tensor, condition: Condition) -> Tensor:
    """How sure the decoder is of each position where all are masked: log-probability of its likeliest token [B, n].

    Decoding writes the surest positions first. Progressive unmasking (arXiv 2602.10314) follows the decoder from step
    to step and trains on the canvases that it passes through; here one pass over the full mask gives the whole order,
    without guidance, and under dropout where there is any. All processes make this call in every step, as FSDP needs
    it: rows that stay fully masked too.

    Args:
        model: The model, in training mode.
        x: Clean tokens [B, n], for their shape alone.
        condition: What the loss's own pass reads.
    """
    canvas = torch.full_like(x, model.config.vocabulary.mask_id)
    hidden = model.hidden(canvas, x.new_ones(len(x), dtype=torch.float32), condition).flatten(0, 1)
    scores = model.head.best_log_probability(
        hidden.to(_product_dtype(x.device)), never=model.config.vocabulary.mask_id
    )
    torch.clear_autocast_cache()  # as for self-conditioning
    return scores.view(x.shape)


def _product_dtype(device: torch.device) -> torch.dtype:
    """The dtype that autocast gives matrix products here; the head's own products follow it."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32


def _noise_seed(seed: int, position: int) -> int:
    """The seed of one micro-batch's noise.

    `(position + seed · m) mod 2⁶³` with m = ⌊2⁶⁴ / φ⌋, an odd number (Knuth, TAOCP vol. 3 §6.4: Fibonacci hashing). It
    differs between the positions of a run, and the positions of another seed lie far away, in the lower 32 bits too,
    which are those that PyTorch's generator on a CPU looks at. A run that was begun by an earlier version goes on with
    the same noise.
    """
    return (position + seed * 0x9E3779B97F4A7C15) % (1 << 63)


def step_generator(seed: int, position: int, device: torch.device) -> torch.Generator:
    """The noise of one micro-batch, from (seed, position) alone.

    So a resumed run draws what it would have drawn, whichever process computes the micro-batch.
    """
    return torch.Generator(device=device).manual_seed(_noise_seed(seed, position))


@contextmanager
def dropout_noise(seed: int, position: int, device: torch.device) -> Iterator[None]:
    """While entered, PyTorch's global random state, which dropout draws from, follows from (seed, position) alone.

    The process's own state is put back afterwards (on CPU and CUDA).
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(_noise_seed(seed, position))
        yield
