"""Scores of one text against another, and how sure a mean of them is. Pure functions of strings and numbers.

Every score takes texts as they are: whether case counts is decided by whoever hands them over (see
`reconstruction`, which compares with the source as the decoder's vocabulary can write it).
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

# A word keeps its inner apostrophes ("didn't", "o'clock"); every other mark that is no space stands alone.
WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")

BOOTSTRAP_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def words(text: str) -> list[str]:
    """The words and the punctuation marks of a text, in order, as `WORD` finds them."""
    return WORD.findall(text)


def exact_match(reference: str, text: str) -> bool:
    """Whether the two texts are the same string."""
    return reference == text


def token_f1(reference: str, text: str) -> float:
    """Harmonic mean of precision and recall over the multisets of `words`, in 0–1; order does not count.

    Each word counts as often as it stands there, so a repeated word is paid for once. This is stricter than
    vec2text's F1, which is over sets (arXiv 2310.06816).
    """
    expected, found = Counter(words(reference)), Counter(words(text))
    if not expected or not found:
        return float(expected == found)
    shared = (expected & found).total()
    return 2.0 * shared / (expected.total() + found.total())


def sentence_bleu(reference: str, text: str) -> float:
    """One sentence's sacreBLEU, 0–100; vec2text reports the mean of these.

    Up to 4-grams, 13a tokenisation, exponential smoothing. A text of fewer than four tokens is scored on the
    n-grams it has (effective order), so that an exact match is 100 at any length.
    """
    return float(_sentence_scorer().sentence_score(text, [reference]).score)


def corpus_bleu(references: Sequence[str], texts: Sequence[str]) -> float:
    """All sentences' sacreBLEU together, 0–100: n-grams are counted over the corpus."""
    return float(BLEU(force=True).corpus_score(list(texts), [list(references)]).score)


def corpus_chrf(references: Sequence[str], texts: Sequence[str]) -> float:
    """chrF2 of all sentences together, 0–100: F-score of character n-grams up to 6."""
    return float(CHRF().corpus_score(list(texts), [list(references)]).score)


def repetition(text: str) -> float:
    """Share of neighbouring pairs that are one word twice ("the the"), 0–1, whatever their case.

    Neighbours with a mark between them ("no, no") and repeated marks ("...") are no repetition.
    """
    found = [word.casefold() for word in words(text)]
    if len(found) < 2:
        return 0.0
    repeated = sum(a == b and a[0].isalnum() for a, b in pairwise(found))
    return repeated / (len(found) - 1)


def bootstrap_interval(
    values: npt.NDArray[np.float64], seed: int, resamples: int = BOOTSTRAP_RESAMPLES
) -> Interval:
    """Mean of per-sentence values [N] with its 95 % percentile bootstrap interval over sentences.

    For a difference of two systems pass the differences sentence by sentence: the resamples are then paired.
    """
    generator = np.random.default_rng(seed)
    size = len(values)
    means = [values[generator.integers(size, size=size)].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(values.mean()), float(low), float(high))


def ratio_with_error(
    numerators: npt.NDArray[np.float64], denominators: npt.NDArray[np.float64]
) -> tuple[float, float]:
    """`Σ a / Σ b` over rows [N], with the standard error of this ratio by the delta method; 0 for one row."""
    ratio = float(numerators.sum() / denominators.sum())
    rows = len(numerators)
    if rows < 2:
        return ratio, 0.0
    residuals = numerators - ratio * denominators
    spread = float(np.sqrt((residuals**2).sum() / (rows * (rows - 1))))
    return ratio, spread / float(denominators.mean())


@cache
def _sentence_scorer() -> BLEU:
    return BLEU(effective_order=True)
