"""Held-out figures during training: fixed sentences, fixed times, fixed masks, so that curves compare."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sgdd_engine.data.batching import ExactLengthBatches
from sgdd_engine.data.corpus import CorpusSplit
from sgdd_engine.diffusion.config import DiffusionConfig
from sgdd_engine.diffusion.corruption import q_sample
from sgdd_engine.diffusion.objective import AccuracyByMaskRatio
from sgdd_engine.diffusion.schedule import build_schedule, elbo_weight
from sgdd_engine.diffusion.times import stratified_times
from sgdd_engine.models.decoder import Condition
from sgdd_engine.models.feedback import Draft
from sgdd_engine.models.head import TokenScores
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.training.dataloading import DraftBatch, Drafts

# Another number than any training seed uses by default; the noise set is the same for every run.
NOISE_SEED = 20_110_411
TIMES_PER_SENTENCE = 4


@dataclass(frozen=True, slots=True)
class ValidationFigures:
    """Held-out figures of one set of weights.

    Attributes:
        loss: Nats per masked token at the schedule's times.
        nelbo_nats_per_token: The evaluation bound, given vector and length.
        accuracy_by_mask_ratio: Share of masked tokens guessed, by share of the canvas masked; "100" is the full mask.
    """

    loss: float
    nelbo_nats_per_token: float
    accuracy_by_mask_ratio: Mapping[str, float]


class Validation:
    """A fixed sample of held-out sentences with its noise.

    Args:
        split: Where they are taken from.
        sentences: How many.
        batch_tokens: Tokens scored at once.
        diffusion: The noise.
        drafts: Of rows of the split; only these are scored then, each in sight of its draft.
    """

    def __init__(
        self,
        split: CorpusSplit,
        sentences: int,
        batch_tokens: int,
        diffusion: DiffusionConfig,
        drafts: Drafts | None = None,
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
        self._diffusion = diffusion
        self._schedule = build_schedule(diffusion.schedule)

    # Inference mode would leave tensors behind that a sharded model could not train with.
    @torch.no_grad()
    def __call__(self, model: SemanticDecoder, dtype: torch.dtype) -> ValidationFigures:
        """Score the model (put into evaluation mode meanwhile) in the given product dtype."""
        device = model.head.table.device
        generator = torch.Generator(device=device).manual_seed(NOISE_SEED)
        accuracy, totals = AccuracyByMaskRatio(), torch.zeros(4, dtype=torch.float64)
        was_training = model.training
        model.eval()
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            for x, e, drafts in self._batches:
                condition = _condition(model, e.to(device), drafts)
                totals += self._score(model, x.to(device), condition, dtype, accuracy, generator)
        model.train(was_training)
        nats, masked, bound, tokens = totals.tolist()
        return ValidationFigures(nats / max(1.0, masked), bound / tokens, accuracy.result())

    def _score(
        self,
        model: SemanticDecoder,
        x: Tensor,
        condition: Condition,
        dtype: torch.dtype,
        accuracy: AccuracyByMaskRatio,
        generator: torch.Generator,
    ) -> Tensor:
        """Sums over the batch: nats at masked tokens, masked tokens, the bound's nats, tokens."""
        times = stratified_times(len(x) * TIMES_PER_SENTENCE, self._diffusion.num_steps, generator).view(
            -1, len(x)
        )
        sums = torch.zeros(4, dtype=torch.float64)
        for t in times:
            masked, scores = self._masked_scores(model, x, t, condition, dtype, generator)
            accuracy.add(masked, scores.correct)
            weights = elbo_weight(self._schedule, t)[:, None].expand(x.shape)[masked]
            sums += torch.tensor(
                [scores.nll.sum(), masked.sum(), (weights * scores.nll).sum(), x.numel()]
            ).double()
        masked, scores = self._masked_scores(model, x, torch.ones_like(times[0]), condition, dtype, generator)
        accuracy.add(masked, scores.correct)
        return sums

    def _masked_scores(
        self,
        model: SemanticDecoder,
        x: Tensor,
        t: Tensor,
        condition: Condition,
        dtype: torch.dtype,
        generator: torch.Generator,
    ) -> tuple[Tensor, TokenScores]:
        z_t, masked = q_sample(x, t, self._schedule, model.config.vocabulary.mask_id, generator)
        hidden = model.hidden(z_t, t, condition)[masked].to(dtype)
        return masked, model.head.cross_entropy(hidden, x[masked], torch.ones(len(hidden), device=x.device))


def _condition(model: SemanticDecoder, e: Tensor, drafts: DraftBatch | None) -> Condition:
    z = model.latent(e).z
    if drafts is None:
        return model.condition(z)
    tokens, vectors = (tensor.to(e.device) for tensor in drafts[:2])
    shown = torch.ones(len(e), dtype=torch.bool, device=e.device)
    return model.condition(z, Draft(tokens, model.latent(vectors).z, shown))
