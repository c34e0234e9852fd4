"""The plugin door, with real distributions on the path of a real process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]


def distribution(site: Path, name: str, code: str, **entries: str) -> None:
    """A package as an installer leaves it: a module and its dist-info."""
    info = site / f"{name}-1.5.dist-info"
    info.mkdir(parents=True)
    (site / f"{name}.py").write_text(code, encoding="utf-8")
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\nSummary: Adds {name} [things].\n"
    )
    lines = "".join(f"{command.replace('_', '-')} = {target}\n" for command, target in entries.items())
    (info / "entry_points.txt").write_text(f"[sgdd.commands]\n{lines}")


HELLO = '''
import typer
print("imported")

def hello(name: str = "world") -> None:
    """Greet somebody."""
    print(f"hello {name}")

tools = typer.Typer(help="Many tools.")

@tools.command()
def first() -> None:
    """The first tool."""
    print("one")

@tools.command()
def second(quiet: bool = False) -> None:
    """The second tool."""
    print(f"two {quiet}")

NUMBER = 7
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    distribution(
        site,
        "friendly",
        HELLO,
        hello="friendly:hello",
        tools="friendly:tools",
        number="friendly:NUMBER",
        absent="friendly:nothing",
        train="friendly:hello",
    )
    distribution(site, "rude", "raise SystemExit('I do not\\nwant to')", rude="rude:command")
    distribution(site, "torn", "import no_such_module", torn="torn:command", hello="torn:command")
    return site


def sgdd(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), str(site)])
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SGDD_")}
    return subprocess.run(
        [sys.executable, "-m", "sgdd_cli", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        env={**clean, "PYTHONPATH": path, "NO_COLOR": "1", "COLUMNS": "160", "PYTHONUTF8": "1"},
    )


def test_a_function_becomes_a_command(site):
    done = sgdd(site, "hello", "--name", "you")
    assert (done.returncode, done.stdout) == (0, "hello you\n")
    usage = sgdd(site, "hello", "-h")
    assert "Greet somebody." in usage.stdout
    assert "--debug" in usage.stdout


@pytest.mark.slow
def test_a_typer_becomes_a_group(site):
    assert sgdd(site, "tools", "first").stdout == "one\n"
    # An option of the plugin's own wins over the global one of that name.
    assert sgdd(site, "tools", "second", "--quiet").stdout == "two True\n"
    assert "The second tool." in sgdd(site, "tools", "--help").stdout


def test_help_lists_plugins_without_importing_them(site):
    done = sgdd(site, "--help")
    assert done.returncode == 0
    for name in ("hello", "tools", "rude", "torn", "Adds friendly [things]."):
        assert name in done.stdout
    assert "imported" not in done.stdout + done.stderr
    assert "plugins       List what other packages add" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("rude", "SystemExit: I do not want to"),
        ("torn", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("number", "TypeError: it is a int, neither a function nor a typer.Typer"),
        ("absent", "AttributeError"),
    ],
)
def test_a_broken_plugin_says_so_in_one_line(site, command, reason):
    done = sgdd(site, command)
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert f"`{command}`" in errors[0]
    assert reason in errors[0]
    assert "Traceback" not in done.stderr


def test_built_in_commands_neither_load_plugins_nor_give_way_to_them(site):
    done = sgdd(site, "train", "--help")
    assert "prepared corpus" in done.stdout
    assert "imported" not in done.stdout + done.stderr


@pytest.mark.slow
def test_commands_of_sgdd_itself_need_no_entry_points_and_older_ones_are_passed_over(tmp_path):
    distribution(tmp_path, "sgdd", "raise SystemExit('old')", bench="sgdd:bench", train="sgdd:gone")
    (tmp_path / "sgdd.py").unlink()
    assert "Measure what sgdd saves" in sgdd(tmp_path, "bench", "--help").stdout
    done = sgdd(tmp_path, "plugins", "--json")
    assert (json.loads(done.stdout), done.returncode) == ([], 0)
    assert sgdd(tmp_path, "--help").stdout.count("  bench  ") == 1


@pytest.mark.slow
def test_plugins_lists_what_works_and_why_the_rest_does_not(site):
    done = sgdd(site, "plugins", "--json")
    assert done.returncode == 0
    rows = {(row["package"], row["command"]): row for row in json.loads(done.stdout)}
    assert rows["friendly", "hello"]["works"]
    assert rows["friendly", "hello"]["version"] == "1.5"
    assert rows["friendly", "tools"]["target"] == "friendly:tools"
    assert rows["friendly", "train"]["problem"] == "`train` is a command of sgdd itself"
    assert rows["torn", "hello"]["problem"] == "the name is taken by friendly"
    assert "no_such_module" in rows["torn", "torn"]["problem"]
    assert not rows["rude", "rude"]["works"]
    table = sgdd(site, "plugins").stdout
    assert "broken: ModuleNotFoundError" in table
    assert "works" in table


HOSTILE = {
    "gone": "import os\nos._exit(0)",
    "loud": "import os\nos.write(1, b'{not json}\\n')\nprint('also this')\ndef command():\n    'Help.'\n",
    "base": "raise BaseException('like a signal')",
    "later": "SGDD_API = 2\ndef command(): 'Help.'",
    "vague": "SGDD_API = '1'\ndef command(): 'Help.'\n",
    "bare": "import torch\ndef command(): pass\n",
    "odd": "SGDD_API = 1\ndef command(thing: int | bytes): 'Help.'\n",
    "fine": "SGDD_API = 1\ndef command(): 'Help.'\n",
}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("hostile")
    for name, code in HOSTILE.items():
        distribution(site, name, code, **{name: f"{name}:command"})
    return site


@pytest.mark.slow
def test_a_hostile_plugin_spoils_nothing_but_its_own_row(hostile):
    done = sgdd(hostile, "plugins", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row["command"]: row for row in json.loads(done.stdout)}
    assert rows.keys() == HOSTILE.keys()
    assert [name for name, row in rows.items() if row["works"]] == ["bare", "fine", "loud"]
    assert rows["gone"]["problem"] == "it ends the process while it is imported (exit code 0)"
    assert rows["base"]["problem"] == "BaseException: like a signal"
    assert rows["later"]["problem"] == (
        "it was written for version 2 of sgdd's plugin interface, and this sgdd has version 1"
    )
    assert rows["vague"]["problem"] == "its SGDD_API is '1', and must be a whole number such as 1"
    assert "Union types" in rows["odd"]["problem"]
    assert "standard output while it is imported: '{not json}'" in " ".join(rows["loud"]["notes"])
    assert rows["fine"]["notes"] == []
    told = " ".join(rows["bare"]["notes"])
    assert all(part in told for part in ("no help text", "loads torch", "SGDD_API = 1"))


@pytest.mark.slow
def test_check_ends_a_plugin_that_hangs_and_those_that_it_started(tmp_path):
    code = (
        "import pathlib, subprocess, sys\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        "pathlib.Path(__file__).with_suffix('.pid').write_text(str(other.pid))\n"
        "other.wait()\n"
    )
    distribution(tmp_path, "stuck", code, stuck="stuck:command")
    done = sgdd(tmp_path, "plugins", "check", "stuck", "--time-limit", "3")
    assert done.returncode == 1
    assert done.stdout == "command stuck (stuck 1.5): broken: it was not imported within 3 seconds\n"
    started = int((tmp_path / "stuck.pid").read_text())
    assert not psutil.pid_exists(started) or psutil.Process(started).status() == psutil.STATUS_ZOMBIE


def test_check_names_what_there_is_and_says_in_one_sentence_what_does_not_fit(hostile):
    done = sgdd(hostile, "plugins", "check", "fin")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is called `fin`" in done.stderr
    assert "Did you mean fine?" in done.stderr
    works = sgdd(hostile, "plugins", "check", "fine")
    assert (works.returncode, works.stdout) == (0, "command fine (fine 1.5): works\n")
    refused = sgdd(hostile, "later")
    assert refused.returncode == 1
    assert refused.stderr == (
        "Error: The plugin command `later` of later 1.5 is broken: it was written for version 2 of sgdd's plugin "
        "interface, and this sgdd has version 1\n"
        "  This sgdd is the older of the two; install a newer version of sgdd.\n"
    )
    assert "like a signal" in sgdd(hostile, "base").stderr
