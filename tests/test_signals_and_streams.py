"""Signals save and stop; and no stream that takes nothing more loses any work."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from forked_command import ForkedCommand
from tiny_sgdd import build

from sgdd_engine.atomic_files import damage
from sgdd_engine.checkpoint import checkpoints_of, read_info
from sgdd_engine.child_process import run_child
from sgdd_engine.data.manifest import Manifest
from sgdd_engine.stop_signals import StopSignals
from sgdd_engine.tracking import read_log

pytestmark = pytest.mark.skipif(os.name == "nt", reason="forks, and POSIX signals")

TRAINING = [
    *("--device", "cpu", "--tracker", "jsonl"),
    *("--set", "decoder.width=16", "--set", "decoder.layers=1", "--set", "decoder.heads=2"),
    *(
        "--set",
        "bottleneck.latent_dim=8",
        "--set",
        "bottleneck.hidden_dim=8",
        "--set",
        "train.batch_tokens=64",
    ),
    *("--set", "train.validation_sentences=2", "--set", "train.log_every=1"),
]


@pytest.fixture(scope="module")
def checkpoint(tiny_encoder, sentences, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    build(tiny_encoder, sentences[:20], width=16).save_pretrained(folder)
    return folder


@pytest.fixture
def book(sentences, tmp_path):
    (tmp_path / "book.txt").write_text("\n".join(sentences[:40]), encoding="utf-8")
    return tmp_path / "book.txt"


class Running:
    """A command, its messages as they come, and what they were."""

    def __init__(self, arguments, folder, **options):
        out, into_out = os.pipe()
        err, into_err = os.pipe()
        self.command = ForkedCommand(arguments, folder, stdout=into_out, stderr=into_err, **options)
        os.close(into_out)
        os.close(into_err)
        self._out = os.fdopen(out, encoding="utf-8")
        self._err = os.fdopen(err, encoding="utf-8")
        self.messages: list[str] = []

    def wait_for(self, part):
        for line in self._err:
            self.messages.append(line)
            if part in line:
                return
        raise AssertionError("".join(self.messages))

    def end(self):
        """Exit code, what it printed, and its messages."""
        out, err = self._out.read(), "".join([*self.messages, *self._err])
        self._out.close()
        self._err.close()
        return self.command.wait(), out, err


def training(corpus, folder, steps=100_000, **options):
    arguments = ["train", corpus, "--out", folder / "run", "--max-steps", steps, *TRAINING]
    return Running(arguments, folder, **options)


@pytest.mark.slow
@pytest.mark.faults
def test_a_closed_terminal_saves_and_stops(tiny_corpus_folder, tmp_path, faults):
    running = training(tiny_corpus_folder, tmp_path)
    running.wait_for("step ")
    # The system and the shell tell it one after the other.
    for _ in range(3):
        running.command.signal(signal.SIGHUP)
        time.sleep(0.01)
    code, out, err = running.end()
    assert (code, out) == (129, f"{tmp_path / 'run'}\n"), err
    (saved,) = checkpoints_of(tmp_path / "run")
    assert damage(saved) is None
    assert f"Stopped at step {read_info(saved).step:,}" in err
    faults.tell("resumed", "SIGHUP, three times")


@pytest.mark.slow
def test_a_hangup_that_is_ignored_stays_ignored(tiny_corpus_folder, tmp_path):
    running = training(tiny_corpus_folder, tmp_path, ignoring=[signal.SIGHUP])
    running.wait_for("step ")
    running.command.signal(signal.SIGHUP)
    running.wait_for("step ")
    running.command.signal(signal.SIGTERM)
    assert running.end()[0] == 143


def test_a_second_hangup_does_not_end_what_the_first_one_has_saved():
    before = signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        with StopSignals() as signals:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGHUP)
            assert signals.received == signal.SIGHUP
        assert signal.getsignal(signal.SIGHUP) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGHUP, before)


# --- children ---------------------------------------------------------------------------------------------

CHILD = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
print("ready", flush=True)
time.sleep(60)
"""
PARENT = f"""
import sys
from sgdd_engine.child_process import run_child
done = run_child([sys.executable, "-c", {CHILD!r}])
print("code", done.returncode, flush=True)
"""


@contextmanager
def parent() -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, process_group=0) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (child,) = psutil.Process(process.pid).children()
        yield process, child
    assert not child.is_running()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("whole_group", [True, False])
def test_a_child_is_told_once_and_waited_for(number, whole_group):
    with parent() as (process, _):
        (os.killpg if whole_group else os.kill)(process.pid, number)
        assert process.stdout.read() == f"code {128 + number}\n"


@pytest.mark.slow
def test_a_child_that_is_ended_alone_ends_its_command():
    with parent() as (process, child):
        child.terminate()
        assert process.stdout.read() == "code 5\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a killed process leaves its children")
