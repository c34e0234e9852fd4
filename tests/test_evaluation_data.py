"""Held-out sentences from text files and corpora: chosen by seed, aligned, counted, and refused when unfit."""

from dataclasses import replace

import pytest
import torch
from tiny_sgdd import build

from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import open_source
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.errors import DataError
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.evaluation.data import from_corpus, from_text_file
from sgdd_engine.evaluation.evaluate import evaluate
from sgdd_engine.evaluation.reconstruction import CONDITIONS
from sgdd_engine.events import Notice, StageFinished, StageProgress, StageStarted
from sgdd_engine.generation import SGDD
from sgdd_engine.text.config import TokenizerConfig
from sgdd_engine.text.tokenizer import TextTokenizer

PLAIN = SamplingConfig(cfg=1.0, steps=8)


@pytest.fixture(scope="module")
def untrained(tiny_encoder, sentences) -> SGDD:
    return build(tiny_encoder, sentences[:40])


def test_text_file_is_cleaned_filtered_chosen_and_counted(untrained, sentences, tmp_path):
    path = tmp_path / "held-out.txt"
    long = " ".join(["clock"] * 30)
    lines = [*(f"  {s}  " for s in sentences[:50]), sentences[0], "Too short", "12 34 56", "", long]
    path.write_text("\n".join(lines), encoding="utf-8")
    events = []
    data = from_text_file(path, untrained, limit=20, seed=1, on_event=events.append)
    assert len(data) == len(set(data.sentences)) == 20
    assert set(data.sentences) <= set(sentences[:50])
    assert data.origin["left_out"] == {"too_few_words": 1, "no_letters": 1, "empty": 1, "too_many_tokens": 1}
    assert data.origin["lines"] == 55
    (notice,) = (event.message for event in events if isinstance(event, Notice))
    assert "1 above data.max_tokens (24)" in notice
    assert [type(event) for event in events][1:] == [StageStarted, StageProgress, StageFinished]
    assert torch.allclose(data.vectors, untrained.encode(list(data.sentences)), atol=1e-6)
    assert [list(row) for row in data.token_ids] == untrained.tokenizer.encode_batch(list(data.sentences))

    path.write_text("\n".join(reversed(lines)), encoding="utf-8")
    assert from_text_file(path, untrained, limit=20, seed=1).sentences == data.sentences
    assert from_text_file(path, untrained, limit=20, seed=2).sentences != data.sentences
    assert len(from_text_file(path, untrained)) == 50


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"Hi\n\n1 2 3\n", "3 lines read.*shorter"),
        (b"a\x00b", "binary"),
        (b"a b \xff", "UTF-8"),
    ],
)
def test_unfit_text_file_is_refused_in_a_sentence(untrained, tmp_path, content, message):
    path = tmp_path / "held-out.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        from_text_file(path, untrained)
    assert str(path) in caught.value.message


def test_missing_text_file_is_refused(untrained, tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.txt"):
        from_text_file(tmp_path / "nowhere.txt", untrained)


@pytest.fixture(scope="module")
def corpus(tiny_encoder, sentences, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    text = folder / "text.txt"
    text.write_text("\n".join(sentences), encoding="utf-8")
    config = DataConfig(max_tokens=24)
    prepare(
        open_source(str(text), config),
        folder / "corpus",
        encoder=tiny_encoder,
        config=config,
        tokenizer=TokenizerConfig(),
    )
    return Corpus.open(folder / "corpus")


def test_corpus_choice_is_seeded_and_aligned(untrained, corpus):
    data = from_corpus(corpus, "validation", limit=7, seed=3)
    again, other = from_corpus(corpus, "validation", 7, 3), from_corpus(corpus, "validation", 7, 4)
    assert data.sentences == again.sentences != other.sentences
    assert len(data) == 7 < data.origin["available"]
    assert torch.allclose(data.vectors, untrained.encode(list(data.sentences)), atol=2e-3)
    assert [list(row) for row in data.token_ids] == untrained.tokenizer.encode_batch(list(data.sentences))
    found = evaluate(untrained, data, config=EvalConfig(nelbo_samples=1), sampling=PLAIN).to_dict()
    assert found["settings"]["data"]["split"] == "validation"


def test_skipped_sentences_are_those_that_the_limit_takes(corpus):
    first, second = from_corpus(corpus, "test", 3, 5), from_corpus(corpus, "test", 100, 5, skip=3)
    every = from_corpus(corpus, "test", 100, 5)
    assert set(first.sentences).isdisjoint(second.sentences)
    assert set(first.sentences) | set(second.sentences) == set(every.sentences)
    with pytest.raises(DataError, match=r"of which .* are scored"):
        from_corpus(corpus, "test", 3, 5, skip=len(every))


def test_rows_of_a_set_stay_aligned(corpus):
    data = from_corpus(corpus, "test", 6, 5)
    part = data.rows([4, 1])
    assert part.sentences == [data.sentences[4], data.sentences[1]]
    assert torch.equal(part.vectors, data.vectors[[4, 1]])
    assert part.token_ids == [data.token_ids[4], data.token_ids[1]]
    assert part.origin["chosen"] == len(part) == 2


def test_data_of_another_encoder_or_tokenizer_is_refused(untrained, tiny_xlmr, corpus):
    data = from_corpus(corpus, limit=4)
    for change, message in (
        ({"encoder": tiny_xlmr.reference}, "another encoder.*weights"),
        (
            {"encoder": replace(data.encoder, dim=384), "vectors": torch.zeros(4, 384)},
            "384 dimensions, not 32",
        ),
        ({"tokenizer_fingerprint": TextTokenizer.from_encoder(tiny_xlmr).fingerprint()}, "another tokenizer"),
    ):
        with pytest.raises(DataError, match=message) as caught:
            evaluate(untrained, replace(data, **change), sampling=PLAIN)
        assert str(corpus.folder) in caught.value.message
        assert "text file" in caught.value.hint


def test_sentences_that_the_model_cannot_write_are_left_out_and_said(untrained, corpus):
    data = from_corpus(corpus, limit=5)
    longer = replace(data, token_ids=[[5] * 25, *data.token_ids[1:]])
    events = []
    found = evaluate(
        untrained, longer, config=EvalConfig(nelbo_samples=1), sampling=PLAIN, on_event=events.append
    )
    assert found.sentences == 4
    assert found.settings["data"]["left_out"] == {"too_many_tokens": 1}
    assert any(isinstance(event, Notice) and "24 tokens" in event.message for event in events)
    assert {event.stage for event in events if isinstance(event, StageFinished)} == {
        "measuring the speed",
        *(f"writing from {CONDITIONS[name].label}" for name in ("true", "null")),
        "likelihood",
        "diversity",
    }
    with pytest.raises(DataError, match="at least 2"):
        evaluate(untrained, replace(data, token_ids=[[5] * 25] * 4 + [data.token_ids[4]]), sampling=PLAIN)
