"""The bootstrap against the normal interval, by brute force, and paired across conditions."""

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU

from sgdd_engine.evaluation import bootstrap
from sgdd_engine.evaluation.bootstrap import (
    Resampling,
    bootstrap_interval,
    interval,
    ratio_with_error,
    share_difference,
    share_interval,
)
from sgdd_engine.evaluation.metrics import bleu_of_counts, bleu_of_sentence


def test_interval_is_the_normal_one_for_many_values():
    values = np.random.default_rng(1).normal(0.3, 0.2, size=400)
    found = bootstrap_interval(values, seed=0)
    half = 1.96 * values.std() / 20
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.15 * half)
    assert found == bootstrap_interval(values, seed=0)
    assert found != bootstrap_interval(values, seed=1)


def test_one_sentence_has_no_interval_and_no_standard_error():
    found = bootstrap_interval(np.array([0.7]), seed=0)
    assert (found.mean, found.low, found.high, found.ends) == (0.7, None, None, None)
    assert not found.above_zero
    assert not found.below_zero
    assert interval(Resampling(1, seed=0).medians(np.array([3.0]))).ends is None
    assert interval(bleu_of_counts(Resampling(1, seed=0).sums(np.ones((1, 10))))).ends is None
    assert ratio_with_error(np.array([3.0]), np.array([2.0])) == (1.5, None)
    assert bootstrap_interval(np.array([0.7, 0.7]), seed=0).ends == pytest.approx((0.7, 0.7))


def test_nothing_found_in_few_cases_leaves_a_wide_interval():
    none, every = (share_interval(np.full(2001, share), 20) for share in (0.0, 1.0))
    # Clopper and Pearson for 0 of 20: 16.8 %.
    assert (none.low, none.high) == pytest.approx((0, 0.168), abs=0.001)
    assert (every.low, every.high) == pytest.approx((0.832, 1), abs=0.001)
    # Wilson for 0 of 20: 16.1 %, on both sides.
    both = share_difference(np.zeros(20), np.zeros(20))
    assert (both.mean, both.low, both.high) == pytest.approx((0, -0.161, 0.161), abs=0.001)
    assert share_difference(np.ones(1), np.zeros(1)).ends is None


def test_the_difference_of_shares_holds_the_true_one_as_often_as_it_says():
    random = np.random.default_rng(0)
    for chance in (0.005, 0.02, 0.2):
        held = 0
        for _ in range(400):
            drawn = random.uniform(size=200)
            found = share_difference((drawn < chance).astype(float), (drawn > 1 - chance / 2).astype(float))
            held += found.low <= chance / 2 <= found.high
        assert held / 400 > 0.93


def test_resamples_are_the_same_rows_for_every_figure(monkeypatch):
    # A chunk that holds few resamples, so that several are walked.
    monkeypatch.setattr(bootstrap, "CHUNK", 35)
    values = np.random.default_rng(0).normal(size=(10, 3))
    monkeypatch.setattr(bootstrap, "RESAMPLES", 50)
    resampling = Resampling(10, seed=4)
    sums = resampling.sums(values)
    assert sums.shape == (51, 3)
    np.testing.assert_allclose(sums[0], values.sum(axis=0))
    np.testing.assert_allclose(resampling.sums(values[:, :1] - values[:, 1:2])[:, 0], sums[:, 0] - sums[:, 1])
    # Whatever is drawn, ten rows are: a column of ones sums to ten.
    np.testing.assert_array_equal(resampling.sums(np.ones((10, 1))), 10)
    drawn = resampling.sums(np.eye(10))[1:]
    np.testing.assert_allclose(sums[1:], drawn @ values)
    medians = [np.median(np.repeat(values[:, 0], counts.astype(int))) for counts in drawn]
    np.testing.assert_allclose(resampling.medians(values[:, 0])[1:], medians)


@pytest.mark.parametrize("size", [2, 3, 8, 9])
def test_medians_of_odd_and_even_numbers(size):
    values = np.random.default_rng(size).permutation(size).astype(float)
    resampling = Resampling(size, seed=0)
    drawn = resampling.sums(np.eye(size))[1:]
    expected = [np.median(np.repeat(values, counts.astype(int))) for counts in drawn]
    np.testing.assert_allclose(resampling.medians(values), [np.median(values), *expected])


def test_interval_of_corpus_bleu_stands_around_sacrebleus_own_score(sentences):
    references, texts = (
        sentences[:60],
        [s.replace("found", "saw").replace("the ", "a ") for s in sentences[:60]],
    )
    pairs = list(zip(references, texts, strict=True))
    counts = np.array([bleu_of_sentence(*pair)[1] for pair in pairs], dtype=np.float64)
    figures = bleu_of_counts(Resampling(60, seed=0).sums(counts))
    expected = BLEU(force=True).corpus_score(texts, [references]).score
    found = interval(figures)
    assert found.mean == pytest.approx(expected)
    assert found.low < expected < found.high
    assert figures[1:].mean() == pytest.approx(expected, abs=0.1 * (found.high - found.low))


def test_ratio_with_error_of_equal_denominators_is_mean_and_standard_error():
    values = np.array([1.0, 2.0, 4.0, 5.0])
    ratio, error = ratio_with_error(values, np.full(4, 2.0))
    assert ratio == pytest.approx(1.5)
    assert error == pytest.approx(values.std(ddof=1) / 2 / 2)
