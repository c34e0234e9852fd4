"""The command line: streams, exit codes, messages, and what is loaded; then the whole chain."""

import contextlib
import errno
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hinted_commands import check_hints, hints_of
from typer.testing import CliRunner

from sgdd_cli.command_registry import BUILT_IN
from sgdd_cli.commands.train import TrainRequest, _with_end
from sgdd_cli.default_paths import corpus_folder, new_run
from sgdd_cli.eval_settings import quick_settings, say_what_is_left_out
from sgdd_cli.main import app
from sgdd_cli.settings import load_settings
from sgdd_engine.checkpoint import resolve_checkpoint
from sgdd_engine.errors import CheckpointError, ConfigError, DataError, SgddError
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.evaluation.reconstruction import CONDITIONS
from sgdd_engine.mini import SENTENCES
from sgdd_engine.vectors import NpyWriter

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "datasets", "pyarrow", "tokenizers", "numpy")
PLUGIN = """
import time
from sgdd_cli.console import emit, emit_json, say

def boom() -> None:
    raise RuntimeError("it went [red]wrong")

def full() -> None:
    raise OSError(28, "No space left on device", "runs/a")

def hungry() -> None:
    raise MemoryError

def giving_up() -> None:
    raise SystemExit("no [more]")

def notes() -> None:
    for _ in range(5_000):
        say("a note")
    emit("finished")

def wait() -> None:
    emit("ready")
    time.sleep(3600)

def chatter() -> None:
    while True:
        emit("a line of data")

def foreign() -> None:
    emit_json({"text": "Gr\\u00fc\\u00dfe \\u4f60"})
    emit("Gr\\u00fc\\u00dfe \\u4f60")
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment without settings, with a plugin whose commands misbehave."""
    site = tmp_path_factory.mktemp("site")
    (site / "misbehaving.py").write_text(PLUGIN, encoding="utf-8")
    info = site / "misbehaving-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: misbehaving\nVersion: 1.0\n")
    names = ("boom", "full", "hungry", "giving_up", "notes", "wait", "chatter", "foreign")
    (info / "entry_points.txt").write_text(
        "[sgdd.commands]\n" + "".join(f"{name} = misbehaving:{name}\n" for name in names)
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SGDD_")}
    path = os.pathsep.join([str(ROOT), str(site)])
    return {**clean, "PYTHONPATH": path, "NO_COLOR": "1", "COLUMNS": "120", "PYTHONUTF8": "1"}


@pytest.fixture
def sgdd(environment: dict[str, str], tmp_path: Path):
    """Runs `python -m sgdd_cli` in an empty folder."""

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "sgdd_cli", *arguments],
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
            cwd=tmp_path,
            env={**environment, **more},
        )

    return run


GROUPS = {"checkpoint": "checkpoint verify", "config": "config show", "corpus": "corpus verify"}
COMMANDS = tuple(GROUPS.get(name, name) for name in BUILT_IN)
# With the exit code of each.
WITHOUT_A_MODEL = {
    "-h": 0,
    "--version": 0,
    **{f"{name} --help": 0 for name in COMMANDS},
    "config show": 0,
    "config show --json": 0,
    "plugins": 0,
    "no-such-command": 2,
    "train --no-such-option": 2,
    "sample": 2,
    "sample text --cfg high": 2,
    "sample text --set sample.steps=0": 2,
    "eval --config gone.toml": 2,
    "config show --set train.lr=1": 2,
    "train --max-steps -3": 2,
    "prepare-data x.txt --vocab-size 99 --tokenizer encoder": 2,
    "param-count --set decoder.heads=7": 2,
}


def loaded_by(arguments, environment, tmp_path) -> tuple[int, set[str]]:
    """The exit code of a command, and the packages that its process has loaded at its end."""
    script = (
        "import sys\n"
        "from sgdd_cli.main import main\n"
        f"sys.argv = ['sgdd', *{arguments.split()}]\n"
        "code = 0\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as leaving:\n"
        "    code = leaving.code\n"
        "print(code or 0, *sorted(sys.modules), file=open('loaded.txt', 'w'))\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    code, *names = (tmp_path / "loaded.txt").read_text().split()
    return int(code), set(names)


# One after the other in one process: what a command loads stays loaded, and is told of that command alone.
EACH = """
import json, sys
from sgdd_cli.main import main
commands, heavy = json.loads(sys.argv[1])
found, before = {}, set()
for command in commands:
    sys.argv, code = ["sgdd", *command.split()], 0
    try:
        main()
    except SystemExit as leaving:
        code = leaving.code
    loaded = sys.modules.keys() & set(heavy)
    found[command], before = [code or 0, sorted(loaded - before)], loaded
json.dump(found, open("found.json", "w"))
"""


@pytest.mark.slow
def test_what_needs_no_model_loads_no_library(environment, tmp_path):
    command = [sys.executable, "-c", EACH, json.dumps([list(WITHOUT_A_MODEL), sorted(HEAVY)])]
    done = subprocess.run(command, capture_output=True, check=False, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found == {arguments: [code, []] for arguments, code in WITHOUT_A_MODEL.items()}


def test_the_overview_loads_not_even_what_draws_or_validates(environment, tmp_path):
    _, names = loaded_by("--help", environment, tmp_path)
    assert {"typer", "sgdd_cli.commands.sample", "sgdd_cli.commands.demo"} <= names
    assert names.isdisjoint({"rich.console", "rich.markdown", "pygments", "pydantic", "yaml", "asyncio"})


def test_version_and_help_go_to_stdout(sgdd):
    version = sgdd("--version")
    assert (version.returncode, version.stderr) == (0, "")
    assert version.stdout.startswith("sgdd 0.")
    overview = sgdd("-h")
    assert (overview.returncode, overview.stderr) == (0, "")
    listed = re.findall(r"^  ([a-z][a-z-]+)  ", overview.stdout.partition("Commands:")[2], re.M)
    assert listed[: len(BUILT_IN)] == list(BUILT_IN)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "demo"])
