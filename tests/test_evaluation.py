"""The evaluation on a real tiny model: overfitted it is perfect, shuffled it falls, and figures repeat."""

import json
import math

import numpy as np
import pytest
import torch
from tiny_sgdd import as_set, build

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.errors import GenerationError
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.evaluation.evaluate import evaluate
from sgdd_engine.evaluation.likelihood import latent_figures, likelihood
from sgdd_engine.evaluation.metrics import Interval
from sgdd_engine.evaluation.reconstruction import Scores, derangement
from sgdd_engine.evaluation.report import choose_samples, scores_by_length
from sgdd_engine.generation import SGDD

PLAIN = SamplingConfig(cfg=1.0, steps=8)


@pytest.fixture(scope="module")
def eight(sentences):
    return sentences[3:67:8]


@pytest.fixture(scope="module")
def overfitted(tiny_encoder, eight) -> SGDD:
    return build(tiny_encoder, eight, steps=300)


@pytest.fixture(scope="module")
def untrained(tiny_encoder, sentences) -> SGDD:
    return build(tiny_encoder, sentences[:40])


@pytest.fixture(scope="module")
def report(overfitted, eight):
    return evaluate(overfitted, as_set(overfitted, eight), config=EvalConfig(nelbo_samples=4), sampling=PLAIN)


def test_overfitted_model_is_exact_with_its_own_vectors_and_falls_with_others(report):
    found = report.to_dict()
    own, shuffled, null = (found[name] for name in ("reconstruction", "shuffled", "null"))
    # The sentences have capitals and the vocabulary has none, so this also shows what the reference is.
    assert own["exact_match"] == own["token_f1"] == own["length_exact"] == own["retrieval_top1"] == 1
    assert own["bleu"] == pytest.approx(100)
    assert own["length_error"] == own["repetition"] == 0
    assert own["cosine"] == pytest.approx(1, abs=1e-5)
    assert shuffled["exact_match"] == 0
    assert shuffled["token_f1"] < 0.7
    assert shuffled["cosine"] == pytest.approx(found["random_pair_cosine"], abs=1e-5)
    assert null["exact_match"] <= 1 / 8
    assert report.vector_used
    assert report.verdict.startswith("The vector is used: token F1 1.00 with it")
    assert found["accuracy_by_mask_ratio"]["100"] > 0.95
    assert 0 < found["nelbo_nats_per_token"] < 1


def test_json_form_has_the_promised_keys_and_no_surprises(report):
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    for condition in ("reconstruction", "shuffled", "null"):
        assert {"exact_match", "token_f1", "bleu", "cosine"} <= found[condition].keys()
        assert all(0 <= found[condition][key] <= 1 for key in ("exact_match", "token_f1"))
    assert found["sentences"] == 8
    assert isinstance(found["nelbo_nats_per_token"], float)
    assert found["settings"]["eval"]["seed"] == 0
    assert found["settings"]["sampling"]["steps"] == 8
    assert "decode(encode(source))" in found["settings"]["scoring"]["references"]
    assert {sample["group"] for sample in found["samples"]} == {"best", "median", "worst"}
    assert sum(row["sentences"] for row in found["by_length"]) == 8


def test_same_seed_gives_the_same_report(untrained, sentences):
    data = as_set(untrained, sentences[:12])
    sampling = SamplingConfig(cfg=1.5, steps=4, temperature=0.8)
    first, again, other = (
        evaluate(untrained, data, config=EvalConfig(nelbo_samples=2, seed=seed), sampling=sampling).to_dict()
        for seed in (5, 5, 6)
    )
    assert first == again
    assert first["nelbo_nats_per_token"] != other["nelbo_nats_per_token"]


def test_untrained_model_is_told_that_its_vector_is_not_used(untrained, sentences):
    # Untrained networks still depend on their input; a condition of zeros makes the case clear.
    blind = build(untrained.encoder, sentences[:40])
    for parameter in blind.model.conditioner.parameters():
        torch.nn.init.zeros_(parameter)
    for parameter in blind.model.length_head.parameters():
        torch.nn.init.zeros_(parameter)
    found = evaluate(blind, as_set(blind, sentences[:12]), config=EvalConfig(nelbo_samples=1), sampling=PLAIN)
    assert not found.vector_used
    assert found.verdict.startswith("The vector is NOT used, as far as 12 sentences can tell")
    assert found.difference == Interval(0, 0, 0)


