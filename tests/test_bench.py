"""The benchmark: both ways are one function, the memory meter counts, and the command speaks as the others do."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from models_for_tests import random_tokens, tiny_model

from sgdd_engine.benchmark import command_line
from sgdd_engine.benchmark.command_line import peak_resident_bytes, run_quietly
from sgdd_engine.benchmark.config import MEASURES, QUICK, BenchConfig, Shapes
from sgdd_engine.benchmark.context import BenchContext, TokenSample, distinct_sentences, sample_sentences
from sgdd_engine.benchmark.measurement import (
    BenchmarkError,
    Row,
    Timings,
    describe_machine,
    free_memory,
    peak_bytes,
    race,
)
from sgdd_engine.benchmark.preparation import full_batches
from sgdd_engine.benchmark.run import FAMILIES, _measured
from sgdd_engine.benchmark.sampling import Sampler
from sgdd_engine.benchmark.trainable_model import (
    Batch,
    TrainableModel,
    check_agreement,
    nonzero_model,
)
from sgdd_engine.benchmark.training_step import measure_training_step, sentences_that_fit
from sgdd_engine.errors import ConfigError, DataError, EncoderError
from sgdd_engine.events import Notice, ignore
from sgdd_engine.text.config import EncoderConfig
from sgdd_engine.text.encoder import load_encoder
from sgdd_engine.text.tiny import write_tiny_encoder
from sgdd_engine.training.config import TrainConfig

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]


@pytest.fixture
def bench(tmp_path) -> BenchContext:
    return BenchContext(
        config=BenchConfig(quick=True, repeats=1),
        shapes=QUICK,
        device=CPU,
        dtype=torch.float32,
        machine=describe_machine(CPU, 32),
        folder=tmp_path,
        command=(sys.executable, "-m", "sgdd_cli"),
        on_event=ignore,
    )


def a_batch(rows=6, n=7) -> Batch:
    vectors = torch.randn(rows, 12, generator=torch.Generator().manual_seed(3))
    return random_tokens(rows, n), torch.nn.functional.normalize(vectors, dim=-1)


def a_trainable(dtype=torch.float32) -> TrainableModel:
    # Half of the rows are dropped, so that the null condition is compared too.
    return TrainableModel(tiny_model(), CPU, dtype, TrainConfig(batch_tokens=42, condition_dropout=0.5))


@pytest.mark.parametrize("padded", [7, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_plain_reference_is_the_same_function(dtype, padded):
    found = check_agreement(a_trainable(dtype), a_batch(), padded)
    if dtype == torch.float32:
        assert max(found.values()) < 1e-5


@pytest.mark.parametrize(
    "name",
    [
        "denoiser.head.bias",
        "denoiser.blocks.1.attention.qkv.weight",
        "denoiser.time.net.2.bias",
        "denoiser.length.weight",
        "conditioner.memory.weight",
        "bottleneck.net.2.weight",
        "length_head.0.weight",
        "null",
    ],
)
def test_every_part_of_the_model_is_compared(name):
    trainable = a_trainable()
    trainable.plain.weights = {**trainable.plain.weights, name: trainable.plain.weights[name] * 1.01}
    with pytest.raises(BenchmarkError, match="nothing was timed"):
        check_agreement(trainable, a_batch(), 16)


def test_both_steps_train_and_leave_no_gradient_behind():
    trainable, batch = a_trainable(), a_batch()
    for step in (lambda: trainable.our_step(batch), lambda: trainable.plain_step(batch, 16)):
        before = trainable.model.head.table.detach().clone()
        step()
        assert not torch.equal(trainable.model.head.table, before)
        assert all(parameter.grad is None for parameter in trainable.model.parameters())
    assert trainable.steps == 2


def test_one_noise_gives_one_loss_whatever_the_padding():
    trainable, batch = a_trainable(), a_batch()
    losses = []
    for length in (7, 9, 16):
        losses.append(trainable.plain_loss(batch, length, step=5).item())
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_a_model_without_zeros_uses_every_part(bench):
    model = nonzero_model(bench.reference_config, CPU)
    assert all(parameter.any() for parameter in model.parameters())


def test_both_samplers_write_the_same_tokens(bench):
    sampler = Sampler(bench, [1, 2, 5, 5, 9, 30, 64])
    ours, plain = sampler.ours(), sampler.plain()
    assert [len(row) for row in plain] == sampler.lengths
    assert ours == plain
    assert len({token for row in ours for token in row}) > 10
    assert not {token for row in ours for token in row} & set(sampler.forbidden)


def test_samplers_that_disagree_are_not_timed(bench):
    sampler = Sampler(bench, [9, 12, 15])
    sampler.padded_to = 15
    assert sampler.equal_share() == 1.0
    written = sampler.ours()
    sampler.plain = lambda: [row[::-1] for row in written]
    with pytest.raises(BenchmarkError, match="same tokens"):
        sampler.equal_share()


def test_the_meter_counts_what_is_held_at_once():
    held = torch.empty(1 << 18)  # there before, so not counted

    def work():
        one = torch.empty(1 << 20)
        two = torch.empty(1 << 19)
        del one
        three = torch.empty(1 << 18)
        return two, three

    assert peak_bytes(work, CPU) == 4 * ((1 << 20) + (1 << 19))
    assert peak_bytes(lambda: held.mul_(held), CPU) == 0
    assert peak_bytes(lambda: None, CPU) == 0


def test_the_meter_sees_what_autograd_keeps():
    x = torch.ones(1 << 16, requires_grad=True)

    def work():
        x.exp().exp().sum().backward()
        x.grad = None

    # Both results are kept for the backward pass, which adds at least one gradient.
    assert peak_bytes(work, CPU) >= 3 * 4 * (1 << 16)


def test_the_meter_writes_nothing(capfd):
    peak_bytes(lambda: torch.empty(8), CPU)
    assert capfd.readouterr() == ("", "")


def test_a_race_runs_contestants_in_turns():
    ran = []
    pieces = {name: [lambda n=name, i=i: ran.append((n, i)) for i in range(2)] for name in "ab"}
    timings = race(pieces, repeats=3, device=CPU)
    assert ran[:2] == [("a", 0), ("b", 0)]  # once untimed
    assert ran[2:] == [("a", 0), ("b", 0), ("a", 1), ("b", 1)] * 3
    assert [len(values) for values in timings.seconds.values()] == [3, 3]


def test_timings_give_ratios_and_rates_of_the_median_repetition():
    timings = Timings({"slow": [6.0, 4.0, 9.0], "fast": [2.0, 4.0, 3.0]})
    assert timings.ratios("slow", "fast") == [3.0, 1.0, 3.0]
    assert timings.details(sentences=12) == {
        "sentences_per_second": {"slow": 2.0, "fast": 4.0},
        "seconds": {
            "slow": {"median": 6.0, "min": 4.0, "max": 9.0},
            "fast": {"median": 3.0, "min": 2.0, "max": 4.0},
        },
    }


@pytest.mark.parametrize(
    ("value", "goal", "at_most", "met"),
    [
        (5.0, 5.0, False, True),
        (4.9, 5.0, False, False),
        (1.2, 1.2, True, True),
        (1.3, 1.2, True, False),
        (3.0, None, False, None),
        (None, 5.0, False, None),
    ],
)
def test_a_goal_is_met_or_not(value, goal, at_most, met):
    row = Row(measure="m", title="t", value=value, unit="×", goal=goal, at_most=at_most)
    assert row.to_dict()["met"] is met


def test_typical_lengths_have_the_mean_of_the_text():
    tokens = TokenSample.of([[7] * n for n in (1, 2, 3, 4, 5, 6, 10, 20, 90)], longest=64)
    assert tokens.lengths.max() == 20
    lengths = tokens.typical_lengths(4)
    assert lengths == sorted(lengths)
    assert abs(sum(lengths) / 4 - tokens.lengths.mean()) <= 0.5
    assert tokens.of_length(8, 3) == [[7] * 10] * 3 or tokens.of_length(8, 3) == [[7] * 6] * 3


def test_batches_of_an_epoch_are_full_and_of_the_lengths_that_hold_the_tokens():
    lengths = np.array([2] * 50 + [10] * 40 + [20] * 25)  # 100, 400 and 500 tokens
    batches = full_batches(lengths, 10, 40)
    assert [int(lengths[rows[0]]) for rows in batches] == [2] + [10] * 4 + [20] * 5
    assert [len(rows) for rows in batches] == [20] + [4] * 4 + [2] * 5
    assert all(len(set(lengths[rows])) == 1 for rows in batches)


def test_a_text_gives_a_sample_and_then_the_built_in_corpus_goes_on(tmp_path, sentences):
    path = tmp_path / "tales.txt"
    path.write_text("\n".join([*sentences, "x", ""]), encoding="utf-8")
    sample = sample_sentences(path, 100)
    assert len(set(sample)) == 100
    assert set(sample) < set(sentences)
    assert sample == sample_sentences(path, 100)
    stream = distinct_sentences(path)
    assert [next(stream) for _ in sentences] == sentences
    assert next(stream) not in sentences
    path.write_text("Too few words are here.\n", encoding="utf-8")
    with pytest.raises(DataError, match="1 usable sentences"):
        sample_sentences(path, 100)


def test_a_batch_shrinks_where_the_reference_would_not_fit(bench):
    trainable = a_trainable()
    assert sentences_that_fit(bench, trainable) == QUICK.batch_sentences
    pieces = free_memory(CPU) // (15 * 64 * 3)
    crowded = replace(bench, shapes=replace(QUICK, full_vocab=pieces, batch_sentences=64))
    assert sentences_that_fit(crowded, trainable) in (1, 2)


def test_one_race_gives_only_the_rows_that_are_wanted(bench):
    one = replace(bench, config=replace(bench.config, only=("mfu",)))
    assert [row.measure for row in measure_training_step(one)] == ["mfu"]


def test_every_measure_has_one_function():
    names = [name for family, _ in FAMILIES for name in family]
    assert sorted(names) == sorted(MEASURES)
    assert "prepare-memory" not in BenchConfig().wanted
    assert "prepare-memory" in BenchConfig(long=True).wanted
    assert BenchConfig(only=("prepare-memory", "head")).wanted == ("head", "prepare-memory")
    assert Shapes().full_vocab == 250_002


def test_a_measure_that_cannot_be_taken_says_why_and_the_others_go_on(bench):
    def measure(bench):
        raise EncoderError("The encoder is not there.", "Install it.")

    heard = []
    (row,) = _measured(replace(bench, on_event=heard.append), ("cached-epoch",), measure)
    assert (row.value, row.met) == (None, None)
    assert row.note == "Left out. The encoder is not there. Install it."
    assert heard == [Notice(f"cached-epoch: {row.note}", warning=True)]
    assert _measured(bench, ("prepare-memory",), measure) == []  # not asked for


@pytest.mark.parametrize(
    "settings",
    [{"only": ("heda",)}, {"repeats": 0}, {"precision": "fp8"}],
    ids=["measure", "repeats", "precision"],
)
def test_settings_that_cannot_be_get_a_sentence(settings):
    with pytest.raises(ConfigError):
        BenchConfig(**settings)


def test_a_process_is_watched_to_its_end(tmp_path, monkeypatch):
    def peak(held: str) -> int:
        ready, seen = tmp_path / f"{len(held)}.ready", tmp_path / f"{len(held)}.seen"
        code = f"""
