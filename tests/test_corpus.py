import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file
from test_cli import call

from sgdd_engine.atomic_files import sha256_of
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.corpus import Corpus, ExactLengthBatches
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import open_source
from sgdd_engine.data.vector_reuse import ReusableVectors
from sgdd_engine.errors import DataError
from sgdd_engine.text.config import TokenizerConfig
from sgdd_engine.verified_files import is_intact, remember_in


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, sentences, tiny_encoder):
    place = tmp_path_factory.mktemp("book")
    rows = [*sentences, *(f"Yesterday {text}" for text in sentences)]
    (place / "book.txt").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    config = DataConfig(shard_sentences=256)
    prepare(
        open_source(str(place / "book.txt"), config),
        place / "corpus",
        encoder=tiny_encoder,
        config=config,
        tokenizer=TokenizerConfig(),
    )
    return place / "corpus"


@pytest.fixture
def folder(prepared, tmp_path):
    """A copy of a corpus that a test may change."""
    return Path(shutil.copytree(prepared, tmp_path / "corpus"))


def test_a_batch_gathers_the_rows_it_names_across_shards(folder):
    split = Corpus.open(folder).split("train")
    assert split.lengths.dtype == np.int32
    assert len(split.lengths) == len(split)
    batches = ExactLengthBatches(split.lengths, batch_tokens=200, seed=0)
    for position in range(len(batches)):
        rows = batches.batch(position)
        tokens, vectors = split.batch(rows)
        assert (tokens.dtype, vectors.dtype) == (torch.int64, torch.float32)
        assert tokens.tolist() == [split.tokens(int(row)) for row in rows]
        torch.testing.assert_close(vectors, split.embeddings(rows), rtol=0, atol=0)
        torch.testing.assert_close(vectors[0], split.embeddings(rows[:1])[0], rtol=0, atol=0)


def test_a_batch_is_a_copy_that_may_be_changed(folder):
    split = Corpus.open(folder).split("train")
    rows = np.flatnonzero(split.lengths == split.lengths[0])[:3]
    tokens, vectors = split.batch(rows)
    before = tokens.clone(), vectors.clone()
    tokens.zero_()
    vectors.zero_()
    again = split.batch(rows)
    assert torch.equal(again[0], before[0])
    assert torch.equal(again[1], before[1])


def test_views_share_the_mapped_file(folder):
    split = Corpus.open(folder).split("train")
    assert len(split._segments) == 3
    for segment in split._segments:
        for view in (segment.tokens, segment.starts, segment.embeddings.values):
            assert not view.flags.owndata
            assert not view.flags.writeable


@pytest.mark.parametrize("dtype", ["int8", "fp32"])
def test_stored_numbers_are_read_where_they_lie_and_gathered_as_float32(
    dtype, tmp_path, sentences, tiny_encoder
):
    (tmp_path / "book.txt").write_text("\n".join(sentences), encoding="utf-8")
    config = DataConfig(embedding_dtype=dtype)
    source = open_source(str(tmp_path / "book.txt"), config)
    prepare(source, tmp_path / "corpus", encoder=tiny_encoder, config=config, tokenizer=TokenizerConfig())
    split = Corpus.open(tmp_path / "corpus").split("train")
    (segment,) = split._segments
    assert segment.embeddings.values.dtype == np.dtype("int8" if dtype == "int8" else "float32")
    views = [segment.embeddings.values]
    views += [] if segment.embeddings.scale is None else [segment.embeddings.scale]
    assert len(views) == (2 if dtype == "int8" else 1)
    assert not any(view.flags.owndata or view.flags.writeable for view in views)
    rows = np.flatnonzero(split.lengths == split.lengths[5])[::-1].copy()
    _, vectors = split.batch(rows)
    assert vectors.dtype == torch.float32
    assert torch.equal(vectors, split.embeddings(rows))
    expected = tiny_encoder.encode([split.text(int(row)) for row in rows])
    torch.testing.assert_close(vectors, expected, atol=3e-3 if dtype == "int8" else 1e-6, rtol=0)


def test_opening_a_corpus_and_gathering_from_it_imports_no_pandas(folder):
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from sgdd_engine.data.corpus import Corpus\n"
        "split = Corpus.open(Path(sys.argv[1])).split('train')\n"
        "_, vectors = split.batch(np.flatnonzero(split.lengths == split.lengths[0])[:1])\n"
        "assert len(vectors) == 1\n"
        "assert 'pyarrow' in sys.modules and 'pandas' not in sys.modules, 'loaded'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_gathering_takes_steps_for_each_segment_and_none_for_each_row(folder, python_steps):
    split = Corpus.open(folder).split("train")
    common = np.bincount(split.lengths).argmax()
    shards = np.split(np.arange(len(split)), split._bounds[1:-1])
    rows = [shard[split.lengths[shard] == common] for shard in shards]
    assert [len(part) > 10 for part in rows] == [True] * 3
    for chosen in (rows[:1], rows[1:], rows):
        many, few = np.concatenate(chosen), np.array([part[0] for part in chosen])
        split.batch(few)
        assert python_steps(lambda: split.batch(many)) == python_steps(lambda: split.batch(few))  # noqa: B023


