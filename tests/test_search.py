"""Search: bounded in encoder calls, never below its first draft, and a matter of vector, settings and seed alone."""

from dataclasses import replace

import pytest
import torch
from tiny_sgdd import build

from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.errors import ConfigError, GenerationError
from sgdd_engine.events import StageFinished
from sgdd_engine.generation import decode
from sgdd_engine.generation import search as searching
from sgdd_engine.generation.config import GenerationConfig
from sgdd_engine.generation.decode import Decoder, stream_generator
from sgdd_engine.generation.moves import MOVES, MoveContext, usable_moves
from sgdd_engine.generation.refinement import EncoderScorer, ProposalContext, encode_distinct
from sgdd_engine.generation.search import STAGE, default_drafts, search

GUIDED = SamplingConfig(cfg=1.5, steps=4)


@pytest.fixture(scope="module")
def model(tiny_encoder, sentences):
    return build(tiny_encoder, sentences[:12], steps=60)


@pytest.fixture(scope="module")
def few(sentences):
    return sentences[100:104]


@pytest.fixture(scope="module")
def vectors(model, few):
    return model.encode(few)


@pytest.fixture(scope="module")
def drafts(model, few, vectors):
    """The source sentences with their words turned around: far from their vectors, and their words are right."""
    scorer = EncoderScorer(model.encoder, model.tokenizer, vectors)
    texts = [" ".join(reversed(text.lower().rstrip(".").split())) for text in few]
    return encode_distinct(scorer, range(len(few)), [0] * len(few), model.tokenizer.encode_batch(texts))


@pytest.fixture(scope="module")
def context(model, vectors):
    decoder = Decoder(model.model, model.schedule, model.tokenizer.special_ids, GUIDED)
    return MoveContext(ProposalContext(decoder, vectors), model.encoder, model.tokenizer)


def distance(items):
    return sum(1 - item.cosine for item in items)


def test_the_gradient_is_that_of_finite_differences(model, few):
    texts, targets = few[:2], model.encode(few[2:4])
    found = model.encoder.input_gradients(texts, targets)
    table = model.encoder._network.get_input_embeddings()
    generator = torch.Generator().manual_seed(1)
    for text, target, (gradient, spans) in zip(texts, targets, found, strict=True):
        (ids,) = [model.encoder.tokenize([text]).ids]
        assert gradient.shape == (len(ids), table.weight.shape[1])
        assert len(spans) == len(ids)
        assert text[slice(*spans[1])].lower() == text.split()[0].lower()[: spans[1][1]]
        change = torch.randn(gradient.shape, generator=generator)

        def cosine(step, text=text, target=target, change=change):
            hook = table.register_forward_hook(lambda _m, _i, out: out + step * change)
            try:
                return float(torch.cosine_similarity(model.encoder.encode([text])[0], target, dim=0))
            finally:
                hook.remove()

        slope = (cosine(1e-3) - cosine(-1e-3)) / 2e-3
        assert float((gradient * change).sum()) == pytest.approx(slope, rel=0.05, abs=2e-3)


@pytest.mark.slow
def test_a_search_keeps_to_its_budget_and_is_never_further_than_its_first_draft(model, vectors):
    for calls in (1, 5, 24):
        found = model.generate(vectors, sampling=GUIDED, search=calls)
        first = model.generate(vectors, sampling=GUIDED, score=True)
        assert all(1 <= item.encoder_calls <= calls for item in found)
        for item, draft in zip(found, first, strict=True):
            assert item.cosine >= draft.cosine - 1e-5
    assert distance(found) < 0.8 * distance(first)
    again = torch.cosine_similarity(model.encode([item.text for item in found]), vectors, dim=-1)
    assert [item.cosine for item in found] == pytest.approx(again.tolist(), abs=1e-4)


@pytest.mark.slow
def test_a_result_does_not_depend_on_its_batch(model, vectors):
    together = model.generate(vectors, sampling=GUIDED, search=20, seed=3)
    alone = [model.generate(vector, sampling=GUIDED, search=20, seed=3)[0] for vector in vectors]
    assert [item.text for item in alone] == [item.text for item in together]
    assert [item.encoder_calls for item in alone] == [item.encoder_calls for item in together]


@pytest.mark.parametrize("kind", ["remask", "insert"])
def test_changes_do_not_depend_on_how_canvases_are_batched(context, drafts, monkeypatch, kind):
    def proposed():
        generators = [stream_generator(0, row) for row in range(len(drafts))]
        return MOVES.build(kind)(context)(drafts, [6] * len(drafts), generators)

    together = proposed()
    monkeypatch.setattr(decode, "BATCH_TOKENS", 20)
    assert proposed() == together


