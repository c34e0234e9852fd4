"""Whether the model writes more than one thing: several samples of each vector, and the words of all outputs."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import torch

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.evaluation.data import EvaluationSet
from sgdd_engine.evaluation.metrics import distinct, sentence_bleu, unigram_entropy_nats
from sgdd_engine.evaluation.scores import Scores, encode_again
from sgdd_engine.events import Listener, StageFinished, StageStarted, ignore
from sgdd_engine.generation import RESAMPLING_TEMPERATURE, SGDD

SENTENCES = 100


def diversity_of_outputs(scores: Scores) -> dict[str, float]:
    """Different words and pairs of words, and entropy, of all outputs and of all references."""
    figures = {}
    for name, texts in (("outputs", scores.texts), ("references", scores.references)):
        figures[f"{name}_distinct_1"] = distinct(texts, 1)
        figures[f"{name}_distinct_2"] = distinct(texts, 2)
        figures[f"{name}_entropy_nats"] = unigram_entropy_nats(texts)
    return figures


def diversity_of_samples(
    model: SGDD,
    data: EvaluationSet,
    *,
    samples: int,
    sampling: SamplingConfig,
    seed: int,
    on_event: Listener = ignore,
) -> dict[str, float]:
    """Write several samples from each of at most 100 vectors, and see how far they differ.

    Args:
        model: A trained model.
        data: The sentences; a random choice of them is taken.
        samples: Texts for each vector, at least 2.
        sampling: Steps, guidance and order; the temperature is 0.7, and there is one candidate and no feedback.
        seed: Of the choice and of the samples.
        on_event: Told of the stage.

    Returns:
        `samples_distinct_1` and `samples_distinct_2` (within the samples of one vector, mean over vectors),
        `self_bleu` (mean BLEU of a sample against another of the same vector) and `samples_cosine`.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(data))[:SENTENCES])
    vectors = data.vectors[torch.from_numpy(chosen)]
    on_event(StageStarted("diversity", len(chosen)))
    texts = [
        item.text
        for item in model.generate(
            vectors,
            sampling=replace(sampling, temperature=RESAMPLING_TEMPERATURE),
            num_samples=samples,
            seed=seed,
        )
    ]
    cosines = torch.cosine_similarity(
        encode_again(model, texts), vectors.repeat_interleave(samples, dim=0), dim=-1
    )
    on_event(StageFinished("diversity"))
    groups = [texts[start : start + samples] for start in range(0, len(texts), samples)]
    return {
        "sentences": len(chosen),
        "samples_per_sentence": samples,
        "temperature": RESAMPLING_TEMPERATURE,
        "samples_distinct_1": float(np.mean([distinct(group, 1) for group in groups])),
        "samples_distinct_2": float(np.mean([distinct(group, 2) for group in groups])),
        "self_bleu": float(np.mean([_self_bleu(group) for group in groups])),
        "samples_cosine": float(cosines.mean()),
    }


def _self_bleu(texts: Sequence[str]) -> float:
    """Mean BLEU of each text against each other one (Zhu et al. 2018), 0–100; 100 where all are the same."""
    return float(np.mean([sentence_bleu(other, text) for text, other in permutations(texts, 2)]))
