"""What an evaluation found: the figures, what they mean, and texts to look at."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sgdd_engine.evaluation.bootstrap import Interval, Resampling
from sgdd_engine.evaluation.diversity import Diversity
from sgdd_engine.evaluation.guidance_search import GuidanceSearch
from sgdd_engine.evaluation.latent import LatentFigures
from sgdd_engine.evaluation.likelihood import LikelihoodFigures
from sgdd_engine.evaluation.metrics import METRICS
from sgdd_engine.evaluation.reconstruction import CONDITIONS
from sgdd_engine.evaluation.sampler_comparison import SamplerPoint
from sgdd_engine.evaluation.scores import Scores, intervals
from sgdd_engine.evaluation.training_text import Memorisation
from sgdd_engine.evaluation.verdicts import Verdict

# Sentences shown of each group.
SHOWN = 20
# Scores shown with each of them.
SAMPLE_SCORES = ("cosine", "token_f1", "bleu")
# What a checkpoint records besides the main scores: what tells why they are low.
RECORDED = ("repetition", "length_error", "length_exact", "retrieval_top1")
LATENT_RECORDED = (
    "kind",
    "dimensions",
    "effective_rank",
    "active_units",
    "kl_nats_per_sentence",
    "collapsed",
)
# What tells one set of sentences from another.
DATA_IDENTITY = ("kind", "path", "split", "fingerprint", "chosen", "seed")
# Upper ends of the length buckets, in tokens of the source.
LENGTH_EDGES = (8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class LengthBucket:
    """Sentences of like length.

    Attributes:
        tokens: Of the source: "1-8", "9-16" and so on.
        sentences: How many.
        own: The main metrics of the true vector.
        shuffled_token_f1: Token F1 of another sentence's vector.
    """

    tokens: str
    sentences: int
    own: Mapping[str, Interval]
    shuffled_token_f1: Interval

    def to_dict(self) -> dict[str, Any]:
        """As JSON values, the metrics among the others."""
        return {
            "tokens": self.tokens,
            "sentences": self.sentences,
            **_plain(self.own),
            "shuffled_token_f1": asdict(self.shuffled_token_f1),
        }


@dataclass(frozen=True)
class Sample:
    """One sentence and what was written from its vector.

    Attributes:
        group: `best`, `median` or `worst` by token F1, or `random`.
        source: The sentence as it stands in the source.
        text: What was written from its vector.
        cosine: Of the vectors of both.
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
        scores: Texts and scores by sentence under each of `CONDITIONS` that was made.
        conditions: The metrics of each condition with their 95 % bootstrap intervals.
        differences: Of `true` to each other condition, paired by sentence, with 95 % intervals.
        random_pair_cosine: Mean cosine of the vectors of two different sentences.
        verdicts: Conclusions from the figures.
        by_length: Figures by tokens of the source.
        likelihood: Bound, guesses by mask ratio, and calibration.
        latent: Spectrum of the latents, and KL of a variational bottleneck.
        diversity: Of several samples of a vector, and of the words of all outputs.
        memorisation: Share of outputs and of sources that are training sentences; None without the corpus.
        guidance_search: The curve over guidance weights, where it was asked for.
        samples: Best, median and worst sentences by token F1, and some at random.
        settings: All that made the figures.
        samplers: What other ways of sampling cost and bring, where they were compared.
    """

    scores: Mapping[str, Scores]
    conditions: Mapping[str, Mapping[str, Interval]]
    differences: Mapping[str, Mapping[str, Interval]]
    random_pair_cosine: Interval
    verdicts: Sequence[Verdict]
    by_length: Sequence[LengthBucket]
    likelihood: LikelihoodFigures
    latent: LatentFigures
    diversity: Diversity
    memorisation: Memorisation | None
    guidance_search: GuidanceSearch | None
    samples: Sequence[Sample]
    settings: Mapping[str, Any]
    samplers: Sequence[SamplerPoint] | None = None

    @property
    def sentences(self) -> int:
        """How many sentences were scored."""
        return len(self.scores["true"])

    def typical_samples(self, count: int) -> list[Sample]:
        """At most `count` of the best sentences, as many around the median, and as many of the worst, in this order."""
        groups = {
            name: [sample for sample in self.samples if sample.group == name]
            for name in ("best", "median", "worst")
        }
        middle = max(0, (len(groups["median"]) - count) // 2)
        return [
            *groups["best"][:count],
            *groups["median"][middle : middle + count],
            *groups["worst"][-count:],
        ]

    @property
    def encoder_calls(self) -> float:
        """Texts that were encoded to write one sentence, mean."""
        return float(self.scores["true"].encoder_calls.mean())

    def to_dict(self) -> dict[str, Any]:
        """The stable machine form, JSON values only: the object that `sgdd eval --json` prints.

        A score is `{"mean", "low", "high"}`, the mean with its 95 % interval, whose ends are null where there is one
        sentence; ranges stand in `settings.scoring`. Keys: `sentences`; `verdicts` (`name`, `ok`, `sentence`, and
        `cause` and `command` or null); `conditions` and `differences` (by condition and score); `condition_labels` (as
        in tables); `random_pair_cosine`; `encoder_calls` (texts encoded to write one sentence, mean); `by_length`;
        `by_mask_ratio` (`masked` in percent, `accuracy`, `nll_nats`, `tokens`); `likelihood`; `calibration` (`ece`,
        `overconfidence`, `tokens`, `bins`); `latent`; `diversity`; `memorisation`, `guidance_search` and `samplers` (or
        null); `samples`; `settings`.
        """
        likelihood = asdict(self.likelihood)
        likelihood.pop("calibration")
        return {
            "sentences": self.sentences,
            "verdicts": _plain(self.verdicts),
            "conditions": _plain(self.conditions),
            "condition_labels": {name: CONDITIONS[name].label for name in self.conditions},
            "differences": _plain(self.differences),
            "random_pair_cosine": asdict(self.random_pair_cosine),
            "encoder_calls": self.encoder_calls,
            "by_length": [bucket.to_dict() for bucket in self.by_length],
            "by_mask_ratio": likelihood.pop("by_mask_ratio"),
            "likelihood": likelihood,
            "calibration": self.likelihood.calibration.to_dict(),
            "latent": self.latent.to_dict(),
            "diversity": self.diversity.to_dict(),
            "memorisation": _plain(self.memorisation),
            "guidance_search": None if self.guidance_search is None else self.guidance_search.to_dict(),
            "samplers": None if self.samplers is None else [point.to_dict() for point in self.samplers],
            "samples": _plain(self.samples),
            "settings": dict(self.settings),
        }

    def to_record(self) -> dict[str, Any]:
        """What a checkpoint keeps of it: the main scores beside the controls, and no text. JSON values.

        Keys: `sentences`; `settings` (`data`, `sampling`, `eval`: equal ones mean that the evaluation was repeated);
        `metrics` (labels by name); `conditions` (`name`, `label`, `control`, `scores` as `{"mean", "low", "high"}`);
        `differences` (of `true` to each other condition); `random_pair_cosine`; `verdicts`; `likelihood` (`NELBO` and
        bits per byte); `latent` (without the spectrum); `versions`.
        """
        kept = [name for name, metric in METRICS.items() if metric.main or name in RECORDED]
        made, data = self.settings, self.settings["data"]
        latent = self.latent.to_dict()
        bound, searched = asdict(self.likelihood), bool(made["eval"].get("search"))
        return {
            "sentences": self.sentences,
            "settings": {
                "data": {name: data[name] for name in DATA_IDENTITY if name in data},
                "sampling": made["sampling"],
                "eval": {
                    **{
                        name: made["eval"].get(name) for name in ("candidates", "refine", "shortlist", "seed")
                    },
                    # Records of older versions have no key for it.
                    **({name: made["eval"].get(name) for name in ("search", "gradient")} if searched else {}),
                },
            },
            "metrics": {name: METRICS[name].label for name in kept},
            "conditions": [
                {
                    "name": name,
                    "label": condition.label,
                    "control": condition.control,
                    "scores": _plain(_only(kept, self.conditions[name])),
                }
                for name, condition in CONDITIONS.items()
                if name in self.conditions
            ],
            "differences": {name: _plain(_only(kept, found)) for name, found in self.differences.items()},
            "random_pair_cosine": asdict(self.random_pair_cosine),
            "verdicts": _plain(self.verdicts),
            "likelihood": {
                name: bound[name] for name in ("nelbo_nats_per_token", "standard_error", "bits_per_byte")
            },
            "latent": {name: latent[name] for name in LATENT_RECORDED if name in latent},
            "versions": made["versions"],
        }


def _only(names: Sequence[str], scores: Mapping[str, Interval]) -> dict[str, Interval]:
    return {name: scores[name] for name in names if name in scores}


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
            **{name: float(scores[name][row]) for name in SAMPLE_SCORES},
        )
        for group, rows in groups.items()
        for row in rows
    ]


def scores_by_length(true: Scores, shuffled: Scores, lengths: Sequence[int], seed: int) -> list[LengthBucket]:
    """Figures by the source's length in tokens; buckets without a sentence are left out."""
    bucket = np.searchsorted(LENGTH_EDGES, lengths)
    lower = (1, *(edge + 1 for edge in LENGTH_EDGES[:-1]))
    rows = []
    for index, (low, high) in enumerate(zip(lower, LENGTH_EDGES, strict=True)):
        here = np.flatnonzero(bucket == index)
        if not len(here):
            continue
        resampling = Resampling(len(here), seed)
        own, other = (intervals(scores.of(here).totals(resampling)) for scores in (true, shuffled))
        main = {name: own[name] for name, metric in METRICS.items() if metric.main}
        rows.append(LengthBucket(f"{low}-{high}", len(here), main, other["token_f1"]))
    return rows


def _plain(value: Any) -> Any:  # noqa: ANN401 - any part of a report
    """Records and what holds them as JSON values."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, Sequence):
        return [_plain(part) for part in value]
    return None if value is None else asdict(value)
