"""Preparation by several processes: the corpus of one."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from preparing_rank import CONFIG
from test_prepare import contents

from sgdd_engine.data.deduplicate import MIN_SENTENCES
from sgdd_engine.data.manifest import MANIFEST, WORK, Manifest
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import open_source
from sgdd_engine.text.config import TokenizerConfig

SCRIPT = Path(__file__).with_name("preparing_rank.py")


def command(ranks: int, *arguments: object) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return [sys.executable, *launcher, str(SCRIPT), *map(str, arguments)]


def launch(ranks: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(ranks, *arguments),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


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


@pytest.mark.slow
def test_two_ranks_make_the_corpus_of_one(book, alone, tiny_encoder_folder, tmp_path):
    done = launch(2, book, tmp_path / "corpus", tiny_encoder_folder)
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "corpus") == contents(alone)
    lines = done.stdout.splitlines()
    assert sorted(line for line in lines if "has" in line) == [f"rank {r} has 1200 sentences" for r in (0, 1)]
    progress = [line.removeprefix("rank 0: ") for line in lines if ": " in line]
    counts = [int(count) for count in progress]  # and none of rank 1
    assert counts == sorted(counts)
    assert counts[-1] == 1200


@pytest.mark.slow
def test_what_is_wrong_is_said_by_rank_0_alone(tiny_encoder_folder, tmp_path):
    (tmp_path / "bad.txt").write_text("Hi.\n" * 50)
    done = launch(2, tmp_path / "bad.txt", tmp_path / "corpus", tiny_encoder_folder)
    assert done.returncode != 0
    (said,) = (line for line in done.stdout.splitlines() if "says" in line)
    assert said.startswith("rank 0 says: ")
    assert "50 shorter than data.min_words" in said
    assert "sgdd_engine" not in done.stderr  # no traceback of ours; the launcher has its own
    assert not (tmp_path / "corpus").exists()


@pytest.mark.slow
def test_more_ranks_than_shards_are_no_trouble(sentences, tiny_encoder, tiny_encoder_folder, tmp_path):
    book = tmp_path / "few.txt"
    book.write_text("\n".join(sentences[:MIN_SENTENCES]), encoding="utf-8")
    done = launch(4, book, tmp_path / "corpus", tiny_encoder_folder)
    assert done.returncode == 0, done.stderr
    assert len(Manifest.read(tmp_path / "corpus").shards) == 3
    assert contents(tmp_path / "corpus") == contents(prepare_alone(book, tmp_path / "alone", tiny_encoder))


@pytest.mark.slow
def test_killed_ranks_go_on_where_they_stopped(book, alone, tiny_encoder, tiny_encoder_folder, tmp_path):
    out = tmp_path / "corpus"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(
        command(2, book, out, tiny_encoder_folder, "hold"), **pipes, text=True, env=environment()
    ) as launcher:
        assert "a shard stands\n" in launcher.stdout
        for process in (*psutil.Process(launcher.pid).children(recursive=True), launcher):
            process.kill()
        launcher.stdout.read()  # ends when none of them is left to write
    # A shard is finished once its record stands; killed in between, it is made again.
    shards = [out / f"{record.stem}.arrow" for record in (out / WORK).glob("*-*.json")]
    made = {path: path.stat().st_mtime_ns for path in shards}
    assert made
    assert not (out / MANIFEST).exists()
    prepare_alone(book, out, tiny_encoder)
    assert contents(out) == contents(alone)
    assert made == {path: path.stat().st_mtime_ns for path in shards}
