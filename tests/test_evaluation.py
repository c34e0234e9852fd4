"""The evaluation on a real tiny model: overfitted it is perfect, shuffled it falls, and figures repeat."""

import json
import math
import re
from dataclasses import replace
from importlib.metadata import EntryPoint

import numpy as np
import pytest
import torch
from tiny_sgdd import as_set, build

from sgdd_engine import registry
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.errors import DataError, GenerationError
from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.evaluation.cost import STAGE, Part, estimate_seconds, say_how_long, writing_part
from sgdd_engine.evaluation.diversity import diversity_of_samples
from sgdd_engine.evaluation.evaluate import evaluate
from sgdd_engine.evaluation.guidance_search import GRID, search_guidance
from sgdd_engine.evaluation.latent import latent_figures
from sgdd_engine.evaluation.likelihood import likelihood
from sgdd_engine.evaluation.sampler_comparison import compare_samplers
from sgdd_engine.evaluation.scores import score
from sgdd_engine.evaluation.verdicts import posterior_verdict
from sgdd_engine.events import Notice, StageFinished
from sgdd_engine.generation import SGDD, Generation

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
    own, shuffled, null = (found["conditions"][name] for name in ("true", "shuffled", "null"))
    # The sentences have capitals and the vocabulary has none, so this also shows what the reference is.
    for name in ("exact_match", "token_f1", "set_f1", "length_exact", "retrieval_top1", "retrieval_mrr"):
        assert own[name] == {"mean": 1, "low": 1, "high": 1}
    for name in ("bleu", "corpus_bleu", "chrf", "corpus_chrf"):
        assert own[name]["low"] == pytest.approx(100)
    assert own["retrieval_median_rank"]["high"] == 1
    assert own["length_error"]["mean"] == own["repetition"]["mean"] == 0
    assert own["cosine"]["mean"] == pytest.approx(1, abs=1e-5)
    assert shuffled["exact_match"]["mean"] == 0
    assert shuffled["token_f1"]["high"] < 0.7
    assert shuffled["cosine"]["mean"] == pytest.approx(found["random_pair_cosine"]["mean"], abs=1e-5)
    # Another sentence is written exactly, so the source is never the first by meaning.
    assert shuffled["retrieval_top1"]["mean"] == 0
    assert null["exact_match"]["mean"] <= 1 / 8
    # Eight sentences are too few to be sure of anything, even of this.
    assert {verdict.ok for verdict in report.verdicts} == {None}
    assert report.verdicts[0].sentence == "Whether the vector is used cannot be told from 8 sentences."
    assert found["by_mask_ratio"][-1]["masked"] == "100"
    assert found["by_mask_ratio"][-1]["accuracy"] > 0.95
    assert 0 < found["likelihood"]["nelbo_nats_per_token"] < 1


def test_differences_are_those_of_the_conditions_and_as_sure_as_the_pairs(report):
    for other, scores in report.differences.items():
        for name, difference in scores.items():
            own = report.conditions["true"][name]
            assert difference.mean == pytest.approx(own.mean - report.conditions[other][name].mean)
    # Every sentence is exact, so what is unsure of the difference is what is unsure of the control.
    gain, control = report.differences["shuffled"]["token_f1"], report.conditions["shuffled"]["token_f1"]
    assert gain.high - gain.low == pytest.approx(control.high - control.low)


def test_a_broken_package_is_told_and_the_evaluation_goes_on(untrained, sentences, tmp_path, monkeypatch):
    (tmp_path / "half_metric.py").write_text("raise RuntimeError('half installed')\n")
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint("half", "half_metric", registry.EXTENSIONS)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    heard = []
    small = EvalConfig(nelbo_samples=1, diversity_samples=0)
    evaluate(untrained, as_set(untrained, sentences[:3]), config=small, sampling=PLAIN, on_event=heard.append)
    (told,) = [event for event in heard if isinstance(event, Notice) and event.warning]
    assert told.message == "The extension `half` (half_metric) is broken: RuntimeError: half installed"


