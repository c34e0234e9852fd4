"""Whether two encoders agree is asked in one way, and everywhere."""

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest
from conftest import write_json
from tiny_sgdd import as_set, build
from tiny_training import tiny

from sgdd_engine import SGDD
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.data.manifest import Manifest
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import open_source
from sgdd_engine.errors import CheckpointError, DataError, EncoderError
from sgdd_engine.evaluation.evaluate import evaluate
from sgdd_engine.text.config import EncoderConfig, TokenizerConfig
from sgdd_engine.text.encoder import load_encoder, load_encoder_lazily, load_encoder_like
from sgdd_engine.text.encoder_network import encoder_vocabulary
from sgdd_engine.text.reference import LATER_FIELDS, EncoderReference
from sgdd_engine.text.tokenizer import TextTokenizer
from sgdd_engine.training.loop import train


@pytest.fixture
def copied(tiny_encoder_folder, tmp_path):
    """A copy of the tiny BERT's folder that a test may change."""
    return Path(shutil.copytree(tiny_encoder_folder, tmp_path / "encoder"))


def edit(path: Path, **changes: object) -> None:
    values = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    write_json(path, values | changes)


def swap_pieces(folder: Path) -> None:
    """Two words of the vocabulary change places."""
    path = folder / "tokenizer.json"
    described = json.loads(path.read_text(encoding="utf-8"))
    words = described["model"]["vocab"]
    words["found"], words["sold"] = words["sold"], words["found"]
    write_json(path, described)


def keep_case(folder: Path) -> None:
    path = folder / "tokenizer.json"
    described = json.loads(path.read_text(encoding="utf-8"))
    described["normalizer"]["lowercase"] = False
    write_json(path, described)


def without_normalisation(folder: Path) -> None:
    write_json(folder / "modules.json", json.loads((folder / "modules.json").read_text())[:2])


PROMPT = {"prompts": {"query": "a letter: "}, "default_prompt_name": "query"}
CHANGES = [
    (lambda f: edit(f / "config_sentence_transformers.json", **PROMPT), "its prompt is 'a letter: ', not ''"),
    (lambda f: edit(f / "config_sentence_transformers.json", truncate_dim=8), "8 dimensions, not 32"),
    (
        lambda f: edit(f / "sentence_bert_config.json", max_seq_length=20),
        "it reads 20 tokens of a text, not 48",
    ),
    (without_normalisation, "its vectors are not normalised"),
    (keep_case, "its tokenizer is another"),
    (swap_pieces, "its tokenizer is another"),
    (lambda f: edit(f / "config.json", num_attention_heads=4), "its config.json is another"),
    (lambda f: edit(f / "config.json", hidden_act="relu"), "its config.json is another"),
    (lambda f: edit(f / "config.json", layer_norm_eps=0.1), "its config.json is another"),
]


@pytest.mark.parametrize(("change", "told"), CHANGES)
@pytest.mark.parametrize("load", [load_encoder, load_encoder_lazily])
def test_what_changes_a_vector_is_noticed(copied, tiny_encoder, change, told, load):
    change(copied)
    (difference,) = load(EncoderConfig(name=str(copied))).reference.differences(tiny_encoder.reference)
    assert told in difference


@pytest.mark.parametrize(("change", "told"), CHANGES)
def test_it_is_noticed_when_the_encoder_of_a_model_is_loaded(copied, sentences, change, told):
    reference = load_encoder(EncoderConfig(name=str(copied))).reference
    change(copied)
    with pytest.raises(EncoderError, match="is not the one that made the vectors") as caught:
        load_encoder_like(reference)
    assert told in caught.value.message


def test_lower_casing_before_the_tokenizer_is_noticed(tiny_xlmr_folder, tmp_path):
    folder = Path(shutil.copytree(tiny_xlmr_folder, tmp_path / "cased"))
    reference = load_encoder(EncoderConfig(name=str(folder))).reference
    edit(folder / "sentence_bert_config.json", do_lower_case=True)
    with pytest.raises(EncoderError, match="its tokenizer is another"):
        load_encoder_like(reference)


def test_the_vocabulary_is_lower_cased_too_where_it_is_read_without_weights(tiny_xlmr_folder, tmp_path):
    folder = Path(shutil.copytree(tiny_xlmr_folder, tmp_path / "cased"))
    edit(folder / "sentence_bert_config.json", do_lower_case=True)
    config = EncoderConfig(name=str(folder))
    vocabulary = TextTokenizer.from_encoder(load_encoder(config))
    assert vocabulary.lowercase
    assert encoder_vocabulary(config).fingerprint() == vocabulary.fingerprint()


def test_a_pooling_that_was_asked_for_is_a_difference(tiny_encoder_folder, tiny_encoder):
    other = load_encoder(EncoderConfig(name=str(tiny_encoder_folder), pooling="cls")).reference
    assert other.differences(tiny_encoder.reference) == ["its pooling is cls, not mean"]