def test_rows_outside_a_split_and_unknown_splits_are_refused(folder):
    corpus = Corpus.open(folder)
    split = corpus.split("test")
    for index in (-1, len(split)):
        with pytest.raises(IndexError):
            split.text(index)
    with pytest.raises(DataError, match="no split `dev`"):
        corpus.split("dev")


def test_a_corpus_knows_its_encoder_tokenizer_and_sizes(folder, tiny_encoder):
    corpus = Corpus.open(folder)
    assert corpus.embedding_dim == tiny_encoder.dim
    assert corpus.encoder_reference == tiny_encoder.reference
    assert corpus.tokenizer.fingerprint() == corpus.manifest.tokenizer["fingerprint"]
    assert corpus.max_tokens == max(
        corpus.split(name).lengths.max() for name in ("train", "validation", "test")
    )
    corpus.verify()


def test_folders_that_are_no_corpus_get_a_sentence(tmp_path):
    with pytest.raises(DataError, match="There is no prepared corpus"):
        Corpus.open(tmp_path / "missing")
    with pytest.raises(DataError, match=r"not a prepared corpus: it has no manifest\.json") as caught:
        Corpus.open(tmp_path)
    assert "sgdd prepare-data" in caught.value.hint
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="not a prepared corpus"):
        Corpus.open(tmp_path / "file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "format version None"),
        ('{"format_version": 99}', "format version 99"),
        ('{"format_version": 1}', "lacks counts, created"),
    ],
)
def test_a_damaged_manifest_gets_a_sentence(folder, content, message):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(DataError, match=message):
        Corpus.open(folder)


def test_damaged_files_are_found(folder):
    corpus = Corpus.open(folder)
    shard = folder / corpus.manifest.shards[0].file
    data = shard.read_bytes()
    shard.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(DataError, match="SHA-256 differs"):
        Corpus.open(folder).verify()
    with pytest.raises(DataError, match="SHA-256 differs"):
        Corpus.open(folder).split(corpus.manifest.shards[0].split)
    shard.write_bytes(data[:-5])
    with pytest.raises(DataError, match="bytes instead of"):
        Corpus.open(folder)
    shard.unlink()
    with pytest.raises(DataError, match="is missing"):
        Corpus.open(folder)


def without_hashes(folder, **changes):
    """A manifest as earlier versions wrote it, with some changes."""
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    del manifest["sha256"], manifest["files"]
    (folder / "manifest.json").write_text(json.dumps(manifest | changes), encoding="utf-8")


def test_damaged_statistics_and_foreign_tokenizers_are_found(folder):
    statistics = folder / "statistics.safetensors"
    good = statistics.read_bytes()
    statistics.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(DataError, match=r"statistics\.safetensors` is damaged: its SHA-256 differs"):
        Corpus.open(folder)
    without_hashes(folder)
    for mean, std, told in [
        (torch.zeros(7), torch.ones(7), "not hold statistics of 32 dimensions"),
        (torch.zeros(32), torch.zeros(32), "numbers that cannot be right"),
        (torch.full((32,), torch.nan), torch.ones(32), "numbers that cannot be right"),
    ]:
        save_file({"mean": mean, "std": std}, statistics)
        with pytest.raises(DataError, match=told):
            Corpus.open(folder)
    statistics.write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"statistics\.safetensors` is missing or damaged"):
        Corpus.open(folder)
    statistics.write_bytes(good)
    foreign = Corpus.open(folder).manifest.tokenizer | {"fingerprint": "0" * 64}
    replace(Corpus.open(folder).manifest, tokenizer=foreign).write(folder)
    with pytest.raises(DataError, match="not the tokenizer that made this corpus"):
        _ = Corpus.open(folder).tokenizer


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("max_tokens", "many"),
        ("embedding", {"dim": -3, "dtype": "fp16"}),
        ("embedding", {"dim": 32, "dtype": ["fp16"]}),
        ("splits", {"train": 3}),
        ("shards", [{"file": "../x.arrow", "split": "train", "rows": 1, "bytes": 1, "sha256": ""}]),
        ("tokenizer", {}),
    ],
)
def test_values_of_a_manifest_that_cannot_be_used_are_named(folder, key, value):
    without_hashes(folder, **{key: value})
    with pytest.raises(DataError, match=f"(an impossible value of `|The manifest\\.){key}"):
        Corpus.open(folder)


def test_a_value_of_the_manifest_that_was_changed_is_found(folder):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(manifest, indent=1, sort_keys=True))
    Corpus.open(folder)
    path.write_text(json.dumps(manifest | {"max_tokens": manifest["max_tokens"] + 1}))
    with pytest.raises(DataError, match="another SHA-256 than it says"):
        Corpus.open(folder)


def test_a_corpus_of_an_earlier_version_is_read(folder):
    before = Corpus.open(folder)
    without_hashes(folder)
    after = Corpus.open(folder)
    assert after.manifest.fingerprint() == before.manifest.fingerprint()
    assert len(after.split("train")) == len(before.split("train"))
    assert [one.name for one in after.verify() if not one.hashed] == [
        "manifest.json",
        "statistics.safetensors",
    ]
    assert all(one.hashed for one in before.verify())
    assert {one.name for one in before.verify()} >= {"tokenizer/tokenizer.json", "train-00000.arrow"}


