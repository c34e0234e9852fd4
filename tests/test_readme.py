"""Every command of the README and of the papers beside the examples is run, in its order, in one folder.

The corpus is small and the budget seconds. Commands of `sgdd` run in this process, other programs in forks of one that
has loaded PyTorch already.
"""

import ast
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from hinted_commands import check_hints
from typer.testing import CliRunner

from sgdd_cli.main import FOR_PYTORCH
from sgdd_engine.checkpoint import read_info
from sgdd_engine.data.builtin import builtin_sentences
from sgdd_engine.errors import SgddError
from sgdd_engine.mini import CHECKPOINT

pytestmark = pytest.mark.offline_encoder
ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ENGINE = (ROOT / "sgdd_engine" / "README.md").read_text(encoding="utf-8")
PAPERS = (
    "README.md",
    "examples/mini/README.md",
    "examples/ablations_fiction/README.md",
    "examples/benchmarks.md",
    "examples/scaling.md",
    "examples/second_stage.md",
)
BLOCKS = re.compile(r"^```(sh|python|console)\n(.*?)^```", re.M | re.S)
LINKS = re.compile(r"\]\((?!https?:)([^)#]+)\)")
# Small models; what a command says itself is stronger.
SMALL = {
    "SGDD_DECODER__LAYERS": "1",
    "SGDD_DECODER__WIDTH": "32",
    "SGDD_DECODER__HEADS": "2",
    "SGDD_TRAIN__MAX_STEPS": "4",
    "SGDD_TRAIN__BATCH_TOKENS": "256",
    "SGDD_TRAIN__VALIDATION_SENTENCES": "4",
    "SGDD_FEEDBACK__SENTENCES": "16",
    "SGDD_SAMPLE__STEPS": "2",
    "SGDD_EVAL__LIMIT": "3",
    "SGDD_EVAL__NELBO_SAMPLES": "1",
    "SGDD_EVAL__DIVERSITY_SAMPLES": "2",
}
# As many as `mini` records.
STEPS = str(read_info(CHECKPOINT).sampling["steps"])
SMALLER_PLAN = {
    "layers = 3\nwidth = 256\nheads = 4": "layers = 1\nwidth = 32\nheads = 2",
    "tokens = 2048": "tokens = 256",
    "validation_sentences = 256": "validation_sentences = 4",
}
# What a command is given besides, so that it ends in seconds.
SHORTER = {
    "--shortlist 8": ["--shortlist", "2"],
    "--search 8": ["--limit", "2", "--set", "eval.diversity_samples=0"],
    "--calibrate-score 1500": ["--calibrate-score", "100"],
    "--calibrate-score 500": ["--calibrate-score", "100", "--refine", "0", "--limit", "2"],
    "--max-steps 1000": ["--max-steps", "2", "--set", "decoder.width=32", "--set", "decoder.heads=2"],
    "sgdd bench": ["--quick", "--repeats", "1", "--only", "train-step", "--only", "sampling"],
    "ablate.py examples/ablations.toml --corpus data/fiction --minutes 3": [
        *("--minutes", "0.01", "--sentences", "6", "--only", "base")
    ],
    "torchrun": ["--device", "cpu"],
}
# What a test machine has not: two machines of eight GPUs, and the novels.
HERE_INSTEAD = {
    "--nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint node0:29500": "--standalone --nproc-per-node 2",
    "--corpus data/fiction": "--corpus data/tales",
}
PROGRAMS = {"python": [], "torchrun": ["-m", "torch.distributed.run"]}
# What cannot be had on a test machine must end in one sentence that says what to do.
REFUSED = {
    "sgdd prepare-data bookcorpus --gpu 0",
    "sgdd train data/bookcorpus --gpu 0",
    "sgdd prepare-data bookcorpus --gpu 0,1 --embedding-dtype int8",
    "sgdd train data/bookcorpus --gpu 0,1",
}
# Continuous integration sets a machine up; the tour is run below, and the script that makes `mini` in test_mini.py.
RUN_ELSEWHERE = ("python3 -m venv", "sgdd demo", "bash examples/mini/make_mini.sh")


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


def blocks(kind: str, paper: str = "README.md") -> list[str]:
    text = (ROOT / paper).read_text(encoding="utf-8")
    return [block for found, block in BLOCKS.findall(text) if found == kind]


