"""Training that is killed, or meets numbers that are not finite: nothing that counts is lost, nothing bad is kept."""

import json
import math
import os
import random
import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import forks
import numpy as np
import pytest
import torch
from fault_report import tried
from safetensors.torch import load_file
from tiny_training import TINY, tiny

from sgdd_engine.atomic_files import damage
from sgdd_engine.checkpoint import checkpoints_of
from sgdd_engine.data.corpus import Corpus, CorpusSplit, ExactLengthBatches
from sgdd_engine.errors import TrainingError
from sgdd_engine.events import Notice, TrainingProgress
from sgdd_engine.tracking import read_log
from sgdd_engine.training.config import FeedbackConfig, TrainSpec
from sgdd_engine.training.loop import train

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
# Every other step is saved: a kill finds one half written about as often as not.
SHORT = {
    "max_steps": 6,
    "save_every": 2,
    "validate_every": 4,
    "log_every": 1,
    "validation_sentences": 2,
    "batch_tokens": 128,
    "table_init": "random",
    "tracker": "jsonl",
}
FILES = ("model.safetensors", "training/weights.safetensors", "training/optimizer.safetensors")


def short(**changes: object) -> TrainSpec:
    spec = tiny(**{**SHORT, **changes})
    return replace(spec, decoder=replace(TINY.decoder, width=16))


@dataclass(frozen=True)
class Straight:
    """A run that was never stopped, and how much it did."""

    run: Path
    spec: TrainSpec
    calls: int
    file_events: int


@pytest.fixture(scope="module")
def corpus(tiny_corpus_folder) -> Corpus:
    corpus = Corpus.open(tiny_corpus_folder)
    for split in ("train", "validation"):
        corpus.split(split)
    return corpus


@pytest.fixture(scope="module")
def straight(corpus, tmp_path_factory) -> Callable[[str], Straight]:
    """Runs of each kind that were never stopped."""
    folder = tmp_path_factory.mktemp("straight")
    made: dict[str, Straight] = {}

    def of(kind: str) -> Straight:
        if kind not in made:
            made[kind] = go(kind)
        return made[kind]

    def go(kind: str) -> Straight:
        spec, run, told = specs(kind), folder / kind, folder / f"{kind}.json"

        def work() -> None:
            files = forks.FileEvents(run)
            calls = forks.Calls()
            train(corpus, run, spec, device="cpu")
            told.write_text(json.dumps([calls.count, files.count]))

        assert forks.run(work) == 0
        return Straight(run, spec, *json.loads(told.read_text()))

    def specs(kind: str) -> TrainSpec:
        if kind != "second":
            return FIRST_STAGES[kind]
        second = short(start_from=str(of("plain").run))
        decoder = replace(second.decoder, feedback=True, feedback_hidden=4)
        return replace(second, decoder=decoder, feedback=FeedbackConfig(sentences=40))

    return of


FIRST_STAGES = {
    "plain": short(),
    "micro": short(micro_batches=4),
    "muon": replace(short(optimizer="muon"), decoder=replace(short().decoder, dropout=0.2)),
    "whitening": replace(short(), bottleneck=replace(TINY.bottleneck, kind="whitening")),
}


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("kind", [*FIRST_STAGES, "second"])
def test_training_that_is_killed_anywhere_goes_on_to_the_same_end(kind, corpus, straight, tmp_path, faults):
    whole = straight(kind)
    places = random.Random(kind)
    for trial in tried(range(11)):
        run = tmp_path / str(trial)
        # The second stage is killed while it saves; its drafts are there already.
        in_a_file = kind == "second" or trial % 2 == 1
        if kind == "second":
            shutil.copytree(whole.run / "drafts", run / "drafts")
        last = places.randint(1, whole.file_events if in_a_file else whole.calls)

        def work(run=run, in_a_file=in_a_file, last=last) -> None:
            if in_a_file:
                forks.FileEvents(run, last)
            else:
                forks.Calls(last)
            train(corpus, run, whole.spec, device="cpu")

        what = f"{kind}: killed at {'file event' if in_a_file else 'call'} {last}"
        assert forks.run(work) in (forks.KILLED, 0), what
        # Before the first checkpoint there is nothing to go on from.
        resume = bool([folder for folder in checkpoints_of(run) if damage(folder) is None])
        ended = forks.run(
            lambda run=run, resume=resume: train(corpus, run, whole.spec, device="cpu", resume=resume)
        )
        difference = "it cannot go on" if ended else differs(run, whole.run)
        faults.tell("silent" if difference else "resumed", f"{what}: {difference}")
        shutil.rmtree(run)


