"""Filling: what is given stays, blanks have the lengths they were given, and an open length is chosen by score."""

import json
import re
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_sgdd import build
from typer.testing import CliRunner

from sgdd_cli.main import app
from sgdd_engine import SGDD
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.errors import ConfigError, DataError, GenerationError
from sgdd_engine.generation.config import LengthRange
from sgdd_engine.generation.decode import Decoder
from sgdd_engine.generation.fill import LENGTHS_TRIED, FillRequest, _lengths_to_try, parse_blanks

FAST = SamplingConfig(steps=2, cfg=1.0)
BLANK = re.compile(r"\[MASK.*?\]")


@pytest.fixture(scope="module", params=["tiny_encoder", "tiny_xlmr"])
def model(request, sentences) -> SGDD:
    return build(request.getfixturevalue(request.param), sentences[:12], steps=10)


@pytest.fixture(scope="module")
def mini() -> SGDD:
    return SGDD.from_pretrained("mini", device="cpu")


def check_given(text: str, filled) -> None:
    """What stands outside of the blanks is there, in its order, and what was written is between."""
    pieces = BLANK.split(text)
    parts = [piece for pair in zip(pieces, [*filled.blanks, ""], strict=True) for piece in pair]
    assert filled.text == "".join(parts)


# --- reading a text with blanks ---------------------------------------------------------------------------


def test_blanks_are_read_with_their_lengths_and_the_text_is_cleaned():
    template = parse_blanks("  The [MASK]   opened\u200b the [MASK:3], [MASK: 2 - 4]. ")
    assert template.pieces == ("The ", " opened the ", ", ", ".")
    assert template.blanks == (None, LengthRange(3, 3), LengthRange(2, 4))
    assert template.text(["man", "door", "then"]) == "The man opened the door, then."
    assert parse_blanks("[MASK]").pieces == ("", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Nothing to do.", "There is no blank in `Nothing to do.`"),
        ("The [mask] left.", "There is no blank"),
        ("The [MASK:0] left.", r"`\[MASK:0\]` is not a blank"),
        ("The [MASK:4-2] left.", r"`\[MASK:4-2\]` is not a blank"),
        ("The [MASK3] left.", r"`\[MASK3\]` is not a blank"),
        ("The [MASK:] left.", r"`\[MASK:\]` is not a blank"),
        ("It was un[MASK]able.", r"inside a word: `un\[MASK\]able\.`"),
        ("It was [MASK]able.", r"inside a word: `\[MASK\]able\.`"),
        ("It was un[MASK:2].", r"inside a word: `un\[MASK\]\.`"),
        ("The [MASK][MASK] left.", "Two blanks stand side by side"),
    ],
)
def test_a_text_whose_blanks_cannot_be_filled_is_refused(text, message):
    with pytest.raises(GenerationError, match=message):
        parse_blanks(text)


def test_a_blank_may_touch_punctuation_and_scripts_without_spaces():
    for text in ('"[MASK]," he said.', "The [MASK]'s hat.", "well-[MASK] men", "([MASK])", "我[MASK]你。"):
        parse_blanks(text)


# --- what is given stays -----------------------------------------------------------------------------------


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.data())
def test_given_tokens_and_characters_are_never_altered(model, sentences, data):
    sentence = data.draw(st.sampled_from(sentences[:60]))
    words = sentence.split()
    ids = [model.tokenizer.encode_batch([words[0]])[0]]
    ids += [model.tokenizer.encode_behind(f" {word}") for word in words[1:]]
    blanks = sorted(data.draw(st.sets(st.sampled_from(range(len(words))), min_size=1, max_size=5)))
    text = " ".join(f"[MASK:{len(ids[i])}]" if i in blanks else word for i, word in enumerate(words))
    hot = replace(FAST, temperature=data.draw(st.sampled_from([0.0, 3.0])))
    (filled,) = model.fill(text, sentence, sampling=hot, seed=data.draw(st.integers(0, 99)))
    check_given(text, filled)
    # Each word's ids are the same wherever it stands, so the canvas is known word by word.
    assert [token for row in ids for token in row] == model.tokenizer.encode_batch([sentence])[0]
    done = 0
    for number, row in enumerate(ids):
        written = list(filled.tokens[done : done + len(row)])
        assert written == row or number in blanks
        assert not set(written) & set(model.tokenizer.special_ids) or number not in blanks
        done += len(row)
    assert done == len(filled.tokens)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(st.text(st.characters(exclude_characters="[]"), max_size=8), min_size=2, max_size=4),
    st.booleans(),
)
def test_any_characters_around_blanks_come_back_as_they_were_cleaned(model, pieces, with_meaning):
    text = "[MASK:1-2]".join(pieces)
    try:
        template = parse_blanks(text)
        (filled,) = model.fill(text, "Tom sold a letter." if with_meaning else None, sampling=FAST)
    except GenerationError as error:
        if re.search("inside a word|side by side|besides its blanks", error.message) is None:
            raise
        return
    assert re.fullmatch("(.*)".join(map(re.escape, template.pieces)), filled.text)
    assert filled.text == template.text(filled.blanks)


