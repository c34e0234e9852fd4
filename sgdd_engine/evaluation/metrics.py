"""What an evaluation measures: each metric once, with its name, its meaning and its function, in `METRICS`.

The scores themselves are pure functions of strings and counts. They take texts as they are: whether case counts is
decided by the caller (see `reconstruction`, which compares with the source as the decoder's vocabulary can write it).

BLEU and chrF are functions of counts that add up over sentences, so one pass over the texts gives the scores of each
sentence, of the corpus, and of every resample of it.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
from sacrebleu.metrics.bleu import BLEU

from sgdd_engine.evaluation.bootstrap import Floats, Resampling
from sgdd_engine.registry import Registry
from sgdd_engine.text.words import spacing, words

BLEU_ORDER = 4
CHRF_ORDER = 6
CHRF_BETA = 2


def exact_match(reference: str, text: str) -> bool:
    """Whether the two texts are the same string."""
    return reference == text


def token_f1(reference: str, text: str) -> float:
    """Harmonic mean of precision and recall over the multisets of `words`, in 0–1; order does not count.

    Each word counts as often as it stands there, so a repeated word is paid for once. This is stricter than
    `set_f1`.
    """
    expected, found = Counter(words(reference)), Counter(words(text))
    if not expected or not found:
        return float(expected == found)
    shared = (expected & found).total()
    return 2.0 * shared / (expected.total() + found.total())


def set_f1(reference: str, text: str) -> float:
    """vec2text's token F1: over the sets of words, in 0–1; repeating a word costs nothing.

    Morris et al. 2023 (arXiv 2310.06816) split with NLTK's `word_tokenize`, which cuts "didn't" in two; here the
    words are those of `words`, which keeps it whole.
    """
    expected, found = set(words(reference)), set(words(text))
    if not expected or not found:
        return float(expected == found)
    return 2.0 * len(expected & found) / (len(expected) + len(found))


def bleu_of_sentence(reference: str, text: str) -> tuple[float, list[int]]:
    """One sentence's sacreBLEU, 0–100, and the counts that it is made of; vec2text reports the mean of the former.

    Up to 4-grams, exponential smoothing, sacreBLEU's tokenisation for the script of the reference: `13a`, `zh` for
    Chinese, `char` for other scripts without spaces (its `ja-mecab` needs a dictionary to be installed). A text of
    fewer than four tokens is scored on the n-grams it has (effective order), so that an exact match is 100 at any
    length.

    Returns:
        The score, and tokens of the text, tokens of the reference, matches by order, n-grams by order.
    """
    tokenizer = {"spaced": "13a", "han": "zh", "unspaced": "char"}[spacing(reference)]
    found = _sentence_scorer(tokenizer).sentence_score(text, [reference])
    return float(found.score), [found.sys_len, found.ref_len, *found.counts, *found.totals]


def sentence_bleu(reference: str, text: str) -> float:
    """One sentence's sacreBLEU, 0–100; see `bleu_of_sentence`."""
    return bleu_of_sentence(reference, text)[0]


def bleu_of_counts(counts: Floats) -> Floats:
    """sacreBLEU, 0–100, of summed counts [..., 10] as `bleu_of_sentence` gives them: [...].

    4-grams, exponential smoothing, brevity penalty (Papineni et al. 2002), as sacreBLEU scores a corpus.
    """
    length, expected = counts[..., 0], counts[..., 1]
    matched, total = counts[..., 2 : 2 + BLEU_ORDER], counts[..., 2 + BLEU_ORDER :]
    # The k-th order that has n-grams but no match counts half as many matches as the one before, from 1/2 on.
    without = (matched == 0) & (total > 0)
    smoothed = np.where(without, 0.5 ** without.cumsum(axis=-1), matched)
    usable = np.asarray((total > 0).all(axis=-1) & (matched > 0).any(axis=-1))
    precisions = np.where(usable[..., None], smoothed, 1.0) / np.maximum(total, 1.0)
    brevity = np.exp(np.minimum(0.0, 1.0 - expected / np.maximum(length, 1.0)))
    score = 100.0 * brevity * np.exp(np.log(precisions).mean(axis=-1))
    return np.where(usable, score, 0.0)


