"""The runner of ablations, its table, and the causal baseline."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from models_for_tests import VOCABULARY, generator, random_tokens, scatter, tiny_model
from typer.testing import CliRunner

EXAMPLES = Path(__file__).parents[1] / "examples"

PLAN = """
[base]
why = "small enough for a test"
[base.encoder]
name = "{encoder}"
[base.bottleneck]
kind = "none"
[base.decoder]
layers = 1
width = 32
heads = 2
memory_tokens = 2
[base.train]
batch_tokens = 256
warmup_steps = 2
log_every = 5
validate_every = 1000
validation_sentences = 4
save_every = 2
keep_checkpoints = 1
precision = "fp32"

[[row]]
group = "depth"
name = "deeper"
why = "one more layer"
set = {{ "decoder.layers" = 2 }}

[[row]]
group = "guidance"
name = "plain"
set = {{ "sample.guidance" = "plain", "sample.cfg" = 2.0, "sample.steps" = 2 }}
"""


@pytest.fixture(autouse=True)
def examples_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))


@pytest.fixture
def plan_file(tmp_path):
    return write_plan(tmp_path / "plan.toml")


def write_plan(path: Path, more: str = "", encoder: object = "minilm") -> Path:
    path.write_text(PLAN.format(encoder=encoder) + more, encoding="utf-8")
    return path


def setup_at(out: Path, **changes):
    from ablation_plan import Setup

    common = {"corpus": Path("data/tales"), "text": None, "minutes": 1.0, "sentences": 8, "device": "cpu"}
    return Setup(out, **{**common, **changes})


def call_in_this_process(ablation, command):
    """What a command of a row prints, without a new interpreter that loads PyTorch."""
    import ablation_row

    from sgdd_cli.main import app

    if command[0] == "python":
        work, job = command[2:]
        return json.dumps(getattr(ablation_row, work)(json.loads(job)))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("SGDD_")]:
            patch.delenv(name)
        done = CliRunner().invoke(app, command[1:])
    assert done.exit_code == 0, done.stderr
    return done.stdout


def test_a_row_is_a_process_with_the_settings_of_its_plan_alone(plan_file, tmp_path, monkeypatch):
    from ablate import Ablation, RowError
    from ablation_plan import Plan

    ablation = Ablation(Plan.read(plan_file), setup_at(tmp_path), threads=3, keep=False)
    monkeypatch.setenv("SGDD_TRAIN__SEED", "7")
    shown = "import os; print(os.environ.get('SGDD_TRAIN__SEED'), os.environ['OMP_NUM_THREADS'])"
    assert ablation._call(["python", "-c", shown]) == "None 3\n"
    assert ablation._call(["sgdd", "--version"]).startswith("sgdd ")
    with pytest.raises(RowError, match="`python -c` failed with exit code 3"):
        ablation._call(["python", "-c", "raise SystemExit(3)"])


@pytest.mark.slow
def test_two_rows_run_from_end_to_end_and_are_not_run_twice(
    tmp_path, capsys, tiny_corpus_folder, tiny_encoder_folder, monkeypatch
):
    from ablate import Ablation, main

    monkeypatch.setattr(Ablation, "_call", call_in_this_process)
    plan = write_plan(tmp_path / "plan.toml", encoder=tiny_encoder_folder.as_posix())
    common = [plan, "--corpus", tiny_corpus_folder, "--out", tmp_path / "out"]
    common += ["--minutes", "0.003", "--sentences", "8"]
    assert main([*map(str, common)]) == 0
    shown = capsys.readouterr().out
    results = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert [result["row"] for result in results] == ["base", "deeper", "plain"]
    base, deeper, plain = results
    # A second layer costs time, which is taken from its steps.
    assert deeper["steps"] < base["steps"] == plain["steps"]
    assert deeper["score"]["parameters"] > base["score"]["parameters"] == plain["score"]["parameters"]
    for result in results:
        assert all(len(result["score"][at]["f1"]) == 8 for at in ("plain", "best"))
        assert np.isfinite(result["score"]["nelbo_nats_per_token"])
    assert deeper["score"]["step"] == deeper["steps"]
    assert plain["score"]["best_cfg"] == 2.0
    assert str(base["score"]["best_cfg"]) in base["score"]["grid"]
    assert "| deeper |" in shown
    assert deeper["command"] in shown
    assert deeper["command"].endswith("--set decoder.layers=2")
    # The base's weights stay for rows that only sample; another's go.
    assert list((tmp_path / "out" / "runs" / "base-0" / "checkpoints").iterdir())
    assert not (tmp_path / "out" / "runs" / "deeper-0" / "checkpoints").exists()

    assert main([*map(str, common)]) == 0
    again = capsys.readouterr()
    assert again.out == shown
    assert "seed 0" not in again.err
    assert main([*map(str, common[:-4]), "--minutes", "9", "--sentences", "8"]) == 1
    assert "Name another folder" in capsys.readouterr().err


def ablation_of(plan_file, out, jobs):
    from ablate import Ablation
    from ablation_plan import Plan

    setup = setup_at(out)
    plan = Plan.read(plan_file)
    setup.record(plan)
    return Ablation(plan, setup, threads=1, keep=False, jobs=jobs)


def test_steps_are_measured_once_and_kept_for_another_device(plan_file, tmp_path, monkeypatch, capsys):
    from ablate import Ablation, main

    asked = []

    def cost(ablation, command):
        asked.append(json.loads(command[-1]))
        return json.dumps({"base": 0.5, "row": 1.0} if "row" in asked[-1]["sides"] else {"base": 0.5})

    monkeypatch.setattr(Ablation, "_call", cost)
    given = [str(plan_file), "--corpus", "data/tales", "--out", str(tmp_path / "out"), "--minutes", "1"]
    assert main([*given, "--budgets"]) == 0
    assert [*asked[0]["sides"]] == ["base"]
    assert [*asked[1]["sides"]] == ["base", "row"]
    assert "deeper: 60 steps" in capsys.readouterr().err
    assert not (tmp_path / "out" / "results.jsonl").exists()
    assert main([*given, "--budgets", "--device", "cuda"]) == 0
    assert len(asked) == 2
    steps = {path.stem: json.loads(path.read_text())["steps"] for path in (tmp_path / "out").glob("*/*.json")}
    assert steps == {"base": 120, "deeper": 60}


def test_rows_run_at_once_and_those_that_stand_on_the_base_after_it(plan_file, tmp_path, monkeypatch):
    from ablate import Ablation

    both, order = threading.Barrier(2, timeout=30), []

    def result(ablation, row, seed):
        if row.trains:
            both.wait()
        order.append(row.name)
        return made_up([0.5, 0.6])

    monkeypatch.setattr(Ablation, "_result", result)
    monkeypatch.setattr(Ablation, "measure", lambda *_: None)
    ablation = ablation_of(plan_file, tmp_path, jobs=2)
    ablation.run(ablation.plan.rows, 1)
    assert {*order[:2]} == {"base", "deeper"}
    assert order[2:] == ["plain"]
    assert all(ablation.results.has(row, 0) for row in ablation.plan.rows)
    ablation.run(ablation.plan.rows, 1)
    assert len(order) == 3


def test_a_base_that_fails_stops_the_rows_beside_it_and_another_row_does_not(
    plan_file, tmp_path, monkeypatch
):
    from ablate import Ablation, RowError

    failing = "deeper"

    def result(ablation, row, seed):
        if row.name == failing:
            raise RowError("it failed")
        return made_up([0.5, 0.6])

    monkeypatch.setattr(Ablation, "_result", result)
    monkeypatch.setattr(Ablation, "measure", lambda *_: None)
    ablation = ablation_of(plan_file, tmp_path, jobs=2)
    ablation.run(ablation.plan.rows, 1)
    assert ablation.results.of("deeper", 0)["error"] == "it failed"
    assert ablation.results.seeds("plain") == [0]
    failing = "base"
    again = ablation_of(plan_file, tmp_path / "again", jobs=2)
    with pytest.raises(RowError):
        again.run(again.plan.rows, 1)
    assert again.results.seeds("plain") == []


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_signal_to_stop_reaches_all_rows_that_run_at_once(plan_file, tmp_path, monkeypatch):
    from ablate import Ablation

    saving = (
        "signal.signal(signal.SIGINT, lambda *_: sys.exit(open(sys.argv[1] + '-saved', 'w').close() or 130))"
    )
    running = f"import signal, sys, time; {saving}; open(sys.argv[1], 'w').close(); time.sleep(60)"
    begun = [tmp_path / name for name in ("base", "deeper")]

    def result(ablation, row, seed):
        return {"printed": ablation._call(["python", "-c", running, str(tmp_path / row.name)])}

    def interrupt():
        while not all(path.exists() for path in begun):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Ablation, "_result", result)
    monkeypatch.setattr(Ablation, "measure", lambda *_: None)
    ablation = ablation_of(plan_file, tmp_path / "out", jobs=2)
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        ablation.run(ablation.plan.rows, 1)
    assert not ablation._children
    assert not ablation.results.found
    assert all(path.with_name(f"{path.name}-saved").exists() for path in begun)


def test_a_row_that_is_stopped_alone_stops_the_others_and_says_so(plan_file, tmp_path, monkeypatch):
    from ablate import Ablation

    def result(ablation, row, seed):
        if row.name == "deeper":
            raise KeyboardInterrupt
        return made_up([0.5, 0.6])

    monkeypatch.setattr(Ablation, "_result", result)
    monkeypatch.setattr(Ablation, "measure", lambda *_: None)
    ablation = ablation_of(plan_file, tmp_path, jobs=2)
    with pytest.raises(KeyboardInterrupt):
        ablation.run(ablation.plan.rows, 1)
    assert not ablation.results.seeds("deeper")


def test_a_plan_names_every_mistake(tmp_path):
    from ablation_plan import Plan

    from sgdd_engine.errors import ConfigError

    mistakes = {
        '[[row]]\ngroup = "a"\nname = "b"\nset = { "decoder.layer" = 2 }\n': "decoder.layer",
        '[[row]]\ngroup = "a"\nname = "deeper"\n': "two rows named deeper",
        '[[row]]\ngroup = "a"\nname = "b"\nwhat = 1\n': "cannot be read",
        "[more]\n": "unknown parts: more",
    }
    for more, said in mistakes.items():
        with pytest.raises(ConfigError, match=said):
            Plan.read(write_plan(tmp_path / "plan.toml", more))


def test_rows_are_chosen_by_name_and_by_group_and_long_ones_only_so(tmp_path):
    from ablation_plan import Plan

    more = '[[row]]\ngroup = "size"\nname = "huge"\nlong = true\nset = { "decoder.layers" = 9 }\n'
    plan = Plan.read(write_plan(tmp_path / "plan.toml", more))

    def names(*chosen):
        return [row.name for row in plan.chosen(list(chosen))]

    assert names() == ["base", "deeper", "plain"]
    assert names("guidance", "huge") == ["base", "plain", "huge"]


def test_commands_say_what_a_row_changes(plan_file, tmp_path):
    from ablation_plan import Plan, Row

    from sgdd_engine.errors import ConfigError

    setup, (_, deeper, plain) = setup_at(tmp_path / "out"), Plan.read(plan_file).rows
    trained = setup.train_command(deeper, 1, 40)
    assert trained[-2:] == ["--set", "decoder.layers=2"]
    assert trained[trained.index("--out") + 1].endswith("deeper-1")
    assert setup.shown_command(plain, 0, 40, None).startswith(f"sgdd eval {tmp_path}/out/runs/base-0 ")
    cut = Row(name="small", group="vocabulary", set={"tokenizer.vocab_size": 500})
    assert setup.corpus_of(cut) == Path("data/tales-small")
    with pytest.raises(ConfigError, match="text is not known"):
        setup.prepare_command(cut, "fp32")
    prepared = setup_at(tmp_path, text="tales.txt").prepare_command(cut, "bf16")
    assert prepared[2] == "tales.txt"
    assert "data.vectors_from=data/tales" in prepared
    assert "encoder.precision=bf16" in prepared
    assert setup.corpus_of(deeper) == setup.corpus


def made_up(f1, *, steps=10, cfg=1.5, **more) -> dict:
    scores = {"f1": list(f1), "bleu": [100 * value for value in f1], "exact": [0.0] * len(f1)}
    scores |= {"cosine": list(f1), "repetition": [0.0] * len(f1)}
    score = {"parameters": 1000, "best_cfg": cfg, "plain": scores, "best": scores, "shuffled_f1": 0.1}
    score |= {"nelbo_nats_per_token": 3.0, "bits_per_byte": 1.0}
    return {"steps": steps, "command": "sgdd train x", "score": score, **more}


def test_the_table_marks_what_the_paired_interval_can_tell(plan_file, tmp_path):
    from ablation_plan import Plan
    from ablation_table import Results, markdown

    plan = Plan.read(plan_file)
    base, deeper, plain = plan.rows
    noise = np.random.default_rng(0)
    f1 = noise.uniform(0, 1, 200)
    results = Results.read(tmp_path)
    results.add(base, 0, made_up(f1))
    # Far below the spread between sentences, and yet certain, since every sentence gains.
    results.add(deeper, 0, made_up(f1 + 0.01 + noise.normal(0, 0.005, 200)))
    results.add(plain, 0, made_up(f1 + noise.normal(0, 0.05, 200)))
    lines = {line.split(" | ")[0]: line for line in markdown(plan, setup_at(tmp_path), results).splitlines()}
    assert "▲" in lines["| deeper"]
    assert "▲" not in lines["| plain"]
    assert "▼" not in lines["| plain"]
    assert "+0.010" in lines["| deeper"]
    # A second seed on which it is as much worse takes the certainty away.
    results.add(base, 1, made_up(f1))
    results.add(deeper, 1, made_up(f1 - 0.01 + noise.normal(0, 0.005, 200)))
    lines = {line.split(" | ")[0]: line for line in markdown(plan, setup_at(tmp_path), results).splitlines()}
    assert "▲" not in lines["| deeper"]
    assert "; by seed +0.010, -0.010)" in lines["| deeper"]
    assert "by seed" not in lines["| plain"]


def test_the_table_shows_the_error_of_the_mean_bound(plan_file, tmp_path):
    from ablation_plan import Plan
    from ablation_table import Results, markdown

    plan = Plan.read(plan_file)
    results = Results.read(tmp_path)
    for seed, (bound, error) in enumerate(((3.0, 0.3), (4.0, 0.4))):
        result = made_up([0.5, 0.6])
        result["score"] |= {"nelbo_nats_per_token": bound, "nelbo_standard_error": error}
        results.add(plan.rows[0], seed, result)
    # Errors of independent means: a half of √(0.3² + 0.4²).
    assert " | 3.50 ± 0.25 | " in markdown(plan, setup_at(tmp_path), results)


def test_what_is_worse_for_certain_needs_no_other_seed_but_a_winner_does(plan_file, tmp_path):
    from ablation_plan import Plan
    from ablation_table import Results, is_undecided

    base, deeper, plain = Plan.read(plan_file).rows
    f1 = np.random.default_rng(0).uniform(0, 1, 50)
    results = Results.read(tmp_path)
    results.add(base, 0, made_up(f1))
    assert not is_undecided(results, deeper)  # Nothing was found yet.
    results.add(deeper, 0, made_up(f1 + 0.1))
    results.add(plain, 0, made_up(f1 - 0.1))
    assert is_undecided(results, deeper)
    assert not is_undecided(results, plain)


def test_results_survive_a_crash_and_refuse_other_settings(plan_file, tmp_path):
    from ablation_plan import Plan, Row
    from ablation_table import Results

    from sgdd_engine.errors import ConfigError

    base, deeper, plain = Plan.read(plan_file).rows
    results = Results.read(tmp_path)
    results.add(base, 0, made_up([0.5]))
    with results.path.open("a") as file:
        file.write('\n{"row": "deeper", "se')
    again = Results.read(tmp_path)
    assert again.has(base, 0)
    assert not again.has(deeper, 0)
    again.add(deeper, 0, {"error": "it failed"})
    again.add(plain, 0, made_up([0.1]))
    last = Results.read(tmp_path)
    assert not last.has(deeper, 0)
    assert last.has(plain, 0)
    assert last.seeds("deeper") == []
    with pytest.raises(ConfigError, match="was run with"):
        last.has(Row(name="plain", group="guidance", set={"sample.cfg": 3.0}), 0)


@pytest.mark.parametrize(
    ("name", "named", "width"), [("ablations", "67M-12x512", 512), ("ablations_recipe", "8x320", 320)]
)
def test_the_plans_that_are_shipped_are_sound(name, named, width):
    from ablation_plan import BASE, Plan

    from sgdd_cli.settings import load_settings

    plan = Plan.read(EXAMPLES / f"{name}.toml")
    base = [
        f"{section}.{key}={value}"
        for section, values in plan.settings.items()
        for key, value in values.items()
    ]
    settings = {}
    for row in plan.rows:
        settings[row.name] = load_settings([], [*base, *row.assignments]).settings
        assert row.why, row.name
        # A row of the default guidance weight alone is the base itself.
        assert row.name == BASE or not row.trains or settings[row.name] != settings[BASE]
        assert row.script is None or (EXAMPLES / row.script).is_file()
    assert settings[named].decoder.width == width


def causal(layers=2, seed=0):
    from causal_model import CausalDecoder

    config = tiny_model(memory_tokens=3).config
    torch.manual_seed(seed)
    model = scatter(CausalDecoder(config, layers), seed, std=0.6)
    return model.eval(), torch.randn(5, config.embedding_dim, generator=generator(seed))


@pytest.mark.slow
def test_the_baseline_learns_sentences_of_several_lengths_and_writes_them_with_and_without_a_cache():
    from causal_model import CausalDecoder

    config = tiny_model(memory_tokens=3).config
    torch.manual_seed(0)
    model, e = CausalDecoder(config, 2), torch.randn(6, config.embedding_dim, generator=generator(1))
    sentences = [random_tokens(1, length, seed=length) for length in (1, 3, 4, 6, 9, 16)]
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(80):
        for row, x in enumerate(sentences):
            model.nll(e[row : row + 1], x, 0.1, torch.float32)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    written = model.eval().write(e, (0, 1, 3, 39))
    assert written == [x[0].tolist() for x in sentences]
    # In between the six it is unsure, and writes what it has never seen.
    between = (e + e.roll(1, dims=0)) / 2
    cached = model.write(between, (0, 1, 3, 39))
    assert len({len(row) for row in cached}) > 1
    assert cached == model.write(between, (0, 1, 3, 39), cached=False)
    assert cached == [model.write(row[None], (0, 1, 3, 39))[0] for row in between]
    assert all(not {0, 1, 2, 3, 39} & set(row) for row in cached)


def test_the_baseline_is_causal_and_reads_the_vector():
    model, e = causal()
    x = random_tokens(5, 7)
    hidden = model(e, x)
    assert hidden.shape == (5, 8, model.config.decoder.width)
    later = x.clone()
    later[:, 4] = (later[:, 4] + 1) % 30 + 4
    changed = model(e, later)
    torch.testing.assert_close(hidden[:, :5], changed[:, :5])
    assert not torch.allclose(hidden[:, 5:], changed[:, 5:])
    assert not torch.allclose(hidden, model(e.roll(1, dims=0), x))


def test_the_baselines_nats_are_those_of_its_logits():
    model, e = causal()
    x = random_tokens(5, 7)
    loss, nats = model.nll(e, x, 0.5, torch.float32)
    targets = torch.cat([x, torch.full((5, 1), VOCABULARY.eos_id)], dim=1)
    logits = model.head.logits(model(e, x).flatten(0, 1))
    expected = torch.nn.functional.cross_entropy(logits, targets.flatten(), reduction="none").view(5, 8)
    torch.testing.assert_close(nats, expected.sum(dim=1))
    torch.testing.assert_close(loss, 0.5 * expected.sum())


def test_the_baseline_is_given_as_many_parameters():
    from causal_model import CausalDecoder, like

    config = tiny_model().config
    sizes = [sum(p.numel() for p in CausalDecoder(config, layers).parameters()) for layers in (3, 4)]
    assert like(config, sizes[0] + 10) == 3
    assert like(config, sizes[1] - 10) == 4
