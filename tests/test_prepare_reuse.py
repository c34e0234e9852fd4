"""Preparation with vectors that another corpus holds."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_prepare import CONFIG, TOKENIZER, InterruptAt, contents
from typer.testing import CliRunner

from sgdd_cli.main import app
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.data.manifest import MANIFEST, SPLITS, Manifest
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import open_source
from sgdd_engine.data.vector_reuse import HashIndex, ReusableVectors
from sgdd_engine.errors import DataError
from sgdd_engine.events import Notice, StageFinished, StageStarted
from sgdd_engine.text.config import EncoderConfig, TokenizerConfig
from sgdd_engine.text.encoder import load_encoder, load_encoder_lazily
from sgdd_engine.text.probes import SENTENCES

OTHER_WORDS = TokenizerConfig(kind="unigram", vocab_size=200)


@pytest.fixture(scope="module")
def books(tmp_path_factory, sentences) -> dict[str, Path]:
    """A book of 800 sentences, and one of 1,000 that shares 600 with it."""
    folder = tmp_path_factory.mktemp("books")
    first = [*sentences, *(f"Yesterday {text}" for text in sentences)]
    second = [*first[200:], *(f"{text} And so on." for text in sentences)]
    paths = {"first": folder / "first.txt", "second": folder / "second.txt"}
    for path, rows in zip(paths.values(), (first, second), strict=True):
        path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return paths


@pytest.fixture
def run(books, tiny_encoder, tmp_path):
    def prepare_book(out, book="first", vectors_from=None, tokenizer=TOKENIZER, encoder=None, **others):
        taken = {} if vectors_from is None else {"vectors_from": str(vectors_from)}
        listening = {key: others.pop(key) for key in ("on_event", "overwrite") if key in others}
        config = replace(CONFIG, **taken, **others)
        source = open_source(str(books.get(book, book)), config)
        made_by = tiny_encoder if encoder is None else encoder
        return prepare(
            source, tmp_path / out, encoder=made_by, config=config, tokenizer=tokenizer, **listening
        )

    return prepare_book


@pytest.fixture(scope="module")
def origins(books, tiny_encoder, tmp_path_factory) -> dict[str, Path]:
    """The first book with its vectors in each type; only for looking at."""
    folders = {}
    for dtype in ("int8", "fp16", "fp32"):
        config = replace(CONFIG, embedding_dtype=dtype)
        folders[dtype] = tmp_path_factory.mktemp("origin") / dtype
        source = open_source(str(books["first"]), config)
        prepare(source, folders[dtype], encoder=tiny_encoder, config=config, tokenizer=TOKENIZER)
    return folders


@pytest.fixture
def without_weights(tiny_encoder_folder, tmp_path):
    """The tiny encoder, whose weights are gone once it is known which they are."""

    def known_once():
        folder = shutil.copytree(tiny_encoder_folder, tmp_path / "encoder", dirs_exist_ok=True)
        encoder = load_encoder_lazily(EncoderConfig(name=str(folder)))
        (folder / "model.safetensors").unlink()
        return encoder

    return known_once


def without_origin(folder: Path) -> dict[str, bytes]:
    """Every file; the manifest without its date, where its vectors came from, and where the encoder lay."""
    files = contents(folder)
    manifest = json.loads(files[MANIFEST])
    manifest["embedding"].pop("origin", None)
    del manifest["encoder"]["name"]
    return {**files, MANIFEST: json.dumps(manifest).encode()}


def vectors_of(folder: Path) -> dict[str, bytes]:
    """The vectors as they are stored, by their sentences."""
    result = {}
    for name in SPLITS:
        split = Corpus.open(folder).split(name)
        stored = split.stored(np.arange(len(split)))
        for row in range(len(split)):
            scale = b"" if stored.scale is None else stored.scale[row].tobytes()
            result[split.text(row)] = stored.values[row].tobytes() + scale
    return result


@pytest.mark.parametrize("dtype", ["int8", "fp16", "fp32"])
def test_the_same_corpus_from_its_own_vectors_is_the_same_bytes(
    run, origins, tmp_path, without_weights, dtype
):
    manifest = run("again", vectors_from=origins[dtype], encoder=without_weights, embedding_dtype=dtype)
    assert without_origin(tmp_path / "again") == without_origin(origins[dtype])
    first = Manifest.read(origins[dtype])
    assert manifest.embedding["origin"] == {"taken": {first.fingerprint(): 800}, "encoded": 0}
    assert manifest.fingerprint() == first.fingerprint()
    assert "origin" not in first.embedding
    assert not any(str(origins[dtype]) in json.dumps(value) for value in manifest.to_dict().values())


def test_another_vocabulary_and_a_longer_text_keep_the_vectors_of_what_is_shared(
    run, origins, tmp_path, tiny_encoder, monkeypatch
):
    encode, encoded = tiny_encoder.encode_parts, []
    monkeypatch.setattr(
        tiny_encoder, "encode_parts", lambda text, *rest: encoded.append(len(text)) or encode(text, *rest)
    )
    manifest = run("second", "second", origins["fp16"], OTHER_WORDS, validation_share=0.2)
    assert sum(size for size in encoded if size != len(SENTENCES)) == 400
    origin = Manifest.read(origins["fp16"])
    assert manifest.embedding["origin"] == {"taken": {origin.fingerprint(): 600}, "encoded": 400}
    before, now = vectors_of(origins["fp16"]), vectors_of(tmp_path / "second")
    shared = before.keys() & now.keys()
    assert len(shared) == 600
    assert {text: before[text] for text in shared} == {text: now[text] for text in shared}
    texts = sorted(now)
    expected = tiny_encoder.encode(texts)
    found = torch.stack([torch.from_numpy(np.frombuffer(now[text], np.float16).copy()) for text in texts])
    torch.testing.assert_close(found.float(), expected, atol=1e-3, rtol=1e-3)
    told = manifest.embedding
    lost = 1 - torch.cosine_similarity(found.double(), expected.double())
    assert 1 - told["cosine_mean"] == pytest.approx(float(lost.mean()), rel=0.1)
    assert told["cosine_lowest"] <= 1 - float(lost.max()) + 1e-9


@pytest.mark.slow
def test_what_was_too_long_for_the_origin_is_encoded(run, tmp_path):
    short = run("short", max_tokens=12)
    whole = run("whole")
    manifest = run("longer", vectors_from=tmp_path / "short")
    kept = short.counts["kept"]
    assert 0 < kept < 800
    assert manifest.embedding["origin"] == {"taken": {short.fingerprint(): kept}, "encoded": 800 - kept}
    assert manifest.counts == whole.counts
    shorter = run("shorter", vectors_from=tmp_path / "whole", max_tokens=12)
    assert without_origin(tmp_path / "shorter").keys() == without_origin(tmp_path / "short").keys()
    assert shorter.embedding["origin"]["encoded"] == 0


def test_finer_vectors_are_stored_as_if_they_came_from_the_encoder(run, origins, tmp_path):
    for dtype in ("int8", "fp16"):
        run(dtype, vectors_from=origins["fp32"], embedding_dtype=dtype)
        assert vectors_of(tmp_path / dtype) == vectors_of(origins[dtype])
        told, expected = (Manifest.read(f).embedding for f in (tmp_path / dtype, origins[dtype]))
        for key in ("cosine_mean", "cosine_lowest"):
            assert told[key] == pytest.approx(expected[key], abs=1e-12)


def test_vectors_that_were_rounded_twice_tell_what_both_cost(run, origins, tiny_encoder, tmp_path):
    told = run("twice", vectors_from=origins["fp16"], embedding_dtype="int8").embedding
    lost = []
    for name in SPLITS:
        split = Corpus.open(tmp_path / "twice").split(name)
        vectors = split.embeddings(np.arange(len(split))).double()
        expected = tiny_encoder.encode([split.text(row) for row in range(len(split))]).double()
        lost.append(1 - torch.cosine_similarity(vectors, expected))
    assert 1 - told["cosine_mean"] == pytest.approx(float(torch.cat(lost).mean()), rel=0.05)
    assert 1 - told["cosine_lowest"] == pytest.approx(float(torch.cat(lost).max()), rel=0.2)
    assert 1 - told["cosine_lowest"] >= float(torch.cat(lost).max())


@pytest.mark.parametrize(("stored", "wanted"), [("int8", "fp16"), ("int8", "fp32"), ("fp16", "fp32")])
def test_digits_that_are_gone_are_not_invented(run, origins, tmp_path, stored, wanted):
    with pytest.raises(DataError, match=f"stores its vectors as {stored}, and {wanted} would not") as caught:
        run("finer", vectors_from=origins[stored], embedding_dtype=wanted)
    assert f"--embedding-dtype {stored}" in caught.value.hint
    assert not (tmp_path / "finer").exists()


def test_a_folder_without_a_corpus_is_said_before_anything_is_loaded(run, tmp_path):
    def load():
        raise AssertionError("the encoder was loaded")

    with pytest.raises(DataError, match=r"no prepared corpus `.*nowhere`"):
        run("corpus", vectors_from=tmp_path / "nowhere", encoder=load)
    assert not (tmp_path / "corpus").exists()
    with pytest.raises(KeyboardInterrupt):
        run("half", on_event=InterruptAt("encoding", 3))
    with pytest.raises(DataError, match=r"`.*half` was not finished"):
        run("corpus", vectors_from=tmp_path / "half", encoder=load)
    for overwrite in (False, True):
        with pytest.raises(DataError, match="its own vectors"):
            run("half", vectors_from=tmp_path / "half", encoder=load, overwrite=overwrite)


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"pooling": "cls"}, "its pooling is mean, not cls", "leave --vectors-from out"),
        ({"precision": "bf16"}, "computed in float32, not bfloat16", "encoder.precision=fp32"),
        ({"max_tokens": 9}, "it reads 48 tokens of a text, not 9", "encoder.max_tokens=48"),
    ],
)
def test_another_encoder_is_refused_by_what_differs(
    run, origins, tmp_path, tiny_encoder_folder, changes, message, hint
):
    config = EncoderConfig(name=str(tiny_encoder_folder), **changes)
    with pytest.raises(DataError, match=message) as caught:
        run("corpus", vectors_from=origins["fp16"], encoder=lambda: load_encoder_lazily(config))
    assert hint in caught.value.hint
    assert not (tmp_path / "corpus").exists()


def test_other_weights_are_another_encoder_and_another_place_is_not(run, origins, tiny_xlmr, without_weights):
    with pytest.raises(DataError, match="its weights differ"):
        run("corpus", vectors_from=origins["fp16"], encoder=tiny_xlmr)
    assert run("corpus", vectors_from=origins["fp16"], encoder=without_weights).counts["kept"] == 800


def test_damaged_vectors_are_not_passed_on(run, origins, tmp_path):
    origin = shutil.copytree(origins["fp16"], tmp_path / "origin")
    shard = origin / Manifest.read(origin).shards[1].file
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DataError, match=f"{shard.name}` is damaged"):
        run("corpus", vectors_from=origin)
    assert not list((tmp_path / "corpus").glob("*.arrow"))
    run("corpus", vectors_from=origins["fp16"])
    assert without_origin(tmp_path / "corpus") == without_origin(origins["fp16"])


def test_sentences_that_the_encoder_cut_are_counted_again(run, origins, tiny_encoder_folder, tmp_path):
    config = EncoderConfig(name=str(tiny_encoder_folder), max_tokens=10)
    cut = run("cut", encoder=load_encoder(config)).embedding["truncated"]
    assert 0 < cut < 800
    again = run("again", vectors_from=tmp_path / "cut", encoder=load_encoder_lazily(config))
    assert again.embedding["truncated"] == cut
    assert without_origin(tmp_path / "again") == without_origin(tmp_path / "cut")


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 5])
def test_interrupted_it_goes_on_with_the_vectors_or_without(run, origins, tmp_path, number):
    run("undisturbed", "second", origins["fp16"])
    for name, then in (("with", origins["fp16"]), ("without", None)):
        with pytest.raises(KeyboardInterrupt):
            run(name, "second", origins["fp16"], on_event=InterruptAt("encoding", number))
        assert not (tmp_path / name / MANIFEST).exists()
        run(name, "second", then)
    assert contents(tmp_path / "with") == contents(tmp_path / "undisturbed")
    # What stood there was taken before the interruption; encoded again, it may differ in the last digit only.
    taken, alone = vectors_of(tmp_path / "with"), vectors_of(tmp_path / "without")
    for text, vector in taken.items():
        here, there = (np.frombuffer(v, np.float16).astype(np.float32) for v in (vector, alone[text]))
        np.testing.assert_allclose(here, there, atol=1e-3)


def test_a_complete_corpus_needs_its_origin_no_more(run, origins, tmp_path):
    origin = shutil.copytree(origins["fp16"], tmp_path / "origin")
    first = run("corpus", vectors_from=origin)
    shutil.rmtree(origin)
    events = []
    assert run("corpus", vectors_from=origin, on_event=events.append) == first
    assert run("corpus") == first
    assert [type(event) for event in events] == [Notice]


def test_the_origin_of_an_origin_is_passed_over(run, origins, tmp_path):
    second = run("second", vectors_from=origins["fp16"])
    third = run("third", vectors_from=tmp_path / "second")
    assert third.embedding == second.embedding
    assert contents(tmp_path / "third") == contents(tmp_path / "second")


def test_an_origin_that_does_not_know_what_storing_cost_is_taken_all_the_same(run, origins, tmp_path):
    origin = shutil.copytree(origins["int8"], tmp_path / "origin")
    manifest = Manifest.read(origin)
    kept = {key: value for key, value in manifest.embedding.items() if not key.startswith("cosine")}
    replace(manifest, embedding=kept).write(origin)
    again = run("corpus", vectors_from=origin, embedding_dtype="int8").embedding
    assert again.keys() == {"dim", "dtype", "truncated", "origin"}


def test_events_say_how_many_vectors_were_taken(run, origins):
    events = []
    run("corpus", "second", origins["fp16"], on_event=events.append)
    started = [event.stage for event in events if isinstance(event, StageStarted)]
    assert started == ["reading", "tokenizer", "vectors", "encoding"]
    said = {event.stage: event.summary for event in events if isinstance(event, StageFinished)}
    assert said["vectors"].endswith("holds those of 800 sentences.")
    assert said["encoding"].endswith("600 vectors were reused, 400 encoded.")


def test_reusable_vectors_are_those_of_their_sentences(origins):
    origin = Corpus.open(origins["int8"])
    reusable = ReusableVectors.from_corpus(origin)
    expected = vectors_of(origins["int8"])
    texts = sorted(expected, key=hash)
    rows = reusable.find([*texts, "This one is not there.", ""])
    assert rows[-2:].tolist() == [-1, -1]
    assert sorted(rows[:-2]) == list(range(800))
    found = reusable.vectors(rows[:-2])
    for row, text in enumerate(texts):
        assert found.values[row].tobytes() + found.scale[row].tobytes() == expected[text]


# Halves of a hash: many hashes share one, and some end in zero bytes.
half = st.sampled_from([bytes(8), bytes(7) + b"\1", b"\1" + bytes(7), b"\xff" * 8])


@given(st.lists(st.tuples(half, half), unique=True, min_size=1), st.lists(st.tuples(half, half)))
def test_hashes_are_found_also_where_they_share_a_half(rows, wanted):
    def hashes(pairs):
        return np.frombuffer(b"".join(map(b"".join, pairs)), "S16")

    found = HashIndex(hashes(rows)).find(hashes(wanted))
    assert found.tolist() == [rows.index(pair) if pair in rows else -1 for pair in wanted]


def test_the_command_takes_vectors_and_their_encoder_from_a_corpus(books, origins, tmp_path):
    out = tmp_path / "corpus"
    arguments = [books["second"], "--out", out, "--vectors-from", origins["fp16"], "--vocab-size", 200]
    settings = ["--set", "data.shard_sentences=256", "--device", "cpu"]
    result = CliRunner().invoke(app, ["prepare-data", *map(str, arguments), *settings])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out}\n"
    assert "600 vectors were reused, 400 encoded" in result.stderr.replace("\n", " ")
    manifest, origin = Manifest.read(out), Manifest.read(origins["fp16"])
    assert manifest.encoder == origin.encoder
    assert manifest.tokenizer["kind"] == "unigram"


def test_a_dry_run_says_where_vectors_would_come_from_and_refuses_what_cannot_be(books, origins, tmp_path):
    def dry(*arguments):
        given = ["prepare-data", books["second"], "--out", tmp_path / "corpus", "--dry-run", *arguments]
        return CliRunner().invoke(app, list(map(str, given)), env={"COLUMNS": "300"})

    done = dry("--vectors-from", origins["int8"], "--embedding-dtype", "int8")
    assert done.exit_code == 0, done.output
    assert str(origins["int8"]) in done.stdout
    assert not (tmp_path / "corpus").exists()
    assert isinstance(dry("--vectors-from", tmp_path / "nowhere").exception, DataError)
    assert isinstance(dry("--vectors-from", origins["int8"]).exception, DataError)


@pytest.mark.slow
def test_two_ranks_take_what_one_takes(run, books, origins, tmp_path, loaded_python):
    run("alone", "second", origins["fp16"], OTHER_WORDS)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "sgdd_cli"]
    arguments = ["prepare-data", books["second"], "--vectors-from", origins["fp16"], "--vocab-size", 200]
    more = ["--set", "data.shard_sentences=256", "--set", "data.validation_share=0.05", "--device", "cpu"]

    done = subprocess.run(
        [loaded_python, *launcher, *map(str, arguments), *more, "--out", str(tmp_path / "two")],
        env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "two") == contents(tmp_path / "alone")