def test_each_help_gives_an_example(name):
    out, _ = call(*name.split(), "-h")
    assert f"Example: sgdd {name}" in out
    assert "--quiet" in out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["no-such-command"], "No such command"),
        (["train", "--no-such-option"], "No such option"),
        (["sample"], "Missing argument"),
        (["config", "show", "--set", "train.lr=1"], "Did you mean train.learning_rate?"),
        (["train", "--max-steps", "-3"], "train.max_steps comes from --max-steps."),
        (["eval", "--config", "gone.toml"], "There is no settings file `gone.toml`."),
        (["prepare-data", "x.txt", "--vocab-size", "99", "--tokenizer", "encoder"], "--vocab-size"),
        (["train", "--gpu", "0", "--device", "cpu"], "contradict"),
    ],
)
def test_wrong_usage_and_settings_exit_with_2(sgdd, arguments, part):
    done = sgdd(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert part in done.stderr
    assert "Traceback" not in done.stderr


def test_a_known_failure_is_one_sentence_and_exit_code_1(sgdd):
    done = sgdd("train")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "Error: No corpus was named, and there is none in `data`.",
        "  Prepare one, for example: sgdd prepare-data builtin --encoder minilm",
    ]


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("boom", "Error: This is a bug in sgdd: RuntimeError: it went [red]wrong"),
        ("full", "Error: No space left on device: runs/a."),
        ("hungry", "Error: There is not enough memory."),
        ("giving_up", "Error: no [more]"),
    ],
)
def test_what_nobody_expected_is_one_sentence_too(sgdd, command, sentence):
    done = sgdd(command)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == sentence
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--debug", "boom"], ["boom", "--debug"]])
def test_a_traceback_comes_only_when_asked_for(sgdd, arguments):
    done = sgdd(*arguments)
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("Error: This is a bug in sgdd")


@contextlib.contextmanager
def started(*arguments: str, **options: object) -> Iterator[subprocess.Popen]:
    """A process that is killed in the end: `Popen` alone would wait for it where a test fails, and for ever."""
    with subprocess.Popen([sys.executable, *arguments], **options) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no POSIX signals to send")
@pytest.mark.parametrize(
    ("name", "code", "word"),
    [
        ("SIGINT", 130, "Interrupted."),
        ("SIGTERM", 143, "Terminated."),
        ("SIGHUP", 129, "The terminal was closed."),
    ],
)
def test_signals_end_with_their_exit_code(environment, name, code, word):
    with started(
        "-m",
        "sgdd_cli",
        "wait",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.Signals[name])
        assert process.wait() == code
        assert process.stderr.read() == f"{word}\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows reports a closed pipe differently")
