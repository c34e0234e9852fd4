"""What a shell completes, asked as bash asks, and how much is loaded for it."""

import os
import select
import shutil
import subprocess
import sys
from collections.abc import Callable
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


def test_a_key_that_is_found_alone_comes_with_what_it_may_be():
    rules = [name for name, _ in complete_assignment("sample.position_r")]
    assert rules[0] == "sample.position_rule="
    assert "sample.position_rule=margin" in rules[1:]
    # Of a number the default, so that there are two answers and a shell ends no word after the `=`.
    assert [name for name, _ in complete_assignment("train.learning_r")] == [
        "train.learning_rate=",
        "train.learning_rate=0.001",
    ]


@pytest.fixture
def bash(place) -> Callable[[str, str], None]:
    """Types into a real bash, with the script that `--install-completion` installs, and waits for the line it makes."""
    import pty

    (place / "sgdd").write_text(f"#!{sys.executable}\nfrom sgdd_cli.main import main\n\nmain()\n")
    (place / "sgdd").chmod(0o755)
    environment = {
        **os.environ,
        **{"PYTHONPATH": str(ROOT), "HF_HOME": str(place / "hub"), "PATH": f"{place}:{os.environ['PATH']}"},
        **{"PS1": "$ ", "TERM": "dumb", "HISTFILE": "", "INPUTRC": "/dev/null"},
    }
    script = subprocess.run(
        ["sgdd"],
        env={**environment, "_SGDD_COMPLETE": "source_bash"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    (place / "completion.sh").write_text(script)

    def type_in(line: str, awaited: str) -> None:
        """Type a line that ends in a tab, and wait for what the terminal shows then; the line is not run."""
        controller, terminal = pty.openpty()
        command = ["bash", "--norc", "--noprofile", "-i"]
        with subprocess.Popen(
            command,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            cwd=place,
            env=environment,
            process_group=0,
        ) as process:
            os.close(terminal)
            try:
                for typed, answer in (("source completion.sh\n", "sh\r\n$ "), (line, awaited)):
                    os.write(controller, typed.encode())
                    shown = ""
                    while answer not in shown:
                        assert select.select([controller], [], [], 60)[0], shown
                        shown += os.read(controller, 4096).decode()
            finally:
                process.kill()
        os.close(controller)

    return type_in


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform == "win32" or shutil.which("bash") is None, reason="needs bash and a terminal"
)
def test_bash_completes_values_although_it_splits_at_the_equals_sign(bash):
    bash("sgdd train --set sample.position_rule=mar\t", "position_rule=margin ")
    bash("sgdd train --set train.seed=1 --set decoder.feedback=\t\t", "\r\nfalse  true")
    bash("sgdd train --set train.learning_r\t", "learning_r\x07ate=")


@pytest.mark.slow
def test_every_command_that_takes_one_completes_it(place):
    run, corpus = str(Path("runs", "tales")), str(Path("data", "novels"))
    for words, wanted in {
        "sgdd eval r": [run],
        "sgdd push ": [run],
        "sgdd train ": [corpus],
        "sgdd prepare-data x.txt --vectors-from ": [corpus],
        "sgdd config show --set decoder.surrogate_w": [
            "decoder.surrogate_width=",
            "decoder.surrogate_width=0",
        ],
        "sgdd config show --set train.seed = 1 --set sample.guidance = pl": ["plain"],
        "sgdd config show --set = sample.guidance =": ["coverage", "plain"],
    }.items():
        assert shell(place, words) == (wanted, "[]"), words
