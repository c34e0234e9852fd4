"""How probable the held-out sentences are under the model: the bound, and guesses by mask ratio."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sgdd_engine.data.batching import ExactLengthBatches
from sgdd_engine.diffusion.objective import AccuracyByMaskRatio, nelbo_nats
from sgdd_engine.evaluation.data import EvaluationSet
from sgdd_engine.evaluation.metrics import ratio_with_error
from sgdd_engine.events import Listener, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.generation import SGDD
from sgdd_engine.models.decoder import Condition
from sgdd_engine.models.model import SemanticDecoder

BATCH_TOKENS = 4096
# A latent dimension whose mean varies less than this over sentences says nothing (arXiv 1509.00519).
ACTIVE_VARIANCE = 0.01


@dataclass(frozen=True, slots=True)
class LikelihoodFigures:
    """Figures of teacher-forced scoring; the sentence's own vector and its true length are given.

    Attributes:
        nelbo_nats_per_token: Negative evidence lower bound over all tokens.
        standard_error: Of that figure, over sentences and noise.
        bits_per_byte: The same bound per UTF-8 byte of the texts, as the tokenizer can write them.
        accuracy_by_mask_ratio: Share of masked tokens guessed in one pass, by the share of the canvas that is
            masked; "100" is the full mask, where decoding starts.
    """

    nelbo_nats_per_token: float
    standard_error: float
    bits_per_byte: float
    accuracy_by_mask_ratio: Mapping[str, float]


@torch.inference_mode()
def likelihood(
    model: SGDD, data: EvaluationSet, *, samples: int, seed: int, on_event: Listener = ignore
) -> LikelihoodFigures:
    """Score the sentences in batches of one exact length each.

    Args:
        model: A trained model; the latent is the posterior's mean.
        data: N sentences that fit the model.
        samples: Stratified times, each with its own mask, per sentence.
        seed: Seed of times and masks.
        on_event: Told of each batch.
    """
    lengths = np.array([len(tokens) for tokens in data.token_ids], dtype=np.int64)
    batches = ExactLengthBatches(lengths, batch_tokens=BATCH_TOKENS, seed=seed)
    generator = torch.Generator(device=model.device).manual_seed(seed)
    nats = np.empty(len(data), dtype=np.float64)
    accuracy = AccuracyByMaskRatio()
    on_event(StageStarted("likelihood", len(data)))
    done = 0
    for position in range(len(batches)):
        rows = batches.batch(position)
        x = torch.tensor([list(data.token_ids[row]) for row in rows], device=model.device)
        z = model.model.latent(data.vectors[torch.from_numpy(rows)].to(model.device)).z
        scorer = _Scorer(model.model, x, model.model.condition(z), accuracy)
        mask_id = model.info.model.vocabulary.mask_id
        bounds = nelbo_nats(x, scorer, model.schedule, mask_id, samples, generator)
        # On the CPU first: Apple's GPUs have no float64.
        nats[rows] = bounds.cpu().double().mean(dim=1).numpy()
        scorer.guess_all(mask_id)
        done += len(rows)
        on_event(StageProgress("likelihood", done))
    per_token, error = ratio_with_error(nats, lengths.astype(np.float64))
    on_event(StageFinished("likelihood", f"{per_token:.3f} ± {error:.3f} nats per token"))
    texts = model.tokenizer.decode_batch(data.token_ids)
    size = sum(len(text.encode()) for text in texts)
    return LikelihoodFigures(per_token, error, float(nats.sum()) / math.log(2) / size, accuracy.result())


@torch.inference_mode()
def latent_figures(model: SGDD, vectors: Tensor) -> dict[str, float | int] | None:
    """How much the variational bottleneck lets through; None where the bottleneck is deterministic.

    Args:
        model: A trained model.
        vectors: [N, D].

    Returns:
        `dimensions`, `active_units` (whose mean varies over sentences) and `kl_nats_per_sentence`.
    """
    latent = model.model.latent(vectors.to(model.device))
    if latent.kl is None:
        return None
    return {
        "dimensions": latent.z.shape[1],
        "active_units": int((latent.z.var(dim=0) > ACTIVE_VARIANCE).sum()),
        "kl_nats_per_sentence": float(latent.kl.sum(dim=1).mean()),
    }


@dataclass(frozen=True, slots=True)
class _Scorer:
    """Scores the clean tokens `x` [B, n] at masked positions, and keeps count of right guesses."""

    model: SemanticDecoder
    x: Tensor
    condition: Condition
    accuracy: AccuracyByMaskRatio

    def __call__(self, z_t: Tensor, t: Tensor, masked: Tensor) -> Tensor:
        nll, correct = self._scores(z_t, t, masked)
        # Full masks are counted once for every sentence in `guess_all`; chance would favour short ones.
        partly = (~masked.all(dim=1, keepdim=True)).expand(masked.shape)
        self.accuracy.add(masked & partly, correct[partly[masked]])
        return nll

    def guess_all(self, mask_id: int) -> None:
        """Count the guesses from the full mask at t = 1."""
        masked = torch.ones_like(self.x, dtype=torch.bool)
        t = torch.ones(len(self.x), device=self.x.device)
        self.accuracy.add(masked, self._scores(torch.full_like(self.x, mask_id), t, masked)[1])

    def _scores(self, z_t: Tensor, t: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        targets = self.x[masked]
        hidden = self.model.hidden(z_t, t, self.condition)[masked]
        scores = self.model.head.cross_entropy(hidden, targets, torch.ones_like(targets))
        return scores.nll, scores.correct
