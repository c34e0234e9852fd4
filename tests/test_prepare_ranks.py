"""Preparation by several processes: the corpus of one."""

import json
import os
import signal
from pathlib import Path

import forks
import pytest
from preparing_rank import CONFIG, prepare_rank
from test_prepare import contents

from sgdd_engine.data.deduplicate import MIN_SENTENCES
from sgdd_engine.data.manifest import MANIFEST, WORK, Manifest
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import open_source
from sgdd_engine.text.config import TokenizerConfig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork"),
]


def launch(ranks: int, book: Path, out: Path, encoder: Path) -> tuple[int, list[str]]:
    """The exit code of ranks that prepare a corpus, and the lines that they said."""
    reading, writing = os.pipe()
    child = forks.start_ranks(
        ranks, lambda rank: prepare_rank(book, out, encoder, writing), out.with_name("pids.json")
    )
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as said:
        lines = said.read().splitlines()
    return forks.wait(child), lines


@pytest.fixture(scope="module")
def book(tmp_path_factory, sentences) -> Path:
    path = tmp_path_factory.mktemp("book") / "book.txt"
    rows = [*sentences, *(f"Yesterday {text}" for text in sentences), *(f"{text} Yes." for text in sentences)]
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def alone(book, tiny_encoder, tmp_path_factory) -> Path:
    """The corpus that one process makes."""
    return prepare_alone(book, tmp_path_factory.mktemp("alone") / "corpus", tiny_encoder)


def prepare_alone(book: Path, out: Path, encoder) -> Path:
    source = open_source(str(book), CONFIG)
    prepare(source, out, encoder=encoder, config=CONFIG, tokenizer=TokenizerConfig())
    return out


def test_two_ranks_make_the_corpus_of_one(book, alone, tiny_encoder_folder, tmp_path):
    code, lines = launch(2, book, tmp_path / "corpus", tiny_encoder_folder)
    assert code == 0
    assert contents(tmp_path / "corpus") == contents(alone)
    assert sorted(line for line in lines if "has" in line) == [f"rank {r} has 1200 sentences" for r in (0, 1)]
    progress = [line.removeprefix("rank 0: ") for line in lines if ": " in line]
    counts = [int(count) for count in progress]  # and none of rank 1
    assert counts == sorted(counts)
    assert counts[-1] == 1200


def test_what_is_wrong_is_said_by_rank_0_alone(tiny_encoder_folder, tmp_path):
    (tmp_path / "bad.txt").write_text("Hi.\n" * 50)
    code, lines = launch(2, tmp_path / "bad.txt", tmp_path / "corpus", tiny_encoder_folder)
    assert code != 0
    (said,) = (line for line in lines if "says" in line)
    assert said.startswith("rank 0 says: ")
    assert "50 shorter than data.min_words" in said
    assert not (tmp_path / "corpus").exists()


def test_more_ranks_than_shards_are_no_trouble(sentences, tiny_encoder, tiny_encoder_folder, tmp_path):
    book = tmp_path / "few.txt"
    book.write_text("\n".join(sentences[:MIN_SENTENCES]), encoding="utf-8")
    assert launch(4, book, tmp_path / "corpus", tiny_encoder_folder)[0] == 0
    assert len(Manifest.read(tmp_path / "corpus").shards) == 3
    assert contents(tmp_path / "corpus") == contents(prepare_alone(book, tmp_path / "alone", tiny_encoder))


def test_killed_ranks_go_on_where_they_stopped(book, alone, tiny_encoder, tiny_encoder_folder, tmp_path):
    out = tmp_path / "corpus"
    reading, writing = os.pipe()
    held, never = os.pipe()
    pids = tmp_path / "pids.json"
    child = forks.start_ranks(
        2, lambda rank: prepare_rank(book, out, tiny_encoder_folder, writing, held), pids
    )
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as said:
        assert "a shard stands\n" in said
        for process in (*json.loads(pids.read_text(encoding="utf-8")), child):
            os.kill(process, signal.SIGKILL)
        said.read()  # ends when none of them is left to write
    for end in (held, never):
        os.close(end)
    assert forks.wait(child) == forks.KILLED
    # A shard is finished once its record stands; killed in between, it is made again.
    shards = [out / f"{record.stem}.arrow" for record in (out / WORK).glob("*-*.json")]
    made = {path: path.stat().st_mtime_ns for path in shards}
    assert made
    assert not (out / MANIFEST).exists()
    prepare_alone(book, out, tiny_encoder)
    assert contents(out) == contents(alone)
    assert made == {path: path.stat().st_mtime_ns for path in shards}
