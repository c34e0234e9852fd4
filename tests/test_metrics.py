"""Scores against hand-computed values and independent oracles."""

import math

import numpy as np
import pytest

from sgdd_engine.evaluation.metrics import (
    bootstrap_interval,
    corpus_bleu,
    corpus_chrf,
    exact_match,
    ratio_with_error,
    repetition,
    sentence_bleu,
    token_f1,
    words,
)

CAT = "the cat sat on the mat today ."


def ngrams(tokens, n):
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def bleu_by_hand(references, texts):
    """Papineni et al. 2002 on texts that are tokenised already; only for cases without a zero count."""
    matched, total = [0] * 4, [0] * 4
    for reference, text in zip(references, texts, strict=True):
        r, h = reference.split(), text.split()
        for n in range(4):
            have = ngrams(r, n + 1)
            for gram in ngrams(h, n + 1):
                total[n] += 1
                if gram in have:
                    have.remove(gram)
                    matched[n] += 1
    lengths = [sum(len(t.split()) for t in side) for side in (references, texts)]
    brevity = math.exp(min(0.0, 1 - lengths[0] / lengths[1]))
    return 100 * brevity * math.exp(sum(math.log(m / t) for m, t in zip(matched, total, strict=True)) / 4)


def test_words_keep_inner_apostrophes_and_split_marks():
    assert words("It's here -- O'Brien’s, né 1984!") == [
        "It's",
        "here",
        "-",
        "-",
        "O'Brien’s",
        ",",
        "né",
        "1984",
        "!",
    ]
    assert words("'quoted'") == ["'", "quoted", "'"]
    assert words("  ") == []


def test_exact_match_is_string_equality():
    assert exact_match("a b.", "a b.")
    assert not exact_match("A b.", "a b.")


@pytest.mark.parametrize(
    ("reference", "text", "expected"),
    [
        ("the cat sat", "the cat sat", 1.0),
        ("the cat sat", "sat cat the", 1.0),
        ("the cat sat", "dogs run", 0.0),
        # 2 of 3 words found, all of 2 right: 2·2 / (3 + 2).
        ("the cat sat", "the cat", 0.8),
        # A repeated word pays once: 1 shared, 2·1 / (2 + 4).
        ("the cat", "the the the the", 1 / 3),
        # As often as it stands there: 2 shared of 3 and 2.
        ("the cat the", "the the", 0.8),
        # The full stop is a word of its own.
        ("stop.", "stop", 2 / 3),
        ("", "", 1.0),
        ("", "a", 0.0),
        ("a", "", 0.0),
    ],
)
def test_token_f1(reference, text, expected):
    assert token_f1(reference, text) == pytest.approx(expected)
    assert token_f1(text, reference) == pytest.approx(expected)


@pytest.mark.parametrize("text", [CAT, "the cat sat on the red mat today .", "the cat sat on the mat"])
def test_sentence_bleu_agrees_with_papineni(text):
    assert sentence_bleu(CAT, text) == pytest.approx(bleu_by_hand([CAT], [text]))


def test_corpus_bleu_counts_over_all_sentences():
    references = [CAT, "we saw the old house near the river ."]
    texts = ["the cat sat on the mat .", "we saw the house near the river again ."]
    assert corpus_bleu(references, texts) == pytest.approx(bleu_by_hand(references, texts))
    mean = sum(sentence_bleu(*pair) for pair in zip(references, texts, strict=True)) / 2
    assert corpus_bleu(references, texts) != pytest.approx(mean)


def test_bleu_of_equal_short_and_empty_texts():
    assert sentence_bleu("Hi.", "Hi.") == pytest.approx(100)
    assert sentence_bleu(CAT, "") == 0
    assert corpus_bleu([CAT, "Go home now."], [CAT, ""]) < 100
    assert corpus_chrf([CAT], [CAT]) == pytest.approx(100)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b c", 0.0),
        ("the the cat", 0.5),
        ("The the the", 1.0),
        ("no, no, no", 0.0),
        ("wait ... what", 0.0),
        ("one", 0.0),
        ("", 0.0),
    ],
)
def test_repetition(text, expected):
    assert repetition(text) == pytest.approx(expected)


def test_bootstrap_interval_is_the_normal_one_for_many_values():
    values = np.random.default_rng(1).normal(0.3, 0.2, size=400)
    found = bootstrap_interval(values, seed=0)
    half = 1.96 * values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.15 * half)
    assert found == bootstrap_interval(values, seed=0)
    assert found != bootstrap_interval(values, seed=1)


def test_ratio_with_error_of_equal_denominators_is_mean_and_standard_error():
    values = np.array([1.0, 2.0, 4.0, 5.0])
    ratio, error = ratio_with_error(values, np.full(4, 2.0))
    assert ratio == pytest.approx(1.5)
    assert error == pytest.approx(values.std(ddof=1) / 2 / 2)
    assert ratio_with_error(np.array([3.0]), np.array([2.0])) == (1.5, 0.0)
