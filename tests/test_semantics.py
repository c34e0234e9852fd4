"""Blends, interpolations, variations and words of vectors: identities on tiny models, and `mini`."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_sgdd import build

from sgdd_engine.errors import GenerationError
from sgdd_engine.generation import SGDD
from sgdd_engine.generation.semantics import varied_latents
from sgdd_engine.mini import SENTENCES
from sgdd_engine.text.tokenizer import TextTokenizer, train_unigram

TEXTS = SENTENCES.read_text(encoding="utf-8").splitlines()[:12]
A, B, C = TEXTS[:3]
pytestmark = pytest.mark.offline_encoder


@pytest.fixture(scope="module")
def mini() -> SGDD:
    model = SGDD.from_pretrained("mini", "cpu")
    faster = replace(model.info, sampling={**model.info.sampling, "steps": 4})
    return SGDD(replace(model._checkpoint, info=faster), model.device, model.encoder)


@pytest.fixture(scope="module", params=["vib", "whitening", "none"])
def tiny(request, tiny_encoder, sentences) -> SGDD:
    return build(tiny_encoder, sentences[:40], steps=20, kind=request.param)


def texts(generations) -> list[str]:
    return [item.text for item in generations]


# --- sums and ways --------------------------------------------------------------------------------------


def test_one_part_alone_is_its_reconstruction(tiny, mini, sentences):
    for model, text in ((tiny, sentences[3]), (mini, A)):
        expected = model.reconstruct([text])
        assert model.blend([text], score=True) == expected
        assert model.blend(text, [0.7], score=True) == expected
        assert model.blend([text, "Something else."], [2, 0], score=True) == expected


def test_the_order_of_the_parts_does_not_matter_and_their_weights_do(mini):
    assert texts(mini.blend([A, B], [0.7, 0.3])) == texts(mini.blend([B, A], [0.3, 0.7]))
    e = mini.encode([A, B])
    assert texts(mini.blend(e, [0.7, 0.3])) == texts(mini.blend([A, B], [0.7, 0.3]))
    (near_a,), (near_b,) = (mini.blend(e, w) for w in ([0.95, 0.05], [0.05, 0.95]))
    own = mini.encode([near_a.text, near_b.text])
    cosines = torch.cosine_similarity(own[:, None], e[None], dim=-1)
    assert cosines[0, 0] > cosines[0, 1]
    assert cosines[1, 1] > cosines[1, 0]


@pytest.mark.slow
def test_the_ends_of_an_interpolation_are_plain_reconstructions(tiny, mini, sentences):
    for model, (start, end) in ((tiny, sentences[:2]), (mini, (A, B))):
        points = model.interpolate(start, end, 4)
        assert [item.row for item in points] == [0, 1, 2, 3]
        assert [points[0].text, points[-1].text] == texts(model.reconstruct([start, end]))
        assert texts(model.interpolate(end, start, 4)) == texts(points)[::-1]


def test_wrong_parts_are_refused_in_a_sentence(mini):
    for call, words in (
        (lambda: mini.blend([A, B], [1]), "1 weights were given for 2"),
        (lambda: mini.blend([A, B], [1, float("nan")]), "must be a finite number"),
        (lambda: mini.blend([A, B], [1, "much"]), "must be a finite number"),
        (lambda: mini.blend([A, A], [1, -1]), "cancel each other out"),
        (lambda: mini.blend([]), "All weights are 0"),
        (lambda: mini.interpolate(A, B, 1), "points is 1; it must be at least 2"),
        (lambda: mini.interpolate([A, B], C), "One text or vector is needed, and 2 were given"),
        (lambda: mini.vary(A, strength=-1), "must not be negative"),
        (lambda: mini.vary(A, 0), "count is 0"),
        (lambda: mini.words(A, 0), "count is 0"),
        (lambda: mini.blend(7), "of type int"),
        (lambda: mini.words([1.0, 2.0]), "shape"),
    ):
        with pytest.raises(GenerationError, match=words):
            call()


@pytest.mark.slow
def test_texts_and_vectors_of_any_layout_are_taken(mini):
    e = mini.encode([A, B])
    expected = mini.words([A, B], 3)
    for given in (
        e,
        e.numpy(),
        e.numpy()[:, ::-1][:, ::-1],
        e.tolist(),
        list(e),
        iter([A, B]),
        np.array([A, B]),
    ):
        assert [[word for word, _ in row] for row in mini.words(given, 3)] == [
            [word for word, _ in row] for row in expected
        ]


# --- variations -----------------------------------------------------------------------------------------


def test_no_strength_is_no_variation(tiny, sentences):
    expected = tiny.reconstruct([sentences[5]])[0]
    found = tiny.vary(sentences[5], 3, strength=0, score=True)
    assert [(item.text, item.cosine) for item in found] == [(expected.text, expected.cosine)] * 3


def test_latents_lie_as_far_as_the_strength_says(tiny, sentences):
    e = tiny.encode([sentences[5]])[0]
    z = tiny.model.latent(e[None]).z
    seeds = range(2_000)
    offsets = varied_latents(tiny.model, e, 0.5, seeds) - z
    if tiny.info.model.bottleneck.kind == "vib":
        posterior = tiny.model.bottleneck.posterior(tiny.model.standardize(e[None]))
        expected = 0.5 * (0.5 * posterior.logvar[0]).exp()
    else:
        expected = torch.full_like(offsets[0], 0.5)
    torch.testing.assert_close(offsets.std(dim=0), expected, rtol=0.08, atol=0)
    torch.testing.assert_close(
        varied_latents(tiny.model, e, 1.0, seeds) - z, 2 * offsets, rtol=1e-3, atol=1e-5
    )
    # A latent depends on its own seed alone.
    torch.testing.assert_close(varied_latents(tiny.model, e, 0.5, [7, 3]) - z, offsets[[7, 3]])


@pytest.mark.slow
def test_variations_are_seeded_different_and_do_not_depend_on_their_number(mini):
    five = mini.vary(A, 5, strength=0.5, seed=3)
    assert len(set(texts(five))) == 5
    assert mini.vary(A, 5, strength=0.5, seed=3) == five
    assert texts(mini.vary(A, 2, strength=0.5, seed=3)) == texts(five)[:2]
    assert texts(mini.vary(A, 5, strength=0.5, seed=4)) != texts(five)
    lone = mini.vary(A, 1, strength=0.5, seed=five[1].seed)
    assert texts(lone) == [five[1].text]


@pytest.mark.slow
def test_repeated_texts_are_replaced_while_others_are_found(mini):
    found = mini.vary(A, 4, strength=0.04)
    assert len(set(texts(found))) > 1
    seeds = [item.seed for item in found]
    assert seeds == sorted(seeds)
    assert seeds[-1] > 3  # at this strength the first four are not all different
    nearly_none = mini.vary(A, 3, strength=1e-6)
    assert texts(nearly_none) == texts(mini.reconstruct([A])) * 3


def test_more_strength_gives_more_distance(mini):
    cosines = [
        np.mean([item.cosine for item in mini.vary(A, 4, strength=strength, score=True)])
        for strength in (0.2, 1.0)
    ]
    assert cosines[0] > cosines[1] + 0.1


def test_latents_are_written_from_in_the_place_of_the_vectors(tiny, sentences):
    e = tiny.encode(sentences[:3])
    z = tiny.model.latent(e).z
    assert texts(tiny.generate(e.roll(1, 0), latents=z)) == texts(tiny.generate(e))
    with pytest.raises(GenerationError, match="latents have shape"):
        tiny.generate(e, latents=z[:2])
    with pytest.raises(GenerationError, match="null condition uses none"):
        tiny.generate(e, latents=z, unconditional=True)


# --- words ----------------------------------------------------------------------------------------------


def test_words_are_those_of_the_text_and_function_words_are_not_first(mini):
    found = mini.words(["The captain ordered the crew to lower the boats into the sea."], 8)[0]
    names = [word.lower() for word, _ in found]
    assert {"captain", "crew", "sea", "ordered"} <= set(names)
    assert "the" not in names[:3]
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)
    assert len(set(names)) == 8


def test_words_of_a_text_that_is_too_long_to_write(mini):
    long = (
        "The soldiers marched through the snow. The general had lost his horse. The cannons stood in the fields. "
        "Nobody had eaten for three days. The letters from home no longer came."
    )
    assert len(mini.tokenizer.encode_batch([long])[0]) > mini.info.model.max_tokens
    names = {word.lower() for word, _ in mini.words(long)[0]}
    assert {"letters", "lost", "marched", "soldiers"} <= names


@pytest.mark.slow
def test_words_do_not_depend_on_the_batch(mini):
    e = mini.encode(TEXTS[:6])
    together = mini.words(e)
    assert [mini.words(row)[0] for row in e] == together
    assert mini.words(e.flip(0)) == together[::-1]
    assert mini.words(e[:0]) == []


@pytest.mark.slow
def test_pieces_of_words_are_completed(mini):
    """Each word shown is whole: tokenised again, it begins a word and is not cut by the vocabulary's own pieces."""
    pieces = [mini.tokenizer.encode_batch([word])[0] for row in mini.words(TEXTS) for word, _ in row]
    assert all(mini.tokenizer.begins_word[row[0]] for row in pieces)
    assert any(len(row) > 1 for row in pieces)
    assert all(mini.tokenizer.continues_word[index] for row in pieces for index in row[1:])


