import json

import numpy as np
import pytest
import torch

from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.corpus import Corpus, ExactLengthBatches
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import open_source
from sgdd_engine.errors import DataError
from sgdd_engine.text.config import TokenizerConfig


@pytest.fixture
def folder(tmp_path, sentences, tiny_encoder):
    path = tmp_path / "book.txt"
    rows = [*sentences, *(f"Yesterday {text}" for text in sentences)]
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    config = DataConfig(shard_sentences=256)
    prepare(
        open_source(str(path), config),
        tmp_path / "corpus",
        encoder=tiny_encoder,
        config=config,
        tokenizer=TokenizerConfig(),
    )
    return tmp_path / "corpus"


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
    shard.write_bytes(bytes(len(data)))
    with pytest.raises(DataError, match="is damaged"):
        Corpus.open(folder).split("train")
    shard.write_bytes(data[:-5])
    with pytest.raises(DataError, match="bytes instead of"):
        Corpus.open(folder)
    shard.unlink()
    with pytest.raises(DataError, match="is missing"):
        Corpus.open(folder)


def test_damaged_statistics_and_foreign_tokenizers_are_found(folder):
    (folder / "statistics.safetensors").write_bytes(b"rubbish")
    with pytest.raises(DataError, match=r"statistics\.safetensors` is missing or damaged"):
        Corpus.open(folder).statistics()
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["tokenizer"]["fingerprint"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="not the tokenizer that made this corpus"):
        _ = Corpus.open(folder).tokenizer
