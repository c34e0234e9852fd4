"""Validation during training: fixed sentences and fixed noise, so that the curves of runs can be compared.

Two of the sentences are also written from their vectors, so that progress can be read and not only measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sgdd_engine.data.corpus import CorpusSplit, ExactLengthBatches
from sgdd_engine.diffusion.config import DiffusionConfig, SamplingConfig
from sgdd_engine.diffusion.corruption import q_sample
from sgdd_engine.diffusion.objective import (
    RATIO_PARTS,
    accuracy_by_mask_ratio,
    nelbo_nats,
    sums_by_mask_ratio,
)
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.diffusion.times import stratified_times
from sgdd_engine.distributed import World
from sgdd_engine.generation import Decoder, DecodeRequest
from sgdd_engine.models.decoder import Condition
from sgdd_engine.models.feedback import Draft
from sgdd_engine.models.head import TokenScores
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.text.tokenizer import TextTokenizer
from sgdd_engine.training.dataloading import DraftBatch, Drafts
from sgdd_engine.training.loss import surrogate_error

# The same for every run, and no seed that training uses by default.
NOISE_SEED = 20_110_411
TIMES_PER_SENTENCE = 4
# Masks per sentence for the bound, as many as for the loss. With one or two, their noise was as large as the error over
# sentences (0.07 nats per token on 256 sentences of novels, `mini`, six seeds each).
BOUND_SAMPLES = 4
# Sentences that are written after each validation. With guidance they take 2 · 2 · 8 passes of one sentence through the
# decoder, where the default validation takes 512 · 9.
SAMPLES = 2
SAMPLE_STEPS = 8


@dataclass(frozen=True, slots=True)
class ValidationFigures:
    """Held-out figures of one set of weights.

    Attributes:
        loss: What tells which checkpoint is best: nats per masked token at the schedule's times, or the surrogate's
            squared distance where it is trained alone.
        nelbo_nats_per_token: The bound, given vector and length, by the estimator of `sgdd eval` (`nelbo_nats`).
        accuracy_by_mask_ratio: Share of masked tokens guessed, by share of the canvas masked; "100" is the full mask.
        surrogate_error: Mean squared distance of the surrogate's vectors from the encoder's, if there is a surrogate.
    """

    loss: float
    nelbo_nats_per_token: float
    accuracy_by_mask_ratio: Mapping[str, float]
    surrogate_error: float | None = None


class Validation:
    """A fixed sample of held-out sentences with its noise.

    Args:
        split: Where they are taken from.
        sentences: How many.
        batch_tokens: Tokens scored at once.
        diffusion: The noise.
        drafts: Drafts of rows of the split, with a decoder that reads them; then only these rows are scored.
        surrogate_alone: Whether the run trains the surrogate and nothing else.
    """

    def __init__(
        self,
        split: CorpusSplit,
        sentences: int,
        batch_tokens: int,
        diffusion: DiffusionConfig,
        drafts: Drafts | None = None,
        *,
        surrogate_alone: bool = False,
    ) -> None:
        available = np.arange(len(split)) if drafts is None else drafts.rows
        chosen = np.random.default_rng(NOISE_SEED).permutation(len(available))[:sentences]
        batches = ExactLengthBatches(
            split.lengths[available[chosen]], batch_tokens=batch_tokens, seed=NOISE_SEED
        )
        numbers = [chosen[batches.batch(i)] for i in range(len(batches))]
        self._batches = [
            (*split.batch(available[which]), None if drafts is None else drafts.batch(which))
            for which in numbers
        ]
        self._diffusion, self._surrogate_alone = diffusion, surrogate_alone
        self._schedule = build_schedule(diffusion.schedule)

    # Inference mode would leave tensors behind that a sharded model could not train with.
    @torch.no_grad()
    def __call__(self, model: SemanticDecoder, dtype: torch.dtype) -> ValidationFigures:
        """Score the model (put into evaluation mode meanwhile) in the given product dtype."""
        device = model.head.table.device
        # One generator each: the masks of one figure do not depend on how many the other takes.
        loss_noise, bound_noise = (torch.Generator(device).manual_seed(NOISE_SEED) for _ in range(2))
        mask_id = model.config.vocabulary.mask_id
        guesses = torch.zeros(2, RATIO_PARTS + 1, dtype=torch.long)
        totals = torch.zeros(6, dtype=torch.float64)
        was_training = model.training
        model.eval()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            for clean, e, drafts in self._batches:
                x = clean.to(device)
                scorer = _Scorer(model, x, _condition(model, e.to(device), drafts), dtype)
                nats, masked = self._loss(scorer, mask_id, guesses, loss_noise)
                bounds = nelbo_nats(x, scorer.nll, self._schedule, mask_id, BOUND_SAMPLES, bound_noise)
                # On the CPU first: Apple's GPUs have no float64.
                bound = float(bounds.cpu().double().mean(dim=1).sum())
                error = 0.0
                if model.surrogate is not None:
                    on_device = None if drafts is None else DraftBatch(*(part.to(device) for part in drafts))
                    error = len(x) * float(surrogate_error(model, x, e.to(device), on_device))
                totals += torch.tensor([nats, masked, bound, x.numel(), error, len(x)], dtype=torch.float64)
        model.train(was_training)
        nats, masked, bound, tokens, error, rows = totals.tolist()
        distance = None if model.surrogate is None else error / rows
        loss = nats / max(1.0, masked)
        if self._surrogate_alone and distance is not None:
            loss = distance
        return ValidationFigures(loss, bound / tokens, accuracy_by_mask_ratio(guesses), distance)

    def _loss(
        self, scorer: "_Scorer", mask_id: int, guesses: Tensor, generator: torch.Generator
    ) -> tuple[float, float]:
        """Nats at masked tokens and their number, at the schedule's times; counts the guesses at these and at t = 1."""
        x, rows = scorer.x, len(scorer.x)
        times = stratified_times(rows * TIMES_PER_SENTENCE, self._diffusion.num_steps, generator)
        sums = []
        for t in (*times.view(-1, rows), torch.ones(rows, device=x.device)):
            z_t, masked = q_sample(x, t, self._schedule, mask_id, generator)
            scores = scorer(z_t, t, masked)
            guesses += sums_by_mask_ratio(masked, scores.correct.long()[None]).cpu()
            sums.append((float(scores.nll.sum()), float(masked.sum())))
        # The last, the full mask, is not of the schedule's times.
        nats, counts = zip(*sums[:-1], strict=True)
        return sum(nats), sum(counts)


