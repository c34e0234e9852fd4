"""Which other vector a sentence gets, which samples a report shows, and its figures by length."""

import numpy as np
import pytest

from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.metrics import METRICS
from sgdd_engine.evaluation.reconstruction import derangement
from sgdd_engine.evaluation.report import choose_samples, scores_by_length
from sgdd_engine.evaluation.scores import Scores


@pytest.mark.parametrize(
    "texts", [["a"] * 1 + ["b"], ["a", "b", "a", "c"], list("abcdefghij"), ["a", "a", "a", "b", "c", "d"]]
)
def test_derangement_moves_every_row_to_another_sentence(texts):
    other = derangement(texts, seed=3)
    assert sorted(other.tolist()) == list(range(len(texts)))
    assert all(texts[i] != texts[j] for i, j in enumerate(other))


def test_derangement_of_many_copies_still_moves_every_row():
    other = derangement(["a"] * 4 + ["b"], seed=0)
    assert sorted(other.tolist()) == list(range(5))
    assert all(i != j for i, j in enumerate(other))
    assert derangement(["a", "a"], seed=0).tolist() == [1, 0]
    assert not np.array_equal(derangement(list("abcdefghij"), 0), derangement(list("abcdefghij"), 1))


def scores(f1):
    size = len(f1)
    texts, nothing = [f"text {i}" for i in range(size)], np.zeros(size)
    values = {**{name: nothing for name, metric in METRICS.items() if metric.main}, "token_f1": np.array(f1)}
    return Scores(texts, texts, values, nothing)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 59, 60, 61, 100])
def test_samples_are_best_median_worst_and_random_and_none_twice(size):
    f1 = np.random.default_rng(0).permutation(size) / size
    found = choose_samples(scores(f1), [f"source {i}" for i in range(size)], seed=0)
    assert len({sample.source for sample in found}) == len(found) == min(size, 80)
    by_group = {g: [s.token_f1 for s in found if s.group == g] for g in ("best", "median", "worst", "random")}
    assert max(by_group["best"]) == f1.max()
    assert min(by_group["worst"]) == f1.min()
    assert min(by_group["best"]) > max(by_group["worst"])
    assert len(by_group["random"]) == max(0, min(20, size - 60))
    if size == 100:
        assert all(0.4 <= value <= 0.6 for value in by_group["median"])
    assert all(sample.source.replace("source", "text") == sample.text for sample in found)


def test_scores_by_length_edges():
    found = scores_by_length(
        scores([0.0, 1.0, 0.5, 0.1]), scores([0.0, 0.2, 0.0, 0.0]), [1, 8, 9, 64], seed=0
    )
    assert [(row.tokens, row.sentences) for row in found] == [("1-8", 2), ("9-16", 1), ("33-64", 1)]
    assert found[0].own["token_f1"] == Interval(0.5, 0.0, 1.0)
    assert found[0].shuffled_token_f1.mean == pytest.approx(0.1)
    # Of one sentence nobody knows how far another would lie from it.
    assert found[1].own["token_f1"] == Interval(0.5)
    plain = found[1].to_dict()
    assert plain["token_f1"] == {"mean": 0.5, "low": None, "high": None}
    assert plain["shuffled_token_f1"] == {"mean": 0.0, "low": None, "high": None}