def test_a_model_without_a_null_condition_has_no_words(tiny_encoder, sentences):
    model = build(tiny_encoder, sentences[:10], trained_null=False)
    with pytest.raises(GenerationError, match="trained without one"):
        model.words(sentences[0])


def test_every_kind_of_model_finds_words(tiny, sentences):
    for row in tiny.words(sentences[:3], 4):
        assert len(row) == 4
        assert all(word[0].isalnum() for word, _ in row)


def test_pieces_that_begin_words(tiny_encoder, sentences):
    wordpiece = TextTokenizer.from_encoder(tiny_encoder)
    unigram = train_unigram([*sentences, "海 は 青い", "café"], 200)
    for tokenizer in (wordpiece, unigram):
        kinds = {
            tokenizer.piece(index): (tokenizer.begins_word[index], tokenizer.continues_word[index])
            for index in range(tokenizer.vocab_size)
        }
        for index in tokenizer.special_ids:
            assert kinds[tokenizer.piece(index)] == (False, False)
        assert kinds["."] == (False, False)
        for text in sentences[:20]:
            ids = tokenizer.encode_batch([text])[0]
            begun = sum(tokenizer.begins_word[index] for index in ids)
            assert begun <= len(text.replace("'", " ").split())
            assert tokenizer.begins_word[ids[0]]
    assert wordpiece.continues_word[wordpiece._tokenizer.token_to_id("##a")]
    assert not wordpiece.begins_word[wordpiece._tokenizer.token_to_id("##a")]