import time
from pathlib import Path
x = {held}
Path({str(ready)!r}).touch()
while not Path({str(seen)!r}).exists():
    time.sleep(0.01)
"""

        def look(process):
            holds_all = ready.exists()
            found = resident(process)
            if holds_all:
                seen.touch()
            return found

        monkeypatch.setattr(command_line, "_resident_bytes", look)
        return peak_resident_bytes([sys.executable, "-c", code], tmp_path)

    # Each process ends once it was looked at with all that it holds.
    resident = command_line._resident_bytes
    assert peak("b'x' * 10**8") - peak("b''") > 0.9e8
    with pytest.raises(BenchmarkError, match="exit code 3: no message"):
        run_quietly([sys.executable, "-c", "raise SystemExit(3)"], tmp_path)


def test_the_tiny_encoder_is_an_encoder(tmp_path, sentences):
    encoder = load_encoder(EncoderConfig(name=str(write_tiny_encoder(tmp_path, sentences, pieces=300))))
    vectors = encoder.encode(sentences[:5])
    assert vectors.shape == (5, 32)
    assert encoder.reference.pooling == "cls"
    assert torch.allclose(vectors.norm(dim=1), torch.ones(5), atol=1e-5)
    assert len(torch.unique(vectors, dim=0)) == 5


def sgdd(*arguments: str, folder: Path, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SGDD_")}
    return subprocess.run(
        [python, "-m", "sgdd_cli", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        cwd=folder,
        env={**clean, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"},
    )


def test_an_unknown_measure_is_a_usage_error(tmp_path):
    done = sgdd("bench", "--only", "heda", folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "There is no measure `heda`." in done.stderr
    assert "--only head" in done.stderr


@pytest.mark.slow
def test_a_result_that_could_not_be_kept_is_refused_before_anything_is_measured(tmp_path):
    (tmp_path / "file").touch()
    refused = {"file/found.json": "cannot be written", "x" * 300: "cannot be written", ".": "is a folder"}
    for out, reason in refused.items():
        done = sgdd("bench", "--quick", "--out", out, folder=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"`{out}` {reason}" in done.stderr
        assert "--out" in done.stderr


@pytest.mark.slow
def test_the_whole_command_in_small(tmp_path, sentences, loaded_python):
    text = tmp_path / "tales.txt"
    text.write_text("\n".join(sentences), encoding="utf-8")
    done = sgdd(
        "bench",
        "--quick",
        "--long",
        "--repeats",
        "1",
        "--text",
        str(text),
        "--json",
        "--out",
        "found.json",
        folder=tmp_path,
        python=loaded_python,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert set(found) == {"machine", "settings", "rows"}
    assert found["machine"]["matmul_flops_per_second"]["fp32"] > 0
    assert found["settings"]["agreement_with_the_plain_reference"]["fp32"]["gradient"] < 1e-4
    assert not found["settings"]["comparable"]
    kind = found["settings"]["dtype"]
    names = [row["measure"] for row in found["rows"]]
    assert names == [
        "train-step",
        "compact-vocabulary",
        "mfu",
        "step-memory",
        *dict.fromkeys(f"head-{size}-{dtype}" for dtype in (kind, "fp32") for size in ("full", "compact")),
        "cached-epoch",
        "sampling",
        "latency",
        "prepare-overhead",
        "prepare-memory",
        "help",
        "sample-start",
    ]
    for row in found["rows"]:
        assert {"measure", "value", "unit", "goal", "met", "details"} <= set(row)
        assert row["value"] is not None
        assert (row["goal"], row["met"]) == (None, None)
    assert "not comparable" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.json", "tales.txt"]