def test_a_sample_does_not_depend_on_those_beside_it(model, vectors):
    asked = {"sampling": GUIDED, "search": 16, "distinct": False}
    # At temperature 0 both samples begin with the same texts, and ask for replacements in them.
    samples = model.generate(vectors, num_samples=2, seed=3, **asked)
    alone = [*model.generate(vectors, seed=3, **asked), *model.generate(vectors, seed=4, **asked)]
    alone.sort(key=lambda item: (item.row, item.seed))
    assert [(item.text, item.encoder_calls) for item in samples] == [
        (item.text, item.encoder_calls) for item in alone
    ]


def test_a_search_tells_at_its_stops_what_a_shorter_one_would_have_found(model, vectors):
    found = model.generate(vectors, sampling=GUIDED, search=14, candidates=3, stops=(1, 2, 10))
    first = model.generate(vectors, sampling=GUIDED, score=True)
    shorter = model.generate(vectors, sampling=GUIDED, search=10, candidates=3)
    for item, draft, short in zip(found, first, shorter, strict=True):
        assert [one.encoder_calls for one in item.earlier] == [1, 2, short.encoder_calls]
        assert item.earlier[0].text == draft.text
        assert (item.earlier[2].text, item.earlier[2].cosine) == (short.text, short.cosine)
        assert draft.cosine - 1e-5 <= min(one.cosine for one in (*item.earlier, item))
        assert item.encoder_calls <= 14


def test_without_the_gradient_no_gradient_is_taken(model, vectors, monkeypatch):
    def refuse(texts, targets):
        raise AssertionError("a gradient was taken")

    monkeypatch.setattr(model.encoder, "input_gradients", refuse)
    assert "replace" not in usable_moves(model.model, gradient=False)
    found = model.generate(vectors[:2], sampling=GUIDED, search=12, gradient=False)
    assert all(item.encoder_calls <= 12 for item in found)
    with pytest.raises(AssertionError):
        model.generate(vectors[:2], sampling=GUIDED, search=40)


def test_lengths_are_kept(model, vectors):
    for item in model.generate(vectors[:2], sampling=GUIDED, search=16, lengths="6-7"):
        assert 6 <= len(item.tokens) <= 7
    for item in model.generate(vectors[:2], sampling=GUIDED, search=12, lengths=6):
        assert len(item.tokens) == 6


def test_every_move_changes_texts_as_it_says(context, drafts):
    generators = [stream_generator(0, row) for row in range(len(drafts))]
    for kind in ("order", "delete", "insert", "replace"):
        proposed = MOVES.build(kind)(context)(drafts, [6] * len(drafts), generators)
        assert len(proposed) == len(drafts)
        assert sum(len(each.texts) for each in proposed) > len(drafts)
        for draft, each in zip(drafts, proposed, strict=True):
            assert len(each.texts) <= 6
            assert each.calls == (kind == "replace")
            for tokens in each.texts:
                check_move(kind, draft.tokens, tokens)


def check_move(kind, old, new):
    if kind == "order":
        assert sorted(new) == sorted(old)
    elif kind == "delete":
        assert len(new) < len(old)
        assert is_subsequence(new, old)
    elif kind == "insert":
        assert len(old) < len(new) <= len(old) + 2
        assert is_subsequence(old, new)
    else:
        assert len(new) == len(old)
        assert sum(a != b for a, b in zip(old, new, strict=True)) == 1


def is_subsequence(short, long):
    rest = iter(long)
    return all(token in rest for token in short)


def test_replacements_come_once_and_their_first_ones_are_closer_than_chance(context, drafts, model, vectors):
    replaced = MOVES.build("replace")(context)
    first = replaced(drafts, [8] * len(drafts), [None] * len(drafts))
    second = replaced(drafts, [8] * len(drafts), [None] * len(drafts))
    assert all(each.calls == 0 for each in second)
    for one, two in zip(first, second, strict=True):
        assert not set(one.texts) & set(two.texts)
    generator = torch.Generator().manual_seed(0)
    gains = []
    for draft, each, vector in zip(drafts, first, vectors, strict=True):
        blind = []
        for _ in range(8):
            place = int(torch.randint(len(draft.tokens), (), generator=generator))
            token = int(torch.randint(5, context.tokenizer.vocab_size, (), generator=generator))
            blind.append((*draft.tokens[:place], token, *draft.tokens[place + 1 :]))
        best = [
            torch.cosine_similarity(model.encode(model.tokenizer.decode_batch(texts)), vector, dim=-1).max()
            for texts in (each.texts, blind)
        ]
        gains.append(float(best[0] - best[1]))
    assert sum(gains) > 0


@pytest.mark.slow
def test_a_search_comes_closer_to_sentences_whose_words_are_turned_around(context, drafts, model, vectors):
    scorer = EncoderScorer(model.encoder, model.tokenizer, vectors)
    found = search(drafts, 120, context, scorer)
    assert distance(found) < 0.8 * distance(drafts)
    assert all(new.cosine >= old.cosine for old, new in zip(drafts, found, strict=True))


@pytest.fixture(scope="module")
def chooser(tiny_encoder, sentences):
    return build(tiny_encoder, sentences[:12], steps=20, surrogate_width=8)


