"""What a dry run says, beside what the preparation of the same text does."""

import io
from dataclasses import replace

import pytest

from sgdd_engine.data.cleaning import clean
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.dry_run import dry_run
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import StreamSource, open_source
from sgdd_engine.errors import DataError
from sgdd_engine.text.config import EncoderConfig, TokenizerConfig

CONFIG = DataConfig(shard_sentences=256)


@pytest.fixture
def book(tmp_path, sentences):
    path = tmp_path / "book.txt"
    path.write_text("".join(f"{text}\n" for text in [*sentences, *sentences, "No.", ""]), encoding="utf-8")
    return path


@pytest.fixture
def dry(book, tiny_encoder_folder):
    def run(source=None, config=CONFIG, tokenizer=None, encoder=tiny_encoder_folder, **others):
        return dry_run(
            source or open_source(str(book), config),
            config=config,
            encoder=EncoderConfig(name=str(encoder)),
            tokenizer=tokenizer or TokenizerConfig(),
            **others,
        )

    return run


def test_it_reads_a_sample_and_estimates_the_rest(dry, sentences):
    whole = dry()
    assert whole.complete
    assert whole.kept == whole.estimated_sentences == len(sentences)
    assert whole.left_out == {"duplicate": len(sentences), "too_few_words": 1, "empty": 1}
    assert whole.left_out_examples == {"duplicate": clean(sentences[0]), "too_few_words": "No."}
    assert whole.missing == whole.notices == whole.lossy == ()
    part = dry(sample_lines=100)
    assert not part.complete
    assert part.kept == part.sampled_lines == 100
    assert part.estimated_lines == pytest.approx(802, rel=0.25)
    assert dry(config=replace(CONFIG, limit=50)).complete
    assert whole.examples[0] == clean(sentences[0])
    with pytest.raises(DataError, match="a corpus needs 20"):
        dry(StreamSource("standard input", io.BytesIO(b"Only one line.\n"), CONFIG))


@pytest.mark.parametrize("tokenizer", [TokenizerConfig(), TokenizerConfig(kind="unigram", vocab_size=150)])
def test_it_leaves_out_what_preparation_leaves_out(dry, book, tiny_encoder, tmp_path, tokenizer):
    config = replace(CONFIG, max_tokens=12)
    estimate = dry(config=config, tokenizer=tokenizer)
    assert "have more than 12 tokens and are left out" in estimate.lossy[0]
    assert len(estimate.left_out_examples["too_many_tokens"].split()) > 5
    source = open_source(str(book), config)
    manifest = prepare(source, tmp_path / "out", encoder=tiny_encoder, config=config, tokenizer=tokenizer)
    assert 0 < manifest.counts["left_out"]["too_many_tokens"] < 400
    if tokenizer.kind == "encoder":
        assert estimate.left_out == manifest.counts["left_out"]
        assert estimate.kept == manifest.counts["kept"]
        assert estimate.tokens == manifest.counts["tokens"]
        assert estimate.unknown_tokens == manifest.counts["unknown_tokens"]
    else:  # that vocabulary is trained without the sentences that are held out
        assert estimate.left_out["too_many_tokens"] == pytest.approx(
            manifest.counts["left_out"]["too_many_tokens"], rel=0.2
        )
    on_disk = sum(shard.bytes for shard in manifest.shards)
    assert estimate.estimated_bytes == pytest.approx(on_disk, rel=0.25)


def test_it_counts_tokens_that_the_vocabulary_does_not_know(dry, sentences):
    text = "\n".join(f"{row} \u6c49 \u5b57" for row in sentences[:30]).encode()
    assert dry(StreamSource("standard input", io.BytesIO(text), CONFIG)).unknown_tokens == 60


def test_too_little_left_by_the_limit_on_tokens_is_refused(dry):
    with pytest.raises(DataError, match=r"400 above data.max_tokens \(2\)"):
        dry(config=replace(CONFIG, max_tokens=2))


def test_without_the_encoder_it_says_what_it_cannot_tell(dry, tmp_path):
    estimate = dry(encoder=tmp_path / "nowhere")
    assert estimate.kept == 400
    assert estimate.tokens is estimate.unknown_tokens is estimate.estimated_bytes is None
    assert [text.split(".")[0] for text in estimate.missing] == [
        "Sentences above data",
        "The size on disk is not estimated",
    ]


def test_it_knows_the_size_of_each_kind_of_vector(dry):
    sizes = {}
    for dtype in ("int8", "fp16", "fp32"):
        estimate = dry(config=replace(CONFIG, embedding_dtype=dtype))
        sizes[dtype] = estimate.estimated_bytes / estimate.estimated_sentences
    assert sizes["fp16"] - sizes["int8"] == pytest.approx(32 - 4, abs=0.01)
    assert sizes["fp32"] - sizes["fp16"] == pytest.approx(2 * 32, abs=0.01)
