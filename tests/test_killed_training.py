"""Training that is killed, or meets numbers that are not finite: nothing that counts is lost, nothing bad is kept."""

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import forks
import pytest
import torch
from safetensors.torch import load_file
from tiny_training import TINY, tiny

from sgdd_engine.atomic_files import damage
from sgdd_engine.checkpoint import checkpoints_of
from sgdd_engine.data.corpus import Corpus
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
    "validation_sentences": 4,
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
    for trial in range(11):
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


def differs(run: Path, whole: Path) -> str:
    """How a run differs from one that was never stopped; empty if in nothing that counts."""
    ours, theirs = checkpoints_of(run)[-1], checkpoints_of(whole)[-1]
    if [folder.name for folder in checkpoints_of(run)] != [folder.name for folder in checkpoints_of(whole)]:
        return "it has other checkpoints"
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