def chrf_counts(reference: str, text: str) -> list[int]:
    """For each order of character n-grams up to 6: those of the text, those of the reference, and matches: [18].

    White space is left out, as in chrF (Popović 2015) and sacreBLEU.
    """
    expected_text, found_text = "".join(reference.split()), "".join(text.split())
    counts: list[int] = []
    for order in range(1, CHRF_ORDER + 1):
        expected, found = _characters(expected_text, order), _characters(found_text, order)
        matched = sum(min(count, expected[gram]) for gram, count in found.items() if gram in expected)
        counts += [found.total() if expected else 0, expected.total(), matched]
    return counts


def chrf_of_counts(counts: Floats) -> Floats:
    """chrF2, 0–100, of summed counts [..., 18] as `chrf_counts` gives them: [...]."""
    found, expected, matched = (counts[..., part::3] for part in range(3))
    there = (found > 0) & (expected > 0)
    orders = np.maximum(there.sum(axis=-1), 1)
    precision = np.where(there, matched / np.maximum(found, 1.0), 0.0).sum(axis=-1) / orders
    recall = np.where(there, matched / np.maximum(expected, 1.0), 0.0).sum(axis=-1) / orders
    weighted = CHRF_BETA**2 * precision + recall
    score: Floats = 100.0 * (1 + CHRF_BETA**2) * precision * recall / np.where(weighted > 0, weighted, 1.0)
    return score


def repetition(text: str) -> float:
    """Share of neighbouring pairs that are the same word twice ("the the"), 0–1, whatever their case.

    Neighbours with a mark between them ("no, no") and repeated marks ("...") are no repetition.
    """
    found = [word.casefold() for word in words(text)]
    if len(found) < 2:
        return 0.0
    repeated = sum(a == b and a[0].isalnum() for a, b in pairwise(found))
    return repeated / (len(found) - 1)