def test_uniform_head_costs_log_v_nats_per_token(untrained, sentences):
    uniform = build(untrained.encoder, sentences[:40])
    torch.nn.init.zeros_(uniform.model.head.table)
    found = likelihood(uniform, as_set(uniform, sentences[:200]), samples=16, seed=1)
    expected = math.log(uniform.info.model.vocabulary.size)
    assert abs(found.nelbo_nats_per_token - expected) < 4 * found.standard_error
    assert 0 < found.standard_error < 0.1 * expected


def test_bits_per_byte_and_full_mask_accuracy_by_hand(untrained, sentences):
    data = as_set(untrained, sentences[:6])
    found = likelihood(untrained, data, samples=2, seed=0)
    tokens = sum(map(len, data.token_ids))
    size = sum(len(text.encode()) for text in untrained.tokenizer.decode_batch(data.token_ids))
    assert found.bits_per_byte == pytest.approx(found.nelbo_nats_per_token * tokens / size / math.log(2))
    right = 0
    for row, ids in enumerate(data.token_ids):
        canvas = torch.full((1, len(ids)), untrained.tokenizer.mask_id)
        condition = untrained.model.condition(untrained.model.latent(data.vectors[[row]]).z)
        hidden = untrained.model.hidden(canvas, torch.ones(1), condition)[0]
        right += int((untrained.model.head.logits(hidden).argmax(-1) == torch.tensor(ids)).sum())
    assert found.accuracy_by_mask_ratio["100"] == pytest.approx(right / tokens)


def test_latent_figures(tiny_encoder, untrained, sentences):
    vectors = tiny_encoder.encode(sentences[:40])
    assert latent_figures(untrained, vectors) is None
    vib = build(tiny_encoder, sentences[:40], kind="vib")
    found = latent_figures(vib, vectors)
    kl = vib.model.bottleneck.posterior(vib.model.standardize(vectors)).kl()
    assert found["kl_nats_per_sentence"] == pytest.approx(float(kl.detach().sum() / 40), rel=1e-5)
    assert 0 < found["active_units"] <= found["dimensions"] == 8
    for parameter in vib.model.bottleneck.parameters():
        torch.nn.init.zeros_(parameter)
    assert latent_figures(vib, vectors) == {"dimensions": 8, "active_units": 0, "kl_nats_per_sentence": 0.0}


def test_guidance_without_a_trained_null_condition_is_refused(tiny_encoder, sentences):
    model = build(tiny_encoder, sentences[:8], trained_null=False)
    with pytest.raises(GenerationError, match="null condition"):
        evaluate(model, as_set(model, sentences[:4]), sampling=SamplingConfig(cfg=2.0))


def test_candidates_are_chosen_by_the_vector_that_was_given(untrained, sentences):
    data = as_set(untrained, sentences[:6])
    one, four = (
        evaluate(untrained, data, config=EvalConfig(nelbo_samples=1, candidates=n), sampling=PLAIN).to_dict()
        for n in (1, 4)
    )
    assert four["reconstruction"]["cosine"] >= one["reconstruction"]["cosine"]
    assert four["null"] == one["null"]


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
    zeros = np.zeros(len(f1))
    texts = [f"text {i}" for i in range(len(f1))]
    return Scores(texts, texts, zeros, np.array(f1), zeros, zeros, zeros, zeros, zeros)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 20, 21, 100])
def test_samples_are_best_median_and_worst_and_none_twice(size):
    f1 = np.random.default_rng(0).permutation(size) / size
    found = choose_samples(scores(f1), [f"source {i}" for i in range(size)])
    assert len({sample.source for sample in found}) == len(found) == min(size, 20)
    by_group = {g: [s.token_f1 for s in found if s.group == g] for g in ("best", "median", "worst")}
    assert max(by_group["best"]) == f1.max()
    assert min(by_group["worst"]) == f1.min()
    assert min(by_group["best"]) > max(by_group["worst"])
    if size == 100:
        assert all(0.45 <= value <= 0.55 for value in by_group["median"])
    assert all(sample.source.replace("source", "text") == sample.text for sample in found)


def test_scores_by_length_edges():
    found = scores_by_length(scores([0.0, 1.0, 0.5, 0.1]), [1, 8, 9, 64])
    assert [(row["tokens"], row["sentences"]) for row in found] == [("1-8", 2), ("9-16", 1), ("33-64", 1)]
    assert found[0]["token_f1"] == pytest.approx(0.5)
