"""Random faults in all files of corpora, drafts, runs, exported checkpoints and settings.

Each is a function of a seed: a bit that is flipped, a file that is cut, emptied, lengthened, removed, swapped with
another or zeroed for a while, a value of its JSON that is another. The job that reads these files is then done by a
fork of this process, and must end in a sentence, or with the very result that it has without the fault.
"""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fault_report import tried
from safetensors.torch import load_file
from test_cli import call

from sgdd_cli.settings import load_settings
from sgdd_engine.checkpoint import load_checkpoint, resolve_checkpoint
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import open_source
from sgdd_engine.errors import SgddError
from sgdd_engine.evaluation.data import from_corpus
from sgdd_engine.events import ignore
from sgdd_engine.generation import SGDD
from sgdd_engine.text.config import TokenizerConfig
from sgdd_engine.training.config import TrainSpec
from sgdd_engine.training.loop import train

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(7200)]

# A job takes well under a second; one that hangs is ended by an alarm.
SECONDS = 60
# Stands behind a result where the job said that it is another.
TOLD = " (told)"
SETTINGS = """
[decoder]
layers = 1
width = 16
heads = 2
memory_tokens = 2
mlp_ratio = 2.0
[bottleneck]
kind = "vib"
latent_dim = 8
hidden_dim = 8
[feedback]
sentences = 12
[train]
# The same at each step, whatever the last one is: an older checkpoint that goes on ends as the newest.
min_learning_rate_share = 1.0
batch_tokens = 128
warmup_steps = 1
log_every = 2
validate_every = 2
save_every = 2
validation_sentences = 3
precision = "fp32"
"""


# --- faults -----------------------------------------------------------------------------------------------


def flip(data: bytes, noise: random.Random) -> bytes:
    place, bit = noise.randrange(len(data)), 1 << noise.randrange(8)
    return data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]


def cut(data: bytes, noise: random.Random) -> bytes:
    return data[: noise.randrange(len(data))]


def zero(data: bytes, noise: random.Random) -> bytes:
    place = noise.randrange(len(data))
    length = min(len(data) - place, noise.choice((8, 64, 512, 4096)))
    return data[:place] + bytes(length) + data[place + length :]


def lengthen(data: bytes, noise: random.Random) -> bytes:
    return data + noise.randbytes(noise.choice((1, 8, 512)))


def empty(data: bytes, noise: random.Random) -> bytes:
    return b""


def change_json(data: bytes, noise: random.Random) -> bytes:
    """One value, number or word, becomes another of its type; or one of its keys is gone."""
    value = json.loads(data)
    places: list[tuple[Any, Any]] = []

    def walk(part: Any) -> None:
        for key, item in part.items() if isinstance(part, dict) else enumerate(part):
            places.append((part, key))
            if isinstance(item, dict | list):
                walk(item)

    walk(value)
    part, key = noise.choice(places)
    if noise.random() < 0.2:
        del part[key]
    elif isinstance(part[key], bool):
        part[key] = not part[key]
    elif isinstance(part[key], int | float):
        part[key] = noise.choice((part[key] + 1, part[key] * 2, -part[key], 0))
    elif isinstance(part[key], str):
        part[key] = noise.choice((part[key] + "x", part[key][1:], part[key].swapcase()))
    else:
        part[key] = noise.choice((None, 3, "x", [], {}))
    return json.dumps(value).encode()


KINDS: tuple[Callable[[bytes, random.Random], bytes], ...] = (flip, flip, cut, zero, lengthen, empty)


def damage(files: list[Path], noise: random.Random) -> str:
    """Damage one of the files, and say how."""
    path = noise.choice(files)
    data = path.read_bytes()
    kinds = [*KINDS, *([change_json] * 2 if path.suffix == ".json" else [])]
    kind = noise.choice([*(kinds if data else [lengthen]), "remove", "swap"])
    if kind == "remove":
        path.unlink()
    elif kind == "swap":
        other = noise.choice(files)
        path.write_bytes(other.read_bytes())
        other.write_bytes(data)
        return f"{path.name} and {other.name} swapped"
    else:
        path.write_bytes(kind(data, noise))
    return f"{getattr(kind, '__name__', kind)} {path.name}"