def distinct(texts: Sequence[str], order: int) -> float:
    """distinct-n (Li et al. 2016): different n-grams of words over all n-grams of words of all texts, 0–1."""
    rows = [words(text) for text in texts]
    grams = [tuple(row[start : start + order]) for row in rows for start in range(len(row) - order + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def unigram_entropy_nats(texts: Sequence[str]) -> float:
    """Entropy of the words of all texts together, in nats per word: few different words give little."""
    counts = Counter(word for text in texts for word in words(text))
    total = counts.total()
    return sum(count / total * math.log(total / count) for count in counts.values())


@dataclass(frozen=True)
class WrittenTexts:
    """N texts beside what they are compared with, and what the encoder and the tokenizer say of them.

    Attributes:
        references: What each text is compared with [N].
        texts: What was written [N].
        cosines: Of each re-encoded text with the vector of its source [N].
        ranks: Place of the source among all sources by cosine with the re-encoded text, from 1 [N].
        excess_tokens: Tokens of each text less those of its source [N].
    """

    references: Sequence[str]
    texts: Sequence[str]
    cosines: Floats
    ranks: Floats
    excess_tokens: Floats

    def by_pair(self, score: Callable[[str, str], float]) -> Floats:
        """A score of each reference and text [N]."""
        return np.array([score(*pair) for pair in self._pairs], dtype=np.float64)

    @cached_property
    def bleu(self) -> tuple[Floats, Floats]:
        """The sacreBLEU of each text [N], and the counts of `bleu_of_sentence` [N, 10]."""
        found = [bleu_of_sentence(*pair) for pair in self._pairs]
        return np.array([score for score, _ in found]), np.array([counts for _, counts in found], np.float64)

    @cached_property
    def chrf(self) -> Floats:
        """The counts of `chrf_counts` [N, 18]."""
        return np.array([chrf_counts(*pair) for pair in self._pairs], dtype=np.float64)

    @property
    def _pairs(self) -> list[tuple[str, str]]:
        return list(zip(self.references, self.texts, strict=True))


@dataclass(frozen=True)
class Metric:
    """One score of what was written.

    Attributes:
        label: Its name in tables and sentences.
        meaning: What it is, in one clause.
        better: Whether higher or lower values are good.
        of: From N written texts: its value for each [N], or counts that add up over sentences [N, C].
        total: From these, its value for all sentences and for each resample [1 + R]; None: their mean.
        bounds: Its lowest and highest value; None where there is no highest.
        main: Whether it is shown by length and by guidance weight as well.
    """

    label: str
    meaning: str
    better: Literal["higher", "lower"]
    of: Callable[[WrittenTexts], Floats]
    total: Callable[[Resampling, Floats], Floats] | None = None
    bounds: tuple[int, int] | None = (0, 1)
    main: bool = False

    @property
    def decimals(self) -> int:
        """Digits after the point where it is shown."""
        if self.bounds is None:
            return 2
        return 1 if self.bounds[1] == 100 else 3

    @property
    def explanation(self) -> str:
        """What it is, its range, and which way is good."""
        range_ = "" if self.bounds is None else ", {} to {}".format(*self.bounds).replace("-", "−")
        return f"{self.meaning}{range_}; {self.better} is better"


METRICS: Registry[Metric] = Registry(
    "metric",
    {
        "exact_match": Metric(
            "exact match",
            "share of sentences that come back letter for letter",
            "higher",
            lambda written: written.by_pair(exact_match),
            main=True,
        ),
        "token_f1": Metric(
            "token F1",
            "words and marks in common, each counted as often as it stands there",
            "higher",
            lambda written: written.by_pair(token_f1),
            main=True,
        ),
        "set_f1": Metric(
            "set F1",
            "words and marks in common, each counted once, as in vec2text's token F1 but for its word split",
            "higher",
            lambda written: written.by_pair(set_f1),
            main=True,
        ),
        "bleu": Metric(
            "BLEU",
            "runs of up to four words in common, mean over sentences",
            "higher",
            lambda written: written.bleu[0],
            bounds=(0, 100),
            main=True,
        ),
        "corpus_bleu": Metric(
            "corpus BLEU",
            "the same, counted over all sentences together",
            "higher",
            lambda written: written.bleu[1],
            lambda resampling, counts: bleu_of_counts(resampling.sums(counts)),
            bounds=(0, 100),
        ),
        "chrf": Metric(
            "chrF",
            "runs of up to six letters in common (chrF2), mean over sentences",
            "higher",
            lambda written: chrf_of_counts(written.chrf),
            bounds=(0, 100),
            main=True,
        ),
        "corpus_chrf": Metric(
            "corpus chrF",
            "the same, counted over all sentences together",
            "higher",
            lambda written: written.chrf,
            lambda resampling, counts: chrf_of_counts(resampling.sums(counts)),
            bounds=(0, 100),
        ),
        "cosine": Metric(
            "cosine",
            "the re-encoded text against the source's own vector, under every condition",
            "higher",
            lambda written: written.cosines,
            bounds=(-1, 1),
            main=True,
        ),
        "repetition": Metric(
            "repetition",
            "share of neighbouring words that are the same word twice",
            "lower",
            lambda written: np.array([repetition(text) for text in written.texts]),
        ),
        "length_error": Metric(
            "length error",
            "tokens too many or too few, mean over sentences",
            "lower",
            lambda written: np.abs(written.excess_tokens),
            bounds=None,
        ),
        "length_exact": Metric(
            "length exact",
            "share of sentences with the right number of tokens",
            "higher",
            lambda written: (written.excess_tokens == 0).astype(np.float64),
        ),
        "retrieval_top1": Metric(
            "rank 1",
            "share of texts whose nearest source, by the cosine, is their own",
            "higher",
            lambda written: (written.ranks == 1).astype(np.float64),
        ),
        "retrieval_mrr": Metric(
            "reciprocal rank",
            "1 / rank of the source among all sources, mean over sentences",
            "higher",
            lambda written: 1 / written.ranks,
        ),
        "retrieval_median_rank": Metric(
            "median rank",
            "rank of the source among all sources, from 1",
            "lower",
            lambda written: written.ranks,
            Resampling.medians,
            bounds=None,
        ),
    },
)
"""All metrics by name, in the order of tables. One of sgdd's own is an entry here and a test of its values; packages
add theirs with `METRICS.add`."""


def _characters(text: str, order: int) -> Counter[str]:
    return Counter(text[start : start + order] for start in range(len(text) - order + 1))


@cache
def _sentence_scorer(tokenizer: str) -> BLEU:
    return BLEU(effective_order=True, tokenize=tokenizer)
