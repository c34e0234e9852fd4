"""The confidence in sentences: the regression, its record in a checkpoint, and what generation makes of it."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_sgdd import as_set, build

from sgdd_engine.checkpoint import checkpoint_damage, read_info, record_confidence, record_sampling
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.errors import CheckpointError, DataError
from sgdd_engine.evaluation.confidence import (
    area_under_curve,
    calibrate_score,
    calibration_dict,
    logistic_regression,
)
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.evaluation.metrics import token_f1
from sgdd_engine.generation import SGDD
from sgdd_engine.generation.confidence import (
    COSINE_FEATURE,
    EVENT,
    FEATURES,
    VERSION,
    ConfidenceFit,
    record_of,
    recorded_fits,
    way_of,
)

PLAIN = SamplingConfig(cfg=1.0, steps=4)
WEIGHTS = {"mean_log_prob": 0.5, "min_log_prob": 0.1, "length_log_prob": 0.3, "log_tokens": -0.2}
RECORD = record_of(
    {
        "one_shot": ConfidenceFit(WEIGHTS, 0.25, {}),
        "one_shot_encoded": ConfidenceFit({**WEIGHTS, COSINE_FEATURE: -1.0}, -1.0, {}),
        "feedback": ConfidenceFit({**WEIGHTS, COSINE_FEATURE: -2.0}, 0.0, {"candidates": 2}),
    }
)


@pytest.fixture(scope="module")
def eight(sentences):
    return sentences[3:67:8]


@pytest.fixture(scope="module")
def model(tiny_encoder, eight) -> SGDD:
    return build(tiny_encoder, eight, steps=150)


def with_record(model: SGDD, record) -> SGDD:
    checkpoint = replace(model._checkpoint, info=replace(model.info, confidence=record))
    return SGDD(checkpoint, model.device, model.encoder)


# --- the regression -------------------------------------------------------------------------------------


def test_the_regression_finds_the_weights_that_made_the_outcomes():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(20_000, 2)) * [1.0, 10.0] + [0.0, 5.0]
    chance = 1 / (1 + np.exp(-(1.5 * table[:, 0] - 0.2 * table[:, 1] + 0.7)))
    happened = (rng.uniform(size=len(table)) < chance).astype(float)
    weights, bias = logistic_regression(table, happened)
    assert weights == pytest.approx([1.5, -0.2], rel=0.06)
    assert bias == pytest.approx(0.7, rel=0.1)
    found = 1 / (1 + np.exp(-(table @ weights + bias)))
    assert found.mean() == pytest.approx(happened.mean(), abs=1e-9), "the bias is not shrunk"


def test_outcomes_that_can_be_separated_keep_the_weights_finite():
    table = np.linspace(-1, 1, 50)[:, None]
    weights, bias = logistic_regression(table, (table[:, 0] > 0).astype(float))
    assert 0 < weights[0] < 20
    assert math.isfinite(bias)


def test_outcomes_that_are_all_alike_keep_the_bias_finite():
    table = np.random.default_rng(2).normal(size=(160, 3))
    found = [logistic_regression(table, np.full(160, outcome)) for outcome in (1.0, 0.0)]
    for weights, _ in found:
        assert weights == pytest.approx(np.zeros(3), abs=1e-3)
    assert 10 < found[0][1] < 30
    assert found[1][1] == pytest.approx(-found[0][1], rel=1e-3)


def test_the_area_under_the_curve_counts_pairs():
    rng = np.random.default_rng(1)
    found, happened = rng.integers(0, 5, 60) / 5, rng.integers(0, 2, 60).astype(float)
    yes, no = found[happened > 0], found[happened == 0]
    pairs = [(a > b) + 0.5 * (a == b) for a in yes for b in no]
    assert area_under_curve(found, happened) == pytest.approx(np.mean(pairs))
    assert area_under_curve(found, np.ones(60)) is None


# --- fitted ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sentences_that_come_back_are_told_from_those_that_do_not(model, eight, sentences):
    data = as_set(model, [*eight, *sentences[100:200]])
    config = EvalConfig(seed=3)
    found = calibrate_score(model, data, sampling=PLAIN, config=config)
    assert list(found) == ["one_shot", "one_shot_encoded"]
    for judged in found.values():
        facts = judged.fit.facts
        assert facts["sentences"] == 108
        assert facts["share_close"] * 108 >= 8
        assert facts["brier"] < facts["brier_of_share"]
        assert facts["auc"] > 0.85
        assert judged.calibration.count.sum() == 108
    # What is recorded gives the model's own sentences their probabilities.
    record = json.loads(json.dumps(calibration_dict(found)))["confidence"]
    assert record["version"] == VERSION
    knows = with_record(model, record)
    near, far = (
        [item.confidence for item in knows.reconstruct(texts, sampling=PLAIN, confidence=True)]
        for texts in (eight, sentences[200:208])
    )
    assert min(near) > max(far)
    chosen = calibrate_score(model, data, sampling=PLAIN, config=replace(config, candidates=2))
    assert list(chosen) == ["feedback"]
    assert chosen["feedback"].fit.facts["candidates"] == 2


def test_too_few_sentences_and_outcomes_that_are_all_alike_are_refused(model, eight, sentences):
    with pytest.raises(DataError, match="8 sentences are left"):
        calibrate_score(model, as_set(model, eight), sampling=PLAIN, config=EvalConfig())
    with pytest.raises(DataError, match="nothing to tell apart"):
        calibrate_score(model, as_set(model, sentences[200:300]), sampling=PLAIN, config=EvalConfig())


def test_a_fit_that_foretells_no_better_than_the_share_is_refused(model, eight, sentences):
    # Of one sentence that came back, no fold can learn without it what it looks like.
    one = as_set(model, [eight[0], *sentences[100:200]])
    with pytest.raises(DataError, match=r"one of the 1 of 101 that came back .* better than this share does"):
        calibrate_score(model, one, sampling=PLAIN, config=EvalConfig(seed=3))


# --- recorded -------------------------------------------------------------------------------------------


def test_fits_are_recorded_beside_each_other_and_the_checkpoint_verifies(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    folder = tmp_path / "model"
    weights = (folder / "model.safetensors").read_bytes()
    assert recorded_fits(read_info(folder)) == {}
    only = {name: RECORD["fits"][name] for name in ("one_shot", "one_shot_encoded")}
    record_confidence(folder, {**RECORD, "fits": only})
    record_sampling(folder, {"cfg": 2.0})
    record_confidence(folder, {**RECORD, "fits": {"feedback": RECORD["fits"]["feedback"]}})
    info = read_info(folder)
    assert checkpoint_damage(folder) is None
    assert info.sampling == {"cfg": 2.0}
    assert info.confidence == RECORD
    assert recorded_fits(info)["feedback"].facts == {"candidates": 2}
    assert (folder / "model.safetensors").read_bytes() == weights
    # It goes along to a copy.
    SGDD.from_pretrained(folder).save_pretrained(tmp_path / "copy")
    assert read_info(tmp_path / "copy").confidence == RECORD


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({**RECORD, "version": 99}, "does not know"),
        ({**RECORD, "event": "bleu > 50"}, "does not know"),
        ({"version": VERSION, "event": EVENT}, "damaged"),
        ({**RECORD, "fits": {"one_shot": {"weights": {}, "bias": 0}}}, "damaged"),
        ({**RECORD, "fits": {"one_shot": {"weights": WEIGHTS, "bias": math.inf}}}, "damaged"),
        ({**RECORD, "fits": ["one_shot"]}, "damaged"),
    ],
)
def test_a_record_that_is_none_is_refused_in_a_sentence(model, record, message):
    with pytest.raises(CheckpointError, match=message):
        recorded_fits(replace(model.info, confidence=record))


# --- used -----------------------------------------------------------------------------------------------


def test_the_confidence_is_that_of_the_recorded_weights(model, eight):
    knows, e = with_record(model, RECORD), model.encode(eight)
    z = model.model.latent(e).z
    lengths = model.model.length_logits(z).log_softmax(-1).detach()
    plain = model.generate(e, sampling=PLAIN, score=True, explain=True)
    for options, way in (({}, "one_shot"), ({"score": True}, "one_shot_encoded")):
        written = knows.generate(e, sampling=PLAIN, confidence=True, **options)
        assert [item.text for item in written] == [item.text for item in plain], "asking changes nothing"
        assert all(item.details == () for item in written)
        for item, explained in zip(written, plain, strict=True):
            log_probs = [math.log(token.probability) for token in explained.details]
            features = dict(
                zip(
                    FEATURES,
                    (
                        sum(log_probs) / len(log_probs),
                        min(log_probs),
                        float(lengths[item.row, len(item.tokens) - 1]),
                        math.log(len(item.tokens)),
                    ),
                    strict=True,
                )
            )
            features[COSINE_FEATURE] = math.log(max(0.0, 1 - explained.cosine) + 1e-3)
            fit = RECORD["fits"][way]
            logit = fit["bias"] + sum(weight * features[name] for name, weight in fit["weights"].items())
            assert item.confidence == pytest.approx(1 / (1 + math.exp(-logit)), abs=1e-4)
    alone = knows.generate(e[3:4], sampling=PLAIN, score=True, confidence=True)
    assert alone[0].confidence == pytest.approx(written[3].confidence, abs=1e-4), "whatever the batch"


def test_each_way_of_writing_has_its_fit_or_none(model, eight):
    assert way_of(feedback=False, encoded=False) == "one_shot"
    assert way_of(feedback=True, encoded=True) == "feedback"
    assert way_of(feedback=True, encoded=False) is None
    knows, e = with_record(model, RECORD), model.encode(eight[:2])
    refined = knows.generate(e, sampling=PLAIN, candidates=2, refine=1, confidence=True)
    assert all(0 < item.confidence < 1 for item in refined)
    nothing = [
        *model.generate(e, sampling=PLAIN, confidence=True),
        *knows.generate(e, sampling=PLAIN),
        *knows.generate(e, sampling=PLAIN, unconditional=True, confidence=True),
        *knows.generate(e, sampling=PLAIN, latents=torch.zeros(2, 32), confidence=True),
    ]
    assert [item.confidence for item in nothing] == [None] * 8


def test_the_threshold_is_the_one_of_its_name():
    assert EVENT == "token_f1 > 0.8"
    assert token_f1("a b c d e", "a b c d x") == pytest.approx(0.8)
