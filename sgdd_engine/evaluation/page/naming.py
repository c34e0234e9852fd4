"""What each figure of an evaluation is called on the page, what it says, and which way is good."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from sgdd_engine.evaluation.bootstrap import Interval

MISSING = "–"


@dataclass(frozen=True)
class Score:
    """How a score is shown.

    Attributes:
        label: Its name in a table.
        meaning: What it is, in one clause.
        better: Whether more of it or less of it is good; None where neither is.
        decimals: Digits after the point.
    """

    label: str
    meaning: str = ""
    better: Literal["higher", "lower"] | None = None
    decimals: int = 3


SCORES = {
    "exact_match": Score("Exact match", "share of sentences that come back letter for letter", "higher"),
    "token_f1": Score("Token F1", "words in common, each counted as often as it stands there", "higher"),
    "set_f1": Score("Set F1", "words in common, each counted once, as vec2text counts", "higher"),
    "bleu": Score("BLEU, mean of sentences", "runs of up to four words in common, 0–100", "higher", 1),
    "corpus_bleu": Score("BLEU, corpus", "the same, counted over all sentences together", "higher", 1),
    "chrf": Score("chrF, mean of sentences", "runs of letters in common, 0–100", "higher", 1),
    "corpus_chrf": Score("chrF, corpus", "the same, counted over all sentences together", "higher", 1),
    "cosine": Score("Cosine", "the written text's own vector against the one given", "higher"),
    "repetition": Score("Repetition", "share of neighbouring words that are one word twice", "lower"),
    "length_error": Score("Length error", "tokens too many or too few, on average", "lower", 2),
    "length_exact": Score("Length exact", "share of sentences with the right number of tokens", "higher"),
    "retrieval_top1": Score("Rank 1", "share of texts whose nearest source is their own", "higher"),
    "retrieval_mrr": Score("Mean reciprocal rank", "1 / rank of the source among all sources", "higher"),
    "retrieval_median_rank": Score("Median rank", "place of the source among all sources", "lower", 1),
}

# What a decoder was given, with the style of its marks in the drawings.
CONDITIONS = {
    "true": ("its own vector", "own"),
    "one_shot": ("its own, one shot", "second"),
    "unguided": ("its own, no guidance", "second"),
    "nearest": ("nearest training sentence", "third"),
    "shuffled": ("another sentence’s vector", "control"),
    "null": ("no vector", "control"),
}


def score(name: str) -> Score:
    """How the score of this name is shown; an unknown one gets a readable label."""
    return SCORES.get(name) or Score(readable(name))


def readable(name: str) -> str:
    """A machine name as words: `self_bleu` becomes "Self BLEU"."""
    words = name.replace("_", " ").replace("-", " ").strip()
    shown = words[:1].upper() + words[1:]
    return shown.replace("bleu", "BLEU").replace("Bleu", "BLEU").replace(" f1", " F1").replace("Mrr", "MRR")


def interval(value: Any) -> Interval | None:  # noqa: ANN401 - any JSON value
    """A figure of the machine form as an interval; a bare number is one without width, anything else None."""
    if isinstance(value, dict):
        mean = number(value.get("mean"))
        if mean is None:
            return None
        low, high = number(value.get("low")), number(value.get("high"))
        return Interval(mean, mean if low is None else low, mean if high is None else high)
    mean = number(value)
    return None if mean is None else Interval(mean, mean, mean)


def number(value: Any) -> float | None:  # noqa: ANN401 - any JSON value
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def form(value: float | None, decimals: int = 3) -> str:
    """A number with its decimals and a true minus; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return MISSING
    # Adding 0 turns a rounded -0.0 into 0.0.
    return f"{round(value, decimals) + 0.0:,.{decimals}f}".replace("-", "−")


def form_range(value: Interval | None, decimals: int = 3) -> str:
    """The two ends of an interval; nothing where it has no width."""
    if value is None or value.low == value.high:
        return ""
    return f"{form(value.low, decimals)} to {form(value.high, decimals)}"
