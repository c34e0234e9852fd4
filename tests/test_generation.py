"""The door for Python: what goes in, in which forms, and what comes out."""

import shutil
from dataclasses import replace

import numpy as np
import pandas
import pytest
import torch
from tiny_sgdd import build

from sgdd_engine import SGDD
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.errors import ConfigError, EncoderError, GenerationError
from sgdd_engine.events import CanvasChanged, Notice
from sgdd_engine.generation import Generation, complete_sampling
from sgdd_engine.text.config import EncoderConfig
from sgdd_engine.text.encoder import load_encoder

PLAIN = SamplingConfig(cfg=1.0)


@pytest.fixture(scope="module")
def few(sentences):
    return sentences[:6]


@pytest.fixture(scope="module")
def model(tiny_encoder, few):
    """Trained on six sentences until it knows them."""
    return build(tiny_encoder, few, steps=250)


def test_known_sentences_come_back_from_their_vectors_alone(model, few):
    written = model.reconstruct(few, sampling=PLAIN)
    assert [item.text for item in written] == [text.lower() for text in few]
    assert all(item.cosine == pytest.approx(1.0, abs=1e-4) for item in written)


def test_the_encoder_is_found_again_through_the_checkpoint(model, few, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    folder = model.encoder_reference.name
    loaded = SGDD.from_pretrained(tmp_path / "saved", device="cpu", encoder=folder)
    assert torch.allclose(loaded.encode(few), model.encode(few), atol=1e-6)
    assert [item.text for item in loaded.reconstruct(few)] == [item.text for item in model.reconstruct(few)]


def test_another_encoder_under_the_same_name_is_refused(model, few, tmp_path):
    wrong = replace(model.encoder_reference, weights_sha256="0" * 64)
    model = build(model.encoder, few)
    object.__setattr__(model.info, "encoder", wrong)
    model.save_pretrained(tmp_path / "saved")
    with pytest.raises(EncoderError, match="weights"):
        SGDD.from_pretrained(tmp_path / "saved", device="cpu", encoder=wrong.name).encode(few)


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_sentence_does_not_depend_on_its_batch(model, few, temperature):
    sampling = SamplingConfig(cfg=2.0, temperature=temperature, position_noise=0.5)
    vectors = model.encode(few)
    together = model.generate(vectors, sampling=sampling, seed=5)
    alone = [model.generate(vectors[i : i + 1], sampling=sampling, seed=5)[0] for i in range(len(few))]
    assert [item.tokens for item in together] == [item.tokens for item in alone]


def test_samples_have_their_own_seeds_and_can_be_repeated(model, few):
    hot = SamplingConfig(cfg=1.0, temperature=3.0)
    vectors = model.encode(few[:1])
    three = model.generate(vectors, sampling=hot, num_samples=3, seed=10)
    assert [item.seed for item in three] == [10, 11, 12]
    assert len({item.text for item in three}) > 1
    assert model.generate(vectors, sampling=hot, seed=11)[0].text == three[1].text


def test_a_length_that_is_asked_for_is_kept(model, few):
    vectors = model.encode(few)
    for n in (1, 3, model.info.model.max_tokens):
        assert {len(item.tokens) for item in model.generate(vectors, lengths=n)} == {n}
    assert [len(item.tokens) for item in model.generate(vectors[:2], lengths=[4, 7])] == [4, 7]
    assert model.generate(vectors, lengths="6") == model.generate(vectors, lengths=6)


@pytest.mark.slow
def test_of_a_range_the_likeliest_lengths_are_written(model, few):
    vectors = model.encode(few)
    longest = model.info.model.max_tokens
    likely = model.likely_lengths(model.model.latent(vectors).z, longest).tolist()
    assert model.generate(vectors, lengths=f"1-{longest}") == model.generate(vectors)
    for shortest, longest in ((3, 5), (9, 12)):
        inside = [[n for n in row if shortest <= n <= longest] for row in likely]
        written = model.generate(vectors, lengths=f"{shortest}-{longest}")
        assert [len(item.tokens) for item in written] == [row[0] for row in inside]
    mixed = model.generate(vectors[:2], lengths=["3-5", 9])
    assert [len(item.tokens) for item in mixed] == [next(n for n in likely[0] if 3 <= n <= 5), 9]
    # More candidates than lengths: the lengths repeat, and their tokens are drawn.
    for candidates, refine in ((3, 0), (7, 2)):
        found = model.generate(vectors, lengths="5-7", candidates=candidates, refine=refine)
        assert {len(item.tokens) for item in found} <= {5, 6, 7}


@pytest.mark.slow
def test_at_a_temperature_the_length_is_drawn_as_the_length_head_says(model, few):
    vectors = model.encode(few[:2])
    hot = SamplingConfig(steps=1, temperature=6.0)
    drawn = model.generate(vectors, sampling=hot, num_samples=200)
    expected = (model.model.length_logits(model.model.latent(vectors).z) / 6.0).softmax(-1)
    for row in range(2):
        found = [len(item.tokens) for item in drawn if item.row == row]
        shares = torch.bincount(torch.tensor(found), minlength=expected.shape[1] + 1)[1:] / 200
        # Half of the absolute differences; of 200 draws from a dozen likely lengths it stays below.
        assert (shares - expected[row]).abs().sum() / 2 < 0.2
        assert len(set(found)) > 3
    inside = model.generate(vectors, sampling=hot, num_samples=30, lengths="3-5")
    assert {len(item.tokens) for item in inside} == {3, 4, 5}
    assert {len(item.tokens) for item in model.generate(vectors, sampling=hot, num_samples=5, lengths=4)} == {
        4
    }


def test_lengths_that_are_none_are_refused(model, few):
    vectors = model.encode(few)
    for lengths in ("5-99", ["5-99"] * len(vectors)):
        with pytest.raises(GenerationError, match="A length of 99 tokens was asked for"):
            model.generate(vectors, lengths=lengths)
    for wrong in ("7-5", "0-3", "some", ""):
        with pytest.raises(GenerationError, match=r'a whole number of at least 1, or a range such as "6-9"'):
            model.generate(vectors, lengths=wrong)
    for exact in (6, "6", "6-6"):
        with pytest.raises(GenerationError, match="one length was given"):
            model.generate(vectors, lengths=exact, candidates=2)


def test_candidates_keep_the_closest_of_the_likeliest_lengths(model, few):
    vectors = model.encode(few)
    one = model.generate(vectors, sampling=PLAIN, score=True)
    best = model.generate(vectors, sampling=PLAIN, candidates=4)
    assert len(best) == len(few)
    assert [item.row for item in best] == list(range(len(few)))
    for single, kept in zip(one, best, strict=True):
        assert kept.cosine >= single.cosine - 1e-6


def test_special_pieces_are_never_written(model, few):
    hot = SamplingConfig(cfg=1.0, temperature=50.0)
    written = model.generate(model.encode(few), sampling=hot, num_samples=5)
    specials = set(model.tokenizer.special_ids)
    assert not any(specials & set(item.tokens) for item in written)


def test_the_canvas_is_shown_filling_in(model, few):
    events = []
    model.generate(model.encode(few[:1]), sampling=replace(PLAIN, steps=4), on_event=events.append)
    assert all(isinstance(event, CanvasChanged) for event in events)
    assert {event.rows for event in events} == {(0,)}
    masks = [event.texts[0].split().count("_") for event in events]
    assert masks == sorted(masks, reverse=True)
    assert masks[0] > 0 == masks[-1]
    assert all(event.tokens == () for event in events), "how sure it is was not asked for"


def test_the_canvas_says_of_each_written_token_how_sure_it_was(model, few):
    events = []
    (item,) = model.generate(model.encode(few[:1]), sampling=PLAIN, explain=True, on_event=events.append)
    for event in events:
        (canvas,) = event.tokens
        assert canvas == tuple(
            (token.piece, token.probability) if token.step <= event.step else ("", 0.0)
            for token in item.details
        )


def test_the_other_texts_that_were_encoded_come_with_their_cosines(model, few):
    items = model.reconstruct(few, candidates=4, refine=2)
    vectors = model.encode(few)
    assert any(item.alternatives for item in items)
    for item in items:
        assert len(item.alternatives) == item.encoder_calls - 1
        cosines = [cosine for _, cosine in item.alternatives]
        assert cosines == sorted(cosines, reverse=True)
        assert all(cosine <= item.cosine + 1e-4 for cosine in cosines)
        for text, cosine in item.alternatives:
            again = torch.cosine_similarity(model.encode(text)[0], vectors[item.row], dim=0)
            assert cosine == pytest.approx(float(again), abs=1e-4)
    assert model.reconstruct(few)[0].alternatives == ()


@pytest.mark.parametrize("options", [{}, {"candidates": 3}, {"candidates": 2, "refine": 2}])
def test_each_token_can_say_how_sure_it_was(model, few, options):
    plain = model.reconstruct(few, sampling=PLAIN, **options)
    explained = model.reconstruct(few, sampling=PLAIN, explain=True, **options)
    assert [item.text for item in plain] == [item.text for item in explained], "asking changes nothing"
    assert all(item.details == () for item in plain)
    for item in explained:
        assert [token.piece for token in item.details] == [model.tokenizer.piece(i) for i in item.tokens]
        assert all(0 <= token.probability <= 1 + 1e-6 for token in item.details)
        known = [token for token in item.details if token.step is not None]
        assert len(known) in (0, len(item.details))
        # One token a step: the sentences are shorter than there are steps.
        assert sorted(token.step for token in known) == list(range(1, len(known) + 1))
        assert all(token.entropy >= -1e-5 for token in known)
    if not options:
        # A single step says of each token what the network says of it on an all-mask canvas.
        one = model.generate(
            model.encode(few[:1]), sampling=SamplingConfig(steps=1, cfg=1.0), explain=True, lengths=4
        )[0]
        canvas = torch.full((1, 4), model.info.model.vocabulary.mask_id)
        with torch.inference_mode():
            z = model.model.latent(model.encode(few[:1])).z
            hidden = model.model.hidden(canvas, torch.ones(1), model.model.condition(z))[0]
            logits = model.model.head.logits(hidden)
            logits[:, [*model.tokenizer.special_ids]] = -1e4
        expected = logits.softmax(-1).gather(1, torch.tensor(one.tokens)[:, None]).squeeze(1)
        assert [token.probability for token in one.details] == pytest.approx(expected.tolist(), abs=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"unconditional": True},
        {"sampling": SamplingConfig(steps=4, cfg=0.0)},
        # The length and the tokens are drawn.
        {"sampling": SamplingConfig(steps=4, cfg=0.0, temperature=1.0), "seed": 3},
    ],
)
def test_the_null_condition_ignores_the_vector(model, few, options):
    vectors = model.encode(few)
    texts = {item.text for item in model.generate(vectors, **options)}
    assert len(texts) == 1