def test_an_uncased_vocabulary_keeps_the_capitals_that_were_given(tiny_encoder, sentences):
    model = build(tiny_encoder, sentences[:4])
    assert model.tokenizer.lowercase
    (filled,) = model.fill("Tom SOLD a [MASK:1].", sampling=FAST)
    assert filled.text.startswith("Tom SOLD a ")


def test_what_is_written_neither_takes_a_space_away_nor_adds_one(mini):
    texts = [
        '"[MASK:2]," he [MASK:1], "I don\'t [MASK:1]."',
        "The [MASK:1]'s house (a [MASK:2]) was well-[MASK:1].",
    ]
    for filled in mini.fill(texts, num_samples=6, sampling=replace(FAST, temperature=1.5)):
        check_given(texts[filled.row], filled)
        assert mini.tokenizer.decode_batch([filled.tokens]) == [filled.text]


# --- lengths and choices -----------------------------------------------------------------------------------


def test_blanks_have_the_lengths_that_were_given(model):
    (filled,) = model.fill("Tom [MASK:2] a [MASK:1-3].", "Tom sold a letter.", sampling=FAST)
    given_tokens = sum(len(model.tokenizer.encode_behind(piece)) for piece in (" a", ".")) + 1
    assert given_tokens + 3 <= len(filled.tokens) <= given_tokens + 5
    for length in (9, "9-11"):
        (filled,) = model.fill("Tom [MASK] a [MASK].", "Tom sold a letter.", lengths=length, sampling=FAST)
        assert len(filled.tokens) in ({9} if length == 9 else {9, 10, 11})


def test_the_lengths_that_are_tried_are_the_likeliest_and_none_is_tried_twice():
    log_p = torch.randn(24, generator=torch.Generator().manual_seed(0)).log_softmax(0)
    one = FillRequest(0, parse_blanks("a [MASK] b"), 0, LengthRange(1, 24))
    lengths = _lengths_to_try(one, 2, log_p)
    assert [n for (n,) in lengths] == [
        int(n) - 2 for n in (log_p[2:].argsort(descending=True) + 3)[:LENGTHS_TRIED]
    ]
    three = FillRequest(0, parse_blanks("a [MASK] b [MASK:2] c [MASK:1-3]"), 0, LengthRange(10, 12))
    lengths = _lengths_to_try(three, 3, log_p)
    assert len(set(lengths)) == len(lengths)
    for first, second, third in lengths:
        assert second == 2
        assert 1 <= third <= 3
        assert 10 <= 3 + first + second + third <= 12


def test_of_several_lengths_the_text_of_the_best_score_is_kept(model):
    text, meaning = "Tom [MASK] a letter.", "Tom sold a letter."
    (kept,) = model.fill(text, meaning, sampling=FAST)
    before, after = (len(model.tokenizer.encode_behind(piece)) for piece in (" Tom", " a letter."))
    decoder = Decoder(model.model, model.schedule, model.tokenizer.special_ids, FAST)
    z = decoder.latents(model.encode([meaning]))
    log_p_length = model.model.length_logits(z)[0].detach().log_softmax(0)
    tried = [n for n in model.likely_lengths(z, 24)[0].tolist() if n > before + after][:LENGTHS_TRIED]
    alone = [model.fill(text, meaning, lengths=n, sampling=FAST)[0] for n in tried]
    assert [len(filled.tokens) for filled in alone] == tried
    assert {filled.score for filled in alone} == {None}, "there was nothing to choose"
    log_probs = decoder.token_log_probs(z, [0] * len(alone), [filled.tokens for filled in alone])
    scores = [
        float(row[before : n - after].sum() + log_p_length[n - 1])
        for n, row in zip(tried, log_probs, strict=True)
    ]
    assert kept.score == pytest.approx(max(scores), abs=1e-4)
    assert kept.text == alone[scores.index(max(scores))].text