def intervals_within(value):
    """Every {"mean", "low", "high"} somewhere in a JSON value."""
    if isinstance(value, dict):
        if value.keys() == {"mean", "low", "high"}:
            yield value
        for part in value.values():
            yield from intervals_within(part)
    if isinstance(value, list):
        for part in value:
            yield from intervals_within(part)


def test_json_form_has_the_promised_keys_and_no_surprises(report):
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert set(found) == {
        *("sentences", "verdicts", "conditions", "condition_labels", "differences", "random_pair_cosine"),
        *("encoder_calls",),
        *("by_length", "by_mask_ratio", "likelihood", "calibration", "latent", "diversity", "memorisation"),
        *("guidance_search", "samplers", "samples", "settings"),
    }
    # w = 1 was asked for and no corpus was given.
    assert list(found["conditions"]) == ["true", "shuffled", "null"]
    assert list(found["differences"]) == ["shuffled", "null"]
    # The same names as in tables, on the page, and in progress ("writing from no vector").
    assert found["condition_labels"]["null"] == "no vector"
    assert found["memorisation"] is found["guidance_search"] is found["samplers"] is None
    assert [verdict["name"] for verdict in found["verdicts"]] == ["vector_used", "calibration", "repetition"]
    scores = list(intervals_within(found))
    assert len(scores) > 40
    assert all(
        score["low"] <= score["mean"] + 1e-9 and score["mean"] <= score["high"] + 1e-9 for score in scores
    )
    assert found["sentences"] == 8
    assert found["encoder_calls"] == 0
    assert found["settings"]["eval"]["seed"] == 0
    assert found["settings"]["sampling"]["steps"] == 8
    assert "decode(encode(source))" in found["settings"]["scoring"]["references"]
    assert {sample["group"] for sample in found["samples"]} == {"best", "median", "worst"}
    assert sum(row["sentences"] for row in found["by_length"]) == 8
    assert found["by_length"][0]["token_f1"]["mean"] == 1 > found["by_length"][0]["shuffled_token_f1"]["mean"]


@pytest.mark.slow
def test_same_seed_gives_the_same_report(untrained, sentences):
    data = as_set(untrained, sentences[:12])
    sampling = SamplingConfig(cfg=1.5, steps=4, temperature=0.8)
    first, again, other = (
        evaluate(untrained, data, config=EvalConfig(nelbo_samples=2, seed=seed), sampling=sampling).to_dict()
        for seed in (5, 5, 6)
    )
    assert first == again
    assert first["likelihood"] != other["likelihood"]


def test_untrained_model_is_told_that_its_vector_is_not_used(untrained, sentences):
    # Untrained networks still depend on their input; a condition of zeros makes the case clear.
    blind = build(untrained.encoder, sentences[:40])
    for parameter in blind.model.conditioner.parameters():
        torch.nn.init.zeros_(parameter)
    for parameter in blind.model.length_head.parameters():
        torch.nn.init.zeros_(parameter)
    found = evaluate(blind, as_set(blind, sentences[:24]), config=EvalConfig(nelbo_samples=1), sampling=PLAIN)
    assert found.verdicts[0].ok is False
    assert found.verdicts[0].sentence.startswith("The vector is NOT used, as far as 24 sentences can tell")
    assert found.differences["shuffled"]["token_f1"] == Interval(0, 0, 0)


def test_uniform_head_costs_log_v_nats_per_token(untrained, sentences):
    uniform = build(untrained.encoder, sentences[:40])
    torch.nn.init.zeros_(uniform.model.head.table)
    found = likelihood(uniform, as_set(uniform, sentences[:200]), samples=3, seed=1)
    expected = math.log(uniform.info.model.vocabulary.size)
    assert [row.masked for row in found.by_mask_ratio][-2:] == ["90-100", "100"]
    # Whatever is masked: every token costs the same.
    assert [row.nll_nats for row in found.by_mask_ratio] == pytest.approx(
        [expected] * len(found.by_mask_ratio)
    )
    assert found.by_mask_ratio[-1].tokens == sum(map(len, as_set(uniform, sentences[:200]).token_ids))
    assert found.nelbo_nats_per_token == pytest.approx(expected)
    assert found.standard_error < 1e-5 * expected


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
    assert found.by_mask_ratio[-1].accuracy == pytest.approx(right / tokens)
    assert found.bits_per_byte_standard_error > 0


