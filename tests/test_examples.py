"""The examples that are no papers: the notebook, the script for one's own text, the settings for one GPU.

The cells of the notebook are executed in their order in one namespace of a process, as `Run all` does. That takes no
kernel and no package that only notebooks need.
"""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sgdd_cli.main import app

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
SMALL = {
    **{"SGDD_DECODER__WIDTH": "32", "SGDD_DECODER__HEADS": "2", "SGDD_DECODER__LAYERS": "1"},
    **{
        "SGDD_TRAIN__MAX_STEPS": "4",
        "SGDD_TRAIN__VALIDATION_SENTENCES": "4",
        "SGDD_DATA__VALIDATION_SHARE": "0.1",
    },
    **{"SGDD_TRAIN__BATCH_TOKENS": "256"},
}


def run(program: str, *arguments: str, folder: Path, **more: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SGDD_")}
    given = {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "PYTHONUTF8": "1"}
    given["OMP_NUM_THREADS"] = "1"  # beside others, threads of a small model wait for each other
    done = subprocess.run(
        [program, *arguments],
        cwd=folder,
        env={**clean, **given, **more},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def sgdd(*arguments: str) -> str:
    """What a command writes to standard output, in this process."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.slow
@pytest.mark.offline_encoder
def test_every_cell_of_the_notebook_runs(tmp_path, loaded_python):
    cells = json.loads((EXAMPLES / "quickstart.ipynb").read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in cells if cell["cell_type"] == "code"), (
        "committed without outputs"
    )
    # Each alone, as a kernel runs them, so that a cell which is no complete program fails here too.
    code_of_cells = (
        "import json, sys\nspace = {'__name__': '__main__'}\n"
        "for cell in json.load(open(sys.argv[1])):\n    exec(cell, space)"
    )
    (tmp_path / "cells.json").write_text(json.dumps(code), encoding="utf-8")
    printed = run(loaded_python, "-c", code_of_cells, "cells.json", folder=tmp_path)
    assert "torch.Size([2, 384])" in printed
    assert printed.count("→") == 2
    assert len(printed.splitlines()) >= 12
    for cell in cells:
        if cell["cell_type"] == "markdown":
            for link in re.findall(r"\]\(([^)]+)\)", "".join(cell["source"])):
                assert (EXAMPLES / link).exists(), link


@pytest.mark.slow
def test_ones_own_text_and_encoder_become_a_model(tmp_path, sentences, tiny_encoder_folder, loaded_python):
    (tmp_path / "tales.txt").write_text("\n".join(sentences), encoding="utf-8")
    script = str(EXAMPLES / "own_text.py")
    printed = run(loaded_python, script, "tales.txt", str(tiny_encoder_folder), folder=tmp_path, **SMALL)
    corpus, model, written = printed.splitlines()
    assert re.fullmatch(
        rf"Corpus\('data.tales', sentences=\{{'train': \d+, 'validation': \d+, 'test': \d+\}}, "
        rf"encoder='{re.escape(str(tiny_encoder_folder))}', embedding_dim=32, max_tokens=\d+\)",
        corpus,
    )
    assert re.fullmatch(r"SGDD\('runs.tales', parameters=\d+, encoder='.*', step=4, device='\w+'\)", model)
    assert written.partition("  →  ")[0] in sentences
    # The same command goes on, and so does that of the command line, with the settings of the run.
    longer = SMALL | {"SGDD_TRAIN__MAX_STEPS": "6"}
    printed = run(loaded_python, script, "tales.txt", str(tiny_encoder_folder), folder=tmp_path, **longer)
    assert "step=6" in printed
    arguments = ["-m", "sgdd_cli", "train", "--resume", "--out", "runs/tales", "--max-steps", "7", "--device"]
    run(loaded_python, *arguments, "cpu", folder=tmp_path, **longer)
    names = [path.name for path in (tmp_path / "runs" / "tales" / "checkpoints").iterdir()]
    assert max(int(name.rpartition("-")[2]) for name in names) == 7


@pytest.mark.slow
def test_the_settings_for_one_gpu_are_read_and_fit_its_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (EXAMPLES / "bookcorpus_16gb.md").read_text(encoding="utf-8")
    named = ("--config", str(EXAMPLES / "bookcorpus_16gb.toml"), "--json")
    told, settings = (json.loads(sgdd(*command, *named)) for command in (["param-count"], ["config", "show"]))
    # Half of the GPU is left to what no arithmetic counts: buffers of the libraries, fragmentation.
    assert told["training_memory_bytes"] < 8e9
    assert f"computes {told['training_memory_bytes'] / 1e9:.1f} GB" in page
    assert f"{told['head_share_of_flops']:.0%} of the arithmetic".replace("%", " %") in page
    assert {key for key, found in settings.items() if "16gb" in found["source"]} >= {
        *("encoder.name", "tokenizer.vocab_size", "data.embedding_dtype", "train.batch_tokens")
    }
    commands = [line.split() for line in re.findall(r"^sgdd .*$", page, re.M)]
    assert len(commands) == 5
    for _, command, *words in commands:
        options = [word for word in words if word.startswith("--")]
        usage = sgdd(command, "--help")
        assert all(option in usage for option in options), (command, options)


@pytest.mark.offline_encoder
def test_a_draft_tells_something_and_another_vector_misleads(tmp_path, loaded_python):
    from sgdd_engine.data.builtin import builtin_sentences

    (tmp_path / "tales.txt").write_text("\n".join(builtin_sentences(60)), encoding="utf-8")
    shown = run(
        loaded_python, str(EXAMPLES / "draft_value.py"), "tales.txt", "--sentences", "20", folder=tmp_path
    )
    nothing, draft, other_words, other_vector, _ = (
        float(line.split(" | ")[1].rstrip(" |")) for line in shown.splitlines()[2:]
    )
    assert draft < nothing < other_vector
    assert draft < other_words


@pytest.mark.offline_encoder
def test_the_weights_of_a_search_are_compared_on_the_same_sentences(tmp_path, loaded_python):
    from sgdd_engine.data.builtin import builtin_sentences

    (tmp_path / "tales.txt").write_text("\n".join(builtin_sentences(30)), encoding="utf-8")
    options = ["--sentences", "2", "--calls", "8", "--weights", "0,0.5", "--skip", "0"]
    shown = run(loaded_python, str(EXAMPLES / "search_weight.py"), "tales.txt", *options, folder=tmp_path)
    rows = [line.split(" | ") for line in shown.splitlines()[2:]]
    assert [row[0] for row in rows] == ["| 0", "| 0.5"]
    # The more the decoder has a say, the likelier its texts; the less, the closer.
    assert float(rows[0][4]) >= float(rows[1][4])
    assert float(rows[0][5]) <= float(rows[1][5])