def test_a_child_is_asked_to_stop_where_its_parent_is_killed():
    with parent() as (process, child):
        process.kill()
        psutil.wait_procs([child], timeout=30)
        assert not child.is_running()


def test_what_a_child_prints_and_its_exit_code_come_back():
    program = "import sys; print(sys.stdin.read() + 'text'); sys.exit(3)"
    done = run_child([sys.executable, "-I", "-S", "-c", program], stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (3, "text\n")
    program = "import os; os.kill(os.getpid(), 9)"
    assert run_child([sys.executable, "-I", "-S", "-c", program]).returncode == -9


@pytest.mark.slow
def test_ctrl_c_ends_the_demo_and_its_command(tmp_path):
    arguments = [sys.executable, "-m", "sgdd_cli", "demo", "--sentences", "1000", "--minutes", "5"]
    environment = {**os.environ, "SGDD_ENCODER__NAME": "nowhere", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        arguments, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    ) as demo:
        assert demo.stderr is not None
        assert "$ sgdd prepare-data" in next(line for line in demo.stderr if line.startswith("$"))
        first = demo.stderr.readline()  # the command's own
        demo.send_signal(signal.SIGINT)
        rest = demo.stderr.read()  # which ends when its command has ended too
    assert demo.returncode == 130, rest
    assert (first + rest).count("Interrupted.") == 1
    assert "2. Train" not in rest


# --- streams ----------------------------------------------------------------------------------------------


def closed_pipe():
    reading, writing = os.pipe()
    os.close(reading)
    return writing


STREAMS = {"full": lambda: os.open("/dev/full", os.O_WRONLY), "closed": closed_pipe}
needs_dev_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")


def run_with(kind, which, arguments, folder):
    """The exit code of a command whose one stream takes nothing, and what it wrote to the other one."""
    reading, writing = os.pipe()
    bad = STREAMS[kind]()
    streams = {"stdout": writing, "stderr": writing, which: bad}
    command = ForkedCommand(arguments, folder, **streams)
    os.close(writing)
    os.close(bad)
    with os.fdopen(reading, encoding="utf-8") as stream:
        text = stream.read()
    return command.wait(), text


@needs_dev_full
@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("which", ["stdout", "stderr"])
def test_work_is_done_where_a_stream_takes_nothing(
    kind, which, tiny_corpus_folder, tiny_encoder_folder, checkpoint, book, tmp_path, faults
):
    run, corpus, copy, page = (tmp_path / name for name in ("run", "corpus", "copy", "report.html"))
    model = tmp_path / "model"
    shutil.copytree(checkpoint, model)
    commands = {
        "train": ["train", tiny_corpus_folder, "--out", run, "--max-steps", 2, *TRAINING],
        "prepare-data": [
            "prepare-data",
            book,
            "--out",
            corpus,
            "--encoder",
            tiny_encoder_folder,
            "--device",
            "cpu",
        ],
        "export": ["export", checkpoint, copy],
        "eval": [
            *("eval", model, "--data", book, "--limit", 4, "--find-cfg", "--report", page, "--device", "cpu"),
            *("--encoder", tiny_encoder_folder),
            *("--set", "sample.steps=2", "--quick"),
        ],
    }
    for name, arguments in commands.items():
        code, text = run_with(kind, which, arguments, tmp_path)
        told = f"{name} with a {kind} {which}: {code} {text}"
        # What was to be printed is lost where the disk is full, and nobody wants it where the pipe is closed.
        right = code == (1 if (kind, which) == ("full", "stdout") else 0) and "Traceback" not in text
        assert ("Standard output cannot be written" in text) == (code == 1), told
        faults.tell("harmless" if right else "bug", told)
    assert [read_info(folder).step for folder in checkpoints_of(run)] == [2]
    assert read_log(run).ending == "finished"
    assert Manifest.read(corpus).splits["train"]
    assert damage(copy) is None
    assert "</html>" in page.read_text(encoding="utf-8")
    assert read_info(model).sampling
    assert read_info(model).evaluations


@needs_dev_full
@pytest.mark.slow
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_pipe_that_nobody_reads_ends_a_command_that_only_prints(
    form, checkpoint, tiny_encoder_folder, tmp_path
):
    command = [
        "--quiet",
        "sample",
        "One.",
        *form,
        "--search",
        0,
        "--checkpoint",
        checkpoint,
        "--device",
        "cpu",
        "--encoder",
        tiny_encoder_folder,
    ]
    assert run_with("closed", "stdout", command, tmp_path) == (0, "")
    code, text = run_with("full", "stdout", command, tmp_path)
    assert (code, text) == (1, "Error: Standard output cannot be written: No space left on device.\n")
    code, text = run_with("full", "stderr", [*command, "--checkpoint", "nowhere"], tmp_path)
    assert (code, text) == (1, "")