def test_spectrum_counts_the_directions_of_the_latent(tiny_encoder, untrained, sentences):
    vectors = tiny_encoder.encode(sentences[:40])
    found = latent_figures(untrained, vectors)
    z = untrained.model.latent(vectors).z.double()
    assert found.kind == "none"
    assert found.posterior is None
    assert set(found.to_dict()) == {"kind", "dimensions", "spectrum", "effective_rank"}
    assert len(found.spectrum) == found.dimensions == tiny_encoder.dim
    assert sum(found.spectrum) == pytest.approx(float(z.var(dim=0).sum()))
    assert found.spectrum == sorted(found.spectrum, reverse=True)
    # Two vectors differ in one direction, whatever the dimensions.
    assert latent_figures(untrained, vectors[:2]).effective_rank == pytest.approx(1)
    assert 1 < found.effective_rank < tiny_encoder.dim


def test_a_collapsed_posterior_is_told_from_a_working_one(tiny_encoder, sentences):
    vectors = tiny_encoder.encode(sentences[:40])
    vib = build(tiny_encoder, sentences[:40], kind="vib")
    found = latent_figures(vib, vectors)
    kl = vib.model.bottleneck.posterior(vib.model.standardize(vectors)).kl().detach()
    posterior = found.posterior
    assert posterior.kl_nats_per_sentence == pytest.approx(float(kl.sum() / 40), rel=1e-5)
    assert posterior.kl_nats_by_dimension == pytest.approx(
        sorted(kl.mean(0).tolist(), reverse=True), rel=1e-5
    )
    assert 0 < posterior.active_units <= found.dimensions == 8
    assert not posterior.collapsed
    plain = found.to_dict()
    assert (plain["collapsed"], plain["active_units"]) == (False, posterior.active_units)
    assert posterior_verdict(found).ok
    for parameter in vib.model.bottleneck.parameters():
        torch.nn.init.zeros_(parameter)
    dead = latent_figures(vib, vectors)
    silent = dead.posterior
    assert (silent.active_units, silent.kl_nats_per_sentence, silent.collapsed) == (0, 0.0, True)
    assert dead.effective_rank == 0
    assert posterior_verdict(dead).ok is False


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
    assert four["conditions"]["true"]["cosine"]["mean"] >= one["conditions"]["true"]["cosine"]["mean"]
    assert four["conditions"]["null"] == one["conditions"]["null"]
    assert one["encoder_calls"] == 0 < four["encoder_calls"] <= 4


def test_rounds_of_feedback_are_counted_and_never_lower_the_cosine(untrained, sentences):
    data = as_set(untrained, sentences[:4])
    none, two = (
        evaluate(
            untrained, data, config=EvalConfig(nelbo_samples=1, refine=n, diversity_samples=0), sampling=PLAIN
        )
        for n in (0, 2)
    )
    assert (two.scores["true"]["cosine"] >= none.scores["true"]["cosine"] - 1e-6).all()
    assert 1 <= two.to_dict()["encoder_calls"] <= 3
    assert two.conditions["null"] == none.conditions["null"]


def test_guidance_is_compared_with_none_on_the_same_sentences(overfitted, eight):
    data = as_set(overfitted, eight)
    config = EvalConfig(nelbo_samples=1, diversity_samples=0)
    found = evaluate(overfitted, data, config=config, sampling=SamplingConfig(cfg=2.0, steps=4))
    plain = evaluate(overfitted, data, config=config, sampling=SamplingConfig(cfg=1.0, steps=4))
    assert found.scores["unguided"].texts == plain.scores["true"].texts
    assert "guidance" in {verdict.name for verdict in found.verdicts}
    without = replace(config, compare_guidance=False)
    assert (
        "unguided" not in evaluate(overfitted, data, config=without, sampling=SamplingConfig(steps=4)).scores
    )


