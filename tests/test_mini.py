"""The model that comes with sgdd: it is there, it is small, it is what its hashes say, and it does its job."""

import fnmatch
import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from sgdd_engine import SGDD
from sgdd_engine.atomic_files import damage
from sgdd_engine.checkpoint import list_models, read_info
from sgdd_engine.data.builtin import builtin_sentences
from sgdd_engine.data.cleaning import clean, rejection
from sgdd_engine.data.config import DataConfig
from sgdd_engine.generation.confidence import recorded_fits
from sgdd_engine.mini import CHECKPOINT, SENTENCES, mini_folder
from sgdd_engine.text.encoder_files import _SHA256

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "mini"
TEXTS = SENTENCES.read_text(encoding="utf-8").splitlines()
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("SGDD_")}


def run(*arguments: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    environment = {**CLEAN, **more, "NO_COLOR": "1", "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    return subprocess.run(arguments, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


# --- the package ----------------------------------------------------------------------------------------


def test_every_file_of_it_is_declared_as_package_data():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = declared["tool"]["setuptools"]["package-data"]["sgdd_engine.mini"]
    place = SENTENCES.parent
    assert place == ROOT / "sgdd_engine" / "mini"
    files = [path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()]
    data = [name for name in files if not name.endswith((".py", ".pyc"))]
    assert "sentences.txt" in data
    assert [name for name in data if not any(fnmatch.fnmatch(name, p) for p in patterns)] == []


def test_the_sentences_are_distinct_clean_and_of_all_lengths():
    assert len(set(TEXTS)) == len(TEXTS) == 200
    assert [text for text in TEXTS if clean(text) != text or rejection(text, DataConfig())] == []
    lengths = [len(text.split()) for text in TEXTS]
    assert min(lengths) <= 3
    assert max(lengths) >= 24


def test_it_is_complete_small_and_what_its_hashes_say():
    folder = mini_folder()
    assert damage(folder) is None
    files = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert files.keys() == {
        "README.md",
        "config.json",
        "files.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_meta.json",
    }
    assert files["model.safetensors"] <= 32 << 20
    info = read_info(folder)
    assert info.model.max_tokens == 32
    assert info.model.embedding_dim == 384
    assert (info.encoder.name, info.encoder.weights_sha256) == ("minilm", _SHA256["model.safetensors"])
    assert info.encoder.probes
    assert info.trained_null
    assert info.sampling["cfg"] > 1
    assert recorded_fits(info).keys() == {"one_shot", "one_shot_encoded"}
    # Nothing of the machine that trained it.
    assert "/" not in json.dumps(info.facts)


def test_it_has_at_most_sixteen_million_parameters_beside_its_surrogate_in_float32():
    model = SGDD.from_pretrained("mini", "cpu").model
    assert model.surrogate is not None
    surrogate = sum(parameter.numel() for parameter in model.surrogate.parameters())
    assert sum(parameter.numel() for parameter in model.parameters()) - surrogate <= 16_000_000
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_its_recorded_scores_are_those_of_its_card(tmp_path):
    (listed,) = (model for model in list_models(tmp_path) if model.name == "mini")
    scores = listed.scores()
    card = (mini_folder() / "README.md").read_text(encoding="utf-8")
    own = next(line for line in card.splitlines() if line.startswith("| its own vector |"))
    cells = [cell.strip().partition(" ")[0] for cell in own.split("|")[2:]]
    assert cells[:2] == [f"{scores[name]:.3f}" for name in ("exact_match", "token_f1")]
    assert f"{scores['cosine']:.3f}" in cells
    sampling = read_info(mini_folder()).evaluations[0]["settings"]["sampling"]
    assert {name: sampling[name] for name in read_info(mini_folder()).sampling} == read_info(
        mini_folder()
    ).sampling


def test_its_card_says_what_it_is_where_it_fails_and_how_it_was_made():
    card = (mini_folder() / "README.md").read_text(encoding="utf-8")
    for part in ("## How it was made", "## Scores", "## Limits", "another sentence's vector", "make_mini.sh"):
        assert part in card


# --- what it does ---------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.offline_encoder
def test_one_text_loads_little_beside_torch(tmp_path):
    script = (
        "import runpy, sys\n"
        "sys.argv = ['sgdd', 'sample', 'The dog ran home.', '--checkpoint', 'mini', '--device', 'cpu']\n"
        "try:\n"
        "    runpy.run_module('sgdd_cli', run_name='__main__')\n"
        "except SystemExit as leaving:\n"
        "    assert not leaving.code\n"
        "print(*sys.modules)\n"
    )
    done = run(sys.executable, "-c", script, cwd=tmp_path)
    text, loaded = done.stdout.splitlines()
    assert text.endswith(".")
    names = set(loaded.split())
    assert {"torch", "tokenizers", "sgdd_engine.text.bert"} <= names
    # What transformers imports for its BERT, the compiler of torch (which drawing numbers on the meta device loads),
    # and what only corpora, training, scores, terminals and the hub need.
    heavy = (
        "transformers torch._dynamo torch.distributed.tensor sympy scipy datasets pyarrow pandas tensorboard"
    )
    others = "sacrebleu rich yaml jinja2 huggingface_hub sentencepiece psutil sgdd_engine.data.corpus"
    assert names.isdisjoint([*heavy.split(), *others.split()])


@pytest.mark.slow
@pytest.mark.offline_encoder
def test_what_it_writes_is_closer_to_its_source_than_to_another():
    model = SGDD.from_pretrained("mini", "cpu")
    sources = TEXTS[::6]
    vectors = model.encode(sources)
    written = model.encode([item.text for item in model.generate(vectors)])
    cosines = written @ vectors.T
    nearest = cosines.argmax(dim=1) == torch.arange(len(sources))
    assert nearest.float().mean() >= 0.8
    own = cosines.diagonal().mean()
    others = (cosines.sum() - cosines.diagonal().sum()) / (len(sources) * (len(sources) - 1))
    assert own > 0.5
    assert others < 0.3


@pytest.mark.slow
@pytest.mark.offline_encoder
def test_a_newcomers_first_command_writes_a_sentence(tmp_path):
    done = run(sys.executable, "-m", "sgdd_cli", "sample", "The old man opened the door.", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert "Checkpoint: mini, the small English model that comes with sgdd" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.offline_encoder
def test_it_is_evaluated_without_any_text_at_hand(tmp_path, loaded_python):
    quick = ("--limit", "12", "--set", "eval.nelbo_samples=1", "--json")
    done = run(loaded_python, "-m", "sgdd_cli", "eval", "mini", *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "sentences that come with sgdd" in done.stderr
    report = json.loads(done.stdout)
    assert report["checkpoint"] == "mini"
    assert report["sentences"] == 12
    conditions = report["conditions"]
    assert conditions["true"]["token_f1"]["mean"] > 2 * conditions["shuffled"]["token_f1"]["mean"]


@pytest.mark.slow
def test_without_the_encoder_one_sentence_says_what_brings_it(tmp_path, loaded_python):
    # The extra is taken away from this process alone: its name is another.
    script = (
        "import sys\n"
        "from sgdd_engine.text import encoder_files\n"
        "encoder_files.DISTRIBUTION = 'sgdd-no-such-distribution'\n"
        "from sgdd_cli.main import main\n"
        "sys.argv = ['sgdd', 'sample', 'The old man opened the door.']\n"
        "main()\n"
    )
    done = run(loaded_python, "-c", script, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    _, error, hint = done.stderr.splitlines()
    assert error == "Error: The offline encoder `minilm` is not installed."
    assert "pip install" in hint


# --- how it was made ------------------------------------------------------------------------------------


def test_its_settings_are_valid():
    from sgdd_cli.settings import load_settings

    names = "mini.toml", "mini_feedback.toml", "mini_feedback_again.toml", "mini_surrogate.toml"
    files = [EXAMPLE / name for name in names]
    first, second, third, fourth = (load_settings(files[: n + 1]).settings for n in range(4))
    assert first.encoder.name == "minilm"
    assert first.data.max_tokens == 32
    assert (second.bottleneck, second.data, second.encoder) == (first.bottleneck, first.data, first.encoder)
    assert second.decoder.feedback
    assert second.decoder.layers == first.decoder.layers
    assert (third.decoder, third.data) == (second.decoder, second.data)
    assert third.train.seed != second.train.seed != first.train.seed
    assert (fourth.train.part, fourth.decoder.layers) == ("surrogate", third.decoder.layers)
    assert fourth.decoder.surrogate_width > third.decoder.surrogate_width


def interval(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.01, "high": mean + 0.02}


def test_the_card_holds_the_figures_of_the_reports(tiny_encoder, sentences, tmp_path):
    from tiny_sgdd import build

    spec = importlib.util.spec_from_file_location("card", EXAMPLE / "card.py")
    assert spec is not None
    assert spec.loader is not None
    card = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(card)
    build(tiny_encoder, sentences[:4]).save_pretrained(tmp_path / "model")
    info = read_info(tmp_path / "model")
    training = {
        "seconds": 7200,
        "sentences_seen": 12345,
        "device": "cpu",
        "precision": "float32",
        "torch": "2",
    }
    info.facts.update(corpus={"train_sentences": 6789}, training=training)
    info.sampling.update(cfg=2.25)
    assert card.trained(info) == "0 steps over 12,345 sentences, 2.0 hours on cpu (float32, PyTorch 2)"
    training["seconds"] = 90
    assert card.trained(info) == "0 steps over 12,345 sentences, 1.5 minutes on cpu (float32, PyTorch 2)"
    assert card.recipe(info)["sampling"] == "cfg 2.25"
    report = {
        "sentences": 1000,
        "settings": {
            "sampling": {"steps": 16, "cfg": 2.25},
            "eval": {"candidates": 8, "refine": 3, "shortlist": 4},
        },
        "conditions": {
            "true": {"token_f1": interval(0.612), "bleu": interval(21.4)},
            "shuffled": {"token_f1": interval(0.123), "bleu": interval(2.2)},
        },
        "by_length": [{"tokens": "1-8", "sentences": 77, "token_f1": interval(0.81), "bleu": interval(30.0)}],
        "memorisation": {"outputs": 0.021, "sources": 0.013},
        "verdicts": [{"name": "vector", "ok": True, "sentence": "The vector is used."}],
    }
    text = card.section("Novels", report)
    assert (
        "1,000 sentences, 16 steps, cfg 2.25, best of 8 candidates, 3 rounds of refining, shortlists of 4."
        in text
    )
    assert "| its own vector | 0.612 (0.602–0.632) | 21.4 (21.4–21.4) |" in text
    assert "| *control:* another sentence's vector | 0.123 (0.113–0.143) |" in text
    assert "| 1-8 | 77 | 0.810 (0.800–0.830) | 30.0 (30.0–30.0) |" in text
    assert "training sentences: 2.1% (of the sources themselves: 1.3%)" in text
    assert text.endswith("- The vector is used.")
    assert "nearest training sentence" not in text
    report |= {
        "encoder_calls": 10.96,
        "differences": {"one_shot": {name: interval(0.05) for name in ("token_f1", "cosine", "bleu")}},
    }
    report["conditions"]["true"] |= {"cosine": interval(0.8), "exact_match": interval(0.25)}
    table = card.feedback([report])
    assert table.splitlines()[-1] == (
        "| 11.0 | best of 8 candidates, 3 rounds of refining, shortlists of 4 | 1,000 | 0.612 "
        "| +0.050 (+0.040 to +0.070) | 0.800 | +0.050 (+0.040 to +0.070) "
        "| 21.4 | +0.1 (+0.0 to +0.1) | 0.250 |"
    )


@pytest.mark.slow
@pytest.mark.timeout(7200)  # some fifteen programs, one after the other
@pytest.mark.offline_encoder
@pytest.mark.skipif(os.name == "nt", reason="the recipe is a shell script")
def test_the_recipe_makes_a_model_with_its_card(tmp_path, loaded_python):
    lines = list(builtin_sentences(320))
    for name, rows in {"train": lines[:300], "fiction": lines[300:310], "stories": lines[310:]}.items():
        (tmp_path / f"{name}.txt").write_text("\n".join(rows), encoding="utf-8")
    small = {
        "SGDD_TOKENIZER__VOCAB_SIZE": "600",
        "SGDD_DECODER__LAYERS": "1",
        "SGDD_DECODER__WIDTH": "32",
        "SGDD_DECODER__HEADS": "2",
        "SGDD_DECODER__SURROGATE_WIDTH": "8",
        "SGDD_FEEDBACK__SENTENCES": "12",
        "SGDD_TRAIN__MAX_STEPS": "4",
        "SGDD_TRAIN__BATCH_TOKENS": "256",
        "SGDD_TRAIN__COMPILE": "false",
        "SGDD_TRAIN__VALIDATION_SENTENCES": "4",
        "SGDD_SAMPLE__STEPS": "2",
        "SGDD_EVAL__LIMIT": "2",
        "SGDD_EVAL__NELBO_SAMPLES": "1",
        "SGDD_EVAL__DIVERSITY_SAMPLES": "0",
        "SGDD_EVAL__COMPARE_GUIDANCE": "false",
        "CALIBRATE": "no",
        "MOST_CALLS": "4",
    }
    command = ["bash", str(EXAMPLE / "make_mini.sh"), "train.txt", "fiction.txt", "stories.txt", "work"]
    (tmp_path / "bin").mkdir()
    for name, what in {"sgdd": "-m sgdd_cli", "python": ""}.items():
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{loaded_python}" {what} "$@"\n')
        program.chmod(0o755)
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = run(*command, cwd=tmp_path, PATH=path, **small)
    assert done.returncode == 0, done.stderr
    made = tmp_path / "work" / "mini"
    assert damage(made) is None
    assert "cfg" in read_info(made).sampling
    written = (made / "README.md").read_text(encoding="utf-8")
    assert ", one correction, " in written
    assert written.count("4 steps over") == 6, "one for each stage of the decoder"
    assert "4 steps of the surrogate alone over" in written
    table = written[written.index("### What encoder calls bring") :].split("\n\n")[1]
    assert [line.split(" | ")[1].split(",")[0] for line in table.splitlines()[2:]] == [
        *["one correction"] * 2,
        *["a search"] * 3,
    ]


def test_nothing_lies_in_the_package_that_is_no_checkpoint():
    assert {path.name for path in CHECKPOINT.parent.iterdir()} - {"__pycache__"} == {
        "__init__.py",
        "sentences.txt",
        "checkpoint",
    }
