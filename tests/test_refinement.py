"""Feedback: what is kept comes closer, costs what it says, and hangs on nothing but vector, settings and seed."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from models_for_tests import SPECIALS, VOCABULARY, bound, generator, random_tokens, tiny_model
from tiny_sgdd import build
from typer.testing import CliRunner

from sgdd_cli.main import app
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.errors import GenerationError
from sgdd_engine.events import CanvasChanged, StageFinished, StageProgress, StageStarted
from sgdd_engine.generation.config import LengthRange
from sgdd_engine.generation.decode import STRIDE, Canvas, Decoder, stream_generator
from sgdd_engine.generation.first_drafts import LENGTH_STREAM
from sgdd_engine.generation.refinement import (
    REFINEMENT_STREAM,
    EncoderScorer,
    ProposalContext,
    closest_of_each,
    encode_distinct,
    refine,
)
from sgdd_engine.generation.remask import MAX_MASK_SHARE, RemaskProposer
from sgdd_engine.generation.search import SEARCH_STREAM
from sgdd_engine.generation.semantics import _VARIATION_STREAM

COSINE, MASK = build_schedule("cosine"), VOCABULARY.mask_id
GUIDED = SamplingConfig(cfg=1.5, steps=8)


@pytest.fixture(scope="module")
def few(sentences):
    return sentences[100:112]


@pytest.fixture(scope="module")
def model(tiny_encoder, few, sentences):
    """Trained on other sentences, and not for long: much is left to correct."""
    return build(tiny_encoder, sentences[:12], steps=60)


@pytest.fixture(scope="module")
def vectors(model, few):
    return model.encode(few)


@pytest.fixture
def encoded(model, monkeypatch):
    """All texts that the encoder was asked for."""
    seen, encode = [], model.encoder.encode

    def recording(texts, on_batch=None):
        seen.extend(texts)
        return encode(texts, on_batch)

    monkeypatch.setattr(model.encoder, "encode", recording)
    return seen


def improved(model, vectors, **options):
    return model.generate(vectors, **{"sampling": GUIDED, "score": True, **options})


@pytest.mark.slow
def test_no_round_takes_a_text_away_from_its_meaning(model, vectors):
    rounds = [improved(model, vectors, refine=r) for r in (0, 1, 2, 4, 8)]
    for before, after in pairwise(rounds):
        for old, new in zip(before, after, strict=True):
            assert new.cosine > old.cosine or new.tokens == old.tokens
    assert sum(item.cosine for item in rounds[-1]) > sum(item.cosine for item in rounds[0]) + 0.1
    again = model.encode([item.text or "." for item in rounds[-1]])
    cosines = torch.cosine_similarity(again, vectors, dim=-1)
    assert [item.cosine for item in rounds[-1]] == pytest.approx(cosines.tolist(), abs=1e-4)


def test_no_rounds_change_nothing(model, vectors):
    assert improved(model, vectors, refine=0) == improved(model, vectors)
    written = model.generate(vectors, sampling=GUIDED)
    assert [item.tokens for item in written] == [item.tokens for item in improved(model, vectors)]
    assert {(item.cosine, item.encoder_calls) for item in written} == {(None, 0)}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"refine": 3}, {"candidates": 3, "refine": 2}, {"candidates": 11}])
def test_a_text_depends_on_its_vector_and_seed_and_not_on_its_batch(model, vectors, options):
    options = {"num_samples": 2, "seed": 5, **options}
    vectors = vectors[:5]
    together = improved(model, vectors, **options)
    alone = [item for i in range(len(vectors)) for item in improved(model, vectors[i : i + 1], **options)]
    assert [(item.tokens, item.encoder_calls) for item in together] == [
        (item.tokens, item.encoder_calls) for item in alone
    ]
    assert [(item.row, item.seed) for item in together] == [
        (row, seed) for row in range(len(vectors)) for seed in (5, 6)
    ]
    # The second sample is what its seed gives on its own.
    second = improved(model, vectors, **{**options, "num_samples": 1, "seed": 6})
    assert [item.tokens for item in together[1::2]] == [item.tokens for item in second]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "most"),
    [
        ({"score": False}, 0),
        ({}, 1),
        ({"candidates": 5}, 5),
        ({"refine": 4}, 5),
        ({"score": False, "refine": 4}, 5),
        ({"candidates": 12, "refine": 3, "num_samples": 2}, 15),
    ],
)
def test_the_cost_is_the_number_of_texts_encoded(model, vectors, encoded, options, most):
    written = improved(model, vectors, **options)
    assert sum(item.encoder_calls for item in written) == len(encoded)
    assert all(item.encoder_calls <= most for item in written)
    assert all(item.encoder_calls >= min(1, most) for item in written)


@pytest.mark.slow
def test_a_text_that_says_it_all_costs_no_more(tiny_encoder, sentences):
    few = sentences[:3]
    written = build(tiny_encoder, few, steps=250).reconstruct(few, sampling=SamplingConfig(cfg=1.0), refine=5)
    assert [item.text for item in written] == [text.lower() for text in few]
    assert {item.encoder_calls for item in written} == {1}


@pytest.mark.slow
def test_further_candidates_are_written_by_chance(model, vectors):
    eight, more = (improved(model, vectors, candidates=n) for n in (8, 20))
    assert max(item.encoder_calls for item in eight) <= 8 < max(item.encoder_calls for item in more) <= 20
    assert all(b.cosine > a.cosine or b.tokens == a.tokens for a, b in zip(eight, more, strict=True))
    assert any(b.cosine > a.cosine for a, b in zip(eight, more, strict=True))


@pytest.mark.slow
def test_a_length_that_was_given_stays(model, vectors):
    assert {len(item.tokens) for item in improved(model, vectors, lengths=7, refine=6)} == {7}
    lengths = [5 + i % 3 for i in range(len(vectors))]
    assert [len(item.tokens) for item in improved(model, vectors, lengths=lengths, refine=3)] == lengths
    free = [improved(model, vectors, refine=r, num_samples=8) for r in (0, 8)]
    assert any(len(a.tokens) != len(b.tokens) for a, b in zip(*free, strict=True))


@pytest.mark.slow
def test_the_shortest_and_the_longest_text_are_refined(model, vectors):
    longest = model.info.model.max_tokens
    for length in (1, 2, longest):
        written = improved(model, vectors, lengths=length, refine=2)
        assert {len(item.tokens) for item in written} == {length}
    specials = set(model.tokenizer.special_ids)
    assert all(specials.isdisjoint(item.tokens) for item in improved(model, vectors, refine=8))


def test_refining_needs_a_meaning_and_a_number_of_rounds(model, vectors):
    with pytest.raises(GenerationError, match="null condition has none"):
        model.generate(vectors, refine=2, unconditional=True)
    with pytest.raises(GenerationError, match="refine is -1"):
        model.generate(vectors, refine=-1)


def test_rounds_are_reported(model, vectors):
    events = []
    improved(model, vectors, refine=3, on_event=events.append)
    rounds = [event for event in events if not isinstance(event, CanvasChanged)]
    assert rounds[0] == StageStarted("refining", 3, "rounds")
    assert [event.done for event in rounds[1:-1] if isinstance(event, StageProgress)] == [1, 2, 3]
    assert isinstance(rounds[-1], StageFinished)
    # The canvases of a round are the drafts with a part of them open.
    assert any(event.num_steps == 4 for event in events if isinstance(event, CanvasChanged))


def drafts_of(model, vectors):
    ids = [item.tokens for item in model.generate(vectors, sampling=GUIDED)]
    reader = EncoderScorer(model.encoder, model.tokenizer, vectors)
    return reader, closest_of_each(encode_distinct(reader, range(len(ids)), [0] * len(ids), ids))


def test_another_proposer_may_take_the_place_of_remasking(model, vectors, few, encoded):
    reader, drafts = drafts_of(model, vectors)
    z = model.model.latent(vectors).z
    answers = [tuple(ids) for ids in model.tokenizer.encode_batch(few)]
    drawn = []

    def answer(old, noise):
        drawn.append([float(torch.rand((), generator=each)) for each in noise])
        return [answers[draft.row] for draft in old]

    found = refine(drafts, 3, answer, reader, z)
    # Of all texts, although they have one seed.
    assert len(set(drawn[0])) == len(drafts)
    assert [draft.tokens for draft in found] == answers
    assert all(len(draft.tried) == 2 for draft in found)

    before = len(encoded)
    assert refine(drafts, 3, lambda old, noise: [draft.tokens for draft in old], reader, z) == drafts
    assert len(encoded) == before, "what was tried is not encoded again"

    worse = [(answers[0][0],)] * len(drafts)
    kept = refine(drafts, 3, lambda old, noise: [worse[draft.row] for draft in old], reader, z)
    assert all(new.cosine >= old.cosine for old, new in zip(drafts, kept, strict=True))
    assert [new.tokens for new in kept] == [old.tokens for old in drafts]


def test_a_proposal_keeps_what_was_not_opened(model, vectors):
    _, drafts = drafts_of(model, vectors)
    specials = model.tokenizer.special_ids
    lengths = [LengthRange(len(draft.tokens), len(draft.tokens)) for draft in drafts]
    propose = RemaskProposer(
        ProposalContext(Decoder(model.model, model.schedule, specials, GUIDED), vectors, lengths=lengths)
    )
    with torch.inference_mode():
        proposals = propose(drafts, [stream_generator(7) for _ in drafts])
    changed = [
        sum(a != b for a, b in zip(draft.tokens, new, strict=True))
        for draft, new in zip(drafts, proposals, strict=True)
    ]
    assert max(changed) > 0
    for draft, count in zip(drafts, changed, strict=True):
        assert count <= max(1, round(MAX_MASK_SHARE * len(draft.tokens)))


@pytest.mark.parametrize(("cfg", "guidance"), [(1.0, "coverage"), (1.7, "plain"), (1.7, "coverage")])
def test_certainty_is_the_probability_of_a_token_among_the_others(cfg, guidance):
    network, z = tiny_model(), torch.randn(3, 6, generator=generator(3))
    rows, lengths = [2, 0, 1, 0], (7, 1, 5, 7)
    texts = [random_tokens(1, n, seed=n)[0].tolist() for n in lengths]
    sampling = SamplingConfig(cfg=cfg, guidance=guidance)
    decoder = bound(network, sampling)
    found = decoder.token_log_probs(z, rows, texts)
    for row, tokens, log_probs in zip(rows, texts, found, strict=True):
        alone = decoder.token_log_probs(z, [row], [tokens])[0]
        torch.testing.assert_close(log_probs, alone, atol=1e-5, rtol=1e-5)
        expected = one_by_one(network, z[[row]], torch.tensor([tokens]), sampling)
        torch.testing.assert_close(log_probs, expected, atol=1e-3, rtol=1e-3)


@torch.inference_mode()
def one_by_one(network, z, x, sampling):
    """Position by position, in normalised log-probabilities of the whole vocabulary."""
    out = []
    for position in range(x.shape[1]):
        canvas = x.clone()
        canvas[:, position % STRIDE :: STRIDE] = MASK
        t = COSINE.time_at((canvas == MASK).float().mean(dim=1))
        c, u = (
            network.head.logits(network.hidden(canvas, t, network.condition(latent))[0])[position]
            .index_fill(0, torch.tensor(SPECIALS), -1e4)
            .log_softmax(-1)
            for latent in (z, network.null_latent(1))
        )
        term = (sampling.cfg - 1) * (c - u)
        if sampling.guidance == "coverage":
            term = term.index_fill(0, canvas[0], 0.0)
        out.append((c + term).log_softmax(-1)[x[0, position]])
    return torch.stack(out)


def test_what_stands_on_a_canvas_stays():
    network, z = tiny_model(), torch.randn(2, 6, generator=generator(3))
    texts = [random_tokens(1, n, seed=n)[0].tolist() for n in (4, 9, 9)]
    opened = [[MASK if i % 2 else token for i, token in enumerate(text)] for text in texts]
    opened[2] = texts[2]
    canvases = [Canvas(i % 2, tokens, generator(i)) for i, tokens in enumerate(opened)]
    sampling = replace(GUIDED, temperature=1.0)
    written = bound(network, sampling).fill(z, canvases)
    for before, after in zip(opened, written, strict=True):
        assert len(after) == len(before)
        assert not set(after) & set(SPECIALS)
        assert all(a == b for a, b in zip(before, after, strict=True) if a != MASK)


def test_streams_of_seeds_differ_whatever_bits_they_differ_in():
    named = (LENGTH_STREAM, REFINEMENT_STREAM, SEARCH_STREAM, _VARIATION_STREAM)
    assert len(set(named)) == 4
    streams = [(s,) for s in (*range(50), *named)] + [(0, key) for key in ((1,), (2,), (1, 2), (2, 1))]
    seeds = (0, 1, 12345, 1 << 32, (1 << 32) + 1, (1 << 63) - 1)
    draws = [float(torch.rand((), generator=stream_generator(seed, *s))) for seed in seeds for s in streams]
    # Each has 24 bits.
    assert len(set(draws)) > 0.99 * len(seeds) * len(streams)
    first = [tuple(torch.rand(4, generator=stream_generator(0, s)).tolist()) for s in (0, *named)]
    assert len(set(first)) == 5


def test_the_command_line_refines_and_says_what_it_cost(model, few, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    encoder = ["--encoder", model.encoder_reference.name]
    arguments = ["sample", *few[:2], "--checkpoint", str(tmp_path / "saved"), *encoder, "--device", "cpu"]
    result = CliRunner().invoke(app, [*arguments, "--candidates", "2", "--refine", "3", "--json"])
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["source"] for row in rows] == few[:2]
    total = sum(row["encoder_calls"] for row in rows)
    assert f"Encoder calls: {total}, {total / 2:.1f} per text." in result.stderr
    plain = CliRunner().invoke(app, [*arguments, "--search", "0", "--json"])
    for before, after in zip(plain.stdout.splitlines(), rows, strict=True):
        assert json.loads(before)["encoder_calls"] == 1
        assert after["cosine"] >= json.loads(before)["cosine"]
    assert "Encoder calls" not in plain.stderr
