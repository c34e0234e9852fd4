"""What a shell completes, asked as bash asks, and how much is loaded for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sgdd_cli.completion import complete_assignment, complete_checkpoint, complete_corpus, complete_run

ROOT = Path(__file__).parents[1]
COMMIT = "0123456789" * 4


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with two runs, one of them without a checkpoint, and a corpus."""
    (tmp_path / "runs" / "tales" / "checkpoints" / "step-0000010").mkdir(parents=True)
    (tmp_path / "runs" / "begun").mkdir()
    (tmp_path / "data" / "novels").mkdir(parents=True)
    (tmp_path / "data" / "novels" / "manifest.json").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_models_corpora_and_settings_are_completed(place):
    run = str(Path("runs", "tales"))
    assert complete_checkpoint("")[:2] == ["mini", run]
    assert complete_checkpoint("run") == complete_run("") == [run]
    assert complete_corpus("") == [str(Path("data", "novels"))]
    assert [key for key, _ in complete_assignment("sample.po")] == [
        *("sample.position_rule=", "sample.position_noise=")
    ]
    assert all(meaning for _, meaning in complete_assignment("train."))
    assert ("sample.position_rule=margin", "") in complete_assignment("sample.position_rule=")
    assert complete_assignment("decoder.feedback=t") == [("decoder.feedback=true", "")]
    assert complete_assignment("no.such=") == []


def shell(place: Path, words: str) -> tuple[list[str], str]:
    """What bash is answered for a command line, and which large packages were loaded for it."""
    code = (
        "import sys; sys.argv = ['sgdd']\n"
        "from sgdd_cli.main import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'transformers', 'pyarrow'} & set(sys.modules)), file=sys.stderr)\n"
    )
    given = {"PYTHONPATH": str(ROOT), "HF_HOME": str(place / "hub"), "_SGDD_COMPLETE": "complete_bash"}
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=place,
        env={**os.environ, **given, **asked},
    )
    return done.stdout.split(), done.stderr.strip()


def test_bash_is_answered_without_loading_torch(place):
    cached = place / "hub" / "hub" / "models--anna--tales" / "snapshots" / COMMIT
    cached.mkdir(parents=True)
    (cached / "config.json").write_text('{"format": 1, "sgdd": "1", "diffusion": {}}')
    other = place / "hub" / "hub" / "models--anna--bert" / "snapshots" / COMMIT
    other.mkdir(parents=True)
    (other / "config.json").write_text("{}")
    names = ["mini", str(Path("runs", "tales")), "anna/tales"]
    assert shell(place, "sgdd sample --checkpoint ") == (names, "[]")


@pytest.mark.slow
def test_every_command_that_takes_one_completes_it(place):
    run, corpus = str(Path("runs", "tales")), str(Path("data", "novels"))
    for words, wanted in {
        "sgdd eval r": [run],
        "sgdd push ": [run],
        "sgdd train ": [corpus],
        "sgdd prepare-data x.txt --vectors-from ": [corpus],
        "sgdd config show --set decoder.surrogate_w": ["decoder.surrogate_width="],
    }.items():
        assert shell(place, words) == (wanted, "[]"), words
