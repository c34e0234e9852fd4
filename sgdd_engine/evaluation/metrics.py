"""Scores of one text against another. Pure functions of strings and counts.

Every score takes texts as they are: whether case counts is decided by whoever hands them over (see
`reconstruction`, which compares with the source as the decoder's vocabulary can write it).

BLEU and chrF are functions of counts that add up over sentences, so one walk over the texts gives the scores of
each sentence, of the corpus, and of every resample of it.
"""

import math
from collections import Counter
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
from sacrebleu.metrics.bleu import BLEU

from sgdd_engine.evaluation.bootstrap import Figures
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


def bleu_of_counts(counts: Figures) -> Figures:
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


def corpus_bleu(references: Sequence[str], texts: Sequence[str]) -> float:
    """All sentences' sacreBLEU together, 0–100: n-grams are counted over the corpus."""
    counts = [bleu_of_sentence(*pair)[1] for pair in zip(references, texts, strict=True)]
    return float(bleu_of_counts(np.sum(counts, axis=0, dtype=np.float64)))


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


def chrf_of_counts(counts: Figures) -> Figures:
    """chrF2, 0–100, of summed counts [..., 18] as `chrf_counts` gives them: [...]."""
    found, expected, matched = (counts[..., part::3] for part in range(3))
    there = (found > 0) & (expected > 0)
    orders = np.maximum(there.sum(axis=-1), 1)
    precision = np.where(there, matched / np.maximum(found, 1.0), 0.0).sum(axis=-1) / orders
    recall = np.where(there, matched / np.maximum(expected, 1.0), 0.0).sum(axis=-1) / orders
    weighted = CHRF_BETA**2 * precision + recall
    score: Figures = 100.0 * (1 + CHRF_BETA**2) * precision * recall / np.where(weighted > 0, weighted, 1.0)
    return score


def corpus_chrf(references: Sequence[str], texts: Sequence[str]) -> float:
    """chrF2 of all sentences together, 0–100: F-score of character n-grams up to 6."""
    counts = [chrf_counts(*pair) for pair in zip(references, texts, strict=True)]
    return float(chrf_of_counts(np.sum(counts, axis=0, dtype=np.float64)))


def repetition(text: str) -> float:
    """Share of neighbouring pairs that are one word twice ("the the"), 0–1, whatever their case.

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


def _characters(text: str, order: int) -> Counter[str]:
    return Counter(text[start : start + order] for start in range(len(text) - order + 1))


@cache
def _sentence_scorer(tokenizer: str) -> BLEU:
    return BLEU(effective_order=True, tokenize=tokenizer)
