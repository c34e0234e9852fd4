"""Two processes at once on one run, corpus, checkpoint or page; and locks that nobody holds."""

import json
import os
import shutil
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import Timeout
from forked_command import ForkedCommand
from recorded_disk import state_of
from reports_for_tests import FULL
from test_kill_points import CORPUS, ENCODERS_OWN, SPEC, corpus_files, run_files
from tiny_sgdd import build

from sgdd_engine.atomic_files import LOCK, damage, exclusive_folder, is_locked
from sgdd_engine.checkpoint import (
    load_checkpoint,
    read_info,
    record_confidence,
    record_evaluation,
    record_sampling,
)
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import open_source
from sgdd_engine.errors import SgddError
from sgdd_engine.evaluation.page.write import write_page
from sgdd_engine.training.loop import train

pytestmark = [
    pytest.mark.faults,
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="forks"),
]
TIMES = 10


@pytest.fixture
def checkpoint(tiny_encoder, sentences, tmp_path) -> Path:
    build(tiny_encoder, sentences[:20], width=16).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def book(sentences, tmp_path) -> Path:
    (tmp_path / "book.txt").write_text("\n".join(sentences[:40]), encoding="utf-8")
    return tmp_path / "book.txt"


def at_once(*works: Callable[[], object]) -> list[str]:
    """What becomes of some work in a process each, all of which begin together: empty, or the sentence of the error."""
    children = []
    waiting, go = os.pipe()
    for work in works:
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            os.close(go)
            os.read(waiting, 1)  # until the last one has closed it
            try:
                work()
                told = ""
            except SgddError as error:
                told = error.message
            except BaseException as error:
                told = f"bug: {error!r}"
            os.write(writing, told.encode())
            os._exit(0)
        os.close(writing)
        children.append((child, reading))
    os.close(waiting)
    os.close(go)
    told = []
    for child, reading in children:
        with os.fdopen(reading, encoding="utf-8") as stream:
            told.append(stream.read())
        os.waitpid(child, 0)
    return told


def inside(files):
    """The same, with names in the folder."""
    return {name.partition("/")[2] or name: content for name, content in files.items() if content is not None}


def test_two_trainings_of_one_run(tiny_corpus_folder, tmp_path, faults):
    corpus = Corpus.open(tiny_corpus_folder)

    def training(name):
        return lambda: train(corpus, tmp_path / name, SPEC, device="cpu")

    training("alone")()
    told = sorted(at_once(training("run"), training("run")))
    assert told[0] == ""
    refused = "being trained by another process" in told[1] or "has checkpoints already" in told[1]
    faults.tell("found" if refused else "bug", told[1])
    assert inside(run_files(tmp_path / "run")) == inside(run_files(tmp_path / "alone"))


def test_two_preparations_of_one_corpus(book, tiny_encoder, tmp_path, faults):
    def preparing(name):
        source = open_source(str(book), CORPUS)
        return lambda: prepare(
            source, tmp_path / name, encoder=tiny_encoder, config=CORPUS, tokenizer=ENCODERS_OWN
        )

    preparing("alone")()
    for _ in range(3):
        told = sorted(at_once(preparing("corpus"), preparing("corpus")))
        assert told[0] == ""
        # Who comes late finds it complete.
        refused = told[1] == "" or "is being prepared by another process" in told[1]
        faults.tell("found" if refused else "bug", told[1])
        assert inside(corpus_files(tmp_path / "corpus")) == inside(corpus_files(tmp_path / "alone"))
        shutil.rmtree(tmp_path / "corpus")


def test_two_records_in_one_checkpoint(checkpoint, faults):
    def sampling():
        for number in range(TIMES):
            record_sampling(checkpoint, {"cfg": 1.0 + number})

    def confidence():
        for number in range(TIMES):
            record_confidence(checkpoint, {"version": 1, "fits": {f"fit {number}": {"a": [1.0, 2.0]}}})

    def evaluations():
        record = FULL.to_record()
        for number in range(TIMES):
            record_evaluation(
                checkpoint, {**record, "settings": {**record["settings"], "eval": {"seed": number}}}
            )

    told = at_once(sampling, confidence, evaluations)
    assert told == [""] * 3
    info = read_info(checkpoint)
    kept = (len(info.sampling), len(info.confidence["fits"]), len(info.evaluations))
    whole = damage(checkpoint) is None and info.sampling == {"cfg": float(TIMES)}
    faults.tell(
        "harmless" if whole and kept == (1, TIMES, TIMES) else "silent", f"{kept}, {damage(checkpoint)}"
    )
    assert {path.name for path in checkpoint.iterdir() if path.name.startswith(".")} == set()
    load_checkpoint(checkpoint)


def test_two_evaluations_record_in_one_checkpoint(checkpoint, book, tiny_encoder_folder, tmp_path, faults):
    commands = []
    for name in ("one", "two"):
        with (tmp_path / name).open("wb") as out, (tmp_path / f"{name}.err").open("wb") as err:
            arguments = [
                *(
                    "eval",
                    checkpoint,
                    "--data",
                    book,
                    "--limit",
                    4,
                    "--find-cfg",
                    "--quick",
                    "--device",
                    "cpu",
                ),
                *("--encoder", tiny_encoder_folder, "--set", "sample.steps=2", "--json"),
                *("--report", tmp_path / "page.html", "--force"),
            ]
            commands.append(ForkedCommand(arguments, tmp_path, stdout=out.fileno(), stderr=err.fileno()))
    for name, command in zip(("one", "two"), commands, strict=True):
        code, told = command.wait(), (tmp_path / f"{name}.err").read_text(encoding="utf-8")
        right = code == 0 and json.loads((tmp_path / name).read_text(encoding="utf-8"))["checkpoint"]
        faults.tell("harmless" if right else "bug", told)
    assert damage(checkpoint) is None
    assert "cfg" in read_info(checkpoint).sampling
    assert len(read_info(checkpoint).evaluations) == 1
    assert (tmp_path / "page.html").read_text(encoding="utf-8").endswith("</html>")


def test_two_reports_of_one_name(tmp_path, faults):
    page = tmp_path / "page.html"

    def reporting(name):
        return lambda: [write_page(FULL, name, page) for _ in range(3)]

    pages = []
    for name in ("one", "two"):
        reporting(name)()
        pages.append(page.read_bytes())
    told = at_once(reporting("one"), reporting("two"))
    whole = told == ["", ""] and page.read_bytes() in pages
    faults.tell("harmless" if whole else "silent", str(told))
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def holding(folder: Path) -> int:
    """A process that holds the lock of a folder."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        with exclusive_folder(folder):
            os.write(writing, b"!")
            signal.pause()
    os.close(writing)
    assert os.read(reading, 1) == b"!"
    os.close(reading)
    return child


def test_a_lock_whose_process_was_killed_and_a_lock_that_was_copied(tmp_path, faults):
    folder, copy = tmp_path / "run", tmp_path / "copy"
    child = holding(folder)
    assert is_locked(folder)
    with pytest.raises(Timeout), exclusive_folder(folder):
        pass
    shutil.copytree(folder, copy)
    assert (copy / LOCK).exists()
    with exclusive_folder(copy):
        faults.tell("harmless", "a lock that was copied with its folder")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert (folder / LOCK).exists()
    assert not is_locked(folder)
    with exclusive_folder(folder):
        faults.tell("harmless", "a lock whose process was killed")
    assert not any(name.endswith(LOCK) for name in state_of(folder))