def test_a_reader_that_has_seen_enough_is_no_failure(environment):
    with started(
        "-m",
        "sgdd_cli",
        "chatter",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait() == 0
        assert process.stderr.read() == b""


@pytest.mark.skipif(os.name == "nt", reason="Windows reports a closed pipe differently")
def test_work_goes_on_when_nobody_reads_the_notes(environment):
    with started(
        "-m",
        "sgdd_cli",
        "notes",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.readline()
        process.stderr.close()
        assert process.stdout.read() == b"finished\n"
        assert process.wait() == 0


# `exec` closes a stream as `<&-` and `>&-` do, and makes the program's process the shell's own.
CLOSED = 'exec "$0" -m sgdd_cli "$@" '


def with_closed(environment, folder, stream: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", CLOSED + stream, sys.executable, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=folder, env=environment
    )


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell closes the streams")
@pytest.mark.parametrize("arguments", [["--help"], ["plugins", "--json"], ["config", "show"], ["train"]])
def test_a_closed_stdout_is_said_before_any_work(environment, tmp_path, arguments):
    done = with_closed(environment, tmp_path, ">&-", *arguments)
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "Error: Standard output is closed; the result would be lost."


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell closes the streams")
def test_work_goes_on_without_a_stderr(environment, tmp_path):
    done = with_closed(environment, tmp_path, "2>&-", "notes")
    assert (done.returncode, done.stdout, done.stderr) == (0, "finished\n", "")
    assert with_closed(environment, tmp_path, "2>&-", "boom").returncode == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell closes the streams")
def test_only_who_reads_a_closed_stdin_is_told_so(environment, tmp_path, tiny_encoder_folder):
    assert with_closed(environment, tmp_path, "<&-", "plugins", "--json").returncode == 0
    prepare = ("prepare-data", "-", "--out", "data", "--encoder", str(tiny_encoder_folder), "--device", "cpu")
    done = with_closed(environment, tmp_path, "<&-", *prepare)
    assert done.returncode == 1
    assert "Error: Standard input is closed." in done.stderr
    assert "bug" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is full")
@pytest.mark.parametrize("arguments", ["--help", "config show", "config show --json", "foreign"])
def test_output_that_cannot_be_written_is_a_failure_in_one_sentence(environment, tmp_path, arguments):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sgdd_cli", *arguments.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
            cwd=tmp_path,
            env=environment,
        )
    assert done.returncode == 1
    assert "No space left on device" in done.stderr.splitlines()[0]
    assert len(done.stderr.splitlines()) <= 2


@pytest.mark.slow
def test_text_that_the_stream_cannot_hold_is_written_as_codes(sgdd):
    narrow = sgdd("foreign", PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert narrow.returncode == 0, narrow.stderr
    first, second = narrow.stdout.splitlines()
    assert json.loads(first) == {"text": "Grüße 你"}
    assert second == r"Gr\xfc\xdfe \u4f60"
    assert sgdd("foreign").stdout.splitlines() == ['{"text": "Grüße 你"}', "Grüße 你"]


@pytest.mark.slow
def test_no_color_means_no_escape_codes(sgdd):
    for done in (sgdd("config", "show"), sgdd("config", "show", "--set", "x.y=1"), sgdd("boom")):
        assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.slow
def test_config_show_in_its_three_forms(sgdd, tmp_path):
    (tmp_path / "sgdd.toml").write_text("[train]\nseed = 4\n")
    table = sgdd("config", "show", "--explain", SGDD_DECODER__LAYERS="6")
    rows = {line.split()[0]: line.split() for line in table.stdout.splitlines() if "." in line}
    assert rows["train.seed"][1:3] == ["4", "sgdd.toml"]
    assert rows["decoder.layers"][1:4] == ["6", "environment", "SGDD_DECODER__LAYERS"]
    assert rows["sample.steps"][1:3] == ["16", "default"]
    assert "sgdd.toml" in table.stderr
    as_json = json.loads(sgdd("config", "show", "--json", "--quiet").stdout)
    assert as_json["train.seed"]["value"] == 4
    assert as_json["train.seed"]["source"] == "sgdd.toml"
    (tmp_path / "saved.toml").write_text(sgdd("config", "show", "--toml").stdout)
    again = json.loads(sgdd("config", "show", "--json", "--config", "saved.toml").stdout)
    assert {key: row["value"] for key, row in again.items()} == {
        key: row["value"] for key, row in as_json.items()
    }


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("builtin", "builtin"),
        ("hf:owner/name", "owner-name"),
        ("-", "stdin"),
        ("texts/tales.v2.txt.gz", "tales.v2"),
        ("texts/Tales.TSV", "Tales"),
        ("texts/*.txt", "texts"),
        ("C:\\texts\\my tales.csv", "my-tales"),
        ("../texts/", "texts"),
        ("*.txt", "texts"),
    ],
)
def test_default_corpus_folders(source, name):
    assert corpus_folder(source) == Path("data") / name


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(tmp_path):
    runs = [new_run(tmp_path / "data" / "tales", tmp_path / "runs") for _ in range(5)]
    assert len(set(runs)) == 5
    assert all(run.is_dir() for run in runs)
    assert all(re.fullmatch(r"tales-\d{8}-\d{6}(-\d)?", run.name) for run in runs)


# --- the whole chain, on the tiny encoder ---------------------------------------------------------------


