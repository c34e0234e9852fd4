import errno
import io
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from filelock import FileLock
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from sgdd_engine.data import deduplicate, shards
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.data.deduplicate import MIN_SENTENCES, DistinctSentences, Group
from sgdd_engine.data.manifest import MANIFEST, WORK, Manifest
from sgdd_engine.data.prepare import describe_time, encoding_seconds, prepare
from sgdd_engine.data.shards import UNKNOWN, tokenise
from sgdd_engine.data.sources import StreamSource, open_source
from sgdd_engine.data.vectors import RunningStatistics, StoredVectors
from sgdd_engine.data.workspace import STATE
from sgdd_engine.errors import DataError, EncoderError
from sgdd_engine.events import Notice, StageFinished, StageProgress, StageStarted
from sgdd_engine.models.device import has_native_bf16
from sgdd_engine.text.config import EncoderConfig, TokenizerConfig
from sgdd_engine.text.encoder import load_encoder
from sgdd_engine.text.probes import SENTENCES
from sgdd_engine.text.tokenizer import TextTokenizer

CONFIG = DataConfig(shard_sentences=256, validation_share=0.05)
TOKENIZER = TokenizerConfig()


@pytest.fixture(scope="module")
def book(tmp_path_factory, sentences) -> Path:
    """1,200 distinct sentences, 400 of them twice, and some lines that must go."""
    path = tmp_path_factory.mktemp("book") / "book.txt"
    rows = [
        *sentences,
        *(f"Yesterday {text}" for text in sentences),
        *(f"{text} And so on." for text in sentences),
    ]
    rows += [*(f"  {text.replace(' ', '  ')}\t" for text in sentences), "", "No.", "1 2 3 4", "so " * 65]
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def run(book, tiny_encoder, tmp_path):
    def prepare_book(out="corpus", source=book, config=CONFIG, tokenizer=TOKENIZER, **others):
        others = {"encoder": tiny_encoder, **others}
        source = open_source(str(source), config)
        return prepare(source, tmp_path / out, config=config, tokenizer=tokenizer, **others)

    return prepare_book


