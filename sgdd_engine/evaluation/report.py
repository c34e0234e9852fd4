"""What an evaluation found: the figures, what they mean, and texts to look at."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sgdd_engine.evaluation.bootstrap import Interval, Resampling
from sgdd_engine.evaluation.guidance_search import GuidanceSearch
from sgdd_engine.evaluation.likelihood import LikelihoodFigures
from sgdd_engine.evaluation.scores import Scores, intervals
from sgdd_engine.evaluation.verdicts import Verdict

# Sentences shown of each group.
SHOWN = 20
# Upper ends of the length buckets, in tokens of the source.
LENGTH_EDGES = (8, 16, 32, 64, 128, 256, 512)
_BY_LENGTH = ("exact_match", "token_f1", "set_f1", "bleu", "chrf", "cosine")


@dataclass(frozen=True)
class Sample:
    """One sentence and what was written from its vector.

    Attributes:
        group: `best`, `median` or `worst` by token F1, or `random`.
        source: The sentence as it stands in the source.
        text: What was written from its vector.
        cosine: Of the two meanings.
        token_f1: Of `text` against what the tokenizer can write of `source`.
        bleu: Of the same, 0–100.
    """

    group: str
    source: str
    text: str
    cosine: float
    token_f1: float
    bleu: float


@dataclass(frozen=True)
class EvaluationReport:
    """The outcome of `evaluate`.

    Attributes:
        scores: Texts and scores by sentence under each condition: `true`, and where they were made `one_shot`,
            `unguided` and `nearest`, and `shuffled` and `null`.
        conditions: The figures of each condition with their 95 % bootstrap intervals.
        differences: Of `true` to each other condition, paired by sentence, with 95 % intervals.
        random_pair_cosine: Mean cosine of the vectors of two different sentences.
        verdicts: What the figures mean.
        by_length: Figures with the true vector, by tokens of the source.
        likelihood: Bound, guesses by mask ratio, and calibration.
        latent: What the bottleneck lets through.
        diversity: Of several samples of a vector, and of the words of all outputs.
        memorisation: Share of outputs and of sources that are training sentences; None without the corpus.
        guidance_search: The curve over guidance weights, where it was asked for.
        samples: Best, median and worst sentences by token F1, and some at random.
        settings: All that made the figures.
    """

    scores: Mapping[str, Scores]
    conditions: Mapping[str, Mapping[str, Interval]]
    differences: Mapping[str, Mapping[str, Interval]]
    random_pair_cosine: Interval
    verdicts: Sequence[Verdict]
    by_length: Sequence[Mapping[str, Any]]
    likelihood: LikelihoodFigures
    latent: Mapping[str, Any]
    diversity: Mapping[str, float]
    memorisation: Mapping[str, Any] | None
    guidance_search: GuidanceSearch | None
    samples: Sequence[Sample]
    settings: Mapping[str, Any]

    @property
    def sentences(self) -> int:
        """How many sentences were scored."""
        return len(self.scores["true"])

    @property
    def vector_used(self) -> bool:
        """Whether the true vector helps: the interval of the difference to another's lies above zero."""
        return self.differences["shuffled"]["token_f1"].low > 0

    def to_dict(self) -> dict[str, Any]:
        """The stable machine form, JSON values only: the object that `sgdd eval --json` prints.

        A score is `{"mean", "low", "high"}`, the mean with its 95 % interval; shares lie in 0–1, BLEU and chrF in
        0–100. Keys: `sentences`; `verdicts` (`name`, `ok`, `sentence`); `conditions` and `differences` (by condition
        and score); `random_pair_cosine`; `encoder_calls` (texts encoded to write one sentence, mean); `by_length`;
        `by_mask_ratio` (`masked` in percent, `accuracy`, `nll_nats`, `tokens`); `likelihood`; `calibration` (`ece`,
        `overconfidence`, `tokens`, `bins`); `latent`; `diversity`; `memorisation` and `guidance_search` (or null);
        `samples`; `settings`.
        """
        return {
            "sentences": self.sentences,
            "verdicts": [verdict.to_dict() for verdict in self.verdicts],
            "conditions": _plain(self.conditions),
            "differences": _plain(self.differences),
            "random_pair_cosine": self.random_pair_cosine.to_dict(),
            "encoder_calls": float(self.scores["true"].encoder_calls.mean()),
            "by_length": [dict(row) for row in self.by_length],
            "by_mask_ratio": [dict(row) for row in self.likelihood.by_mask_ratio],
            "likelihood": self.likelihood.to_dict(),
            "calibration": self.likelihood.calibration.to_dict(),
            "latent": dict(self.latent),
            "diversity": dict(self.diversity),
            "memorisation": None if self.memorisation is None else dict(self.memorisation),
            "guidance_search": None if self.guidance_search is None else self.guidance_search.to_dict(),
            "samples": [asdict(sample) for sample in self.samples],
            "settings": dict(self.settings),
        }


def choose_samples(scores: Scores, sources: Sequence[str], seed: int) -> list[Sample]:
    """The best, the median and the worst sentences by token F1 (then by cosine), and some at random, none twice.

    Of fewer than 60 sentences all are taken, a third in each of the first three groups.
    """
    order = np.lexsort((-scores["cosine"], -scores["token_f1"])).tolist()
    ends = min(SHOWN, -(-len(order) // 3))
    median = min(SHOWN, len(order) - 2 * ends)
    middle = (len(order) - median) // 2
    groups = {
        "best": order[:ends],
        "median": order[middle : middle + median],
        "worst": order[-ends:] if len(order) >= 2 * ends else order[ends:],
    }
    shown = {row for rows in groups.values() for row in rows}
    rest = [row for row in np.random.default_rng(seed).permutation(len(order)).tolist() if row not in shown]
    groups["random"] = rest[:SHOWN]
    return [
        Sample(
            group,
            sources[row],
            scores.texts[row],
            *(float(scores[name][row]) for name in ("cosine", "token_f1", "bleu")),
        )
        for group, rows in groups.items()
        for row in rows
    ]


def scores_by_length(
    true: Scores, shuffled: Scores, lengths: Sequence[int], seed: int
) -> list[dict[str, Any]]:
    """Figures by the source's length in tokens, with their intervals; buckets without a sentence are left out."""
    bucket = np.searchsorted(LENGTH_EDGES, lengths)
    lower = (1, *(edge + 1 for edge in LENGTH_EDGES[:-1]))
    rows = []
    for index, (low, high) in enumerate(zip(lower, LENGTH_EDGES, strict=True)):
        here = np.flatnonzero(bucket == index)
        if not len(here):
            continue
        resampling = Resampling(len(here), seed)
        own, others = (intervals(scores.of(here).figures(resampling)) for scores in (true, shuffled))
        rows.append(
            {
                "tokens": f"{low}-{high}",
                "sentences": len(here),
                **{name: own[name].to_dict() for name in _BY_LENGTH},
                "shuffled_token_f1": others["token_f1"].to_dict(),
            }
        )
    return rows


def _plain(table: Mapping[str, Mapping[str, Interval]]) -> dict[str, dict[str, dict[str, float]]]:
    return {part: {name: value.to_dict() for name, value in row.items()} for part, row in table.items()}
