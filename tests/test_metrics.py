"""Scores against hand-computed values and independent oracles."""

import math
from itertools import pairwise

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from sgdd_engine.evaluation.bootstrap import Resampling
from sgdd_engine.evaluation.metrics import (
    METRICS,
    WrittenTexts,
    bleu_of_counts,
    bleu_of_sentence,
    chrf_counts,
    chrf_of_counts,
    distinct,
    exact_match,
    repetition,
    sentence_bleu,
    set_f1,
    token_f1,
    unigram_entropy_nats,
)
from sgdd_engine.text.words import words

CAT = "the cat sat on the mat today ."


def corpus_bleu(references, texts):
    counts = [bleu_of_sentence(*pair)[1] for pair in zip(references, texts, strict=True)]
    return float(bleu_of_counts(np.sum(counts, axis=0, dtype=np.float64)))


def corpus_chrf(references, texts):
    counts = [chrf_counts(*pair) for pair in zip(references, texts, strict=True)]
    return float(chrf_of_counts(np.sum(counts, axis=0, dtype=np.float64)))


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


def test_words_with_combining_marks_are_whole():
    reference = "हिन्दी में लिखो"
    # One of three words each; letters without their vowel signs would be nearly the same.
    assert token_f1(reference, "हिन्दू में लिखा") == pytest.approx(1 / 3)
    assert token_f1(reference, "ि ी ू ं") == set_f1(reference, "ि ी ू ं") == 0
    assert repetition("ििि") == 0


def test_scripts_without_spaces_are_scored_letter_by_letter():
    reference, near, far = "我今天去公园散步。", "我今天去学校散步。", "他们昨晚在家看电视。"
    assert token_f1(reference, near) == pytest.approx(14 / 18)
    assert token_f1(reference, far) == pytest.approx(2 / 19)
    for pair in ((reference, near), (reference, far)):
        assert (
            sentence_bleu(*pair)
            == BLEU(effective_order=True, tokenize="zh").sentence_score(pair[1], [pair[0]]).score
        )
    assert sentence_bleu(reference, near) > 30 > 5 > sentence_bleu(reference, far)
    for reference, near in (("ฉันรักภาษาไทย", "ฉันรักภาษาลาว"), ("これは本です。", "これは犬です。")):
        expected = BLEU(effective_order=True, tokenize="char").sentence_score(near, [reference]).score
        assert sentence_bleu(reference, near) == expected > 40
        assert sentence_bleu(reference, reference) == pytest.approx(100)
        assert 0.7 < token_f1(reference, near) < 1


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


@pytest.mark.parametrize(
    ("reference", "text", "expected"),
    [
        ("the cat sat", "sat cat the", 1.0),
        # Repeating is free: 2 of 2 words, all of 2 right.
        ("the cat", "the the the the cat", 1.0),
        # 2 shared of 3 and of 2 different words.
        ("the cat sat", "the cat cat", 0.8),
        ("the cat sat", "dogs run", 0.0),
        ("", "", 1.0),
        ("", "a", 0.0),
    ],
)
def test_set_f1(reference, text, expected):
    assert set_f1(reference, text) == pytest.approx(expected)
    assert set_f1(text, reference) == pytest.approx(expected)