@pytest.fixture(scope="module")
def whole(book, tiny_encoder, tmp_path_factory) -> Path:
    """The corpus of an undisturbed run; only for looking at."""
    out = tmp_path_factory.mktemp("whole") / "corpus"
    source = open_source(str(book), CONFIG)
    prepare(source, out, encoder=tiny_encoder, config=CONFIG, tokenizer=TOKENIZER)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    """Every file, the manifest without its date and its hash, which follows from that."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    manifest = json.loads(files[MANIFEST])
    del manifest["created"], manifest["sha256"]
    return {**files, MANIFEST: json.dumps(manifest).encode()}


class InterruptAt:
    """A listener that presses Ctrl-C at the n-th report of a stage."""

    def __init__(self, stage: str, number: int) -> None:
        self.stage, self.left = stage, number

    def __call__(self, event: object) -> None:
        if isinstance(event, StageProgress) and event.stage == self.stage:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


def test_a_corpus_holds_each_distinct_sentence_once_with_its_vector(whole, tiny_encoder, sentences):
    manifest = Manifest.read(whole)
    assert manifest.counts["read"] == 1604
    assert manifest.counts["left_out"] == {
        "duplicate": 400,
        "empty": 1,
        "too_few_words": 1,
        "no_letters": 1,
        "too_many_words": 1,
    }
    corpus = Corpus.open(whole)
    splits = {name: corpus.split(name) for name in ("train", "validation", "test")}
    texts = [split.text(index) for split in splits.values() for index in range(len(split))]
    assert len(texts) == len(set(texts)) == manifest.counts["kept"] == 1200
    assert set(sentences) < set(texts)
    assert manifest.splits == {"train": 960, "validation": 120, "test": 120}
    assert [shard.rows for shard in manifest.shards if shard.split == "train"] == [256, 256, 256, 192]
    split = splits["train"]
    rows = np.array([0, 300, 700, len(split) - 1])
    expected = tiny_encoder.encode([split.text(int(row)) for row in rows])
    torch.testing.assert_close(split.embeddings(rows), expected, atol=1e-3, rtol=1e-3)
    assert [split.tokens(int(row)) for row in rows] == corpus.tokenizer.encode_batch(
        [split.text(int(row)) for row in rows]
    )
    assert {path.name for path in (whole).iterdir()} == {
        MANIFEST,
        "statistics.safetensors",
        "tokenizer",
        *(shard.file for shard in manifest.shards),
    }


@pytest.mark.slow
def test_int8_vectors_come_back_near_and_their_effect_is_known(run, whole, tmp_path, tiny_encoder):
    manifest = run(config=replace(CONFIG, embedding_dtype="int8"))
    shard = Dataset.from_file(str(tmp_path / "corpus" / manifest.shards[0].file))
    assert set(shard.features) == {"text", "tokens", "embedding", "scale"}
    assert str(shard.data.schema.field("embedding").type.value_type) == "int8"
    del shard
    corpora = {"int8": Corpus.open(tmp_path / "corpus"), "fp16": Corpus.open(whole)}
    cosines = {}
    for dtype, corpus in corpora.items():
        parts = []
        for name in ("train", "validation", "test"):
            split = corpus.split(name)
            texts = [split.text(row) for row in range(len(split))]
            kept = split.embeddings(np.arange(len(split))).double()
            parts.append(torch.cosine_similarity(kept, tiny_encoder.encode(texts).double()))
        cosines[dtype] = torch.cat(parts)
        told = corpus.manifest.embedding
        assert told["dtype"] == dtype
        assert 1 - told["cosine_mean"] == pytest.approx(1 - float(cosines[dtype].mean()), rel=0.05)
        assert 1 - told["cosine_lowest"] == pytest.approx(1 - float(cosines[dtype].min()), rel=0.05)
    assert 0.999 < cosines["int8"].min() < cosines["fp16"].min() < 1
    text = [corpus.split("train").text(7) for corpus in corpora.values()]
    assert text[0] == text[1]


def test_statistics_of_int8_vectors_are_those_of_what_is_read(run, tmp_path):
    run(config=replace(CONFIG, embedding_dtype="int8"))
    corpus = Corpus.open(tmp_path / "corpus")
    train = corpus.split("train")
    vectors = train.embeddings(np.arange(len(train))).double()
    mean, std = corpus.statistics()
    torch.testing.assert_close(mean, vectors.mean(0).float())
    torch.testing.assert_close(std, vectors.std(0).float())


def test_datasets_opens_the_shards(whole):
    manifest = Manifest.read(whole)
    rows = Dataset.from_file(str(whole / manifest.shards[0].file))
    assert set(rows.features) == {"text", "tokens", "embedding"}
    assert len(rows[0]["embedding"]) == manifest.embedding["dim"]
    del rows  # Windows cannot delete a mapped file


@pytest.mark.parametrize("stop", [("encoding", 1), ("encoding", 6), ("encoding", 12)])
def test_interrupted_and_resumed_gives_the_same_bytes(run, whole, tmp_path, stop):
    with pytest.raises(KeyboardInterrupt):
        run("resumed", on_event=InterruptAt(*stop))
    assert not (tmp_path / "resumed" / MANIFEST).exists()
    with pytest.raises(DataError, match="was not finished"):
        Corpus.open(tmp_path / "resumed")
    run("resumed")
    assert contents(tmp_path / "resumed") == contents(whole)


@pytest.mark.slow
def test_finished_shards_are_not_encoded_again(run, tmp_path, tiny_encoder, monkeypatch):
    with pytest.raises(KeyboardInterrupt):
        run(on_event=lambda event: InterruptAt("encoding", 1)(event) if getattr(event, "note", "") else None)
    (shard,) = (tmp_path / "corpus").glob("*.arrow")
    shard.write_bytes(b"")  # a shard that a crash damaged is made again
    encode, encoded = tiny_encoder.encode_parts, []
    monkeypatch.setattr(
        tiny_encoder, "encode_parts", lambda text, *rest: encoded.append(len(text)) or encode(text, *rest)
    )
    with pytest.raises(KeyboardInterrupt):
        run(on_event=lambda event: InterruptAt("encoding", 1)(event) if getattr(event, "note", "") else None)
    # The first shard again; and the second was computed while it was written, but never stored.
    # Before and after each, the encoder's three probes.
    encoded[:] = [count for count in encoded if count != len(SENTENCES)]
    assert encoded == [256, 256]
    assert [path.name for path in (tmp_path / "corpus").glob("*.arrow")] == [shard.name]
    run()
    assert sum(count for count in encoded[2:] if count != len(SENTENCES)) == 1200 - 256


def test_an_interrupted_first_pass_starts_again(run, whole, tmp_path):
    def stop(event):
        if isinstance(event, StageFinished) and event.stage == "reading":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(on_event=stop)
    run()
    assert contents(tmp_path / "corpus") == contents(whole)


def test_a_complete_corpus_is_left_as_it_is(run, tmp_path):
    first = run()
    before = contents(tmp_path / "corpus")
    events = []
    assert run(on_event=events.append) == first
    assert [type(event) for event in events] == [Notice]
    assert contents(tmp_path / "corpus") == before


@pytest.mark.slow
@pytest.mark.parametrize("complete", [True, False])
def test_other_settings_are_refused_by_name_unless_overwritten(run, book, tmp_path, complete):
    if complete:
        run()
    else:
        with pytest.raises(KeyboardInterrupt):
            run(on_event=InterruptAt("encoding", 3))
    other = replace(CONFIG, max_tokens=12)
    with pytest.raises(DataError, match=r"data\.max_tokens was 64 and is now 12") as caught:
        run(config=other)
    assert "--overwrite" in caught.value.hint
    with pytest.raises(DataError, match=r'tokenizer\.kind was "encoder" and is now "unigram"'):
        run(tokenizer=TokenizerConfig(kind="unigram", vocab_size=100))
    changed = tmp_path / "elsewhere" / book.name
    changed.parent.mkdir()
    changed.write_bytes(book.read_bytes())
    run(source=changed)  # the same content in another place is the same source
    changed.write_bytes(book.read_bytes() + b"One more line here.\n")
    with pytest.raises(DataError, match=r"source.files .*book.txt.sha256 was"):
        run(source=changed)
    assert run(config=other, overwrite=True).max_tokens <= 12
    assert run(config=other).counts["left_out"]["too_many_tokens"] > 0


def test_overwriting_waits_until_source_and_encoder_are_there(run, whole, tmp_path):
    def fail():
        raise EncoderError("no such encoder")

    run()
    with pytest.raises(EncoderError):
        run(overwrite=True, encoder=fail)
    assert contents(tmp_path / "corpus") == contents(whole)


@pytest.mark.parametrize(
    "content", [b"", b"\n \n", b"One sentence only stands here.\n", b"Caf\xe9 au lait.\n" * 40]
)
def test_text_that_cannot_be_used_leaves_the_corpus_that_it_should_replace(run, whole, tmp_path, content):
    run()
    other = tmp_path / "other.txt"
    other.write_bytes(content)
    with pytest.raises(DataError):
        run(source=other, overwrite=True)
    assert contents(tmp_path / "corpus") == contents(whole)


@pytest.mark.slow
def test_standard_input_is_prepared_and_can_be_resumed(tmp_path, book, tiny_encoder):
    def run(**others):
        source = StreamSource("standard input", io.BytesIO(book.read_bytes()), CONFIG)
        out = tmp_path / "corpus"
        return prepare(source, out, encoder=tiny_encoder, config=CONFIG, tokenizer=TOKENIZER, **others)

    with pytest.raises(KeyboardInterrupt):
        run(on_event=InterruptAt("encoding", 4))
    assert run().counts["kept"] == 1200
    assert run() == run()
    assert run(overwrite=True).counts["kept"] == 1200
    assert not (tmp_path / "corpus" / ".preparing").exists()


def test_a_sentence_stays_in_its_split_when_the_corpus_grows(run, whole, tmp_path, sentences):
    few = tmp_path / "few.txt"
    few.write_text("".join(f"{text}\n" for text in sentences[:200]), encoding="utf-8")
    run("few", source=few)
    found = []
    for folder in (whole, tmp_path / "few"):
        splits = {part: Corpus.open(folder).split(part) for part in ("train", "validation", "test")}
        found.append({split.text(i): part for part, split in splits.items() for i in range(len(split))})
    pairs = Counter((found[0][text], part) for text, part in found[1].items())
    assert pairs[("validation", "test")] == pairs[("test", "validation")] == 0


def test_the_order_of_the_source_does_not_matter(run, book, whole, tmp_path):
    backwards = tmp_path / "backwards.txt"
    backwards.write_text("\n".join(reversed(book.read_text(encoding="utf-8").splitlines())), encoding="utf-8")
    run(source=backwards)
    texts = []
    for folder in (whole, tmp_path / "corpus"):
        split = Corpus.open(folder).split("validation")
        texts.append({split.text(index) for index in range(len(split))})
    assert texts[0] == texts[1]


@pytest.mark.slow
def test_a_vocabulary_is_trained_and_gives_the_text_back(run, tmp_path):
    wanted = TokenizerConfig(kind="unigram", vocab_size=150)
    manifest = run(tokenizer=wanted)
    run("again", tokenizer=wanted)
    assert contents(tmp_path / "corpus") == contents(tmp_path / "again")
    corpus = Corpus.open(tmp_path / "corpus")
    assert manifest.tokenizer["kind"] == "unigram"
    assert corpus.tokenizer.vocab_size == manifest.tokenizer["vocab_size"] <= 150
    split = corpus.split("validation")
    rows = range(0, len(split), 10)
    assert corpus.tokenizer.decode_batch([split.tokens(row) for row in rows]) == [
        split.text(row) for row in rows
    ]


def test_statistics_are_those_of_the_stored_training_vectors(whole):
    corpus = Corpus.open(whole)
    train = corpus.split("train")
    vectors = train.embeddings(np.arange(len(train))).double()
    mean, std = corpus.statistics()
    torch.testing.assert_close(mean, vectors.mean(0).float())
    torch.testing.assert_close(std, vectors.std(0).float())


def test_statistics_merge_as_if_computed_at_once_and_never_give_a_zero_deviation():
    vectors = np.random.default_rng(0).normal(100, 1e-2, (9000, 4))
    vectors[:, 3] = 0.25
    parts = [
        RunningStatistics.from_vectors(StoredVectors(part))
        for part in (vectors[:5000], vectors[5000:], vectors[:0])
    ]
    joined = parts[0].merged(parts[1]).merged(parts[2])
    np.testing.assert_allclose(joined.mean, vectors.mean(0), rtol=1e-12)
    np.testing.assert_allclose(joined.std()[:3], vectors.std(0, ddof=1)[:3], rtol=1e-9)
    assert joined.std()[3] == pytest.approx(joined.std().mean(), rel=0.5)
    assert (RunningStatistics.from_vectors(StoredVectors(np.ones((5, 2)))).std() == 1).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"\n\n", "leaves 0 distinct sentences of 2 lines"),
        (b"Hi.\n" * 50, "50 shorter than data.min_words"),
        (b"The same sentence again.\n" * 50, "leaves 1 distinct sentence of 50 lines.*49 duplicates"),
        (b"A good line here.\n\xff\xfe\n", "not UTF-8 text: line 2"),
    ],
)
def test_nothing_is_left_behind_when_a_source_is_no_good(run, tmp_path, data, message):
    (tmp_path / "bad.txt").write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        run(source=tmp_path / "bad.txt")
    assert "bad.txt" in caught.value.message
    assert not (tmp_path / "corpus").exists()


def test_nothing_is_left_behind_when_no_sentence_is_short_enough(run, tmp_path):
    with pytest.raises(DataError, match=r"1,200 above data.max_tokens \(2\)"):
        run(config=replace(CONFIG, max_tokens=2))
    assert not (tmp_path / "corpus").exists()


def test_nothing_is_left_behind_when_the_encoder_cannot_be_loaded(run, tmp_path):
    def fail():
        raise EncoderError("no such encoder")

    with pytest.raises(EncoderError):
        run(encoder=fail)
    assert not (tmp_path / "corpus").exists()


def test_a_corpus_of_twenty_sentences_has_something_in_every_split(run, tmp_path, sentences):
    (tmp_path / "few.txt").write_text("\n".join(sentences[:MIN_SENTENCES]), encoding="utf-8")
    assert run(source=tmp_path / "few.txt").splits == {"train": 16, "validation": 2, "test": 2}


@pytest.mark.slow
def test_buckets_too_large_for_memory_are_dealt_out_again(run, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(deduplicate, "_BUCKET_BYTES", 300)
    folders = []

    def look(event):
        if isinstance(event, StageFinished) and event.stage == "reading":
            names = [path.stem for path in (tmp_path / "corpus").rglob("*.txt")]
            folders.append(Counter(map(len, names)))
            # No bucket's name is the beginning of another's.
            assert not any(a != b and b.startswith(a) for a in names for b in names)

    manifest = run(on_event=look)
    assert folders[0][2] > 0
    assert folders[0][3] > 0
    first = Manifest.read(whole)
    assert (manifest.counts, manifest.splits) == (first.counts, first.splits)
    texts = [
        {split.text(row) for row in range(len(split))}
        for split in (Corpus.open(folder).split("test") for folder in (whole, tmp_path / "corpus"))
    ]
    assert texts[0] == texts[1]


def test_one_line_again_and_again_needs_no_memory(tmp_path, sentences, monkeypatch):
    monkeypatch.setattr(deduplicate, "_BUCKET_BYTES", 300)
    lines = [*sentences[:100], *[sentences[0]] * 1000]
    staged = deduplicate.deduplicate(lines, tmp_path / "staged", name="lines", config=CONFIG)
    assert staged.unique == 100
    assert sorted(deduplicate.read_distinct(tmp_path / "staged")) == sorted(sentences[:100])


def test_a_shard_that_cannot_be_written_stops_the_others(run, whole, tmp_path, monkeypatch):
    def fail(temporary, final):
        if final.name == "train-00001.arrow":
            raise OSError(errno.ENOSPC, "No space left on device")
        publish(temporary, final)

    publish = shards.publish
    monkeypatch.setattr(shards, "publish", fail)
    with pytest.raises(DataError, match="is full"):
        run()
    monkeypatch.setattr(shards, "publish", publish)
    assert [path.name for path in (tmp_path / "corpus").glob("*.arrow")] == ["train-00000.arrow"]
    run()
    assert contents(tmp_path / "corpus") == contents(whole)


def test_a_limit_bounds_the_lines_that_are_read(run):
    assert run(config=replace(CONFIG, limit=100)).counts["read"] == 100


def test_folders_with_other_things_in_them_are_left_alone(run, tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "thesis.doc").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(DataError, match=r"other files \(thesis.doc\)"):
            run(overwrite=overwrite)
    with pytest.raises(DataError, match="is a file"):
        run("corpus/thesis.doc")
    assert [path.name for path in (tmp_path / "corpus").iterdir()] == ["thesis.doc"]


def test_two_processes_cannot_write_one_corpus(run, tmp_path):
    (tmp_path / "corpus").mkdir()
    with FileLock(tmp_path / "corpus" / ".lock"), pytest.raises(DataError, match="by another process"):
        run()


def test_a_full_disk_is_said_and_loses_nothing(run, whole, tmp_path):
    def fill(event):
        if isinstance(event, StageProgress) and event.note == "train-00001":
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match="is full") as caught:
        run(on_event=fill)
    assert "same command again" in caught.value.hint
    run()
    assert contents(tmp_path / "corpus") == contents(whole)


def test_vectors_that_do_not_fit_the_stored_type_are_refused(run, tiny_encoder, monkeypatch):
    encode = tiny_encoder.encode_parts
    monkeypatch.setattr(
        tiny_encoder, "encode_parts", lambda *rest: ((rows, part * 1e6) for rows, part in encode(*rest))
    )
    with pytest.raises(DataError, match="not finite as fp16"):
        run()
    with pytest.raises(DataError, match=r"cannot be right: it has the length 1e\+06"):
        run("fp32", config=replace(CONFIG, embedding_dtype="fp32"))


def test_an_arithmetic_that_the_device_only_emulates_is_said(run, tmp_path, tiny_encoder_folder, sentences):
    few, events = tmp_path / "few.txt", []
    few.write_text("".join(f"{text}\n" for text in sentences[:50]), encoding="utf-8")
    bf16 = load_encoder(EncoderConfig(name=str(tiny_encoder_folder), precision="bf16"))
    assert run(source=few, encoder=bf16, on_event=events.append).encoder["dtype"] == "bfloat16"
    said = [event.message for event in events if isinstance(event, Notice) and event.warning]
    native = has_native_bf16(torch.device("cpu"))
    assert [text for text in said if "encoder.precision=fp32" in text] == said[: not native]


def test_everything_that_is_left_out_is_said_at_the_end(run):
    events = []
    counts = run(config=replace(CONFIG, max_tokens=12), on_event=events.append).counts
    long = counts["left_out"]["too_many_tokens"]
    assert 0 < long < 1200
    assert counts["read"] == counts["kept"] + sum(counts["left_out"].values())
    said = [event.message for event in events if isinstance(event, Notice)]
    (left_out,) = [text.splitlines() for text in said if "Left out" in text]
    assert left_out[0] == f"Left out of 1,604 lines: {sum(counts['left_out'].values()):,}:"
    assert left_out[1].startswith(f'  {long:,} above data.max_tokens (12), such as "')
    assert left_out[2].startswith('  400 duplicates, such as "')
    assert "  1 empty" in left_out
    # What the length leaves out is also said beforehand.
    (before,) = [event.message for event in events if isinstance(event, Notice) and event.warning]
    assert re.match(r"About \d+\.\d% of the sentences have more than 12 tokens", before)
    # Nothing is said to be all before it is.
    assert not any("left out" in event.summary for event in events if isinstance(event, StageFinished))


def test_one_huge_cell_is_left_out_and_leaves_a_short_example(run, tmp_path, sentences):
    huge = "and " + "1," * 2_200_000 + " then it rained"
    pq.write_table(pa.table({"text": [*sentences, huge]}), tmp_path / "rows.parquet")
    events = []
    stopped = InterruptAt("encoding", 1)
    with pytest.raises(KeyboardInterrupt):
        run(source=tmp_path / "rows.parquet", on_event=stopped)
    state = tmp_path / "corpus" / WORK / STATE
    assert state.stat().st_size < 20_000
    manifest = run(source=tmp_path / "rows.parquet", on_event=events.append)
    assert manifest.counts["left_out"] == {"long_word": 1}
    said = [event.message for event in events if isinstance(event, Notice)]
    assert any('1 with a word above 100 characters, such as "and 1,1,' in text for text in said)


def test_an_example_is_the_beginning_of_a_long_sentence(tiny_encoder):
    pieces = TextTokenizer.from_encoder(tiny_encoder)
    long, unknown = "the dog ran " * 500, "the dog ran home \u0d9a" + " and the dog ran" * 20
    group = Group("train", 0, [long, unknown])
    examples = tokenise(group, encoder=tiny_encoder, tokenizer=pieces, max_tokens=400).examples
    assert examples == {"too_many_tokens": long[:100], UNKNOWN: unknown[:100]}


@pytest.mark.parametrize("damage", ["cut off", "a folder"])
def test_a_state_that_cannot_be_read_is_refused_and_kept_until_overwritten(run, whole, tmp_path, damage):
    with pytest.raises(KeyboardInterrupt):
        run(on_event=InterruptAt("encoding", 1))
    state = tmp_path / "corpus" / WORK / STATE
    if damage == "a folder":
        state.unlink()
        state.mkdir()
    else:
        state.write_bytes(state.read_bytes()[:-20])
    before = sorted(path.name for path in (tmp_path / "corpus").rglob("*"))

    def fail():
        raise EncoderError("no such encoder")

    with pytest.raises(DataError, match=r"state\.json` cannot be read: .+\.$") as caught:
        run()
    assert "--overwrite" in caught.value.hint
    assert sorted(path.name for path in (tmp_path / "corpus").rglob("*")) == before
    with pytest.raises(EncoderError, match="no such encoder"):
        run(encoder=fail, overwrite=True)
    run(overwrite=True)
    assert contents(tmp_path / "corpus") == contents(whole)


def test_the_time_of_encoding_is_said_where_it_is_long(tiny_encoder):
    distinct, large = DistinctSentences(200_000, 100_000, {}, 0, 0), tiny_encoder.reference
    assert describe_time(30, distinct, large) == ""
    assert describe_time(600, distinct, large) == "Encoding 100,000 sentences will take about 10 minutes."
    said = describe_time(7200, distinct, large)
    assert "about 2 hours. In an hour: --limit 100000; or a smaller encoder: --encoder minilm." in said
    # The smallest encoder is not advised to whoever has it.
    assert "--limit 100000. Stopped" in describe_time(7200, distinct, replace(large, name="minilm"))


@pytest.mark.parametrize(("batch", "timed"), [(0.1, [16, 16, 64, 256]), (3.0, [16, 16])])
def test_the_time_of_encoding_is_that_of_full_batches_without_the_start(batch, timed, monkeypatch):
    """By a clock that moves while the encoder works alone: 9 s to start, `batch` s a call, 0.01 s a sentence."""
    asked: list[int] = []
    now = 0.0

    class Slow:
        def encode(self, texts):
            nonlocal now
            now += (0 if asked else 9) + batch + 0.01 * len(texts)
            asked.append(len(texts))

    monkeypatch.setattr("sgdd_engine.data.prepare.time.perf_counter", lambda: now)
    sample = ["a"] * 2000
    assert encoding_seconds(Slow(), sample, 20) == pytest.approx((9 + batch + 0.16) / 16 * 20)
    assert asked == [16]
    asked.clear()
    assert encoding_seconds(Slow(), sample, 10_000) == pytest.approx((batch / timed[-1] + 0.01) * 10_000)
    assert asked == timed
    # No more than there are.
    asked.clear()
    encoding_seconds(Slow(), sample[:20], 10_000)
    assert asked == [16, 16, *([20] if batch < 1 else [])]


def test_the_time_of_encoding_leaves_out_what_is_too_long(tiny_encoder, sentences, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "sgdd_engine.data.prepare.encoding_seconds",
        lambda encoder, sample, total: asked.append((set(sample), total)) or 0.0,
    )
    (tmp_path / "book.txt").write_text("\n".join([*sentences, *(" ".join([text] * 4) for text in sentences)]))
    config = DataConfig(max_tokens=24)
    prepare(
        open_source(str(tmp_path / "book.txt"), config),
        tmp_path / "corpus",
        encoder=tiny_encoder,
        config=config,
        tokenizer=TOKENIZER,
    )
    ((sample, total),) = asked
    assert sample == set(sentences)
    assert total == 400


def test_sentences_without_a_piece_of_the_vocabulary_are_a_reason_of_their_own(tiny_encoder):
    # A BPE vocabulary without an unknown piece drops what it does not know.
    names = {name: index for index, name in enumerate(["<s>", "</s>", "<mask>", "a", "b"])}
    ends = {"bos_token": "<s>", "eos_token": "</s>", "mask_token": "<mask>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(names, [])), **ends)
    group = Group("train", 0, ["abab", "ab", "\u6c49\u5b57", "a"])
    tokenizer = TextTokenizer.from_fast(fast)
    found = tokenise(group, encoder=tiny_encoder, tokenizer=tokenizer, max_tokens=3)
    assert found.texts == ["a", "ab"]
    assert (found.counts.too_long, found.counts.no_tokens, found.counts.tokens) == (1, 1, 3)


def test_events_tell_each_stage_and_never_count_backwards(run):
    events = []
    run(on_event=events.append)
    assert [event.stage for event in events if isinstance(event, StageStarted)] == [
        "reading",
        "tokenizer",
        "encoding",
    ]
    assert [event.stage for event in events if isinstance(event, StageFinished)] == [
        "reading",
        "tokenizer",
        "encoding",
    ]
    done = [event.done for event in events if isinstance(event, StageProgress) and event.stage == "encoding"]
    assert done == sorted(done)
    assert done[-1] == 1200


@pytest.mark.slow
def test_a_manifest_is_known_by_what_it_holds(run, book, whole, tmp_path):
    first = Manifest.read(whole)
    moved = tmp_path / book.name
    moved.write_bytes(book.read_bytes())
    second = run("two", source=moved)
    assert first.fingerprint() == second.fingerprint()
    assert run("three", config=replace(CONFIG, max_tokens=12)).fingerprint() != first.fingerprint()
    assert Manifest.read(tmp_path / "two") == second
