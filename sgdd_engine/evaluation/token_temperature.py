"""What the logits of a trained model are divided by so that its probabilities of tokens are right as often as they say.

A model is surer of unseen text than it should be. One number, found on held-out sentences, mends most of it and leaves
the likeliest token the likeliest: temperature scaling (Guo et al. 2017, arXiv 1706.04599 §4.2).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from sgdd_engine.data.corpus import ExactLengthBatches
from sgdd_engine.diffusion.corruption import mask_some
from sgdd_engine.diffusion.times import stratified_times
from sgdd_engine.evaluation.data import EvaluationSet
from sgdd_engine.evaluation.likelihood import BATCH_TOKENS, CHUNK_ELEMENTS
from sgdd_engine.events import Listener, StageFinished, StageProgress, StageStarted, ignore
from sgdd_engine.generation import SGDD
from sgdd_engine.models.config import LEAST_TEMPERATURE, MOST_TEMPERATURE
from sgdd_engine.models.head import VocabularyHead

STAGE = "calibrating token probabilities"
# Masks per sentence: with 300 sentences of novels about 8,000 masked tokens.
SAMPLES = 4
# Newton's method on a convex loss of one variable; a step at most halves or doubles 1/T.
NEWTON_STEPS = 30
CONVERGED = 1e-4


@contextmanager
def token_temperature(head: VocabularyHead, temperature: float) -> Iterator[None]:
    """While entered, the model whose head this is has another temperature."""
    before, head.temperature = head.temperature, temperature
    try:
        yield
    finally:
        head.temperature = before


@torch.inference_mode()
def find_token_temperature(
    model: SGDD, data: EvaluationSet, *, seed: int, on_event: Listener = ignore
) -> float:
    """The T in 0.1 … 10 that minimises `−Σ log softmax(logits / T)` of the clean tokens at masked positions.

    The masks are those of the bound: every number of masks equally often, given the vector and the true length.

    Args:
        model: A trained model; the temperature that it has plays no part.
        data: Sentences that fit it and are not scored afterwards.
        seed: Of the masks.
        on_event: Told of each batch and of the result.
    """
    on_event(StageStarted(STAGE, len(data)))
    lengths = np.array([len(tokens) for tokens in data.token_ids], dtype=np.int64)
    batches = ExactLengthBatches(lengths, batch_tokens=BATCH_TOKENS, seed=seed)
    generator = torch.Generator(device=model.device).manual_seed(seed)
    states, targets, done = [], [], 0
    for position in range(len(batches)):
        rows = batches.batch(position)
        x = torch.tensor([list(data.token_ids[row]) for row in rows], device=model.device)
        z = model.model.latent(data.vectors[torch.from_numpy(rows)].to(model.device)).z
        condition, n = model.model.condition(z), x.shape[1]
        for counts in stratified_times(len(rows) * SAMPLES, n, generator).mul(n).round().view(SAMPLES, -1):
            z_t, masked = mask_some(x, counts, model.info.model.vocabulary.mask_id, generator)
            positions = masked.flatten().nonzero().squeeze(1)
            states.append(
                model.model.hidden(z_t, model.schedule.time_at(counts / n), condition, positions=positions)
            )
            targets.append(x[masked])
        done += len(rows)
        on_event(StageProgress(STAGE, done))
    found = 1 / _inverse_temperature(model.model.head, torch.cat(states), torch.cat(targets))
    on_event(StageFinished(STAGE, f"logits are divided by {found:.2f}"))
    return found


def _inverse_temperature(head: VocabularyHead, hidden: Tensor, targets: Tensor) -> float:
    """The β that minimises `−Σ log softmax(β · trained logits)` of targets [M], given hidden states [M, width]."""
    beta = 1.0
    rows = max(1, CHUNK_ELEMENTS // head.table.shape[0])
    for _ in range(NEWTON_STEPS):
        slope = curvature = 0.0
        for states, clean in zip(torch.split(hidden, rows), torch.split(targets, rows), strict=True):
            logits = head.trained_logits(states)
            p = (beta * logits).softmax(dim=1)
            mean = (p * logits).sum(dim=1)
            slope += float((mean - logits.gather(1, clean[:, None])[:, 0]).sum())
            curvature += float((p * (logits - mean[:, None]).square()).sum())
        # Without curvature every token is as likely as another, or one is certain: no β is better.
        step = slope / curvature if curvature > 0 else 0.0
        beta, before = min(2 * beta, max(beta / 2, beta - step)), beta
        beta = min(1 / LEAST_TEMPERATURE, max(1 / MOST_TEMPERATURE, beta))
        if abs(beta - before) < CONVERGED * beta:
            break
    return beta