# --- jobs -------------------------------------------------------------------------------------------------


def digest(*parts: object) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part if isinstance(part, bytes) else repr(part).encode())
    return found.hexdigest()


def weights_of(run: Path) -> str:
    """SHA-256 of the newest weights, raw and averaged."""
    newest = sorted((run / "checkpoints").iterdir())[-1]
    paths = newest / "model.safetensors", newest / "training" / "weights.safetensors"
    tensors = [
        (name, tensor.numpy().tobytes()) for path in paths for name, tensor in sorted(load_file(path).items())
    ]
    return digest(newest.name, *(part for pair in tensors for part in pair))


def in_a_fork(job: Callable[[], str]) -> tuple[str, str]:
    """What a job gives: (`done`, a digest), (`found`, the sentence), or (`bug`, the end of the traceback)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(SECONDS)
            os.close(reader)
            try:
                answer = ("done", job())
            except SgddError as error:
                answer = ("found", error.message[:600])
            except BaseException:
                answer = ("bug", traceback.format_exc()[-600:])
            os.write(writer, json.dumps(answer).encode())
        finally:
            os._exit(0)  # it must not go on as the test
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        answer = stream.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    outcome, what = json.loads(answer) if answer else ("bug", f"the process ended with {code}")
    return outcome, what


def try_faults(
    faults: Any,
    whole: Path,
    scratch: Path,
    files: Callable[[Path], list[Path]],
    job: Callable[[Path], str],
    seeds: range,
) -> None:
    """Do a job on a damaged copy of a folder, once for each seed, and judge what it gives."""

    def copy() -> Path:
        shutil.rmtree(scratch, ignore_errors=True)
        return Path(shutil.copytree(whole, scratch))

    outcome, right = in_a_fork(partial(job, copy()))
    assert outcome == "done", right
    assert in_a_fork(partial(job, copy())) == ("done", right), "the job itself always gives the same"
    for seed in tried(seeds):
        folder = copy()
        what = damage(sorted(files(folder)), random.Random(seed))
        outcome, found = in_a_fork(partial(job, folder))
        if outcome == "done":
            same = found.removesuffix(TOLD) == right
            outcome = "harmless" if same else "found" if found.endswith(TOLD) else "silent"
        faults.tell(outcome, f"seed {seed}, {what}: {found}")


def all_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# --- what is damaged --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory, sentences) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    (folder / "book.txt").write_text("\n".join(sentences[:120]), encoding="utf-8")
    (folder / "sgdd.toml").write_text(SETTINGS, encoding="utf-8")
    return folder


def spec_of(place: Path) -> TrainSpec:
    settings = load_settings([place / "sgdd.toml"], ["train.max_steps=2"]).settings
    return TrainSpec(
        train=settings.train,
        bottleneck=settings.bottleneck,
        decoder=settings.decoder,
        diffusion=settings.diffusion,
        feedback=settings.feedback,
    )


def prepared(place: Path, out: Path, encoder, dtype: str) -> Path:
    config = DataConfig(validation_share=0.1, embedding_dtype=dtype)
    source = open_source(str(place / "book.txt"), config)
    prepare(source, out, encoder=encoder, config=config, tokenizer=TokenizerConfig())
    return out


@pytest.fixture(scope="module")
def corpus(place, tiny_encoder) -> Path:
    return prepared(place, place / "fp16", tiny_encoder, "fp16")


def trained(corpus: Path, run: Path, steps: int, *options: object) -> str:
    """What `sgdd train` says."""
    return call("train", corpus, "--out", run, "--max-steps", steps, "--device", "cpu", *options)[1]


@pytest.fixture(scope="module")
def first(place, corpus) -> Path:
    """A run of four steps, with the checkpoints of two and four."""
    trained(corpus, place / "first", 4, "--config", place / "sgdd.toml")
    return place / "first"


@pytest.fixture(scope="module")
def second(place, corpus, first) -> Path:
    """A second stage after two of its steps, with its drafts."""
    settings = f"train.start_from={first}", "decoder.feedback=true", "decoder.feedback_hidden=8"
    options = [part for setting in settings for part in ("--set", setting)]
    trained(corpus, place / "second", 2, "--config", place / "sgdd.toml", *options)
    return place / "second"


def resumed(corpus: Path, run: Path, steps: int) -> str:
    said = trained(corpus, run, steps, "--resume")
    # A setting is a user's to change, and what changed is told. The number of steps is changed here.
    changed = re.sub(r"train\.max_steps was \d+ and is \d+", "", " ".join(said.split()))
    told = re.search(
        r"Settings that changed: ?,? ?\w|sentences come in another order|changes nothing in a run", changed
    )
    return f"{weights_of(run)}{TOLD if told else ''}"


@pytest.mark.parametrize(("dtype", "seeds"), [("fp16", range(200)), ("int8", range(1000, 1180))])
def test_random_faults_in_a_corpus(faults, place, corpus, tiny_encoder, tmp_path, dtype, seeds):
    whole = corpus if dtype == "fp16" else prepared(place, place / dtype, tiny_encoder, dtype)
    spec = spec_of(place)

    def job(folder: Path) -> str:
        prepared(place, folder, tiny_encoder, dtype)  # it is complete already
        opened, run = Corpus.open(folder), tmp_path / "run"
        shutil.rmtree(run, ignore_errors=True)
        train(opened, run, spec, device="cpu", on_event=ignore)
        held_out = from_corpus(opened, "test")
        return digest(
            weights_of(run), held_out.sentences, held_out.vectors.numpy().tobytes(), held_out.token_ids
        )

    try_faults(faults, whole, tmp_path / "corpus", all_files, job, seeds)


def test_random_faults_in_a_corpus_whose_vectors_are_reused(faults, place, corpus, tiny_encoder, tmp_path):
    def job(folder: Path) -> str:
        config = DataConfig(validation_share=0.1, vectors_from=str(folder), seed=3)
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        source = open_source(str(place / "book.txt"), config)
        prepare(source, out, encoder=tiny_encoder, config=config, tokenizer=TokenizerConfig())
        return digest(*(path.read_bytes() for path in sorted(out.glob("*.arrow"))))

    try_faults(faults, corpus, tmp_path / "corpus", all_files, job, range(2000, 2060))


def test_random_faults_in_the_drafts_of_a_second_stage(faults, corpus, second, tmp_path):
    def drafts(run: Path) -> list[Path]:
        return all_files(run / "drafts")

    try_faults(
        faults, second, tmp_path / "run", drafts, lambda run: resumed(corpus, run, 4), range(3000, 3036)
    )


def test_random_faults_in_a_run(faults, corpus, first, tmp_path):
    def others(run: Path) -> list[Path]:
        return [path for path in all_files(run) if path.name != "settings.toml"]

    try_faults(
        faults, first, tmp_path / "run", others, lambda run: resumed(corpus, run, 6), range(4000, 4044)
    )


def test_random_faults_in_settings(faults, corpus, first, tmp_path):
    def settings(run: Path) -> list[Path]:
        return [run / "settings.toml"]

    try_faults(
        faults, first, tmp_path / "run", settings, lambda run: resumed(corpus, run, 6), range(5000, 5020)
    )


def test_random_faults_in_an_exported_checkpoint(faults, first, tmp_path):
    SGDD.from_pretrained(first, "cpu").save_pretrained(tmp_path / "whole", dtype="fp16")
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32))

    def job(folder: Path) -> str:
        model = SGDD(load_checkpoint(resolve_checkpoint(folder)), torch.device("cpu"))
        written = model.generate(torch.nn.functional.normalize(vectors))
        return digest(*((one.text, one.tokens) for one in written))

    try_faults(faults, tmp_path / "whole", tmp_path / "copy", all_files, job, range(6000, 6060))
