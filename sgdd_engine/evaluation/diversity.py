"""Diversity: of several samples of one vector, and of the words of all outputs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
import torch

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.evaluation.data import EvaluationSet
from sgdd_engine.evaluation.metrics import distinct, sentence_bleu, unigram_entropy_nats
from sgdd_engine.evaluation.scores import reencode
from sgdd_engine.events import Listener, StageFinished, StageStarted, ignore
from sgdd_engine.generation import RESAMPLING_TEMPERATURE, SGDD

SENTENCES = 100


@dataclass(frozen=True)
class WordFigures:
    """The words of many texts together.

    Attributes:
        distinct_1: Different words over all words, 0–1.
        distinct_2: Different pairs of neighbouring words over all such pairs, 0–1.
        entropy_nats: Entropy of the words, per word.
    """

    distinct_1: float
    distinct_2: float
    entropy_nats: float

    @classmethod
    def of(cls, texts: Sequence[str]) -> "WordFigures":
        """The figures of some texts."""
        return cls(distinct(texts, 1), distinct(texts, 2), unigram_entropy_nats(texts))


class SampleDiversity(NamedTuple):
    """How far several texts of one vector differ.

    Attributes:
        distinct_1: Different words over all words, 0–1.
        distinct_2: Different pairs of neighbouring words over all such pairs, 0–1.
        self_bleu: BLEU of a text against another (Zhu et al. 2018), mean over the pairs, 0–100; 100 for a lone text.
    """

    distinct_1: float
    distinct_2: float
    self_bleu: float


@dataclass(frozen=True)
class SampleFigures:
    """How far several samples of one vector differ, as means over vectors.

    Attributes:
        sentences: Vectors.
        samples_per_sentence: Texts written from each.
        temperature: Of the sampler.
        samples_distinct_1: Different words over all words of one vector's texts, 0–1.
        samples_distinct_2: The same of pairs of neighbouring words.
        self_bleu: BLEU of a text against another of the same vector (Zhu et al. 2018), 0–100; 100 where all are equal.
        samples_cosine: Cosine of the re-encoded texts with their vector.
    """

    sentences: int
    samples_per_sentence: int
    temperature: float
    samples_distinct_1: float
    samples_distinct_2: float
    self_bleu: float
    samples_cosine: float


@dataclass(frozen=True)
class Diversity:
    """The words of all outputs beside those of their references, and samples where some were asked for."""

    outputs: WordFigures
    references: WordFigures
    samples: SampleFigures | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values: `outputs_distinct_1` and so on, those of the samples under their own names."""
        return {
            **{f"outputs_{name}": value for name, value in asdict(self.outputs).items()},
            **{f"references_{name}": value for name, value in asdict(self.references).items()},
            **({} if self.samples is None else asdict(self.samples)),
        }


def diversity_of_samples(
    model: SGDD,
    data: EvaluationSet,
    *,
    samples: int,
    sampling: SamplingConfig,
    seed: int,
    on_event: Listener = ignore,
) -> SampleFigures:
    """Write several samples from each of at most 100 vectors, and compare them.

    Args:
        model: A trained model.
        data: The sentences; a random choice of them is taken.
        samples: Texts for each vector, at least 2.
        sampling: Steps, guidance and order; the temperature is 0.7, and there is one candidate and no feedback.
        seed: Of the choice and of the samples.
        on_event: Told of the stage.
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
            distinct=False,
        )
    ]
    cosines = torch.cosine_similarity(
        reencode(model, texts), vectors.repeat_interleave(samples, dim=0), dim=-1
    )
    on_event(StageFinished("diversity"))
    groups = [compare_samples(texts[start : start + samples]) for start in range(0, len(texts), samples)]
    return SampleFigures(
        sentences=len(chosen),
        samples_per_sentence=samples,
        temperature=RESAMPLING_TEMPERATURE,
        samples_distinct_1=float(np.mean([group.distinct_1 for group in groups])),
        samples_distinct_2=float(np.mean([group.distinct_2 for group in groups])),
        self_bleu=float(np.mean([group.self_bleu for group in groups])),
        samples_cosine=float(cosines.mean()),
    )


def compare_samples(texts: Sequence[str]) -> SampleDiversity:
    """How far the texts of one vector differ."""
    pairs = [sentence_bleu(other, text) for text, other in permutations(texts, 2)]
    return SampleDiversity(distinct(texts, 1), distinct(texts, 2), float(np.mean(pairs)) if pairs else 100.0)
