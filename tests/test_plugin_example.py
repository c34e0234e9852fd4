"""The package of `examples/plugin`, built and installed as a user does, in a folder of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_sgdd import build

from sgdd_cli import plugin_api

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "plugin"


def run(site: Path, *arguments: str, python: str = sys.executable) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SGDD_")}
    path = os.pathsep.join([str(ROOT), str(site)])
    done = subprocess.run(
        [python, *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=site,
        env={**clean, "PYTHONPATH": path, "NO_COLOR": "1", "PYTHONUTF8": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """Where pip has installed the package; nothing is built in the checkout."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(EXAMPLE, folder / "source")
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    run(folder, "-m", "pip", "install", "-q", *offline, "--target", "site", "./source")
    return folder / "site"


def test_its_own_tests_pass(site):
    run(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, str(EXAMPLE / "tests"))


def test_its_command_writes_with_its_position_rule(site, loaded_python, tiny_encoder, sentences, tmp_path):
    build(tiny_encoder, sentences).save_pretrained(tmp_path / "model")
    options = [
        "--checkpoint",
        str(tmp_path / "model"),
        "--encoder",
        tiny_encoder.reference.name,
        "--cfg",
        "1",
    ]
    options += ["--set", "sample.position_rule=outside_in", "--rounds", "2", "--length", "4", "--json"]
    written = run(
        site, "-m", "sgdd_cli", "telephone", sentences[0], sentences[1], *options, python=loaded_python
    )
    rows = [json.loads(line) for line in written.splitlines()]
    assert [row["source"] for row in rows] == sentences[:2]
    assert all(len(row["rounds"]) == 2 for row in rows)


def test_what_the_interface_exports_is_there_and_loads_no_torch(tmp_path):
    for name in plugin_api.__all__:
        assert getattr(plugin_api, name) is not None
    code = "import sys, sgdd_cli.plugin_api; print(sorted({'torch', 'pydantic', 'transformers'} & set(sys.modules)))"
    assert run(tmp_path, "-c", code) == "[]\n"