@pytest.mark.slow
def test_feedback_is_compared_with_one_shot_on_the_same_sentences(overfitted, eight, sentences):
    data = as_set(overfitted, [*eight[:4], *sentences[100:104]])
    config = EvalConfig(nelbo_samples=1, diversity_samples=0)
    sampling = SamplingConfig(cfg=1.5, steps=4)
    at_once = evaluate(overfitted, data, config=config, sampling=sampling)
    for options in ({"candidates": 2}, {"refine": 2}):
        found = evaluate(overfitted, data, config=replace(config, **options), sampling=sampling)
        assert found.scores["one_shot"].texts == at_once.scores["true"].texts
        assert found.differences["one_shot"]["cosine"].low >= 0
        assert "unguided" not in found.scores
        assert "feedback" in {verdict.name for verdict in found.verdicts}
        assert found.encoder_calls > 1
    assert "one_shot" not in at_once.scores


@pytest.mark.slow
def test_the_best_weight_is_found_and_used_unless_it_is_kept(overfitted, eight, sentences):
    config = EvalConfig(nelbo_samples=1, diversity_samples=0)
    search_on = as_set(overfitted, sentences[100:106])
    events = []
    options = {"config": config, "sampling": SamplingConfig(cfg=1.5, steps=2), "search_on": search_on}
    found = evaluate(overfitted, as_set(overfitted, eight), **options, on_event=events.append)
    search = found.guidance_search
    assert [point.cfg for point in search.points] == list(GRID)
    values = [(point.figures["token_f1"].mean + point.figures["cosine"].mean) / 2 for point in search.points]
    assert search.best == GRID[int(np.argmax(values))]
    assert found.settings["sampling"]["cfg"] == search.best
    told = [event for event in events if isinstance(event, StageFinished) and event.stage.startswith("cfg")]
    assert [event.stage for event in told] == [f"cfg {weight:g}" for weight in GRID]
    assert all("token F1" in str(event.summary) for event in told)
    assert [
        event.message
        for event in events
        if isinstance(event, Notice) and "found on 6 sentences" in event.message
    ]
    assert json.loads(json.dumps(found.to_dict()))["guidance_search"]["grid"][0]["cfg"] == 1
    # It is recorded by who asked for it; the model stays as it was.
    assert search.token_temperature > overfitted.model.head.temperature == 1
    kept = evaluate(overfitted, as_set(overfitted, eight), **options, keep_cfg=True)
    assert kept.settings["sampling"]["cfg"] == 1.5
    assert kept.guidance_search == search
    blind = build(overfitted.encoder, eight, trained_null=False)
    with pytest.raises(GenerationError, match="null condition"):
        search_guidance(blind, search_on, sampling=PLAIN, seed=0)


def test_ways_of_sampling_are_compared_on_the_models_own_vectors_and_tokens_alone(untrained, sentences):
    data = as_set(untrained, sentences[:4])
    compare = {"sampling": PLAIN, "varied": {"steps": [1]}, "config": EvalConfig()}
    with pytest.raises(DataError, match="come from another tokenizer than the model's"):
        compare_samplers(untrained, replace(data, tokenizer_fingerprint="other"), **compare)
    longest = untrained.info.model.max_tokens
    data.token_ids[0] = data.token_ids[0] * longest
    events = []
    (point,) = compare_samplers(untrained, data, **compare, on_event=events.append)
    assert [
        event.message for event in events if isinstance(event, Notice) and "1 sentence of 4" in event.message
    ]
    assert point.positions_read > 0