def with_content(folder, change):
    """A corpus of which one shard holds something else, with the hash of what it now holds."""
    corpus = Corpus.open(folder)
    shard = corpus.manifest.shards[0]
    path = folder / shard.file
    with pa.memory_map(str(path)) as source:
        table = pa.ipc.open_stream(source).read_all()
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    table = pa.table({**columns, **change(columns)})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    rest = corpus.manifest.shards[1:]
    changed = replace(shard, bytes=path.stat().st_size, sha256=sha256_of(path))
    replace(corpus.manifest, shards=(changed, *rest)).write(folder)
    return Corpus.open(folder)


def vectors(change):
    def changed(columns):
        values = columns["embedding"].values.to_numpy().reshape(-1, 32).copy()
        change(values)
        return {"embedding": pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), 32)}

    return changed


def tokens(change):
    def changed(columns):
        values, starts = (
            part.to_numpy().copy() for part in (columns["tokens"].values, columns["tokens"].offsets)
        )
        change(values, starts)
        return {"tokens": pa.ListArray.from_arrays(starts, pa.array(values))}

    return changed


def one_empty_cell(columns):
    values = columns["embedding"].values.to_pylist()
    values[7] = None
    return {"embedding": pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float16()), 32)}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (one_empty_cell, r"is damaged: cells of it are empty\.$"),
        (vectors(lambda v: v[3].fill(np.nan)), "that of .* is not finite"),
        (vectors(lambda v: v[3, 2:3].fill(np.inf)), "that of .* is not finite"),
        (vectors(lambda v: v[3].fill(0)), "that of .* is zero"),
        (vectors(lambda v: np.multiply(v[3], 4, out=v[3])), "that of .* has the length 4 where 1 is usual"),
        (vectors(lambda v: np.multiply(v, 1e-6, out=v)), "that of .* has the length"),
        (tokens(lambda t, _: t[5:6].fill(10_000)), "a token that is none of the"),
        (tokens(lambda t, _: t[5:6].fill(-1)), "a token that is none of the"),
        (tokens(lambda _, s: s[1:2].fill(0)), "a sentence that is empty or has more"),
    ],
)
def test_content_that_no_preparation_writes_is_found_though_its_hash_is_right(folder, change, told):
    corpus = with_content(folder, change)
    with pytest.raises(DataError, match=told):
        corpus.split(corpus.manifest.shards[0].split)
    with pytest.raises(DataError, match=told):
        ReusableVectors.from_corpus(corpus)


@pytest.mark.slow
def test_a_file_is_read_once_a_day_and_again_where_anything_of_it_changed(tmp_path):
    path, read = tmp_path / "file", []
    path.write_bytes(b"content")
    right = sha256_of(path)

    def check(file=path):
        read.append(file)

    def intact(**options):
        before = len(read)
        return is_intact(path, right, check, **options), len(read) - before

    remember_in(tmp_path / "cache")
    try:
        assert intact() == (True, 1)
        # So new a file may be written again without a trace, and is not remembered.
        assert intact() == (True, 1)
        wait_until_settled(path)
        assert [intact(), intact(), intact(again=True)] == [(True, 1), (True, 0), (True, 1)]
        remember_in(tmp_path / "cache")  # as another process
        assert intact() == (True, 0)
        (store,) = (tmp_path / "cache").iterdir()
        known = json.loads(store.read_text())
        for when in (0, time.time() + 3600):  # long ago; a clock that was wrong
            store.write_text(json.dumps({key: [found, when] for key, (found, _) in known.items()}))
            remember_in(tmp_path / "cache")
            assert intact() == (True, 1)
        for text in ("", "[]", "{", '{"a": 1}', json.dumps({key: ["0" * 64, time.time()] for key in known})):
            store.write_text(text)
            remember_in(tmp_path / "cache")
            assert intact() == (True, 1)
        times = path.stat()
        path.write_bytes(b"c0ntent")
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert intact() == (False, 0)
        remember_in(tmp_path / "file")  # no folder
        path.write_bytes(b"content")
        assert intact() == (True, 1)
    finally:
        remember_in(None)


def wait_until_settled(path):
    """Until the file is older than the coarsest resolution of times."""
    while time.time() - path.stat().st_ctime <= 2:
        time.sleep(0.05)


def test_the_command_says_what_it_compared_and_what_is_damaged(folder):
    out, said = call("corpus", "verify", folder)
    assert "is undamaged" in out
    assert "its form alone" not in out + said
    assert (
        json.loads(call("corpus", "verify", folder, "--json")[0])["files"][2]["name"] == "train-00000.arrow"
    )
    without_hashes(folder)
    out, said = call("corpus", "verify", folder)
    assert "its form alone" in out
    assert "prepared by an earlier version" in said
    shard = folder / "test-00000.arrow"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=r"test-00000\.arrow` is damaged"):
        call("corpus", "verify", folder)