def differs(run: Path, whole: Path, *, saved_on_the_way: bool = False) -> str:
    """How a run differs from one that was never stopped; empty if in nothing that counts.

    Args:
        run: The run.
        whole: The one that was never stopped.
        saved_on_the_way: Whether it was asked to stop, and has saved a step that the other one did not save.
    """
    names, others = ([folder.name for folder in checkpoints_of(of)] for of in (run, whole))
    if names[-1:] != others[-1:] or (names != others and not saved_on_the_way):
        return "it has other checkpoints"
    ours, theirs = checkpoints_of(run)[-1], checkpoints_of(whole)[-1]
    for file in FILES:
        one, other = load_file(ours / file), load_file(theirs / file)
        for name in one.keys() | other.keys():
            if name not in one or name not in other or not torch.equal(one[name], other[name]):
                return f"{file}: {name}"
    curves = [
        {n: c for n, c in read_log(r).curves.items() if "loss" in n or "nats" in n} for r in (run, whole)
    ]
    if curves[0] != curves[1]:
        return "another curve"
    left = [
        path.name for path in (*run.iterdir(), *(run / "checkpoints").iterdir()) if path.name.startswith(".")
    ]
    return f"left behind: {left}" if left else ""


class OneBadVector(CorpusSplit):
    """The training split of a corpus with a vector that is not a number."""

    def __init__(self, split: CorpusSplit, row: int) -> None:
        self.__dict__.update(split.__dict__)
        self.row = row

    def embeddings(self, indices):
        vectors = super().embeddings(indices)
        vectors[torch.from_numpy(np.asarray(indices) == self.row)] = torch.nan
        return vectors


@pytest.fixture
def spoiled(tiny_corpus_folder) -> Corpus:
    """A corpus, one of whose first sentences has a bad vector."""
    corpus = Corpus.open(tiny_corpus_folder)
    split = corpus.split("train")
    order = ExactLengthBatches(split.lengths, batch_tokens=SHORT["batch_tokens"], seed=0)
    corpus._splits["train"] = OneBadVector(split, int(order.batch(2)[0]))
    return corpus


def test_a_batch_that_is_not_finite_stops_the_run_and_its_sentences_are_listed(spoiled, tmp_path):
    run = tmp_path / "run"
    spec = replace(short(), bottleneck=replace(TINY.bottleneck, kind="none"))
    with pytest.raises(TrainingError, match="not finite at step 3; the step was not taken") as caught:
        train(spoiled, run, spec, device="cpu")
    (file,) = run.glob("nonfinite-*.json")
    assert str(file) in caught.value.message
    assert f"The last good checkpoint is `{run / 'checkpoints' / 'step-0000002'}`." in caught.value.message
    assert "--skip-nonfinite 1" in caught.value.hint
    listed = json.loads(file.read_text(encoding="utf-8"))
    (micro_batch,) = listed["micro_batches"]
    assert (listed["step"], micro_batch["position"]) == (3, 2)
    split = spoiled.split("train")
    bad = [sentence for sentence in micro_batch["sentences"] if sentence["vector_norm"] is None]
    assert [sentence["row"] for sentence in bad] == [split.row]
    assert bad[0]["text"] == split.text(split.row)


@pytest.mark.slow
def test_a_batch_may_be_left_out_and_the_run_still_goes_on_bit_by_bit(spoiled, tmp_path):
    spec = replace(short(skip_nonfinite=1), bottleneck=replace(TINY.bottleneck, kind="none"))
    told: list[object] = []
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(spoiled, whole, spec, device="cpu", on_event=told.append)
    notices = [event.message for event in told if isinstance(event, Notice) and event.warning]
    assert "the batch is left out, 1 of at most 1." in notices[0]
    assert "was not finite: 1 batch." in notices[1]
    assert [value for _, value in read_log(whole).curves["train/skipped_batches"]] == [0, 0, 1, 1, 1, 1]
    assert all(math.isfinite(loss) for _, loss in read_log(whole).curves["train/loss"])
    assert read_log(whole).curves["train/loss"][2][0] == 3

    def killed() -> None:
        def listen(event: object) -> None:
            if isinstance(event, TrainingProgress) and event.step == 5:
                os.kill(os.getpid(), signal.SIGKILL)

        train(spoiled, run, spec, device="cpu", on_event=listen)

    assert forks.run(killed) == forks.KILLED
    train(spoiled, run, spec, device="cpu", resume=True)
    assert not differs(run, whole)


def test_weights_that_are_not_finite_are_never_saved(corpus, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(TrainingError, match="not finite"):
        train(corpus, run, short(learning_rate=1e38, warmup_steps=0, save_every=1, max_steps=4), device="cpu")
    for folder in checkpoints_of(run):
        for file in FILES:
            assert all(torch.isfinite(tensor).all() for tensor in load_file(folder / file).values())


def test_a_checkpoint_that_cannot_be_written_ends_the_run(corpus, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "checkpoints").write_text("no folder")
    with pytest.raises(OSError, match="checkpoints"):
        train(corpus, run, short(max_steps=30, validate_every=100), device="cpu")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("checkpoint")]