def test_what_changes_no_vector_is_no_difference(copied, tiny_encoder, tmp_path, sentences):
    edit(copied / "config.json", transformers_version="4.0.0", torch_dtype="float32", classifier_dropout=0.3)
    edit(copied / "tokenizer_config.json", clean_up_tokenization_spaces=False)
    edit(copied / "config_sentence_transformers.json", similarity_fn_name="cosine")
    (copied / "README.md").write_text("A tiny encoder.")
    moved = copied.rename(tmp_path / "moved")
    encoder = load_encoder(EncoderConfig(name=str(moved), precision="bf16"))
    assert encoder.reference.differences(tiny_encoder.reference) == []
    assert load_encoder_like(tiny_encoder.reference.at(moved)).reference.name == str(moved)


def test_every_field_is_compared_but_those_that_name_a_place_or_round(tiny_encoder):
    reference = tiny_encoder.reference
    other = {str: "other", int: 7, bool: not reference.normalize}
    for field in fields(reference):
        value = getattr(reference, field.name)
        changed = replace(reference, **{field.name: other.get(type(value), "other")})
        # The number of parameters follows from the weights.
        silent = field.name in {"name", "revision", "dtype", "parameters"}
        assert len(changed.differences(reference)) == (0 if silent else 1), field.name


def test_what_an_older_version_did_not_record_is_no_difference(tiny_encoder):
    recorded = tiny_encoder.reference.to_dict()
    assert set(LATER_FIELDS) <= recorded.keys()
    older = EncoderReference.from_dict({k: v for k, v in recorded.items() if k not in LATER_FIELDS})
    assert older.differences(tiny_encoder.reference) == tiny_encoder.reference.differences(older) == []
    assert load_encoder_like(older).reference == tiny_encoder.reference
    assert older.to_dict().keys().isdisjoint(LATER_FIELDS)
    assert replace(older, pooling="cls").differences(tiny_encoder.reference)


# --- everywhere -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus(tiny_corpus_folder):
    return Corpus.open(tiny_corpus_folder)


def with_encoder(corpus: Corpus, **changes: object) -> Corpus:
    """The corpus as if its vectors had been made otherwise."""
    return Corpus(corpus.folder, replace(corpus.manifest, encoder=corpus.manifest.encoder | changes))


OTHERWISE = [
    ({"pooling": "cls"}, "its pooling is cls, not mean"),
    ({"normalize": False}, "not normalised"),
    ({"prompt": "query: "}, "prompt"),
    ({"tokenizer_sha256": "0" * 64}, "tokenizer"),
]


@pytest.fixture(scope="module")
def first(corpus, tmp_path_factory):
    run = tmp_path_factory.mktemp("first") / "run"
    train(corpus, run, tiny(max_steps=1), device="cpu")
    return run


@pytest.mark.parametrize(("changes", "told"), OTHERWISE)
def test_training_does_not_start_from_a_model_of_another_encoder(corpus, first, tmp_path, changes, told):
    with pytest.raises(CheckpointError, match="another encoder") as caught:
        train(with_encoder(corpus, **changes), tmp_path / "run", tiny(start_from=str(first)), device="cpu")
    assert told in caught.value.message


def test_training_starts_from_a_model_where_the_corpus_is_of_an_older_version(corpus, first, tmp_path):
    recorded = {name: value for name, value in corpus.manifest.encoder.items() if name not in LATER_FIELDS}
    older = Corpus(corpus.folder, replace(corpus.manifest, encoder=recorded))
    train(older, tmp_path / "run", tiny(start_from=str(first), max_steps=1), device="cpu")
    loaded = SGDD.from_pretrained(tmp_path / "run", "cpu")
    assert loaded.encoder_reference.prompt is None
    assert loaded.encode(["Tom sold a letter."]).shape == (1, 32)


@pytest.mark.parametrize(("changes", "told"), OTHERWISE)
def test_an_evaluation_takes_no_vectors_of_another_encoder(tiny_encoder, sentences, changes, told):
    model = build(tiny_encoder, sentences[:4])
    data = as_set(model, sentences[:4])
    with pytest.raises(DataError, match=told):
        evaluate(model, replace(data, encoder=replace(data.encoder, **changes)))


def test_a_preparation_goes_on_with_the_same_encoder_alone(copied, sentences, tmp_path):
    (tmp_path / "book.txt").write_text("\n".join(sentences), encoding="utf-8")
    config = DataConfig(validation_share=0.1)

    def run() -> Manifest:
        return prepare(
            open_source(str(tmp_path / "book.txt"), config),
            tmp_path / "corpus",
            encoder=load_encoder(EncoderConfig(name=str(copied))),
            config=config,
            tokenizer=TokenizerConfig(),
        )

    made = run()
    path = tmp_path / "corpus" / "manifest.json"
    older = json.loads(path.read_text(encoding="utf-8"))
    for name in LATER_FIELDS:
        del older["encoder"][name]
    # What references did not record at first is no part of a corpus's fingerprint.
    write_json(path, older)
    assert run().fingerprint() == made.fingerprint()
    write_json(path, made.to_dict())
    keep_case(copied)
    with pytest.raises(DataError, match="its tokenizer is another"):
        run()
