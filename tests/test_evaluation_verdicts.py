"""Calibration of known guesses, and verdicts that turn with the figures they rest on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_sgdd import as_set, build

from sgdd_engine.evaluation.bootstrap import Interval, share_difference
from sgdd_engine.evaluation.latent import LatentFigures
from sgdd_engine.evaluation.likelihood import BINS, Calibration, guess, likelihood
from sgdd_engine.evaluation.training_text import Memorisation
from sgdd_engine.evaluation.verdicts import (
    MEASURES,
    QUESTIONS,
    calibration_verdict,
    feedback_verdict,
    guidance_verdict,
    memorisation_verdict,
    of_sentences,
    overlap_metric,
    posterior_verdict,
    repetition_verdict,
    retrieval_verdict,
    vector_verdict,
)
from sgdd_engine.models.head import VocabularyHead


def near(mean, width=0.01):
    return Interval(mean, mean - width, mean + width)


def test_guesses_that_are_right_as_often_as_they_are_sure_have_no_calibration_error():
    random = np.random.default_rng(0)
    confidence = random.random(200_000)
    found = Calibration.of(confidence, (random.random(200_000) < confidence).astype(float))
    assert found.expected_error < 0.01
    assert abs(found.overconfidence) < 0.01
    assert calibration_verdict(found).ok
    bins = found.to_dict()["bins"]
    assert [row["low"] for row in bins] == pytest.approx([part / BINS for part in range(BINS)])
    assert sum(row["count"] for row in bins) == 200_000


def test_constant_confidence_is_off_by_its_gap():
    correct = np.array([1.0, 0.0, 0.0, 0.0] * 25)
    found = Calibration.of(np.full(100, 0.9), correct)
    assert found.expected_error == pytest.approx(0.65)
    assert found.overconfidence == pytest.approx(0.65)
    assert not calibration_verdict(found).ok
    assert "too sure" in calibration_verdict(found).sentence
    shy = Calibration.of(np.full(100, 0.1), correct)
    assert shy.overconfidence == pytest.approx(-0.15)
    assert "not sure enough" in calibration_verdict(shy).sentence


def test_errors_of_different_bins_do_not_cancel():
    sure, shy = (
        Calibration.of(np.full(10, 0.9), np.full(10, 0.4)),
        Calibration.of(np.full(10, 0.1), np.full(10, 0.6)),
    )
    both = sure + shy
    assert both.expected_error == pytest.approx(0.5)
    assert both.overconfidence == pytest.approx(0)
    assert Calibration.of(np.ones(3), np.ones(3)).to_dict()["bins"][0]["high"] == 1


def test_chunked_guesses_are_those_of_all_logits_at_once(monkeypatch):
    from sgdd_engine.evaluation import likelihood as module

    torch.manual_seed(0)
    head, hidden, targets = VocabularyHead(50, 8), torch.randn(23, 8), torch.randint(0, 50, (23,))
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", 200)
    with torch.no_grad():
        found = guess(head, hidden, targets)
        probabilities = head.logits(hidden).softmax(dim=1)
        scores = head.cross_entropy(hidden, targets, torch.ones(23))
    torch.testing.assert_close(found.nll, scores.nll)
    assert torch.equal(found.correct, scores.correct)
    torch.testing.assert_close(found.confidence, probabilities.max(dim=1).values)
    assert len(guess(head, hidden[:0], targets[:0]).nll) == 0


def test_a_uniform_head_is_as_sure_as_it_can_be_right(tiny_encoder, sentences):
    model = build(tiny_encoder, sentences[:20])
    torch.nn.init.zeros_(model.model.head.table)
    data = as_set(model, sentences[:20])
    found = likelihood(model, data, samples=3, seed=0).calibration.to_dict()
    (only,) = found["bins"]
    assert only["confidence"] == pytest.approx(1 / model.info.model.vocabulary.size, rel=1e-4)
    # The full mask alone has every token once.
    assert found["tokens"] > sum(map(len, data.token_ids))


def test_the_vector_is_used_only_if_the_whole_interval_says_so():
    true, shuffled = {"token_f1": near(0.5)}, {"token_f1": near(0.1)}
    used = vector_verdict(true, shuffled, {"token_f1": Interval(0.4, 0.3, 0.5)}, 100)
    assert used.ok
    assert "0.300 to 0.500" in used.sentence
    # The interval holds zero and a gain that matters: nothing is known.
    open_ = vector_verdict(true, shuffled, {"token_f1": Interval(0.1, -0.01, 0.2)}, 100)
    assert open_.ok is None
    assert open_.sentence.startswith("Whether the vector is used cannot be told: token F1 0.500 with it")
    unused = vector_verdict(true, shuffled, {"token_f1": Interval(0.01, -0.01, 0.03)}, 100)
    assert unused.ok is False
    assert "is NOT used" in unused.sentence
    # Above zero for certain, and as good as nothing all the same, however many sentences say so.
    hardly = vector_verdict(true, shuffled, {"token_f1": Interval(0.01, 0.005, 0.015)}, 1000)
    assert hardly.ok is False
    assert "is hardly used" in hardly.sentence


def test_nothing_is_certain_on_five_sentences():
    sure = vector_verdict(
        {"token_f1": near(0.5)}, {"token_f1": near(0.1)}, {"token_f1": Interval(0.4, 0.3, 0.5)}, 5
    )
    for name, question in QUESTIONS.items():
        for ok in (True, False, None):
            found = of_sentences(replace(sure, name=name, ok=ok), 5)
            assert found.ok is None
            assert found.sentence == f"Whether {question} cannot be told from 5 sentences."
    assert of_sentences(sure, 20) is sure


def test_scripts_without_spaces_are_judged_by_runs_of_letters():
    english, chinese, thai = "The tea is hot.", "茶很热。", "ชาร้อนมาก"
    assert overlap_metric([english, chinese, "हिन्दी में लिखो"]) == "token_f1"
    assert overlap_metric([chinese, thai, english]) == "chrf"
    # Single letters in common tell little; token F1 alone would call this vector useless.
    true, shuffled = (
        {"token_f1": near(0.76), "chrf": near(70.0)},
        {"token_f1": near(0.75), "chrf": near(50.0)},
    )
    gain = {"token_f1": Interval(0.01, -0.02, 0.04), "chrf": Interval(20.0, 17.0, 23.0)}
    assert vector_verdict(true, shuffled, gain, 100).ok is False
    found = vector_verdict(true, shuffled, gain, 100, "chrf")
    assert found.ok
    assert "chrF 70.0 with it, 50.0 with another sentence's" in found.sentence
    assert "17.0 to 23.0" in found.sentence
    up = guidance_verdict(2.0, {"chrf": Interval(2.0, 1.0, 3.0), "cosine": near(0.1)}, "chrf")
    assert up.ok
    assert "chrF by +2.0 (+1.0 to +3.0)" in up.sentence


def test_guidance_helps_harms_both_or_cannot_be_told():
    up, down, flat = near(0.1), near(-0.1), Interval(0.0, -0.1, 0.1)
    cases = [(up, up, True), (up, flat, True), (flat, down, False), (up, down, None), (flat, flat, None)]
    for f1, cosine, expected in cases:
        found = guidance_verdict(2.0, {"token_f1": f1, "cosine": cosine})
        assert found.ok is expected
        assert "w = 2" in found.sentence


def test_feedback_is_judged_by_the_overlap_since_it_chooses_by_the_cosine():
    def found(overlap):
        return feedback_verdict(8.0, None, {"token_f1": overlap, "cosine": near(0.05)})

    assert found(near(0.03)).ok is True
    assert found(near(-0.03)).ok is False
    flat = found(Interval(-0.004, -0.012, 0.004))
    assert flat.ok is None
    assert "the cosine by +0.050" in flat.sentence


def test_retrieval_has_to_be_beaten_on_every_measure():
    high, low = dict.fromkeys(MEASURES, near(0.9)), dict.fromkeys(MEASURES, near(0.1))
    ahead = dict.fromkeys(MEASURES, near(0.8))
    assert retrieval_verdict(high, low, ahead).ok
    behind = retrieval_verdict(high, low, {**ahead, "bleu": near(-0.5)})
    assert behind.ok is False
    assert "better in BLEU" in behind.sentence
    assert retrieval_verdict(high, low, {**ahead, "bleu": Interval(0.1, -0.1, 0.3)}).ok is None
    part = retrieval_verdict(high, low, ahead, 1000, 70_000)
    assert "the nearest of 1,000 training sentences (of 70,000)" in part.sentence


def test_copying_is_judged_by_how_often_the_sources_are_training_sentences():
    def found(outputs, sources, low, high):
        excess = Interval(outputs - sources, low, high)
        return memorisation_verdict(Memorisation(near(outputs), near(sources), excess))

    assert found(0.10, 0.10, -0.01, 0.01).ok
    assert found(0.10, 0.10, -0.03, 0.03).ok is None
    assert found(0.02, 0.00, 0.005, 0.03).ok is None
    # That nothing was copied in few sentences says little of others, and of another corpus nothing at all.
    for count, expected in ((20, None), (300, None), (1000, True)):
        nothing = share_difference(np.zeros(count), np.zeros(count))
        assert memorisation_verdict(Memorisation(near(0, 0), near(0, 0), nothing)).ok is expected
    of_another = memorisation_verdict(Memorisation(near(0, 0), near(0, 0), near(0, 0.001)), trained_on=False)
    assert of_another.ok is None
    assert "not recorded as that of its training" in of_another.sentence
    copied = found(0.40, 0.01, 0.35, 0.43)
    assert copied.ok is False
    assert "40.0 % of the outputs" in copied.sentence


def test_repetition_is_judged_beside_the_sources():
    assert repetition_verdict({"repetition": near(0.03)}, 0.02).ok
    assert repetition_verdict({"repetition": near(0.09)}, 0.02).ok is False
    assert repetition_verdict({"repetition": near(0.04, 0.02)}, 0.02).ok is None


def test_only_a_posterior_can_collapse():
    assert posterior_verdict(LatentFigures("whitening", 4, [1.0] * 4, 4.0)) is None