def test_no_text_is_no_work(model):
    assert model.reconstruct([]) == []


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (torch.zeros(2, 7), r"\[2, 7\].*\[N, 32\]"),
        (torch.zeros(31), r"\[31\]"),
        (torch.full((1, 32), float("nan")), "NaN"),
        ([[0.0] * 32, [0.0] * 31], "not a table of numbers"),
        (["a sentence"], "not a table of numbers"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(model, vectors, message):
    with pytest.raises(GenerationError, match=message):
        model.generate(vectors)


def test_impossible_wishes_are_refused(model, few):
    vectors = model.encode(few)
    with pytest.raises(GenerationError, match="1 to 24"):
        model.generate(vectors, lengths=99)
    with pytest.raises(GenerationError, match="2 lengths were given for 6"):
        model.generate(vectors, lengths=[3, 4])
    with pytest.raises(GenerationError, match="at least 1"):
        model.generate(vectors, num_samples=0)
    with pytest.raises(GenerationError, match="one length was given"):
        model.generate(vectors, lengths=4, candidates=2)
    with pytest.raises(GenerationError, match="seed is -1"):
        model.generate(vectors, seed=-1)
    with pytest.raises(GenerationError, match="nothing to encode"):
        model.encode(["  \n "])
    with pytest.raises(ConfigError, match="not a device"):
        SGDD.from_pretrained("anywhere", device="toaster")


def test_sampling_is_completed_alike_for_python_and_the_command_line(tiny_encoder, few):
    unguided = build(tiny_encoder, few, trained_null=False)
    # What is recorded beats a default, what is given beats both.
    assert complete_sampling({}, unguided.info) == unguided.recommended_sampling == SamplingConfig(cfg=1.0)
    assert complete_sampling({"cfg": 2.0}, unguided.info).cfg == 2.0
    guided = replace(unguided.info, trained_null=True, sampling={"cfg": 2.25, "steps": 4})
    assert complete_sampling({}, guided) == SamplingConfig(cfg=2.25, steps=4)
    assert complete_sampling({"steps": 8}, guided) == SamplingConfig(cfg=2.25, steps=8)
    # With its defaults a model without a null condition writes, too.
    assert unguided.reconstruct(few[:2]) == unguided.reconstruct(few[:2], sampling=PLAIN)


def test_guidance_without_a_trained_null_is_refused(tiny_encoder, few):
    model = build(tiny_encoder, few, trained_null=False)
    with pytest.raises(GenerationError, match="without one"):
        model.generate(model.encode(few), sampling=SamplingConfig(cfg=2.0))
    assert len(model.generate(model.encode(few), sampling=PLAIN)) == len(few)


def layouts(vectors):
    """The same vectors as people hold them."""
    array = vectors.numpy()
    doubled = np.zeros((len(array) * 2, array.shape[1] * 2), np.float32)
    doubled[::2, ::2] = array
    return {
        "tensor": vectors.double().requires_grad_(),
        "float64": array.astype(np.float64),
        "big-endian": array.astype(">f4"),
        "every second": doubled[::2, ::2],
        "reversed twice": np.ascontiguousarray(array[::-1])[::-1],
        "column by column": np.asfortranarray(array),
        "nested lists": array.tolist(),
        "tuple of tensors": tuple(vectors),
        "list of arrays": list(array),
        "array of arrays": as_objects(array),
        "generator": (row for row in array),
        "frame": pandas.DataFrame(array),
        "series": pandas.Series(list(array)),
    }


def as_objects(array):
    rows = np.empty(len(array), dtype=object)
    rows[:] = list(array)
    return rows


@pytest.mark.slow
def test_vectors_of_any_layout_are_read_alike(model, few):
    vectors = model.encode(few[:3])
    expected = [item.tokens for item in model.generate(vectors)]
    for name, same in layouts(vectors).items():
        assert [item.tokens for item in model.generate(same)] == expected, name
    assert model.generate(vectors[0])[0].tokens == expected[0]
    assert model.generate(np.empty((0, vectors.shape[1]))) == []
    assert model.generate([]) == []


@pytest.mark.parametrize(
    "vectors",
    [
        "a text",
        b"bytes",
        3,
        None,
        [["a", "b"]],
        [[1.0], [1.0, 2.0]],
        np.array([[1j, 2j]]),
        [object()],
        [[True] * 16],
    ],
)
def test_what_holds_no_vectors_is_refused_in_a_sentence(model, vectors):
    with pytest.raises(GenerationError, match=r"The vectors (are not a table of numbers|have shape)"):
        model.generate(vectors)


def test_the_vector_that_is_not_finite_is_named(model, few):
    vectors = model.encode(few).clone()
    vectors[2, 1] = torch.nan
    with pytest.raises(GenerationError, match="Vector 2 holds NaN"):
        model.generate(vectors)


def test_vectors_of_another_length_than_the_encoders_are_scaled(model, few):
    vectors = model.encode(few[:2])
    expected = model.generate(vectors, explain=True)
    for scale in (0.5, 1e10, 1e38):
        events = []
        written = model.generate(
            torch.cat([vectors[:1] * scale, vectors[1:]]), explain=True, on_event=events.append
        )
        assert [item.text for item in written] == [item.text for item in expected]
        assert all(0 <= token.probability <= 1 for item in written for token in item.details)
        (note,) = (event.message for event in events if isinstance(event, Notice))
        assert "Vector 0" in note
    quiet = []
    model.generate(vectors, on_event=quiet.append)
    assert not any(isinstance(event, Notice) for event in quiet)


def test_an_encoder_that_drops_coordinates_makes_shorter_vectors_which_stay_as_they_are(
    tiny_encoder_folder, few, tmp_path
):
    folder = tmp_path / "short"
    shutil.copytree(tiny_encoder_folder, folder)
    (folder / "config_sentence_transformers.json").write_text('{"truncate_dim": 8}')
    model = build(load_encoder(EncoderConfig(name=str(folder))), few)
    vectors = model.encode(few)
    assert float(vectors.norm(dim=1).max()) < 0.9
    assert torch.equal(model.check_vectors(vectors), vectors)


def test_vectors_and_latents_that_are_too_large_are_refused(tiny_encoder, few):
    model = build(tiny_encoder, few)
    vectors = model.encode(few)
    far = model.model.latent(vectors).z.detach() * 1e20
    with pytest.raises(GenerationError, match="too far"):
        model.generate(vectors, latents=far)
    object.__setattr__(model.info, "encoder", replace(model.info.encoder, normalize=False))
    vectors[3] *= 1e20
    with pytest.raises(GenerationError, match="Vector 3 is too far"):
        model.generate(vectors)
    with pytest.raises(GenerationError, match="too far"):
        model.fill("A [MASK].", vectors=vectors[3])
    with pytest.raises(GenerationError, match="too far"):
        model.words(vectors[3])


@pytest.mark.parametrize("name", ["cfg", "temperature", "position_noise"])
def test_a_number_of_the_sampling_that_is_infinite_is_refused(name):
    for value in (float("inf"), float("nan")):
        with pytest.raises(ConfigError, match=f"sample.{name} is {value}"):
            SamplingConfig(**{name: value})


def test_texts_are_taken_from_any_iterable_and_a_lone_text_is_one(model, few):
    expected = model.encode(few)
    for same in (tuple(few), np.array(few), pandas.Series(few), (text for text in few), dict.fromkeys(few)):
        assert torch.equal(model.encode(same), expected)
    assert torch.equal(model.encode(few[0]), expected[:1])
    assert [item.text for item in model.reconstruct(few[0])] == [model.reconstruct(few[:1])[0].text]
    assert model.reconstruct(np.array([], dtype=str)) == []


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        (b"bytes", "of type bytes"),
        (3, "of type int"),
        (None, "of type NoneType"),
        (["A text.", 4], "Item 1 of the texts is of type int: 4"),
        (["A text.", None], "Item 1"),
        ([b"bytes"], "Item 0 of the texts is of type bytes"),
        (["A text.", " \u200b "], "nothing to encode"),
    ],
)
def test_what_is_no_text_is_refused_in_a_sentence(model, texts, sentence):
    with pytest.raises(GenerationError, match=sentence):
        model.encode(texts)