def test_candidates_are_chosen_by_cosine_and_drawn_where_lengths_are_given(model):
    text, meaning = "Tom [MASK:2] a [MASK:1].", "Tom sold a letter."
    (one,) = model.fill(text, meaning, sampling=FAST, score=True)
    (best,) = model.fill(text, meaning, sampling=FAST, candidates=6)
    assert 1 < best.encoder_calls <= 6
    assert one.encoder_calls == 1
    assert best.cosine >= one.cosine - 1e-6
    vectors = model.encode([meaning, best.text])
    assert best.cosine == pytest.approx(
        float(torch.cosine_similarity(vectors[0], vectors[1], dim=0)), abs=1e-5
    )
    assert model.fill(text, vectors=vectors[0], sampling=FAST, candidates=6)[0].text == best.text


def test_a_text_does_not_depend_on_those_beside_it(model, sentences):
    texts = ["Tom [MASK] a letter.", "[MASK] sold [MASK:2] at night.", "The old [MASK:1-3]."]
    together = model.fill(texts, sentences[:3], sampling=FAST, num_samples=2, seed=4)
    assert [(item.row, item.seed) for item in together] == [
        (row, seed) for row in range(3) for seed in (4, 5)
    ]
    for row, text in enumerate(texts):
        alone = model.fill(text, sentences[row], sampling=FAST, num_samples=2, seed=4)
        assert [item.text for item in alone] == [item.text for item in together[2 * row : 2 * row + 2]]


@pytest.mark.slow
def test_several_texts_differ_and_repetitions_are_replaced(model, sentences):
    blank = ["The [MASK:1] found a letter.", "Tom sold [MASK:2] at night."]
    warm = SamplingConfig(cfg=1.0, temperature=0.5)
    first = model.fill(blank, sampling=warm, num_samples=1)
    filled = model.fill(blank, sampling=warm, num_samples=5, seed=3)
    for row in range(2):
        texts = [item.text for item in filled if item.row == row]
        assert len(set(texts)) == len(texts) == 5
        assert [item.text for item in model.fill(blank[row], sampling=warm, num_samples=5, seed=3)] == texts
    assert first == model.fill(blank, sampling=warm)
    # At temperature 0 nothing is drawn.
    assert (
        len({item.text for item in model.fill(blank[0], sampling=SamplingConfig(cfg=1.0), num_samples=3)})
        == 1
    )


def test_one_blank_and_nothing_else_is_a_sentence_from_its_vector(mini):
    vector = mini.encode(["The old man opened the door and looked out."])
    # Filling takes any token and keeps nothing of what it has read.
    plain = replace(mini.recommended_sampling, vocabulary=0, kv_cache=False)
    (written,) = mini.generate(vector, lengths=10, sampling=plain)
    (filled,) = mini.fill("[MASK:10]", vectors=vector)
    assert filled.tokens == written.tokens
    (free,) = mini.generate(vector, unconditional=True, lengths=10, sampling=plain)
    assert mini.fill("[MASK:10]")[0].tokens == free.tokens


def test_a_meaning_decides_what_is_written(mini):
    text = "The old man opened the [MASK:1] and looked out."
    meanings = ["The old man opened the door and looked out.", "The old man opened the box and looked out."]
    assert [item.blanks[0] for item in mini.fill([text] * 2, meanings)] == ["door", "box"]
    assert mini.fill([text] * 2, meanings[0])[0].blanks == ("door",)


# --- what is refused -------------------------------------------------------------------------------------