def test_how_long_it_takes_is_said_before_anything_is_written(untrained, sentences):
    events = []
    config = EvalConfig(nelbo_samples=1, candidates=3, shortlist=1, diversity_samples=2)
    sampling = SamplingConfig(cfg=1.0, steps=2)
    evaluate(
        untrained,
        as_set(untrained, sentences[:12]),
        config=config,
        sampling=sampling,
        search_on=as_set(untrained, sentences[20:23]),
        on_event=events.append,
    )
    stages = [event.stage for event in events if isinstance(event, StageFinished)]
    assert stages[:3] == [STAGE, "calibrating token probabilities", "cfg 1"]
    (told,) = (event.summary for event in events if isinstance(event, StageFinished) and event.stage == STAGE)
    assert re.fullmatch(
        r"the evaluation will take about \d+ \w+: 12 sentences written under 3 conditions, 36 encoder calls, "
        r"24 samples for the diversity, 24 texts to find the guidance weight\.",
        told,
    )


@pytest.mark.parametrize(
    ("options", "scale"),
    [
        ({}, 1),
        ({"candidates": 3, "refine": 1}, 1),
        ({"candidates": 4, "refine": 8}, 12 / 5),
        ({"search": 64}, 4),
        ({"search": 64, "candidates": 32}, 2),
    ],
)
def test_of_many_encoder_calls_a_few_are_measured_and_all_are_counted(untrained, sentences, options, scale):
    config = EvalConfig(shortlist=1, **options)
    part = writing_part(untrained, config, SamplingConfig(cfg=1.0, steps=1), 100)
    assert part.count == pytest.approx(100 * scale)
    part.do(as_set(untrained, sentences[:1]))


def test_the_measurement_is_short_beside_what_is_measured(untrained, sentences):
    taken = []
    part = Part(lambda few: taken.append(len(few)), 1)
    estimate_seconds(as_set(untrained, sentences[:12]), [part])
    assert taken == [1]
    taken.clear()
    estimate_seconds(as_set(untrained, sentences), [part])
    assert taken == [1, 4, 16]


@pytest.mark.parametrize(("sentences_scored", "option"), [(400, "--limit 100"), (40, None)])
def test_of_a_long_evaluation_it_is_said_how_it_is_made_shorter(
    untrained, sentences, sentences_scored, option
):
    events = []
    endless = Part(lambda few: None, 1e15)
    say_how_long(
        "the evaluation", as_set(untrained, sentences[:sentences_scored]), [endless], ["much"], events.append
    )
    told = events[-1].summary
    assert "will take about" in told
    assert told.endswith(f"With fewer sentences it is shorter: {option}" if option else ": much.")


def test_samples_of_one_vector_are_alike_when_the_model_is_sure(overfitted, untrained, eight):
    sure, unsure = (
        diversity_of_samples(model, as_set(model, eight), samples=3, sampling=PLAIN, seed=0)
        for model in (overfitted, untrained)
    )
    assert sure.self_bleu > 90 > unsure.self_bleu
    assert sure.samples_distinct_2 < unsure.samples_distinct_2
    assert sure.samples_cosine > 0.95 > unsure.samples_cosine
    assert (sure.sentences, sure.samples_per_sentence) == (8, 3)


def test_the_rank_of_the_source_is_its_place_among_all_sources(tiny_encoder, untrained, sentences):
    data = as_set(untrained, sentences[:6])
    # The first is itself, the second is another source, the third is closest to whatever it is.
    texts = [sentences[0], sentences[4], "Some bread.", *sentences[3:6]]
    found = score(untrained, data, [Generation(text, (), row, 0) for row, text in enumerate(texts)])
    again = torch.nn.functional.normalize(tiny_encoder.encode(texts), dim=-1)
    table = again @ torch.nn.functional.normalize(data.vectors, dim=-1).T
    expected = [1 + int((row > row[i] + 1e-5).sum()) for i, row in enumerate(table)]
    ranks = found["retrieval_median_rank"]
    assert ranks.tolist() == expected
    assert ranks[[0, 3, 4, 5]].tolist() == [1, 1, 1, 1]
    assert ranks[1] > 1
    assert found["retrieval_mrr"].tolist() == [1 / rank for rank in expected]
    assert found["retrieval_top1"].tolist() == [float(rank == 1) for rank in expected]
