"""Every command of the README is run, in its order, in one folder, with a corpus and a budget of seconds."""

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sgdd_cli.main import app
from sgdd_engine.data.builtin import builtin_sentences

pytestmark = pytest.mark.offline_encoder
ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.compile(r"^```(sh|python)\n(.*?)^```", re.M | re.S)
# Small models; what a README command says itself is stronger.
SMALL = {
    "SGDD_DECODER__WIDTH": "32",
    "SGDD_DECODER__HEADS": "2",
    "SGDD_TRAIN__MAX_STEPS": "4",
    "SGDD_TRAIN__VALIDATION_SENTENCES": "16",
    "SGDD_FEEDBACK__SENTENCES": "64",
    "SGDD_EVAL__LIMIT": "6",
    "SGDD_EVAL__NELBO_SAMPLES": "1",
    "SGDD_SAMPLE__STEPS": "4",
}
# What a command is given besides, so that it ends in seconds.
SHORTER = {
    "--limit 500": ["--limit", "6"],
    "--shortlist 8": ["--shortlist", "2"],
    "--max-steps 1000": ["--max-steps", "2", "--set", "decoder.width=32", "--set", "decoder.heads=2"],
    "sgdd bench": ["--quick", "--repeats", "1", "--only", "train-step", "--only", "sampling"],
    "torchrun": ["--device", "cpu"],
}
# Two machines of eight GPUs become two processes of this one.
ONE_MACHINE = {
    "--nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint node0:29500": "--standalone --nproc-per-node 2"
}
PROGRAMS = {"sgdd": ["-m", "sgdd_cli"], "torchrun": ["-m", "torch.distributed.run"]}
# What cannot be had on a test machine must end in one sentence that says what to do.
REFUSED = {
    "sgdd prepare-data bookcorpus --gpu 0": (1, 2),
    "sgdd train data/bookcorpus --gpu 0": (1, 2),
    "sgdd prepare-data bookcorpus --gpu 0,1 --embedding-dtype int8": (1, 2),
    "sgdd train data/bookcorpus --gpu 0,1": (1, 2),
}
# The commands that set a machine up: continuous integration is the second one itself.
SET_UP = ("python3 -m venv", "bash .ci/run")
# Has a test of its own.
TOUR = "sgdd demo"


def commands() -> list[str]:
    return [line for kind, block in BLOCKS.findall(README) if kind == "sh" for line in block.splitlines()]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    (folder / "tales.txt").write_text("\n".join(builtin_sentences(1500)), encoding="utf-8")
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


def variables(**more: str) -> dict[str, str | None]:
    """What differs from this process's environment; None takes a variable away."""
    away = {name: None for name in os.environ if name.startswith("SGDD_")}
    return {**away, **SMALL, **more, "NO_COLOR": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


def run(arguments: list[str], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own."""
    environment = {
        name: value for name, value in {**os.environ, **variables(**more)}.items() if value is not None
    }
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def run_here(arguments: list[str], folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `sgdd` in this process, where PyTorch is loaded already; raises what the command raises."""
    with contextlib.chdir(folder):
        done = CliRunner().invoke(app, arguments, env=variables(**more), catch_exceptions=False)
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


@pytest.mark.slow
@pytest.mark.timeout(7200)  # some thirty programs, one after the other
def test_every_command_of_the_readme_does_what_it_says(workplace):
    ran = 0
    for line in commands():
        if line.startswith(SET_UP) or line == TOUR:
            continue
        here = line
        for written, instead in ONE_MACHINE.items():
            here = here.replace(written, instead)
        words = shlex.split(here)
        settings = [words.pop(0) for _ in range(len(words)) if "=" in words[0]]
        assert words[0] in PROGRAMS, line
        extra = [word for part, more in SHORTER.items() if part in line for word in more]
        more = dict(setting.split("=", 1) for setting in settings)
        if words[0] == "sgdd" and line not in REFUSED:
            done = run_here([*words[1:], *extra], workplace, **more)
        else:
            done = run([sys.executable, *PROGRAMS[words[0]], *words[1:], *extra], workplace, **more)
        if line in REFUSED:
            assert done.returncode in REFUSED[line], done.stderr
            assert done.stderr.startswith("Error: "), done.stderr
            assert "bug" not in done.stderr
        else:
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        ran += 1
    assert ran >= 10
    check_python_and_example(workplace)


def check_python_and_example(workplace):
    """The README's Python and the example script, on the run that the commands have made."""
    code = next(block for kind, block in BLOCKS.findall(README) if kind == "python")
    shown = run([sys.executable, "-c", code], workplace)
    assert shown.returncode == 0, shown.stderr
    assert len(shown.stdout.splitlines()) == 2
    example = run([sys.executable, "examples/reconstruct.py", "runs/tales"], workplace)
    assert example.returncode == 0, example.stderr
    assert example.stdout.count("→") == 2


@pytest.mark.slow
def test_the_tour_goes_all_the_way_and_shows_its_commands(tmp_path):
    done = run(
        [sys.executable, "-m", "sgdd_cli", "demo", "--minutes", "0.02", "--sentences", "1000"], tmp_path
    )
    assert done.returncode == 0, done.stderr
    for command in ("prepare-data", "train", "eval", "sample"):
        assert f"$ sgdd {command}" in done.stderr
    assert "another sentence's" in done.stdout
    assert TOUR in commands()


def test_the_set_up_commands_are_those_of_continuous_integration():
    first, second = (next(line for line in commands() if line.startswith(start)) for start in SET_UP)
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "-c .ci/constraints.txt" in first
    assert "python -m pytest" in script
    assert second == "bash .ci/run"
    assert (ROOT / ".ci" / "constraints.txt").is_file()


def test_both_reference_configurations_and_the_compact_one_are_valid(monkeypatch):
    from sgdd_cli.settings import load_settings

    for name in [name for name in os.environ if name.startswith("SGDD_")]:
        monkeypatch.delenv(name)
    files = ("phase1_vib.toml", "phase1_whitening.toml", "fiction_compact.toml", "mini/mini.toml")
    found = {Path(name).stem: load_settings([ROOT / "examples" / name]).settings for name in files}
    assert found["phase1_vib"].bottleneck.kind == "vib"
    assert found["phase1_whitening"].bottleneck.kind == "whitening"
    for name in ("phase1_vib", "phase1_whitening"):
        assert found[name].encoder.name == "BAAI/bge-m3"
        assert (found[name].decoder.layers, found[name].decoder.width, found[name].decoder.heads) == (
            2,
            256,
            4,
        )
    assert found["fiction_compact"].encoder.name == found["mini"].encoder.name == "minilm"
