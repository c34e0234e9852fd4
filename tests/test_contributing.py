"""The recipes of CONTRIBUTING.md, followed: a package is made of them, and each entry is used."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from models_for_tests import EMBEDDING_DIM, bound, generator, latents, random_tokens, tiny_model
from tiny_sgdd import as_set, build

from sgdd_engine.config_fields import check_choices
from sgdd_engine.data import formats, source_registry
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.data.formats import without_ending
from sgdd_engine.data.manifest import SPLITS
from sgdd_engine.data.prepare import prepare
from sgdd_engine.data.sources import open_source
from sgdd_engine.diffusion import guidance, position_rules, schedule, times
from sgdd_engine.diffusion.config import DiffusionConfig, SamplingConfig
from sgdd_engine.diffusion.schedule import build_schedule
from sgdd_engine.diffusion.times import training_times
from sgdd_engine.evaluation import metrics
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.evaluation.evaluate import evaluate
from sgdd_engine.evaluation.page.write import render
from sgdd_engine.evaluation.scores import references_of, score
from sgdd_engine.events import Validated
from sgdd_engine.generation import DecodeRequest, Generation, moves, refinement
from sgdd_engine.generation.decode import Decoder
from sgdd_engine.generation.refinement import EncoderScorer, ProposalContext, encode_distinct
from sgdd_engine.generation.search import search
from sgdd_engine.text import pooling
from sgdd_engine.text.config import EncoderConfig, TokenizerConfig
from sgdd_engine.text.encoder import load_encoder
from sgdd_engine.tracking import TRACKERS, TrackedRun, Tracking
from sgdd_engine.training.config import TrainConfig
from sgdd_engine.training.loss import batch_loss
from sgdd_engine.vectors import open_vectors, read_vectors, vector_kinds

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
MODULES = dict(re.findall(r"^```python\n# my_package/(\w+)\.py\n(.*?)^```", TEXT, re.M | re.S))
REGISTRIES = (
    schedule.SCHEDULES,
    times.TIMES,
    position_rules.POSITION_RULES,
    guidance.GUIDANCE_SCHEDULES,
    refinement.PROPOSERS,
    moves.MOVES,
    source_registry.SOURCES,
    formats.FORMATS,
    pooling.POOLINGS,
    metrics.METRICS,
    TRACKERS,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The folder of an installed package, as an installer leaves it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "my_package").mkdir()
    (folder / "my_package" / "__init__.py").touch()
    for name, code in MODULES.items():
        (folder / "my_package" / f"{name}.py").write_text(code, encoding="utf-8")
    info = folder / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1.0\nSummary: Mine.\n")
    (project,) = re.findall(r"^```toml\n(.*?)^```", TEXT, re.M | re.S)
    groups = tomllib.loads(project)["project"]["entry-points"]
    lines = [
        line
        for group, entries in groups.items()
        for line in (f"[{group}]", *(f"{name} = {target}" for name, target in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def installed(site, monkeypatch) -> None:
    """The package can be imported; at the end, nothing of it is left."""
    monkeypatch.syspath_prepend(str(site))
    for registry in REGISTRIES:
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
        monkeypatch.setattr(registry, "_built", dict(registry._built))
    vector_kinds.cache_clear()
    yield
    vector_kinds.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def model(tiny_encoder, sentences):
    return build(tiny_encoder, sentences[:12], steps=20)


def bound_of(model, sampling):
    return Decoder(model.model, model.schedule, model.tokenizer.special_ids, sampling)


def test_there_is_a_recipe_for_everything_that_people_add():
    assert MODULES.keys() == {
        *("schedule", "times", "position_rule", "guidance_schedule", "proposal", "move"),
        *("source", "vector_source", "pooling", "metric", "tracker", "commands"),
    }


def test_a_schedule_and_times_train_a_model(installed):
    diffusion = DiffusionConfig(schedule="late", times="early:power=3", full_mask_share=0.1)
    t = torch.linspace(0.01, 0.99, 9, dtype=torch.float64, requires_grad=True)
    late = build_schedule("late")
    (slope,) = torch.autograd.grad(late.alpha(t).sum(), t)
    torch.testing.assert_close(late.dalpha(t), slope)
    torch.testing.assert_close(late.time_at(1 - late.alpha(t)), t)
    early = training_times(4000, 1000, 0.0, generator(), "early:power=3")
    assert early.min() >= 0.001
    assert early.max() <= 1
    assert early.mean().item() == pytest.approx(1 / 4, abs=0.02)  # of u³, u even in [0, 1]

    model = tiny_model(scattered=False).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    x, e = random_tokens(16, 8), torch.randn(16, EMBEDDING_DIM, generator=generator())
    losses = []
    for _ in range(10):
        optimiser.zero_grad()
        loss = batch_loss(
            model,
            x,
            e,
            config=TrainConfig(batch_tokens=128),
            diffusion=diffusion,
            step=0,
            generator=generator(3),
        )
        loss.total.backward()
        optimiser.step()
        losses.append(loss.total.item())
    assert losses[-1] < losses[0]


def test_a_position_rule_writes_from_right_to_left(installed):
    sampling = SamplingConfig(cfg=1.0, steps=4, position_rule="right_to_left")
    check_choices(sampling, "sample")
    assert not sampling.stochastic, "every seed writes the same"
    canvases = []
    decoder = bound(tiny_model(), sampling)
    decoder.decode(
        latents(1),
        [DecodeRequest(0, 8, 0, 0)],
        lambda step, rows, tokens, _: canvases.append(list(tokens[0])),
    )
    written = [[token != decoder.mask_id for token in canvas] for canvas in canvases]
    assert len(written) == 4
    assert all(row == sorted(row) for row in written)  # masks, then what is written
    assert [sum(row) for row in written] == sorted({sum(row) for row in written})


def test_a_guidance_schedule_fades(installed):
    sampling = SamplingConfig(cfg=3.0, guidance_schedule="fading:speed=2")
    written = torch.tensor([0.0, 0.5, 1.0])
    fading = guidance.GUIDANCE_SCHEDULES.build(sampling.guidance_schedule)
    torch.testing.assert_close(fading.weight(sampling.cfg, written), torch.tensor([3.0, 1.5, 1.0]))
    assert bound(tiny_model(), sampling).decode(latents(1), [DecodeRequest(0, 4, 0, 0)])


def test_a_proposal_brings_candidates_closer(installed, model, sentences):
    options = {"sampling": SamplingConfig(cfg=1.0, steps=4), "score": True}
    vectors = model.encode(sentences[20:26])
    before = model.generate(vectors, **options)
    after = model.generate(vectors, refine=4, proposals=["redraw"], **options)
    assert all(new.cosine >= old.cosine for old, new in zip(before, after, strict=True))
    assert sum(new.cosine for new in after) > sum(old.cosine for old in before)
    assert all(new.encoder_calls > 1 for new in after)


def test_a_search_finds_a_sentence_by_the_move_of_a_package(installed, model, sentences):
    tokenizer, vectors = model.tokenizer, model.encode(sentences[20:22])
    scorer = EncoderScorer(model.encoder, tokenizer, vectors)
    backwards = [" ".join(reversed(re.findall(r"\w+|[^\w\s]", text))) for text in sentences[20:22]]
    drafts = encode_distinct(scorer, [0, 1], [0, 0], tokenizer.encode_batch(backwards))
    context = moves.MoveContext(
        ProposalContext(bound_of(model, SamplingConfig(cfg=1.0, steps=2)), vectors), model.encoder, tokenizer
    )
    found = search(drafts, 60, context, scorer, gradient=False)
    assert "reverse" in moves.MOVES.names()
    assert all(item.cosine > draft.cosine for item, draft in zip(found, drafts, strict=True))


def test_a_source_and_a_format_are_prepared(installed, tiny_encoder, tmp_path):
    film = tmp_path / "Film.SRT"
    assert without_ending(film.name) == "Film"
    film.write_text("1\n00:00:01,000 --> 00:00:02,000\nThe baker sold a letter.\n\n2\n", encoding="utf-8")
    assert [line for line in open_source(str(film), DataConfig()).lines() if line] == [
        "The baker sold a letter."
    ]
    (tmp_path / "films").mkdir()
    film.rename(tmp_path / "films" / film.name)
    assert open_source(str(tmp_path / "films"), DataConfig()).notices() == [], "no file is skipped"
    config = DataConfig(validation_share=0.2)
    prepare(
        open_source("greetings:Anna,Tom,Ina,Otto,Maria", config),
        tmp_path / "corpus",
        encoder=tiny_encoder,
        config=config,
        tokenizer=TokenizerConfig(),
    )
    corpus = Corpus.open(tmp_path / "corpus")
    assert sum(len(corpus.split(name)) for name in SPLITS) == 4 * 5


def test_a_source_of_vectors_is_read(installed, tmp_path):
    lines = "cup 0.5 1\nmap\nclock -2 0.25\n"
    for name, where in (("words.vec", "{}"), ("words.txt", "vec:{}")):
        (tmp_path / name).write_text(lines, encoding="utf-8")
        (batch,) = read_vectors(where.format(tmp_path / name))
        assert batch.vectors.tolist() == [[0.5, 1], [-2, 0.25]]
        assert batch.ids == batch.texts == ["cup", "clock"]
        assert batch.left_out == ("map",)
    assert open_vectors(str(tmp_path / "words.vec")).name.startswith("Word vectors")


def test_a_pooling_makes_vectors(installed, tiny_encoder, tiny_encoder_folder, sentences):
    encoder = load_encoder(EncoderConfig(name=str(tiny_encoder_folder), pooling="max"))
    assert encoder.reference.pooling == "max"
    vectors = encoder.encode(sentences[:3])
    torch.testing.assert_close(vectors, encoder.encode(sentences[:20])[:3])  # whatever the padding
    assert not torch.allclose(vectors, tiny_encoder.encode(sentences[:3]))


def test_a_metric_is_in_the_report_and_on_its_page(installed, model, sentences):
    data = as_set(model, sentences[:3])
    small = EvalConfig(nelbo_samples=1, diversity_samples=0)
    report = evaluate(model, data, config=small, sampling=SamplingConfig(cfg=1.0, steps=2))
    found = report.to_dict()
    assert set(found["conditions"]["true"]["first_word"]) == {"mean", "low", "high"}
    assert found["differences"]["null"]["first_word"]["mean"] == pytest.approx(
        report.conditions["true"]["first_word"].mean - report.conditions["null"]["first_word"].mean
    )
    assert "begin with the right word" in found["settings"]["scoring"]["first_word"]
    assert "First word" in render(report, "x")
    first, _, last = references_of(model, data)
    written = [Generation(text, (), row, 0) for row, text in enumerate([first, "Nobody knew.", last])]
    scored = score(model, data, written)
    assert scored["first_word"].tolist() == [1.0, 0.0, 1.0]


def test_a_tracker_records_a_run(installed, tmp_path):
    notices = []
    config = TrainConfig(tracker="csv:separator=|")
    tracking = Tracking(TrackedRun(tmp_path, {}), config.tracker, notices.append)
    tracking.start(0)
    tracking(Validated(20, 3.5, 4.0, {"100": 0.25}, True))
    tracking.end(20, "finished", 3.5)
    assert [notice.message for notice in notices] == [f"The curves are in {tmp_path / 'curves.csv'}."]
    assert (tmp_path / "curves.csv").read_text().splitlines() == [
        "20|validation/loss|3.5",
        "20|validation/nelbo_nats_per_token|4.0",
        "20|validation/accuracy_at_mask_percent/100|0.25",
    ]


def sgdd(python: str, site: Path, *arguments: str) -> str:
    """What a process in which the package is installed writes to stdout."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SGDD_")}
    path = os.pathsep.join([str(ROOT), str(site)])
    done = subprocess.run(
        [python, "-m", "sgdd_cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**clean, "PYTHONPATH": path, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_command_runs(site):
    assert sgdd(sys.executable, site, "longest", "One.", "One and two.", "And three.") == "One and two.\n"


@pytest.mark.slow
def test_plugins_lists_what_the_package_adds(site, loaded_python):
    rows = json.loads(sgdd(loaded_python, site, "plugins", "--json"))
    assert [(row["command"], row["works"]) for row in rows if "command" in row] == [("longest", True)]
    assert [
        (row["vector_source"], row["version"], row["works"]) for row in rows if "vector_source" in row
    ] == [("vec", "1.0", True)]
    extensions = {row["extension"]: row["works"] for row in rows if "extension" in row}
    assert extensions == dict.fromkeys(MODULES.keys() - {"vector_source", "commands"}, True)
    assert all(row["adds"] for row in rows if "extension" in row)


@pytest.mark.slow
def test_the_command_line_takes_the_settings_of_the_recipes(site, loaded_python):
    settings = re.findall(r"--set ((?:diffusion|sample)\.\S+?)[`. ]", TEXT)
    assert {setting.partition("=")[0] for setting in settings} == {
        *("diffusion.schedule", "diffusion.times", "sample.position_rule", "sample.guidance_schedule")
    }
    chosen = dict(setting.split("=", 1) for setting in settings)
    shown = sgdd(
        loaded_python, site, "config", "show", "--toml", *(word for s in settings for word in ("--set", s))
    )
    read = tomllib.loads(shown)
    for key, value in chosen.items():
        section, _, name = key.partition(".")
        assert read[section][name] == value
