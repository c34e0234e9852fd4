"""The loss of one piece of a batch: joins bottleneck, corruption, decoder, head and objective."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.diffusion.corruption import q_sample
from sgdd_engine.diffusion.objective import token_weights
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.diffusion.times import training_times
from sgdd_engine.models.bottleneck import kl_nats_per_sentence
from sgdd_engine.models.decoder import Condition
from sgdd_engine.models.feedback import Draft
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.seeds import stream_seed
from sgdd_engine.training.config import TrainConfig
from sgdd_engine.training.dataloading import DraftBatch


@dataclass(frozen=True)
class BatchLoss:
    """The loss of one piece of a batch and what it is made of.

    Attributes:
        total: Scalar to differentiate: masked cross-entropy + length + beta · KL, each in nats over a fixed
            number of tokens, so that the pieces of a batch add up to its loss; and the surrogate's error.
        nll: nats of each masked token [M]. correct: whether it was guessed [M]. masked: [B, n].
        places: Where the masked tokens stand in the flattened `masked` [M].
        length_nats: Mean cross-entropy of the length, per sentence.
        kl_nats: KL per sentence, summed over dimensions; 0 where the bottleneck has none.
        surrogate_error: Mean squared distance of guessed vectors from the encoder's; 0 where nothing guesses.
    """

    total: Tensor
    nll: Tensor
    correct: Tensor
    masked: Tensor
    places: Tensor
    length_nats: Tensor
    kl_nats: Tensor
    surrogate_error: Tensor


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
    """Score one piece of clean tokens `x` [B, n] with their vectors `e` [B, D].

    Every parameter takes part, in a piece without a masked token too: DDP waits for each one's gradient. All noise
    (posterior, dropped conditions, times, masks) comes from `generator`, but for `decoder.dropout`, which
    PyTorch draws from its global state: see `dropout_noise`. A row whose condition is dropped sees no draft either.
    """
    rows, n = x.shape
    schedule = build_schedule(diffusion.schedule)
    latent = model.latent(e, generator)
    dropped = torch.rand(rows, generator=generator, device=x.device) < config.condition_dropout
    z = model.drop_condition(latent.z, dropped)
    t = training_times(rows, diffusion.num_steps, diffusion.share_at_one, generator, diffusion.times)
    z_t, masked = q_sample(x, t, schedule, model.config.vocabulary.mask_id, generator)
    # A GPU has to tell how many are masked. It is asked before the decoder's work is queued, and once.
    places = masked.flatten().nonzero().squeeze(1)
    weights = token_weights(t, masked, schedule, diffusion.weighting, config.batch_tokens)

    draft = None if model.draft_reader is None else _draft(model, drafts, z_t, z, dropped, generator)
    condition = model.condition(z, draft)
    before = _before(model, z_t, t, condition, step)
    hidden = model.hidden(z_t, t, condition, before).flatten(0, 1).index_select(0, places)
    targets = x.flatten().index_select(0, places)
    scores = model.head.cross_entropy(hidden.to(_product_dtype(x.device)), targets, weights)

    length_nats = F.cross_entropy(model.length_logits(z), torch.full_like(x[:, 0], n - 1))
    bottleneck = model.config.bottleneck
    kl_nats = torch.zeros_like(length_nats)
    if latent.kl is not None:
        kl_nats = kl_nats_per_sentence(latent.kl, bottleneck.free_bits)
    beta = bottleneck.beta * min(1.0, (step + 1) / max(1, bottleneck.anneal_steps))
    sentences = rows / config.batch_tokens
    error = (
        torch.zeros_like(length_nats) if model.surrogate is None else _surrogate_error(model, x, e, drafts)
    )
    total = scores.loss + sentences * (config.length_weight * length_nats + beta * kl_nats + error)
    return BatchLoss(
        total,
        scores.nll,
        scores.correct,
        masked,
        places,
        length_nats.detach(),
        kl_nats.detach(),
        error.detach(),
    )


def _surrogate_error(model: SemanticDecoder, x: Tensor, e: Tensor, drafts: DraftBatch | None) -> Tensor:
    """Mean squared distance of guessed vectors from the encoder's [D], a scalar.

    Of sentences `x` [B, n] with `e` [B, D], and as much of those drafts that are as they were written. The surrogate
    shares nothing with the decoder but the norm that is clipped, and Adam's steps do not depend on a loss's scale: it
    needs no weight of its own.
    """
    error = (model.predict_embedding(x) - e).square().sum(dim=-1).mean()
    if drafts is None:
        return error
    errors = (model.predict_embedding(drafts.tokens) - drafts.vectors).square().sum(dim=-1)
    return (error + (errors * drafts.whole).sum() / drafts.whole.sum().clamp_min(1)) / 2


def _draft(
    model: SemanticDecoder,
    drafts: DraftBatch | None,
    z_t: Tensor,
    z: Tensor,
    dropped: Tensor,
    generator: torch.Generator,
) -> Draft:
    """What the rows see: their drafts, or where there are none the canvas itself, shown to nobody.

    So the reader takes part in every piece; one process may have drafts while another has none.
    """
    if drafts is None:
        return Draft(z_t, z, torch.zeros_like(dropped))
    return Draft(drafts.tokens, model.latent(drafts.vectors, generator).z, ~dropped)


def uses_first_pass(step: int) -> bool:
    """Whether a step takes a first look: half of them do.

    Multiples of the golden ratio fall evenly on both halves of [0, 1], and in step with nothing that comes at a share
    of the steps, as drafts do.
    """
    return step * (5**0.5 - 1) / 2 % 1 > 1 / 2


def _before(model: SemanticDecoder, z_t: Tensor, t: Tensor, condition: Condition, step: int) -> Tensor | None:
    """What a decoder with self-conditioning reads of itself: in half of the steps a first look, zeros in the others.

    No gradient flows through the first look (arXiv 2208.04202 §3.2). The step decides, not the piece's noise: under
    FSDP all processes must call the decoder equally often.
    """
    if not model.config.decoder.self_conditioning:
        return None
    if not uses_first_pass(step):
        return torch.zeros(*z_t.shape, model.config.decoder.width, device=z_t.device)
    with torch.no_grad():
        first = model.hidden(z_t, t, condition)
    return first.float()


def _product_dtype(device: torch.device) -> torch.dtype:
    """The dtype that autocast gives matrix products here; the head's own products follow it."""
    return torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else torch.float32


def step_generator(seed: int, position: int, device: torch.device) -> torch.Generator:
    """The noise of one piece, from (seed, position) alone.

    So a resumed run draws what it would have drawn, and it is the same whichever process computes the piece.
    """
    return torch.Generator(device=device).manual_seed(stream_seed(position, seed))


@contextmanager
def dropout_noise(seed: int, position: int, device: torch.device) -> Iterator[None]:
    """While entered, PyTorch's global random state, which dropout draws from, follows from (seed, position) alone.

    The process's own state is put back afterwards (on CPU and CUDA).
    """
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(stream_seed(position, seed))
        yield
