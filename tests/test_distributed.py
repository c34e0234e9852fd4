"""Several processes train one model as one process does; how they are started, and how they end."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import forks
import psutil
import pytest
import torch
import typer
from safetensors.torch import load_file
from tiny_ranks import FOUR_PIECES, STOP_AFTER, short_runs, surrogate_alone, with_mode
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from sgdd_cli import launcher
from sgdd_cli.flags import device_name, device_names
from sgdd_engine.checkpoint import checkpoints_of, load_checkpoint
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.distributed import ALONE, World
from sgdd_engine.errors import ConfigError
from sgdd_engine.events import Notice, TrainingProgress
from sgdd_engine.training.distribution import micro_batches_per_step
from sgdd_engine.training.loop import train

# The program that the processes are to be may be another one than the launcher's own.
LAUNCH = (
    "import sys; from sgdd_cli.launcher import launch\n"
    "sys.executable = sys.argv.pop(1); sys.exit(launch(['cpu', 'cpu']))"
)
SETTINGS = """
[bottleneck]
latent_dim = 16
hidden_dim = 16
[decoder]
layers = 1
width = 32
heads = 2
memory_tokens = 2
[train]
batch_tokens = 256
log_every = 1
validate_every = 5
save_every = 100000
validation_sentences = 4
table_init = "random"
"""
posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals")


@pytest.fixture(scope="module")
def corpus(tiny_corpus_folder):
    return Corpus.open(tiny_corpus_folder)


@pytest.fixture(scope="module")
def straight(corpus, tmp_path_factory):
    """The newest checkpoint of one process that computed every piece of each step itself."""
    run = tmp_path_factory.mktemp("straight") / "run"
    return train(corpus, run, FOUR_PIECES, device="cpu").checkpoint


@pytest.fixture(scope="module")
def together(corpus, tmp_path_factory):
    """What two processes made of the runs of `tiny_ranks.py`; `MODE-resumed` was begun by one process."""
    folder = tmp_path_factory.mktemp("together")
    stop_alone(corpus, folder / "ddp-resumed")
    shutil.copytree(folder / "ddp-resumed", folder / "fsdp-resumed")
    started = forks.start_ranks(2, lambda rank: short_runs(corpus, folder), folder / "pids.json")
    assert forks.wait(started) == 0
    return folder


def one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def stop_alone(corpus, run):
    def listen(event):
        if isinstance(event, TrainingProgress) and event.step == STOP_AFTER:
            signal.raise_signal(signal.SIGINT)

    spec = with_mode("ddp", micro_batches=4, log_every=1)
    assert train(corpus, run, spec, device="cpu", on_event=listen).step == STOP_AFTER


def assert_close(one: Path, other: Path) -> None:
    for file in ("model.safetensors", "training/weights.safetensors", "training/optimizer.safetensors"):
        ours, theirs = load_file(one / file), load_file(other / file)
        assert ours.keys() == theirs.keys()
        for name, tensor in ours.items():
            torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=5e-6)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_one_process_goes_on_where_two_stopped_and_ends_as_one_alone(mode, together, corpus, straight):
    run = together / f"{mode}-stopped"
    assert checkpoints_of(run)[-1].name == f"step-{STOP_AFTER:07d}"
    result = train(corpus, run, with_mode("ddp"), device="cpu", resume=True)
    assert_close(result.checkpoint, straight)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_two_processes_go_on_where_one_stopped_and_end_as_one_alone(mode, together, straight):
    newest = checkpoints_of(together / f"{mode}-resumed")[-1]
    assert_close(newest, straight)
    load_checkpoint(newest)  # on its own, sharded before or not
    progress = [json.loads((folder / "training/progress.json").read_text()) for folder in (newest, straight)]
    for name in ("step", "position", "micro_batches", "sentences"):
        assert progress[0][name] == progress[1][name]


@pytest.mark.slow
def test_two_processes_train_a_surrogate_as_one_alone(together, corpus, tmp_path):
    alone = train(corpus, tmp_path / "run", surrogate_alone("ddp", together / "ddp-resumed"), device="cpu")
    for mode in ("ddp", "fsdp"):
        assert_close(checkpoints_of(together / f"{mode}-surrogate")[-1], alone.checkpoint)


@pytest.mark.slow
def test_processes_stop_fail_and_choose_alike(together):
    zero, one = (json.loads((together / f"{rank}.json").read_text()) for rank in (0, 1))
    assert zero == one
    assert zero["words"] == ["from 0", "", True]
    assert zero["ddp stopped"].startswith(f"signal at {STOP_AFTER},")
    assert zero["fsdp resumed"].startswith("steps at 12,")
    assert "not finite at step" in zero["error"]


def start(python: str, corpus_folder: Path, run: Path, *arguments: str) -> subprocess.Popen:
    (run.parent / "tiny.toml").write_text(SETTINGS)
    command = [
        sys.executable,
        "-c",
        LAUNCH,
        python,
        "train",
        str(corpus_folder),
        "--out",
        str(run),
        "--device",
        "cpu",
    ]
    command += ["--config", str(run.parent / "tiny.toml"), *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=one_thread()
    )


@posix_only
@pytest.mark.slow
@pytest.mark.parametrize(("number", "receiver"), [(signal.SIGINT, "launcher"), (signal.SIGTERM, "rank")])
def test_a_signal_saves_once_and_ends_every_process(
    number, receiver, tiny_corpus_folder, tmp_path, loaded_python
):
    run = tmp_path / "run"
    with start(loaded_python, tiny_corpus_folder, run, "--max-steps", "1000000") as launcher:
        for line in launcher.stderr:
            if line.startswith("step "):
                break
        started = psutil.Process(launcher.pid).children()
        (started[-1] if receiver == "rank" else launcher).send_signal(number)
        out, err = launcher.communicate()
    assert launcher.returncode == 128 + number, err
    assert out == f"{run}\n"
    assert err.count(": saved ") == err.count("Stopped at step") == 1
    assert "Traceback" not in err
    assert len(started) == 2
    assert not any(process.is_running() for process in started)
    assert len(checkpoints_of(run)) == 1


@posix_only
@pytest.mark.slow
def test_a_launcher_that_is_killed_takes_its_processes_with_it_and_they_save(tiny_corpus_folder, tmp_path):
    run = tmp_path / "run"
    with start(sys.executable, tiny_corpus_folder, run, "--max-steps", "1000000") as launcher:
        for line in launcher.stderr:
            if line.startswith("step "):
                break
        started = psutil.Process(launcher.pid).children()
        launcher.kill()
        # The streams end when the last of the processes does.
        launcher.communicate(timeout=300)
    assert len(started) == 2
    # Whoever inherits them may leave them unreaped.
    _, alive = psutil.wait_procs(started, timeout=60)
    assert all(process.status() == psutil.STATUS_ZOMBIE for process in alive)
    assert len(checkpoints_of(run)) == 1


@pytest.mark.slow
def test_what_is_wrong_in_the_processes_is_said_once(tiny_corpus_folder, tmp_path, loaded_python):
    with start(
        loaded_python, tiny_corpus_folder, tmp_path / "run", "--set", "train.micro_batches=3"
    ) as launcher:
        out, err = launcher.communicate()
    assert launcher.returncode == 2
    assert out == ""
    assert err.count("Error: ") == 1
    assert "train.micro_batches is 3, which 2 processes cannot share evenly." in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_first_cause_is_said_and_not_what_followed_from_it(tmp_path, capsys):
    def word(rank: int, message: str, lost: bool) -> ProcessFailure:
        file = tmp_path / f"{rank}.json"
        report = {"message": message, "hint": None, "lost": lost, "extraInfo": {"timestamp": str(rank)}}
        file.write_text(json.dumps({"message": report}))
        return ProcessFailure(rank, 1, 1, str(file))

    followed = {0: word(0, "Another process ended.", lost=True), 1: ProcessFailure(1, 1, -signal.SIGTERM, "")}
    assert launcher._show_first_failure({**followed, 2: word(2, "The disk is full.", lost=False)}) == 1
    assert "The disk is full." in capsys.readouterr().err
    assert launcher._show_first_failure({**followed, 2: ProcessFailure(2, 1, -signal.SIGKILL, "")}) == 1
    assert "rank 2 was ended by SIGKILL" in capsys.readouterr().err
    assert launcher._show_first_failure({**followed, 2: ProcessFailure(2, 1, 130, "")}) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_gpus_that_are_not_there_are_named_before_anything_is_started():
    with pytest.raises(ConfigError, match="cuda:0"):
        launcher.launch(["cuda:0", "cuda:1"])
    assert not logging.root.manager.disable


@pytest.mark.slow
def test_a_list_of_gpus_is_one_device_per_process():
    assert device_names(None, None) == ["auto"]
    assert device_names("0", None) == device_names("0", "cuda:0") == ["cuda:0"]
    assert device_names("0, 2", "cuda") == ["cuda:0", "cuda:2"]
    assert device_name("3", None) == "cuda:3"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gpu", "device", "reason"),
    [
        ("0,0", None, "twice"),
        ("-1", None, "not a number"),
        ("0,", None, "not a number"),
        ("a", None, "not a number"),
        ("0,1", "cuda:0", "contradict"),
        ("0", "cpu", "contradict"),
    ],
)
def test_a_bad_list_of_gpus_is_wrong_usage(gpu, device, reason):
    with pytest.raises(typer.BadParameter, match=reason):
        device_names(gpu, device)


@pytest.mark.slow
def test_a_command_for_one_device_takes_one():
    with pytest.raises(typer.BadParameter, match="this command uses one"):
        device_name("0,1", None)


@pytest.mark.slow
def test_processes_share_a_machine_with_one_device_each():
    assert launcher._own_device(["cpu"], local_rank=1, local_size=2) == torch.device("cpu")
    with pytest.raises(ConfigError, match="2 GPUs for the 3 processes"):
        launcher._own_device(["cuda:0", "cuda:1"], local_rank=0, local_size=3)


@pytest.mark.slow
def test_micro_batches_are_shared_evenly_and_a_run_keeps_its_own():
    two = World(size=2)
    assert micro_batches_per_step(None, None, ALONE) == 1
    assert micro_batches_per_step(None, None, two) == 2
    assert micro_batches_per_step(None, 2, ALONE) == 2
    assert micro_batches_per_step(None, 3, two) == 2
    assert micro_batches_per_step(4, 2, two) == 4
    with pytest.raises(ConfigError, match="evenly"):
        micro_batches_per_step(3, None, two)


@pytest.mark.slow
def test_another_number_of_micro_batches_on_resuming_is_said(corpus, tmp_path):
    stop_alone(corpus, tmp_path / "run")
    notices = []
    train(
        corpus,
        tmp_path / "run",
        with_mode("ddp", micro_batches=2),
        device="cpu",
        resume=True,
        on_event=lambda event: notices.append(event) if isinstance(event, Notice) else None,
    )
    order, validation = [notice.message for notice in notices if notice.warning]
    assert (
        order
        == "A step was made of 4 micro-batches and is made of 2: the sentences come in another order from here on."
    )
    assert validation.startswith("Validation is on other sentences, drafts or batches than before")