class HeldOutSamples:
    """The same few held-out sentences of every run on a corpus, written from a full mask at their predicted lengths.

    Args:
        split: Where they are taken from.
        tokenizer: Of the corpus.
        diffusion: The noise that the decoder is trained under.
        world: The processes of the run; all of them write, since each may hold a part of the weights.
    """

    def __init__(
        self, split: CorpusSplit, tokenizer: TextTokenizer, diffusion: DiffusionConfig, world: World
    ) -> None:
        rows = np.random.default_rng(NOISE_SEED).permutation(len(split))[:SAMPLES]
        self._sources = [split.text(int(row)) for row in rows]
        self._vectors = split.embeddings(rows)
        self._tokenizer = tokenizer
        self._schedule = build_schedule(diffusion.schedule)
        self._world = world

    @torch.no_grad()
    def __call__(
        self, model: SemanticDecoder, dtype: torch.dtype, *, guided: bool
    ) -> tuple[tuple[str, str], ...]:
        """The pairs of source and written text; `guided` where a null condition is trained."""
        sampling = SamplingConfig(steps=SAMPLE_STEPS)
        if not guided:
            sampling = replace(sampling, cfg=1.0)
        decoder = Decoder(model, self._schedule, self._tokenizer.special_ids, sampling)
        device = model.head.table.device
        was_training = model.training
        model.eval()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            z = decoder.latents(self._vectors)
            # Sharded weights are gathered call by call, so that all processes must write sentences of the same lengths.
            lengths = self._world.broadcast(model.length_logits(z).argmax(dim=-1) + 1).tolist()
            ids = decoder.decode(z, [DecodeRequest(row, n, NOISE_SEED) for row, n in enumerate(lengths)])
        model.train(was_training)
        return tuple(zip(self._sources, self._tokenizer.decode_batch(ids), strict=True))


@dataclass(frozen=True, slots=True)
class _Scorer:
    """Scores the clean tokens `x` [B, n] at masked positions."""

    model: SemanticDecoder
    x: Tensor
    condition: Condition
    dtype: torch.dtype

    def __call__(self, z_t: Tensor, t: Tensor, masked: Tensor) -> TokenScores:
        positions = masked.flatten().nonzero().squeeze(1)
        hidden = self.model.hidden(z_t, t, self.condition, positions=positions).to(self.dtype)
        ones = torch.ones(len(hidden), device=self.x.device)
        return self.model.head.cross_entropy(hidden, self.x[masked], ones)

    def nll(self, z_t: Tensor, t: Tensor, masked: Tensor) -> Tensor:
        """Nats of the clean tokens at the M masked positions [M]."""
        return self(z_t, t, masked).nll


def _condition(model: SemanticDecoder, e: Tensor, drafts: DraftBatch | None) -> Condition:
    z = model.latent(e).z
    if drafts is None:
        return model.condition(z)
    tokens, lengths, vectors = (tensor.to(e.device) for tensor in drafts)
    given = torch.ones(len(e), dtype=torch.bool, device=e.device)
    return model.condition(z, Draft(tokens, lengths, model.latent(vectors).z, given))