def test_numbers_may_be_those_of_numpy_and_nothing_else(model, few):
    vectors = model.encode(few[:2])
    plain = model.generate(vectors, lengths=[4, 5], num_samples=2, seed=3)
    same = model.generate(vectors, lengths=np.array([4, 5]), num_samples=np.int32(2), seed=np.uint8(3))
    assert [item.tokens for item in same] == [item.tokens for item in plain]
    for name, wrong in [
        ("candidates", 1.5),
        ("candidates", True),
        ("candidates", 0),
        ("num_samples", "2"),
        ("refine", -1),
        ("refine", None),
        ("seed", 2**63),
        ("seed", -1),
        ("seed", 0.0),
        ("lengths", 2.0),
        ("lengths", "45"),
        ("lengths", [4, True]),
        ("shortlist", 0),
    ]:
        with pytest.raises(GenerationError):
            model.generate(vectors, **{name: wrong})


def test_a_kind_of_proposal_can_be_chosen(model, few):
    vectors = model.encode(few)
    default = model.generate(vectors, refine=2)
    assert model.generate(vectors, refine=2, proposals=["remask"]) == default
    with pytest.raises(GenerationError, match="none of these kinds"):
        model.generate(vectors, refine=1, proposals=["correct"])
    with pytest.raises(ConfigError, match="must be one of"):
        model.generate(vectors, refine=1, proposals=["guess"])


def test_what_is_shown_of_a_result_fits_on_a_line():
    written = Generation("A map.", tuple(range(1000)), 0, 3, cosine=0.5)
    assert repr(written) == (
        "Generation(text='A map.', row=0, seed=3, cosine=0.5, encoder_calls=0, confidence=None)"
    )
