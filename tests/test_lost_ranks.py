"""Two processes train one model, and one of them, or what started them, is killed, stopped or signalled."""

import json
import os
import random
import shutil
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import forks
import psutil
import pytest
from test_killed_training import differs, short

from sgdd_engine.atomic_files import damage
from sgdd_engine.checkpoint import checkpoints_of
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.distributed import CPU, join
from sgdd_engine.training.loop import train

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork"),
    pytest.mark.slow,
    pytest.mark.faults,
]
# Two micro-batches of a step give one sum, whichever process adds them up.
SPEC = short(micro_batches=2)
# A test waits for so long to see that a process is silent; longer than any step of its own on a busy machine.
SILENCE = timedelta(seconds=6)


@pytest.fixture(scope="module")
def corpus(tiny_corpus_folder) -> Corpus:
    return Corpus.open(tiny_corpus_folder)


def two(corpus: Corpus, run: Path, before: Callable[[int], object] = id, *, resume: bool = False) -> int:
    """Train in two processes that a third one starts and waits for, as the launcher does; returns that one's code.

    Args:
        corpus: What is trained on.
        run: The run; the ranks' process numbers are written beside it.
        before: Called in each process with its rank before it trains.
        resume: Whether the run goes on.
    """

    def one(rank: int) -> None:
        with join(CPU, silence=SILENCE) as world:
            before(rank)
            train(corpus, run, SPEC, device="cpu", resume=resume, world=world)

    return forks.wait(forks.start_ranks(2, one, pids(run)))


def pids(run: Path) -> Path:
    return run.with_name(f"{run.name}-ranks.json")


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory) -> Path:
    """A run of two processes that was never stopped, which is that of one."""
    folder = tmp_path_factory.mktemp("whole")
    assert two(corpus, folder / "two") == 0
    train(corpus, folder / "one", SPEC, device="cpu")
    assert not differs(folder / "one", folder / "two")
    return folder / "two"


@pytest.fixture(scope="module")
def calls(corpus, tmp_path_factory) -> int:
    """How many calls the main thread makes in a run of one process; rank 1 of two makes three quarters of them."""
    folder = tmp_path_factory.mktemp("calls")

    def work() -> None:
        counted = forks.Calls()
        train(corpus, folder / "run", SPEC, device="cpu")
        (folder / "calls").write_text(str(counted.count))

    assert forks.run(work) == 0
    return int((folder / "calls").read_text())


STRIKES = [
    ("launcher", signal.SIGKILL),
    *((rank, number) for number in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM) for rank in (0, 1)),
]


@pytest.mark.parametrize(("victim", "number"), STRIKES)
def test_two_processes_end_together_and_go_on_as_two_or_as_one(
    victim, number, corpus, whole, calls, tmp_path, faults
):
    run = tmp_path / "run"
    place = random.Random(f"{victim} {number}").randint(calls * 2 // 5, calls * 7 // 10)

    def before(rank: int) -> None:
        if victim == "launcher" and rank == 0:
            forks.Calls(place, lambda: os.kill(os.getppid(), number))
        elif rank == victim:
            forks.Calls(place, lambda: os.kill(os.getpid(), number))

    # Processes whose launcher is gone end as if they had been asked to.
    asked = number == signal.SIGTERM or victim == "launcher"
    code = two(corpus, run, before)
    what = f"{victim}: {number.name} at call {place}"
    # A signal that asks is answered by an orderly end once training has begun; before that it ends the process at once.
    assert code != 0 or number == signal.SIGTERM, what
    for rank in json.loads(pids(run).read_text()):
        if psutil.pid_exists(rank):
            psutil.Process(rank).wait(60)
    resume = any(damage(folder) is None for folder in checkpoints_of(run))
    alone = tmp_path / "alone"
    shutil.copytree(run, alone)
    assert two(corpus, run, resume=resume) == 0, what
    train(corpus, alone, SPEC, device="cpu", resume=resume)
    for name, end in (("two", run), ("one", alone)):
        difference = differs(end, whole, saved_on_the_way=asked)
        faults.tell("silent" if difference else "resumed", f"{what}, resumed by {name}: {difference}")
