"""Whether two encoders agree is asked in one way, and everywhere."""

import json
import shutil
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from conftest import write_json
from test_cli import call
from tiny_sgdd import as_set, build
from tiny_training import tiny

from sgdd_engine import SGDD
from sgdd_engine.checkpoint import Checkpoint, read_info, save_checkpoint
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.data.manifest import Manifest
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import open_source
from sgdd_engine.errors import CheckpointError, DataError, EncoderError
from sgdd_engine.evaluation.evaluate import evaluate
from sgdd_engine.events import StageProgress
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
    (keep_case, "its tokenizer differs"),
    (swap_pieces, "its tokenizer differs"),
    (lambda f: edit(f / "config.json", num_attention_heads=4), "its config.json differs"),
    (lambda f: edit(f / "config.json", hidden_act="relu"), "its config.json differs"),
    (lambda f: edit(f / "config.json", layer_norm_eps=0.1), "its config.json differs"),
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
    with pytest.raises(EncoderError, match="its tokenizer differs"):
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


def rescore(folder: Path) -> None:
    """One piece of a Unigram vocabulary is less likely than it was."""
    path = folder / "tokenizer.json"
    described = json.loads(path.read_text(encoding="utf-8"))
    described["model"]["vocab"][50][1] -= 0.5
    write_json(path, described)


def drop_a_layer(folder: Path) -> None:
    edit(folder / "config.json", num_hidden_layers=1)


# What was tried on encoders after training: each moves vectors.
AFTERWARDS = [
    ("tiny_encoder_folder", swap_pieces),
    ("tiny_encoder_folder", keep_case),
    ("tiny_encoder_folder", drop_a_layer),
    ("tiny_encoder_folder", without_normalisation),
    ("tiny_encoder_folder", lambda f: edit(f / "config.json", hidden_act="relu")),
    ("tiny_encoder_folder", lambda f: edit(f / "config.json", num_attention_heads=4)),
    ("tiny_encoder_folder", lambda f: edit(f / "config.json", layer_norm_eps=0.1)),
    ("tiny_encoder_folder", lambda f: edit(f / "config_sentence_transformers.json", **PROMPT)),
    ("tiny_encoder_folder", lambda f: edit(f / "sentence_bert_config.json", max_seq_length=20)),
    ("tiny_xlmr_folder", rescore),
    ("tiny_xlmr_folder", lambda f: edit(f / "config.json", pad_token_id=3)),
    ("tiny_xlmr_folder", lambda f: edit(f / "sentence_bert_config.json", do_lower_case=True)),
    ("tiny_xlmr_folder", lambda f: edit(f / "1_Pooling" / "config.json", pooling_mode="mean")),
]


@pytest.mark.faults
def test_an_encoder_that_was_changed_after_training(request, faults, sentences, tmp_path):
    for number, (name, change) in enumerate(AFTERWARDS):
        folder = Path(shutil.copytree(request.getfixturevalue(name), tmp_path / str(number)))
        encoder = load_encoder(EncoderConfig(name=str(folder)))
        reference, before = encoder.probe(), encoder.encode(sentences[:8])
        load_encoder_like(reference)
        change(folder)
        try:
            # Such as a pooling that is named in the reference too.
            same = torch.equal(load_encoder_like(reference).encode(sentences[:8]), before)
            outcome = "harmless" if same else "silent"
        except EncoderError as error:
            outcome = "found" if "is not the one that made the vectors" in error.message else "bug"
        faults.tell(outcome, f"change {number} of {name}")


# What hashes do not know of: references of earlier versions lack them, and libraries change.
UNHASHED = ("config_sha256", "tokenizer_sha256", "segmentation_sha256")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tiny_encoder_folder", keep_case),
        ("tiny_encoder_folder", drop_a_layer),
        ("tiny_encoder_folder", lambda f: edit(f / "config.json", num_attention_heads=4)),
        ("tiny_encoder_folder", lambda f: edit(f / "config.json", hidden_act="relu")),
    ],
)
def test_probe_sentences_are_encoded_again_on_loading(request, tmp_path, name, change):
    folder = Path(shutil.copytree(request.getfixturevalue(name), tmp_path / "encoder"))
    whole = load_encoder(EncoderConfig(name=str(folder))).probe()
    reference = replace(whole, **dict.fromkeys(UNHASHED))
    assert load_encoder_like(reference).truncated == 0
    change(folder)
    with pytest.raises(
        EncoderError, match=r'its vector of the probe sentence ".*" differs \(cosine'
    ) as caught:
        load_encoder_like(reference)
    assert "--set encoder.name=FOLDER" in caught.value.hint
    # Two references are compared without any encoder.
    other = replace(load_encoder(EncoderConfig(name=str(folder))).probe(), **dict.fromkeys(UNHASHED))
    assert "probe sentence" in other.differences(reference)[0]
    assert load_encoder_like(replace(reference, probes=None))


