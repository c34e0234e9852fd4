"""What an evaluation found: the figures, what they mean, and texts to look at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sgdd_engine.evaluation.likelihood import LikelihoodFigures
from sgdd_engine.evaluation.metrics import Interval
from sgdd_engine.evaluation.reconstruction import Controlled, Scores

# Best, median and worst.
SAMPLES = (7, 6, 7)
# Upper ends of the length buckets, in tokens of the source.
LENGTH_EDGES = (8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Sample:
    """One sentence and what was written from its vector.

    Attributes:
        group: `best`, `median` or `worst` by token F1.
        source: The sentence as it stands in the source.
        text: What was written from its vector.
        cosine: Of the two meanings.
        token_f1: Of `text` against what the tokenizer can write of `source`.
    """

    group: str
    source: str
    text: str
    cosine: float
    token_f1: float


@dataclass(frozen=True)
class EvaluationReport:
    """The outcome of `evaluate`.

    Attributes:
        sentences: How many were scored.
        conditions: The three conditions with their scores by sentence.
        token_f1: Mean with the true vector, with its 95 % bootstrap interval.
        difference: Token F1 with the true vector less that with another's, paired, with its 95 % interval.
        likelihood: Bound and accuracy by mask ratio.
        latent: What the variational bottleneck lets through; None where it is deterministic.
        by_length: Scores with the true vector, by tokens of the source.
        samples: About 20 sentences: best, median and worst by token F1.
        settings: All that made the figures.
    """

    sentences: int
    conditions: Controlled
    token_f1: Interval
    difference: Interval
    likelihood: LikelihoodFigures
    latent: Mapping[str, float | int] | None
    by_length: Sequence[Mapping[str, Any]]
    samples: Sequence[Sample]
    settings: Mapping[str, Any]

    @property
    def vector_used(self) -> bool:
        """Whether the true vector helps: the interval of the difference to another's lies above zero."""
        return self.difference.low > 0

    @property
    def verdict(self) -> str:
        """One sentence: is the vector used, and by which figures."""
        own, others = self.token_f1.mean, float(self.conditions.shuffled.f1.mean())
        figures = (
            f"token F1 {_share(own)} with it, {_share(others)} with another sentence's "
            f"(95 % interval of the difference: {_share(self.difference.low)} to {_share(self.difference.high)})"
        )
        if self.vector_used:
            return f"The vector is used: {figures}."
        return f"The vector is NOT used, as far as {self.sentences:,} sentences can tell: {figures}."

    def to_dict(self) -> dict[str, Any]:
        """The stable machine form, JSON values only: the object that `sgdd eval --json` prints."""
        true, difference, scored = self.conditions.true, self.difference, self.likelihood
        return {
            "sentences": self.sentences,
            "verdict": self.verdict,
            "vector_used": self.vector_used,
            "reconstruction": {
                **true.summary(),
                "token_f1_interval": [self.token_f1.low, self.token_f1.high],
            },
            "shuffled": self.conditions.shuffled.summary(),
            "null": self.conditions.null.summary(),
            "difference_to_shuffled": {
                "token_f1": difference.mean,
                "token_f1_interval": [difference.low, difference.high],
            },
            "random_pair_cosine": self.conditions.random_pair_cosine,
            "accuracy_by_mask_ratio": dict(scored.accuracy_by_mask_ratio),
            "nelbo_nats_per_token": scored.nelbo_nats_per_token,
            "nelbo_standard_error": scored.standard_error,
            "bits_per_byte": scored.bits_per_byte,
            "latent": None if self.latent is None else dict(self.latent),
            "by_length": [dict(row) for row in self.by_length],
            "samples": [
                {
                    "group": sample.group,
                    "source": sample.source,
                    "text": sample.text,
                    "cosine": sample.cosine,
                    "token_f1": sample.token_f1,
                }
                for sample in self.samples
            ],
            "settings": dict(self.settings),
        }


def choose_samples(scores: Scores, sources: Sequence[str]) -> list[Sample]:
    """The best, the median and the worst sentences by token F1 (then by cosine), no sentence twice.

    Of at most 20 sentences all are taken, a third in each group.
    """
    order = np.lexsort((-scores.cosine, -scores.f1)).tolist()
    best, median, worst = SAMPLES
    if len(order) <= sum(SAMPLES):
        best = worst = -(-len(order) // 3)
        median = max(0, len(order) - best - worst)
    middle = (len(order) - median) // 2
    groups = {
        "best": order[:best],
        "median": order[middle : middle + median],
        "worst": order[best:][-worst:],
    }
    return [
        Sample(group, sources[row], scores.texts[row], float(scores.cosine[row]), float(scores.f1[row]))
        for group, rows in groups.items()
        for row in rows
    ]


def scores_by_length(scores: Scores, lengths: Sequence[int]) -> list[dict[str, Any]]:
    """Means by the source's length in tokens; buckets without a sentence are left out."""
    bucket = np.searchsorted(LENGTH_EDGES, lengths)
    lower = (1, *(edge + 1 for edge in LENGTH_EDGES[:-1]))
    rows = []
    for index, (low, high) in enumerate(zip(lower, LENGTH_EDGES, strict=True)):
        here = bucket == index
        if here.any():
            rows.append(
                {
                    "tokens": f"{low}-{high}",
                    "sentences": int(here.sum()),
                    "exact_match": float(scores.exact[here].mean()),
                    "token_f1": float(scores.f1[here].mean()),
                    "bleu": float(scores.bleu[here].mean()),
                    "cosine": float(scores.cosine[here].mean()),
                }
            )
    return rows


def _share(value: float) -> str:
    """A share without its leading zero: .46, -.02, 1.00."""
    # Adding 0 turns a rounded -0.0 into 0.0.
    text = f"{round(value, 2) + 0.0:.2f}"
    return text.replace("0.", ".", 1) if abs(value) < 0.995 else text