def test_what_cannot_be_filled_is_refused_in_a_sentence(model):
    long = " ".join(["the garden"] * 20)
    with pytest.raises(GenerationError, match="this model writes at most 24"):
        model.fill(f"{long} [MASK]", sampling=FAST)
    with pytest.raises(GenerationError, match="this model writes at most 24"):
        model.fill("Tom [MASK:24].", sampling=FAST)
    with pytest.raises(GenerationError, match=r"at most 6; 9 to 9 are allowed"):
        model.fill("[MASK:6]", lengths=9, sampling=FAST)
    with pytest.raises(GenerationError, match="none was given"):
        model.fill("Tom [MASK].", candidates=2)
    with pytest.raises(GenerationError, match="2 meanings were given for 1 text"):
        model.fill("Tom [MASK].", ["One.", "Two."])
    with pytest.raises(GenerationError, match="as texts and as vectors"):
        model.fill("Tom [MASK].", "One.", vectors=model.encode(["One."]))
    assert model.fill([]) == []


# --- the command -----------------------------------------------------------------------------------------


def call(*arguments: object, content: bytes | None = None):
    common = ["fill", "--checkpoint", "mini", "--device", "cpu", "--steps", "2"]
    return CliRunner().invoke(app, [*common, *map(str, arguments)], input=content)


@pytest.mark.slow
def test_the_command_writes_lines_or_json():
    texts = ["The [MASK:1] opened the [MASK:3] and left.", "She [MASK:1] the sea."]
    done = call(*texts, "--meaning", "a thief enters a house")
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"The (.+) opened the (.+) and left\.", lines[0])
    assert re.fullmatch(r"She (.+) the sea\.", lines[1])
    rows = [
        json.loads(line)
        for line in call(*texts, "--meaning", "a thief enters a house", "--json").stdout.splitlines()
    ]
    assert [row["text"] for row in rows] == lines
    assert [row["source"] for row in rows] == texts
    assert [len(row["blanks"]) for row in rows] == [2, 1]
    assert all(-1 <= row["cosine"] <= 1 for row in rows)
    (alone,) = [json.loads(line) for line in call(texts[1], "--json").stdout.splitlines()]
    assert alone["cosine"] is None


def test_a_weight_without_a_meaning_is_told():
    text = "She [MASK:1] the sea."
    assert "sample.cfg is not used" in call(text, "--cfg", 3).stderr
    for arguments in ((text,), (text, "--cfg", 3, "--meaning", "a sailor sees the land")):
        assert "sample.cfg" not in call(*arguments).stderr


def test_candidates_of_one_length_differ_in_their_blanks():
    asked = ("A [MASK] saw the [MASK].", "--meaning", "a sailor sees the land", "--length", 8)
    done = call(*asked, "--candidates", 4, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["encoder_calls"] == 4


def test_samples_that_could_not_differ_are_told():
    done = call("She closed the [MASK:1] of the house.", "-n", "3", "--temperature", "0.01")
    assert len(set(done.stdout.splitlines())) < 3
    assert "some of the 3 samples are alike" in done.stderr
    done = call("She closed the [MASK:4] of the house.", "-n", "3")
    assert len(set(done.stdout.splitlines())) == 3
    assert "alike" not in done.stderr


def test_the_canvas_is_shown_with_what_was_given():
    done = call("She [MASK:3] the sea.", "--watch")
    shown = [line for line in done.stderr.splitlines() if line.startswith(("1/2", "2/2"))]
    assert len(shown) == 2
    assert all("the sea." in line for line in shown)


def test_lines_that_cannot_be_filled_are_named_and_the_others_are_written():
    content = b"She [MASK:1] the sea.\nNothing.\nun[MASK]able\nThe [MASK:40].\n\nHe [MASK:1] home.\n"
    done = call("-", content=content)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["She", "He"]
    for said in ("Line 2 of standard input: There is no blank", "Line 3", "Line 4", "at most 32"):
        assert said in done.stderr
    assert isinstance(done.exception, DataError)
    assert str(done.exception).startswith("3 lines of standard input")


def test_the_command_refuses_before_it_writes_and_says_what_it_does_not_use():
    done = call("She [MASK:1] the sea.", "Nothing.")
    assert isinstance(done.exception, GenerationError)
    assert done.stdout == ""
    done = call("She [MASK:1] the sea.", "--refine", "2")
    assert done.exit_code == 0
    assert "sample.refine is not used in filling" in done.stderr
    assert isinstance(call("She [MASK] the sea.", "--length", "x").exception, ConfigError)
    assert isinstance(call("She [MASK] the sea.", "--length", "9-99").exception, GenerationError)