def call(
    *arguments: object, code: int = 0, stdin: bytes | None = None, **environment: str
) -> tuple[str, str]:
    """Run a command in this process; what it wrote to stdout and to stderr."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], input=stdin, env=environment)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        check_hints(*hints_of(result.exception))
        raise result.exception
    check_hints(result.stdout, result.stderr)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory, tiny_encoder_folder: Path, sentences: list[str]):
    """A folder with a prepared corpus `data/tales` and a trained run in `runs/`."""
    folder = tmp_path_factory.mktemp("work")
    before = Path.cwd()
    os.chdir(folder)
    (folder / "tales.txt").write_text("\n".join(sentences), encoding="utf-8")
    (folder / "sgdd.toml").write_text(
        "[decoder]\nwidth = 32\nheads = 2\nmemory_tokens = 2\n"
        '[bottleneck]\nkind = "vib"\nlatent_dim = 16\nhidden_dim = 16\n'
        "[train]\nbatch_tokens = 256\nlog_every = 2\nvalidate_every = 4\nsave_every = 4\nvalidation_sentences = 6\n"
        "[eval]\nnelbo_samples = 2\n[sample]\nsteps = 3\n"
    )
    try:
        out, _ = call(
            "prepare-data", "tales.txt", "--encoder", tiny_encoder_folder, "--device", "cpu", "--quiet"
        )
        assert out == f"{Path('data') / 'tales'}\n"
        out, err = call("train", "--device", "cpu", "--max-steps", 8)
        assert f"on the corpus {Path('data') / 'tales'}." in err
        assert "step 8 of 8 (100%)" in err
        yield Path(out.strip())
    finally:
        os.chdir(before)


def test_a_dry_run_writes_nothing(workplace, tiny_encoder_folder):
    out, _ = call("prepare-data", "tales.txt", "--out", "dry", "--encoder", tiny_encoder_folder, "--dry-run")
    assert "400" in out
    assert not Path("dry").exists()
    unused = ("--split", "test", "--seed", 4, "--set", "tokenizer.vocab_size=900")
    _, err = call(
        "prepare-data", "tales.txt", "--out", "dry", "--encoder", tiny_encoder_folder, "--dry-run", *unused
    )
    for key in ("data.split (from --split)", "data.seed (from --seed)", "tokenizer.vocab_size (from --set)"):
        assert f"{key} is not used: " in err


def test_without_a_gpu_a_run_ends_after_an_hour_unless_its_end_is_given():
    told = []
    plan = TrainRequest(Path("data"), None, False, (), (), []).resolve()
    assert _with_end(plan, "cpu", told.append).settings.train.max_minutes == 60
    assert "Training on a CPU ends after 60 minutes" in told[0]
    for flag in (("--max-steps", "train.max_steps", 9), ("--max-minutes", "train.max_minutes", 600.0)):
        given = TrainRequest(Path("data"), None, False, (), (), [flag]).resolve()
        assert _with_end(given, "cpu", told.append) is given
    assert len(told) == 1


def test_a_run_without_a_corpus_announces_nothing(tmp_path):
    result = CliRunner().invoke(app, ["train", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run")])
    assert "There is no prepared corpus" in str(result.exception)
    assert "Training" not in result.output
    assert "ends after" not in result.output
    assert not (tmp_path / "run").exists()


def test_a_run_keeps_the_settings_it_was_made_with(workplace):
    assert "max_steps = 8" in (workplace / "settings.toml").read_text()
    call("config", "show", "--config", workplace / "settings.toml")


def test_resuming_takes_corpus_and_settings_from_the_run(workplace):
    Path("sgdd.toml").rename("aside.toml")
    try:
        out, err = call("train", "--resume", "--device", "cpu", "--max-steps", 10)
    finally:
        Path("aside.toml").rename("sgdd.toml")
    assert out == f"{workplace}\n"
    assert "Going on from step 8" in err
    assert "Done after 10 steps" in err


def test_a_run_that_cannot_begin_leaves_no_folder(workplace):
    before = set(Path("runs").iterdir())
    with pytest.raises(CheckpointError):
        call("train", "--device", "cpu", "--set", "train.start_from=no-such-model")
    assert set(Path("runs").iterdir()) == before


def next_commands(err: str) -> list[list[str]]:
    """The commands that a "Next:" names."""
    _, _, hint = err.partition("Next: ")
    assert hint
    return [shlex.split(line)[1:] for line in hint.splitlines() if line.strip().startswith("sgdd ")]


@pytest.mark.slow
def test_what_comes_next_carries_the_options_that_belong_to_it(workplace, tiny_encoder_folder):
    Path("my settings.toml").write_text("[train]\nmax_steps = 2\n[sample]\nsteps = 2\n")
    options = [
        "--config",
        "sgdd.toml",
        "--config",
        "my settings.toml",
        "--set",
        "eval.limit=3",
        "--device",
        "cpu",
    ]
    prepare = ["prepare-data", "tales.txt", "--out", "other place/tales", "--encoder", tiny_encoder_folder]
    # What made the vectors is recorded with them, and may not be said again.
    _, err = call(*prepare, *options, "--set", "encoder.max_tokens=64", "--set", "data.min_words=2")
    (train,) = next_commands(err)
    assert train == ["train", str(Path("other place/tales")), *options]
    # Followed, it trains two steps, not the 100,000 of the default settings.
    out, err = call(*train, "--out", "other place/run")
    assert "Done after 2 steps" in err
    evaluate, sample = next_commands(err)
    assert evaluate == ["eval", out.strip(), *options]
    assert sample == [
        "sample",
        "Some text.",
        "--checkpoint",
        out.strip(),
        *(word for word in options if word not in ("--set", "eval.limit=3")),
    ]
    out, _ = call(*evaluate, "--json", "-q")
    assert json.loads(out)["sentences"] == 3
    assert json.loads(out)["settings"]["sampling"]["steps"] == 2
    assert len(call(*sample)[0].splitlines()) == 1


@pytest.mark.slow
def test_eval_shows_the_controls_and_judges(workplace):
    out, _ = call("eval", "--limit", 6, "--device", "cpu")
    for name, condition in CONDITIONS.items():
        assert (condition.label in out) == (name != "one_shot")
    assert "% masked" in out
    for part in ("NELBO", "bits per byte", "Calibration", "Memorisation", "Diversity", "Latent (vib)"):
        assert part in out
    # Six sentences decide none of the verdicts.
    assert out.count("cannot be told from 6 sentences.") == out.count("\n?  ") >= 5
    assert "   Likely cause: 6 sentences are few." in out.splitlines()
    verdicts, _, samples = out.partition("\n\nBest, median and worst of what was written")
    assert verdicts.endswith("--limit 1000 --device cpu")
    assert samples.count("\n  source   ") == samples.count("\n  written  ") == 6
    out, _ = call(
        "eval", workplace, "--data", "tales.txt", "--limit", 4, "--cfg", 1, "--device", "cpu", "--json", "-q"
    )
    report = json.loads(out)
    assert report["sentences"] == 4
    assert report["settings"]["sampling"]["cfg"] == 1
    assert list(report["conditions"]) == ["true", "nearest", "shuffled", "null"]
    for scores in report["conditions"].values():
        assert 0 <= scores["token_f1"]["low"] <= scores["token_f1"]["mean"] <= scores["token_f1"]["high"] <= 1
    # The text is the very one that the corpus was made of.
    assert report["settings"]["training"]["trained_on"]
    assert report["memorisation"]["sources"]["mean"] > 0.5
    assert report["likelihood"]["nelbo_nats_per_token"] > 0
    assert report["by_mask_ratio"][-1]["masked"] == "100"


def test_eval_compares_ways_of_sampling(workplace):
    arguments = ["eval", workplace, "--limit", 4, "--device", "cpu"]
    vary = [
        "--vary",
        "sample.steps=1,2",
        "--vary",
        "sample.guidance_schedule=constant,interval:start=0,end=0.5",
    ]
    out, err = call(*arguments, *vary, "--cfg", 2, "--json")
    assert re.search(r"the comparison will take about \d+ \w+: 4 sentences written in 4 ways\.", err)
    found = json.loads(out)
    assert found["sentences"] == 4
    assert [tuple(point["changes"].values()) for point in found["points"]] == [
        (1, "constant"),
        (1, "interval:start=0,end=0.5"),
        (2, "constant"),
        (2, "interval:start=0,end=0.5"),
    ]
    read = [point["positions_read"] for point in found["points"]]
    assert read[0] == read[1], "a single step begins with nothing written"
    assert read[0] < read[2]
    assert read[3] <= read[2]
    for point in found["points"]:
        f1 = point["figures"]["token_f1"]["mean"]
        beaten = any(
            other["figures"]["token_f1"]["mean"] >= f1 and other["positions_read"] < point["positions_read"]
            for other in found["points"]
        )
        assert not (point["efficient"] and beaten)
    assert any(point["efficient"] for point in found["points"])
    out, _ = call(*arguments, "--vary", "sample.order=confidence,margin", "--json")
    assert [point["changes"] for point in json.loads(out)["points"]] == [
        {"position_rule": "confidence"},
        {"position_rule": "margin"},
    ]
    out, _ = call(*arguments, *vary[:2])
    lines = [line.split() for line in out.splitlines()]
    assert next(line[1] for line in lines if line[:1] == ["*"] and line[1].isdigit()) == "1"


@pytest.mark.slow
def test_a_report_shows_the_ways_of_sampling_that_were_compared(workplace):
    less = ["--limit", 4, "--set", "eval.diversity_samples=0", "--device", "cpu"]
    vary = ["--vary", "sample.steps=1,2"]
    out, _ = call("eval", workplace, *less, *vary, "--report", "ways.html", "--json")
    assert [point["changes"] for point in json.loads(out)["samplers"]] == [{"steps": 1}, {"steps": 2}]
    page = Path("ways.html").read_text(encoding="utf-8")
    assert "positions read per text" in page
    assert "steps = 2" in page


@pytest.mark.parametrize(
    ("vary", "message"),
    [
        ("sample.steps", "has no values"),
        ("sample.steps=0", "must be at least 1"),
        ("train.max_steps=1,2", "only settings of the sampler"),
        ("sample.stps=1", "sample.steps"),
    ],
)
def test_ways_of_sampling_that_cannot_be_compared(workplace, vary, message):
    with pytest.raises(ConfigError) as caught:
        call("eval", workplace, "--vary", vary)
    assert message in f"{caught.value} {caught.value.hint}"


def test_an_export_replaces_nothing_but_an_exported_model(workplace, tmp_path):
    out = tmp_path / "model"
    call("export", workplace, out)
    call("export", workplace, out, "--force")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(SgddError, match=r"other files than a checkpoint \(notes.txt\)"):
        call("export", workplace, out, "--force")
    assert (out / "notes.txt").read_text() == "mine"
    with pytest.raises(SgddError, match="training state of a run"):
        call("export", workplace, resolve_checkpoint(workplace), "--force")
    (out / "notes.txt").unlink()
    with pytest.raises(SgddError, match="is the checkpoint itself"):
        call("export", out, out, "--force")


def test_names_that_are_not_utf_8_are_refused_before_anything_is_computed(workplace, tmp_path):
    strange = os.fsdecode(bytes(tmp_path) + b"/caf\xe9")
    for arguments in (
        ("prepare-data", strange, "--out", tmp_path / "corpus"),
        ("prepare-data", "builtin", "--out", strange),
        ("train", "data/tales", "--out", strange, "--max-steps", 1, "--device", "cpu"),
        ("eval", workplace, "--data", strange, "--device", "cpu"),
        ("export", workplace, strange),
    ):
        with pytest.raises(SgddError, match=r"caf\\udce9` is not UTF-8"):
            call(*arguments)
    assert not Path(strange).exists()


def test_a_damaged_checkpoint_of_a_run_is_named(workplace, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(workplace, run)
    best = resolve_checkpoint(run)
    weights = best / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    _, err = call("sample", "Anna found a cup.", "--search", 0, "--checkpoint", run, "--device", "cpu")
    assert f"Skipping the damaged checkpoint `{best}`" in err.replace("\n", " ")
    with pytest.raises(CheckpointError, match=f"1 checkpoint of the run is damaged: {best.name}"):
        call("checkpoint", "verify", run)
    found, _ = call("checkpoint", "verify", run, "--json", code=1)
    assert json.loads(found)["damaged"] == [best.name]


@pytest.mark.offline_encoder
def test_what_fails_before_it_has_a_result_leaves_older_files(tmp_path):
    vectors, trace = tmp_path / "v.npy", tmp_path / "t.jsonl"
    vectors.write_bytes(b"older")
    trace.write_bytes(b"older")
    both = ("--save-vector", vectors, "--trace", trace, "--force")
    with pytest.raises(SgddError):
        call("sample", "A dog.", "--checkpoint", "mini", "--device", "cpu", "--length", 99, *both)
    # The trace began with no line; of the vectors those that had been added are kept.
    assert trace.read_bytes() == b"older"
    with pytest.raises(SgddError), NpyWriter(vectors, 4):
        raise SgddError("Nothing was added.")
    assert np.load(vectors).shape == (1, 384)
    same = ("--save-vector", vectors, "--trace", vectors)
    assert "both name" in call("sample", "A dog.", *same, "--force", code=2)[1].replace("\n", " ")


@pytest.mark.parametrize("other", [["--find-cfg"], ["--report", "page.html"], ["--vary", "sample.steps=1,2"]])
def test_the_confidence_is_calibrated_on_its_own(workplace, other):
    with pytest.raises(ConfigError, match="--calibrate-score writes other sentences"):
        call("eval", "there is no such model", "--calibrate-score", 100, *other)


@pytest.mark.parametrize("find", [["--find-cfg"], ["--set", "eval.find_cfg=true"]])
def test_a_weight_is_not_sought_where_ways_are_compared(workplace, find):
    with pytest.raises(ConfigError, match="--vary compares ways of sampling"):
        call("eval", "there is no such model", "--vary", "sample.steps=1,2", *find)


@pytest.mark.slow
@pytest.mark.offline_encoder
def test_eval_calibrates_the_confidence_and_records_it(workplace, tmp_path):
    model, text = tmp_path / "model", tmp_path / "text.txt"
    call("export", "mini", model)
    text.write_text("\n".join(SENTENCES.read_text(encoding="utf-8").splitlines()), encoding="utf-8")
    options = ["--data", text, "--device", "cpu", "--steps", 4]
    with pytest.raises(DataError, match="200 sentences that can be used; the first 302") as caught:
        call("eval", model, *options, "--limit", 2, "--calibrate-score", 100)
    assert "--limit" in caught.value.hint
    more = [f"{line[:-1]}{end}" for line in text.read_text(encoding="utf-8").splitlines() for end in ".?!"]
    text.write_text("\n".join(more), encoding="utf-8")
    out, err = call("eval", model, *options, "--limit", 2, "--calibrate-score", 100)
    assert re.search(r"the calibration will take about \d+ \w+: 100 sentences written\.", err)
    assert "one sentence, its cosine known" in out
    assert f"Recorded in {model}" in err
    at_once = ("--search", 0, "--json", "--checkpoint", model)
    row = json.loads(call("sample", "A text.", *at_once, *options[2:])[0])
    assert 0 < row["confidence"] < 1
    _, err = call("sample", "A text.", *at_once, "--device", "cpu")
    assert "The confidence was fitted with steps 4; here it is an approximation." in err
    row, err = call("sample", "A text.", "--json", "--refine", 1, *options[2:], "--checkpoint", model)
    assert json.loads(row)["confidence"] is None
    assert "records no confidence of refined texts" in err
    row, err = call(
        "sample", "A text.", "--json", "--shortlist", 2, "--checkpoint", "mini", "--device", "cpu"
    )
    assert json.loads(row)["confidence"] is None
    copied = "sgdd export mini my-copy\n  sgdd eval my-copy --data FILE --calibrate-score 2000 --candidates 1"
    assert f"records no confidence of refined texts; to record it:\n  {copied}" in err
    row, err = call("sample", "A text.", "--json", *options[2:], "--checkpoint", model)
    assert json.loads(row)["confidence"] is None
    assert json.loads(row)["encoder_calls"] > 1
    # What is as close as can be has no closer one.
    closer = " Closer: --search 128" if json.loads(row)["cosine"] < 0.9995 else ""
    assert f"Faster: --search 0.{closer}\n" in err


def refusal_of(folder: Path, error: OSError) -> Callable[..., None]:
    """`Path.touch`, as a system refuses it in one folder."""
    touch = Path.touch

    def refused(path: Path, *arguments: Any, **named: Any) -> None:
        if path.parent == folder:
            raise error
        touch(path, *arguments, **named)

    return refused


@pytest.mark.slow
def test_eval_finds_a_guidance_weight_records_it_and_writes_a_page(workplace, tmp_path):
    # What is recorded changes how the run writes.
    run = shutil.copytree(workplace, tmp_path / "run")
    arguments = ["--limit", 4, "--find-cfg", "--set", "eval.diversity_samples=0", "--device", "cpu"]
    out, err = call("eval", run, *arguments, "--report", "reports/page.html")
    best, folder = re.search(r"The best guidance weight, ([\d.]+), is recorded in (.+);", err).groups()
    assert out.splitlines()[0].endswith(f"cfg {best}")
    assert "guidance w" in out
    assert "</html>" in Path("reports/page.html").read_text(encoding="utf-8")
    out, _ = call("sample", "Tom sold a letter.", "--json", "--device", "cpu", "--checkpoint", run)
    assert json.loads(out)["cfg"] == float(best)
    # What could not be kept at the end is refused before anything is decoded.
    refused = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    with pytest.MonkeyPatch.context() as patch:  # whoever runs this may write everywhere
        patch.setattr(Path, "touch", refusal_of(Path(folder), refused))
        with pytest.raises(SgddError, match=r"files\.json` cannot be written") as caught:
            call("eval", run, *arguments)
    assert "--find-cfg" in caught.value.hint
    with pytest.raises(DataError, match="none is left to find the guidance weight on") as caught:
        call("eval", run, *arguments, "--limit", 1000, "--data", "tales.txt")
    assert "--limit" in caught.value.hint


@pytest.mark.parametrize("report", ["tales.txt/page.html", "x" * 300, "."])
def test_a_report_that_could_not_be_written_is_refused_before_a_model_is_loaded(workplace, report):
    with pytest.raises(SgddError, match=r"cannot be written|is a folder") as caught:
        call("eval", "there is no such model", "--report", report)
    assert "--report" in caught.value.hint


def test_eval_of_text_without_the_training_corpus_leaves_its_controls_out(workplace):
    Path("elsewhere").mkdir(exist_ok=True)
    Path("data/tales").rename("elsewhere/hidden")
    arguments = ["eval", workplace, "--data", "tales.txt", "--limit", 4, "--json", "--device", "cpu"]
    try:
        out, err = call(*arguments)
        assert "--train-corpus" in err
        assert re.search(
            r"the evaluation will take about \d+ \w+: 4 sentences written under \d conditions", err
        )
        report = json.loads(out)
        assert "nearest" not in report["conditions"]
        assert report["memorisation"] is None
        out, _ = call(*arguments, "--train-corpus", "elsewhere/hidden")
        assert "nearest" in json.loads(out)["conditions"]
    finally:
        Path("elsewhere/hidden").rename("data/tales")
        Path("elsewhere").rmdir()


def test_the_corpus_of_a_run_is_found_again_also_beside_it(workplace):
    Path("elsewhere").mkdir()
    Path("data/tales").rename("elsewhere/tales")
    try:
        with pytest.raises(DataError, match=r"\(tales\) was not found"):
            call("eval", workplace, "--device", "cpu")
        Path("elsewhere/tales").rename("runs/tales")
        call("eval", workplace, "--limit", 4, "--device", "cpu", "--quiet")
    finally:
        place = "runs/tales" if Path("runs/tales").exists() else "elsewhere/tales"
        Path(place).rename("data/tales")


def test_parameters_of_settings_and_of_a_checkpoint(workplace):
    out, _ = call("param-count", workplace, "--json")
    counted = json.loads(out)
    assert counted["total"] == counted["trainable"] + counted["frozen"]
    assert counted["total"] == sum(part["parameters"] for part in counted["components"])
    assert all(part.keys() == {"name", "parameters", "trainable"} for part in counted["components"])
    out, _ = call("param-count", "--set", "encoder.name=minilm", "--set", "decoder.layers=3")
    for part in ("encoder (minilm)", "trainable", "MFLOP per token", "Training takes about"):
        assert part in out
    other = ("--set", "decoder.layers=3", "--set", "train.batch_tokens=512")
    assert "Not used, since the model of a checkpoint is counted: decoder.layers." in call(
        "param-count", workplace, *other
    )[1].replace("\n", " ")


def test_sample_prints_one_line_per_sample(workplace):
    texts = ["Anna found a blue cup.", "Tom sold a letter."]
    out, err = call("sample", *texts, "-n", 2, "--length", 5, "--device", "cpu")
    assert "Written once, without a search." in err
    assert len(set(out.splitlines()[:2])) == len(set(out.splitlines()[2:])) == 2
    assert "alike" not in err
    out, err = call("sample", *texts, "-n", 2, "--length", 5, "--device", "cpu", "--temperature", 0)
    assert len(out.splitlines()) == 4
    assert "All 2 samples of a text will be alike at temperature 0" in err
    arguments = ["--json", "--cfg", 2.0, "--steps", 4, "--seed", 7, "--candidates", 2, "--device", "cpu"]
    arguments += ["--temperature", 0.7]
    out, _ = call("sample", *texts, "-n", 2, *arguments, SGDD_CHECKPOINT=str(workplace))
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["source"] for row in rows] == [texts[0], texts[0], texts[1], texts[1]]
    assert [row["seed"] for row in rows] == [7, 8, 7, 8]
    assert {(row["steps"], row["cfg"], row["temperature"]) for row in rows} == {(4, 2.0, 0.7)}
    assert all(-1 <= row["cosine"] <= 1 for row in rows)
    piped, _ = call("sample", "-", *arguments, stdin=("\n\n".join(texts) + "\n").encode())
    assert [json.loads(line) for line in piped.splitlines()] == [rows[0], rows[2]]


def test_sample_explains_and_traces_what_it_writes(workplace, tmp_path):
    texts = ["Tom sold a letter.", "The dog ran home."]
    trace = tmp_path / "trace.jsonl"
    options = ["--device", "cpu", "--checkpoint", workplace, "--length", 4, "--steps", 4, "--search", 0]
    plain, _ = call("sample", *texts, *options)
    out, _ = call("sample", *texts, *options, "--explain", "--trace", trace)
    lines = out.splitlines()
    assert lines[::2] == plain.splitlines()
    assert all(re.fullmatch(r"  (\S+ [01]\.\d\d  ){3}\S+ [01]\.\d\d", line) for line in lines[1::2])
    told = [json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines()]
    assert {(line["text"], line["round"]) for line in told} == {(1, 0), (2, 0)}
    assert [line["canvas"] for line in told if line["step"] == 4] == lines[::2]
    assert all(line["canvas"].split().count("_") == 4 - line["step"] for line in told)
    out, _ = call("sample", *texts, *options, "--explain", "--json")
    tokens = [json.loads(line)["tokens"] for line in out.splitlines()]
    assert [len(each) for each in tokens] == [4, 4]
    assert tokens[0][0].keys() == {"piece", "probability", "entropy", "step"}
    call("sample", *texts, *options[:-6], "--steps", 4, "--refine", 2, "--trace", trace, "--force")
    told = [json.loads(line) for line in trace.read_text(encoding="utf-8").splitlines()]
    assert {(line["text"], line["round"]) for line in told} == {(n, k) for n in (1, 2) for k in (0, 1, 2)}


# Once in the help of a command, and not understood by those who learnt English at school.
ODD = re.compile(
    r"what stands in|in the place of|very weights|let in\b|plain conditional|as where|under a meaning|shall|"
    r"likeliest lengths first|Machine-readable|instead: |: as well",
    re.IGNORECASE,
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_in_plain_words_and_says_what_options_cost(command):
    shown = CliRunner().invoke(app, [*command.split(), "--help"]).output
    text = " ".join(shown.split())
    assert ODD.search(text) is None
    for option in ("--candidates", "--refine", "--steps"):
        if f"{option} <" in text:
            assert "grows with it" in text[text.index(f"{option} <") :][:400]


def test_quick_is_smaller_as_far_as_nothing_else_is_asked_for(capsys):
    quick = load_settings(
        (), [*quick_settings(True), "eval.nelbo_samples=5"], [("--limit", "eval.limit", 30)]
    )
    config = quick.settings.eval
    assert (config.limit, config.nelbo_samples) == (30, 5)
    assert (config.diversity_samples, config.compare_guidance) == (0, False)
    assert load_settings((), quick_settings(True)).settings.eval.limit == EvalConfig().limit // 2
    assert quick_settings(False) == []
    say_what_is_left_out(quick)
    # The limit and the masks were asked for.
    told = "Quick: without the diversity of samples, without a comparison to w = 1. Intervals"
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "arguments"),
    [
        ("--report", ["eval", "no model"]),
        ("--report", ["audit", "no-such-texts"]),
        ("--trace", ["sample", "A text."]),
        ("--save-vector", ["sample", "A text."]),
        ("--out", ["bench", "--quick"]),
        ("--out", ["align", "no-such-pairs"]),
    ],
)
def test_no_command_overwrites_a_file_unless_it_is_told_to(tmp_path, option, arguments):
    older = tmp_path / "older.npy"
    older.write_text("weeks of work")
    with pytest.raises(SgddError, match="exists and is not overwritten") as caught:
        call(*arguments, option, older)
    assert caught.value.hint == f"Name another file with {option}. --force overwrites it."
    assert older.read_text() == "weeks of work"
    assert list(tmp_path.iterdir()) == [older]


def test_a_trace_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    with pytest.raises(SgddError, match="is a folder"):
        call("sample", "A text.", "--trace", tmp_path)


@pytest.mark.slow
def test_sample_loads_nothing_that_only_corpora_training_or_scores_need(workplace, environment):
    checkpoint = next((workplace / "checkpoints").glob("step-*")).resolve()
    code, names = loaded_by(f"sample words --checkpoint {checkpoint} --device cpu", environment, Path.cwd())
    assert code == 0
    assert {"torch", "tokenizers"} <= names
    assert names.isdisjoint(
        {"datasets", "pyarrow", "pandas", "sacrebleu", "tensorboard", "sgdd_engine.data.corpus"}
    )


def test_sample_shows_its_canvas_when_asked(workplace):
    out, err = call("sample", "Tom sold a letter.", "--watch", "--length", 6, "--steps", 3, "--device", "cpu")
    assert len(out.splitlines()) == 1
    assert sum(line.startswith(("1/3", "2/3", "3/3")) for line in err.splitlines()) == 3


def test_what_is_not_there_is_said(workplace):
    with pytest.raises(DataError, match=r"1 line of standard input could not be used"):
        call("sample", "-", "--device", "cpu", stdin=b"fine\n\xff\n")
    with pytest.raises(DataError, match=r"no file or folder `missing.txt`"):
        call("prepare-data", "missing.txt", "--device", "cpu")
    with pytest.raises(CheckpointError, match=r"no checkpoint at `nowhere`"):
        call("sample", "text", "--checkpoint", "nowhere", "--device", "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_names_the_way_out(workplace):
    with pytest.raises(ConfigError) as caught:
        call("train", "--gpu", 0)
    assert "--device cpu" in caught.value.hint


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM to send")
def test_a_terminated_training_saves_says_how_to_go_on_and_exits_143(workplace, environment, loaded_python):
    run = Path("runs") / "terminated"
    arguments = [
        "train",
        "--out",
        run,
        "--device",
        "cpu",
        "--max-steps",
        "100000",
        "--set",
        "train.log_every=1",
    ]
    with subprocess.Popen(
        [loaded_python, "-m", "sgdd_cli", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, "OMP_NUM_THREADS": "1"},
    ) as process:
        for line in process.stderr:
            if ": saved " in line:
                break
        process.terminate()
        out, err = process.communicate()
    assert process.returncode == 143, err
    assert out == f"{run}\n"
    assert f"sgdd train --resume --out {run} --device cpu" in err
    assert "Traceback" not in err