def some_pairs(sentences):
    """Sentences against themselves, each other, halves of themselves, single words and nothing."""
    pairs = [*pairwise(sentences[:40])]
    pairs += [(a, a[: len(a) // 2]) for a in sentences[:20]] + [(a, a) for a in sentences[:5]]
    return [*pairs, ("Go home.", "Go"), ("Go home.", "zebra"), ("Go home now, please.", ""), ("a", "b")]


def test_bleu_of_summed_counts_is_sacrebleus_corpus_score(sentences):
    pairs = some_pairs(sentences)
    counts = np.array([bleu_of_sentence(*pair)[1] for pair in pairs], dtype=np.float64)
    random = np.random.default_rng(0)
    # Small sets have orders without a match (smoothed) and without an n-gram (no score at all).
    choices = [random.integers(len(pairs), size=size) for size in (1, 1, 1, 1, 2, 2, 3, 5, 60)]
    choices += [np.array([row]) for row in range(len(pairs))]
    expected = []
    for chosen in choices:
        references, texts = zip(*(pairs[row] for row in chosen), strict=True)
        expected.append(BLEU(force=True).corpus_score(list(texts), [list(references)]).score)
    found = bleu_of_counts(np.stack([counts[chosen].sum(axis=0) for chosen in choices]))
    np.testing.assert_allclose(found, expected, atol=1e-9)
    references, texts = zip(*pairs, strict=True)
    assert corpus_bleu(references, texts) == pytest.approx(
        BLEU(force=True).corpus_score(list(texts), [list(references)]).score
    )


def test_chrf_is_sacrebleus_for_sentences_and_corpora(sentences):
    pairs = some_pairs(sentences)
    counts = np.array([chrf_counts(*pair) for pair in pairs], dtype=np.float64)
    expected = [CHRF().sentence_score(text, [reference]).score for reference, text in pairs]
    np.testing.assert_allclose(chrf_of_counts(counts), expected, atol=1e-9)
    references, texts = zip(*pairs, strict=True)
    corpus = CHRF().corpus_score(list(texts), [list(references)]).score
    assert corpus_chrf(references, texts) == pytest.approx(corpus)


def test_distinct_and_entropy_by_hand():
    texts = ["a b a b", "a c"]
    assert distinct(texts, 1) == pytest.approx(3 / 6)
    # ab ba ab, ac: pairs do not cross from one text to the next.
    assert distinct(texts, 2) == pytest.approx(3 / 4)
    assert distinct(["a"], 2) == 0
    expected = -(3 / 6 * math.log(3 / 6) + 2 / 6 * math.log(2 / 6) + 1 / 6 * math.log(1 / 6))
    assert unigram_entropy_nats(texts) == pytest.approx(expected)
    assert unigram_entropy_nats(["a a", "a"]) == unigram_entropy_nats([]) == 0


WRITTEN = WrittenTexts(
    references=[CAT, "we saw the old house near the river ."],
    texts=["the cat sat on the mat .", "we saw the the house near the river again ."],
    cosines=np.array([0.9, 0.5]),
    ranks=np.array([1.0, 4.0]),
    excess_tokens=np.array([-1.0, 1.0]),
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exact_match", 0),
        # 2·7 / (7 + 8), and 2·8 / (9 + 10).
        ("token_f1", (14 / 15 + 16 / 19) / 2),
        # 2·6 / (6 + 7), and of 8 and 8 different words 7.
        ("set_f1", (12 / 13 + 14 / 16) / 2),
        (
            "bleu",
            np.mean([sentence_bleu(*pair) for pair in zip(WRITTEN.references, WRITTEN.texts, strict=True)]),
        ),
        ("corpus_bleu", bleu_by_hand(WRITTEN.references, WRITTEN.texts)),
        (
            "chrf",
            np.mean([corpus_chrf([a], [b]) for a, b in zip(WRITTEN.references, WRITTEN.texts, strict=True)]),
        ),
        ("corpus_chrf", CHRF().corpus_score(WRITTEN.texts, [WRITTEN.references]).score),
        ("cosine", 0.7),
        ("repetition", (0 + 1 / 9) / 2),
        ("length_error", 1),
        ("length_exact", 0),
        ("retrieval_top1", 0.5),
        ("retrieval_mrr", (1 + 1 / 4) / 2),
        ("retrieval_median_rank", 2.5),
    ],
)
def test_each_metric_of_the_registry_by_hand(name, expected):
    metric = METRICS[name]
    values = metric.of(WRITTEN)
    found = np.mean(values) if metric.total is None else metric.total(Resampling(2, seed=0), values)[0]
    assert found == pytest.approx(expected)
    low, high = metric.bounds or (0, math.inf)
    assert low <= found <= high
    assert metric.explanation.endswith(f"; {metric.better} is better")
    assert (f", {low} to {high};".replace("-", "−") in metric.explanation) == (metric.bounds is not None)


def test_no_metric_is_untested():
    (cases,) = (mark.args[1] for mark in test_each_metric_of_the_registry_by_hand.pytestmark)
    assert [name for name, _ in cases] == list(METRICS.names())