@pytest.fixture
def exact(chooser, monkeypatch):
    """A model with what no surrogate is: the encoder."""

    def encoded(tokens):
        return chooser.encode(chooser.tokenizer.decode_batch(tokens.tolist()))

    monkeypatch.setattr(chooser.model, "predict_embedding", encoded)
    return chooser


def searched(model, drafts, vectors, calls=40):
    decoder = Decoder(model.model, model.schedule, model.tokenizer.special_ids, GUIDED)
    context = MoveContext(ProposalContext(decoder, vectors), model.encoder, model.tokenizer)
    found = search(drafts, calls, context, EncoderScorer(model.encoder, model.tokenizer, vectors))
    assert all(len(item.tried) + item.gradients <= calls for item in found)
    return found


def test_what_the_surrogate_finds_closest_is_encoded(exact, drafts, vectors, monkeypatch):
    chosen = searched(exact, drafts, vectors)
    for name in ("UNWRITTEN_PER_CALL", "WRITTEN_PER_CALL"):
        monkeypatch.setattr(searching, name, 1)
    assert distance(chosen) < 0.9 * distance(searched(exact, drafts, vectors))


def test_what_was_not_encoded_waits_for_later_rounds(exact, drafts, vectors, monkeypatch):
    def distances():
        of_seeds = ([replace(draft, seed=seed) for draft in drafts] for seed in (1, 2))
        return sum(distance(searched(exact, each, vectors)) for each in of_seeds)

    chosen = distances()
    monkeypatch.setattr(searching, "MOST_WAITING", 0)
    assert chosen < distances()


def test_of_texts_of_one_prediction_the_likelier_ones_are_encoded(chooser, drafts, vectors, monkeypatch):
    monkeypatch.setattr(
        chooser.model, "predict_embedding", lambda tokens: vectors[:1].expand(len(tokens), -1)
    )

    def mean_log_prob():
        decoder = Decoder(chooser.model, chooser.schedule, chooser.tokenizer.special_ids, GUIDED).unguided()
        z = decoder.latents(vectors)
        found = searched(chooser, drafts, vectors)
        texts = [(item.row, text.tokens) for item in found for text in list(item.tried.values())[1:]]
        rows, tokens = zip(*texts, strict=True)
        return float(torch.cat(decoder.token_log_probs(z, rows, tokens)).mean())

    chosen = mean_log_prob()
    monkeypatch.setattr(searching, "RATED_PER_CALL", 1)
    assert chosen > mean_log_prob() + 0.1


def test_drafts_of_all_lengths_are_written_and_the_closest_is_encoded_beside_the_likeliest(exact, vectors):
    found = exact.generate(vectors, sampling=GUIDED, search=8, stops=(1, 2))
    first = exact.generate(vectors, sampling=GUIDED)
    closest = exact.generate(vectors, sampling=GUIDED, candidates=8, shortlist=1)
    assert [item.earlier[0].text for item in found] == [item.text for item in first]
    assert [item.earlier[1].text for item in found] == [item.text for item in closest]


@pytest.mark.parametrize("calls", [1, 4, 8])
def test_a_search_is_never_further_than_one_shot_whatever_the_surrogate_says(
    chooser, vectors, calls, monkeypatch
):
    def misleading(tokens):
        return -chooser.encode(chooser.tokenizer.decode_batch(tokens.tolist()))

    first = chooser.generate(vectors, sampling=GUIDED, score=True)
    monkeypatch.setattr(chooser.model, "predict_embedding", misleading)
    told = []
    found = chooser.generate(vectors, sampling=GUIDED, search=calls, on_event=told.append)
    cosines = [sum(item.cosine for item in items) / len(items) for items in (first, found)]
    (end,) = (event.summary for event in told if isinstance(event, StageFinished) and event.stage == STAGE)
    assert end == f"cosine {cosines[0]:.3f} → {cosines[1]:.3f}."
    assert all(item.cosine >= one.cosine - 1e-5 for item, one in zip(found, first, strict=True))


def test_wrong_wishes_get_a_sentence(model, vectors):
    for options, message in (
        ({"search": -1}, "search is -1"),
        ({"search": 8, "refine": 2}, "takes the place of refining"),
        ({"search": 4, "candidates": 5}, "5 candidates"),
        ({"search": 4, "unconditional": True}, "null condition has none"),
        ({"search": 4, "stops": (2, 4)}, "must rise and lie below it"),
        ({"search": 8, "stops": (4, 2)}, "must rise and lie below it"),
        ({"stops": (1,)}, "must rise and lie below it"),
    ):
        with pytest.raises(GenerationError, match=message):
            model.generate(vectors[:1], **options)
    with pytest.raises(ConfigError, match="takes their place"):
        GenerationConfig(search=8, refine=2)
    assert [default_drafts(calls) for calls in (1, 8, 64)] == [1, 2, 8]