@pytest.mark.parametrize(
    "probes", [{}, {"a": "!"}, {"a": 3}, ["a"], {"a": "AAAA"}, {str(n): "" for n in range(99)}]
)
def test_probes_that_were_damaged_get_a_sentence(tiny_encoder, probes):
    with pytest.raises(EncoderError, match="probe sentences of the encoder's description are damaged"):
        load_encoder_like(replace(tiny_encoder.reference, probes=probes))


def test_probes_are_the_same_in_another_arithmetic_and_not_counted_as_text(tiny_encoder_folder, tiny_encoder):
    recorded = tiny_encoder.probe()
    for precision in ("bf16", "fp16"):
        other = load_encoder(EncoderConfig(name=str(tiny_encoder_folder), precision=precision))
        assert other.moved_probe(recorded) is None
        assert other.probe().differences(recorded) == []
    # Whether the encoder knows the language is judged by the first text that the user gives.
    with pytest.raises(EncoderError, match="does not know these texts"):
        other.encode(["αβγ δεζ ηθι κλμ νξο πρσ τυφ χψω " * 3])


def test_export_records_what_a_checkpoint_of_an_earlier_version_lacks(tiny_encoder, sentences, tmp_path):
    model = build(tiny_encoder, sentences[:4])
    lacks = replace(tiny_encoder.reference, **dict.fromkeys(LATER_FIELDS))
    info = replace(model.info, encoder=lacks)
    save_checkpoint(tmp_path / "old", Checkpoint(info, model.model, model.tokenizer))
    assert "probes" not in json.loads((tmp_path / "old" / "config.json").read_text())["encoder"]
    call("export", tmp_path / "old", tmp_path / "new", "--dtype", "fp32")
    encoder = read_info(tmp_path / "new").encoder
    assert len(encoder.probes) == 3
    assert encoder.tokenizer_sha256 == tiny_encoder.reference.tokenizer_sha256
    old, new = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("old", "new"))
    assert old == new
    loaded = SGDD.from_pretrained(tmp_path / "new", "cpu", encoder=tiny_encoder.reference.name)
    assert loaded.encode(sentences[:1]).shape == (1, 32)


@pytest.mark.parametrize("lazily", [False, True])
def test_an_encoder_that_changes_between_two_shards_is_noticed(copied, sentences, tmp_path, lazily):
    (tmp_path / "book.txt").write_text("\n".join(sentences), encoding="utf-8")
    config = DataConfig(validation_share=0.1, shard_sentences=256)
    load = load_encoder_lazily if lazily else load_encoder
    encoder = load(EncoderConfig(name=str(copied)))
    weights = copied / "model.safetensors"
    good, shards = weights.read_bytes(), []

    def on_event(event: object) -> None:
        """Write the weights in place where the second shard begins, as a program that fetches them again does."""
        if isinstance(event, StageProgress) and event.stage == "encoding":
            shards.append(event.note)
            if shards[-1] and weights.read_bytes() == good:
                with weights.open("rb+") as file:
                    file.seek(-400, 2)
                    file.write(bytes(400))

    def run(encoder) -> Manifest:
        source = open_source(str(tmp_path / "book.txt"), config)
        return prepare(
            source,
            tmp_path / "corpus",
            encoder=encoder,
            config=config,
            tokenizer=TokenizerConfig(),
            on_event=on_event,
        )

    with pytest.raises(EncoderError, match="were changed while they were in use"):
        run(encoder)
    assert not (tmp_path / "corpus" / "manifest.json").exists()
    with pytest.raises(DataError, match="its weights differ"):
        run(load_encoder(EncoderConfig(name=str(copied))))
    weights.write_bytes(good)
    shards.extend([""] * 100)
    good = b""
    assert run(load_encoder(EncoderConfig(name=str(copied)))).encoder["probes"]


def test_every_field_is_compared_but_those_that_name_a_place_or_round(tiny_encoder):
    reference = tiny_encoder.reference
    other = {str: "other", int: 7, bool: not reference.normalize}
    for field in fields(reference):
        value = getattr(reference, field.name)
        changed = replace(reference, **{field.name: other.get(type(value), "other")})
        # The number of parameters follows from the weights. WordPiece has no scores, and probes are compared by angle.
        silent = field.name in {"name", "revision", "dtype", "parameters", "segmentation_sha256", "probes"}
        assert len(changed.differences(reference)) == (0 if silent else 1), field.name


def test_what_an_older_version_did_not_record_is_no_difference(tiny_encoder):
    recorded = tiny_encoder.probe().to_dict()
    assert set(LATER_FIELDS) - {"segmentation_sha256"} <= recorded.keys()
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
    del older["sha256"]
    for name in LATER_FIELDS:
        older["encoder"].pop(name, None)
    # What references did not record at first is no part of a corpus's fingerprint.
    write_json(path, older)
    assert run().fingerprint() == made.fingerprint()
    made.write(tmp_path / "corpus")
    keep_case(copied)
    with pytest.raises(DataError, match="its tokenizer differs"):
        run()