def commands(paper: str = "README.md") -> list[str]:
    return [line for block in blocks("sh", paper) for line in block.splitlines()]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    (folder / "tales.txt").write_text("\n".join(builtin_sentences(450)), encoding="utf-8")
    shutil.copytree(ROOT / "examples", folder / "examples")
    plan = folder / "examples" / "ablations.toml"
    text = plan.read_text(encoding="utf-8")
    for written, instead in SMALLER_PLAN.items():
        assert text.count(written) == 1
        text = text.replace(written, instead)
    plan.write_text(text, encoding="utf-8")
    return folder


def environment(**more: str) -> dict[str, str]:
    return {**SMALL, **more, "NO_COLOR": "1", "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}


def run(program: str, arguments: list[str], folder: Path, **more: str) -> Done:
    """A process of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SGDD_")}
    done = subprocess.run(
        [program, *arguments],
        cwd=folder,
        env={**clean, **environment(**more)},
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def run_sgdd(arguments: list[str], folder: Path, **more: str) -> Done:
    """A command of `sgdd` in this process."""
    from sgdd_cli.main import app

    absent = {name: None for name in os.environ if name.startswith("SGDD_")}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        done = CliRunner().invoke(app, arguments, env={**absent, **environment(**more)})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout, done.stderr)


@pytest.mark.slow
@pytest.mark.timeout(7200)  # some thirty commands, one after the other
def test_every_command_does_what_the_papers_say(workplace, loaded_python):
    ran = [line for paper in PAPERS for line in commands(paper) if not line.startswith(RUN_ELSEWHERE)]
    for line in ran:
        check_command(line, workplace, loaded_python)
    assert len(ran) >= 20
    check_python_and_example(workplace, loaded_python)


def check_command(line: str, folder: Path, python: str) -> None:
    here = line
    for written, instead in HERE_INSTEAD.items():
        here = here.replace(written, instead)
    words = shlex.split(here)
    settings = dict(words.pop(0).split("=", 1) for _ in range(len(words)) if "=" in words[0])
    words += [word for part, more in SHORTER.items() if part in line for word in more]
    program, *arguments = words
    if (
        line in REFUSED
    ):  # a bug would be another exception (see test_cli.py for what the user reads of either)
        with pytest.raises(SgddError):
            run_sgdd(arguments, folder, **settings)
        return
    if program == "sgdd":
        done = run_sgdd(arguments, folder, **settings)
    else:
        done = run(python, [*PROGRAMS[program], *arguments], folder, **settings)
    assert done.code == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    check_hints(done.stdout, done.stderr)


def check_python_and_example(folder: Path, python: str) -> None:
    """The README's Python and the example script, on the run that the commands have made."""
    (code,) = blocks("python")
    shown = run(python, ["-c", code], folder)
    assert shown.code == 0, shown.stderr
    # Each ends with a cosine; what so small a model writes may hold a line break.
    assert len(re.findall(r" -?\d\.\d+(e-\d+)?$", shown.stdout, re.M)) == 2
    example = run(python, ["examples/reconstruct.py", "runs/tales"], folder)
    assert example.code == 0, example.stderr
    assert example.stdout.count("→") == 2


@pytest.mark.slow
def test_the_examples_print_what_the_readme_shows(tmp_path):
    shown = blocks("console")
    assert len(shown) == 2
    for block in shown:
        command, *expected = block.splitlines()
        # As many steps as a reader's command takes, not the few of the other commands here.
        done = run_sgdd(shlex.split(command.removeprefix("$ sgdd ")), tmp_path, SGDD_SAMPLE__STEPS=STEPS)
        assert done.code == 0, done.stderr
        if "--search 0" not in command:  # many draws, of which another processor's rounding may turn one
            assert len(done.stdout.splitlines()) == len(expected)
        else:
            assert done.stdout.splitlines() == expected


def test_the_readme_shows_all_of_the_first_sentences():
    sources = (ROOT / "examples" / "first_sentences.txt").read_text(encoding="utf-8").splitlines()
    shown = re.search(r"^```text\n(The cat .*?)^```", README, re.M | re.S)[1].splitlines()
    assert [line.split(" → ")[0] for line in shown] == sources
    assert len(sources) == 20


@pytest.mark.slow
def test_first_sentences_come_back_as_the_readme_shows(tmp_path):
    lines = re.search(r"^```text\n(The cat .*?)^```", README, re.M | re.S)[1].splitlines()
    shown = dict(line.split(" → ") for line in lines)
    sources = list(shown)[7:13:2]
    done = run_sgdd(["sample", *sources, "--checkpoint", "mini"], tmp_path, SGDD_SAMPLE__STEPS=STEPS)
    assert done.code == 0, done.stderr
    # Many draws, of which another processor's rounding may turn one.
    written = done.stdout.splitlines()
    assert sum(text == shown[source] for source, text in zip(sources, written, strict=True)) >= 2


@pytest.mark.slow
def test_the_picture_is_that_of_the_commands_it_shows(tmp_path, loaded_python):
    done = run(
        loaded_python,
        [str(ROOT / "examples" / "terminal_picture.py"), "--out", "new.svg"],
        tmp_path,
        SGDD_SAMPLE__STEPS=STEPS,
    )
    assert done.code == 0, done.stderr
    new, old = (picture_text(path) for path in (tmp_path / "new.svg", ROOT / ".github" / "terminal.svg"))
    # All that is drawn greedily; the samples depend on draws, see above.
    samples = new.index(next(line for line in new if "--temperature" in line)) + 1
    assert new[:samples] == old[:samples]
    assert len(new) == len(old)
    assert ".github/terminal.svg" in README


def picture_text(path: Path) -> list[str]:
    return re.findall(r"<text [^>]*clip-path[^>]*>(.*?)</text>", path.read_text(encoding="utf-8"), re.S)


@pytest.mark.parametrize("paper", [*PAPERS, "sgdd_engine/README.md", ".github/CONTRIBUTING.md"])
def test_links_lead_to_files(paper):
    folder = (ROOT / paper).parent
    text = (ROOT / paper).read_text(encoding="utf-8")
    assert [link for link in LINKS.findall(text) if not (folder / link).exists()] == []


@pytest.mark.parametrize("paper", ["sgdd_engine/README.md", ".github/CONTRIBUTING.md"])
def test_the_files_that_are_named_are_there(paper):
    text = (ROOT / paper).read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:\w+/)+(?:\w+\.\w+)?)`", text))
    assert len(named) >= 10
    assert [
        name for name in named if not any((root / name).exists() for root in (ROOT, ROOT / "sgdd_engine"))
    ] == []


def test_the_readme_is_short():
    assert len(README.encode()) < 12_000


def test_each_row_of_what_happens_when_names_a_test_of_faults():
    section = README.partition("## What happens when")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 10
    for row in rows:
        named = re.findall(r"`(test_\w+\.py)`", row)
        assert named, row
        for name in named:
            assert "pytest.mark.faults" in (ROOT / "tests" / name).read_text(encoding="utf-8"), name


@pytest.mark.slow
def test_the_tour_goes_all_the_way_and_shows_its_commands(tmp_path, loaded_python):
    tour = ["-m", "sgdd_cli", "demo", "--minutes", "0.02", "--sentences", "1000"]
    done = run(loaded_python, tour, tmp_path)
    assert done.code == 0, done.stderr
    for command in ("prepare-data", "train", "sample", "eval"):
        assert f"$ sgdd {command}" in done.stderr
    check_hints(done.stdout, done.stderr)
    # The tour says itself what comes next.
    assert "Next:" not in done.stderr
    assert len(re.findall(r"^  source   .+\n  written  ", done.stdout, re.MULTILINE)) == 6
    assert done.stdout.splitlines()[-1].startswith("  written  ")
    assert "another sentence's" in done.stdout
    assert "sgdd demo" in README


def test_the_set_up_command_is_that_of_continuous_integration():
    first = next(line for line in commands() if line.startswith("python3 -m venv"))
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "-c .ci/constraints.txt" in first
    assert "--constraint .ci/constraints.txt" in script
    assert "python -m pytest" in script
    assert "`bash .ci/run`" in README
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


def test_a_notebook_is_told_the_variables_that_the_command_line_sets():
    (found,) = re.findall(r"os\.environ \|= (\{.*?\})", ENGINE, re.DOTALL)
    assert ast.literal_eval(found) == FOR_PYTORCH
