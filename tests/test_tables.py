"""Tables of the command line at 80 columns and fewer: text may be folded, numbers stay whole."""

import re
import shlex
from dataclasses import replace
from types import SimpleNamespace

import pytest
from reports_for_tests import FULL, SMALL
from rich.console import Console
from typer.testing import CliRunner

from sgdd_cli.commands.bench import draw_benchmark
from sgdd_cli.commands.param_count import draw_cost
from sgdd_cli.console import command_line, command_lines, emit_table, new_table
from sgdd_cli.eval_tables import draw_calibration, draw_evaluation, draw_samplers
from sgdd_cli.main import app
from sgdd_cli.progress_live import training_table
from sgdd_engine.evaluation.report import Sample
from sgdd_engine.evaluation.verdicts import Verdict
from sgdd_engine.events import TrainingProgress
from sgdd_engine.generation.confidence import WAYS
from sgdd_engine.training.cost import Component, Cost

NUMBER = re.compile(r"\d[\d.,]*")


@pytest.fixture(params=[40, 50, 80])
def narrow(request, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")

    def shown_at(columns, draw):
        monkeypatch.setenv("COLUMNS", str(columns))
        return draw()

    def words_of(text):
        found = {word.strip(":\\") for word in re.sub("─+", " ", text).split()}
        # `sgdd doctor` shows the width as well.
        return {word for word in found if not word.startswith("COLUMNS=")}

    def whole(draw):
        """Drawn in so many columns it has the words that it has in a wide window, and no line that could be shorter."""
        text = shown_at(request.param, draw)
        wide = shown_at(500, draw)
        assert words_of(wide) <= words_of(text)
        assert text.count("…") == wide.count("…")
        for line in text.splitlines():
            assert len(line) <= request.param or len(line.removesuffix("\\").split()) <= 2, line
        return text

    return whole


CAUSED = replace(
    FULL,
    verdicts=[
        Verdict(
            "vector_used",
            False,
            "The vector is NOT used, as far as 1,234 sentences can tell: token F1 0.2137 with it, 0.2131 without.",
            "326 steps are few: 2,048 tokens each, 1.2 passes over 23,000 sentences.",
            "sgdd train --resume --out 'runs/my tales' --max-steps 7000",
        )
    ],
)


def drawings():
    from sgdd_engine.training.cost import Component, Cost

    parts = [Component("encoder", 566_705_152, trainable=False), Component("head", 1_234_567, trainable=True)]
    numbers = {name: 123_456 for name in Cost.__dataclass_fields__ if name != "components"}
    fits = {
        way: SimpleNamespace(
            fit=SimpleNamespace(
                facts={
                    "sentences": 12_345,
                    **dict.fromkeys(
                        ("share_close", "brier", "brier_of_share", "expected_calibration_error", "auc"),
                        0.1234,
                    ),
                }
            )
        )
        for way in WAYS
    }
    return {
        "evaluation": lambda: draw_evaluation(FULL, "runs/tales"),
        "small evaluation": lambda: draw_evaluation(SMALL, "runs/tales"),
        "causes": lambda: draw_evaluation(CAUSED, "runs/tales"),
        "samplers": lambda: draw_samplers(FULL.samplers, 1_234, "runs/tales"),
        "calibration": lambda: draw_calibration(fits, "runs/tales"),
        "cost": lambda: draw_cost(Cost(components=parts, **numbers)),
    }


@pytest.mark.parametrize("name", drawings())
def test_no_word_and_no_number_is_broken_in_a_narrow_window(name, narrow, capsys):
    def draw():
        drawings()[name]()
        return capsys.readouterr().out

    text = narrow(draw)
    if name == "causes":
        command = text[text.index("  sgdd train") :].partition("\n\nBest")[0]
        lines = command.replace("\\\n", "")
        assert shlex.split(lines.strip()) == shlex.split(CAUSED.verdicts[0].command)


@pytest.mark.parametrize(
    "command",
    [["config", "show"], ["config", "show", "--explain"], ["plugins"], ["models"], ["doctor", "--offline"]],
)
def test_no_command_breaks_a_word_in_a_narrow_window(command, narrow, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Broken packages are not what this is about.
    narrow(lambda: CliRunner().invoke(app, command).stdout)


@pytest.fixture(params=[80, 200])
def width(request, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(request.param))
    monkeypatch.setenv("NO_COLOR", "1")
    return request.param


def rows_of(text):
    return [line for line in text.splitlines() if NUMBER.search(line)]


@pytest.mark.parametrize("report", [FULL, SMALL])
def test_tables_of_an_evaluation(report, width, capsys):
    draw_evaluation(report, "runs/tales")
    shown = capsys.readouterr().out
    if width >= 80:
        assert max(map(len, shown.split("Corpus scores")[0].splitlines()[1:])) <= width
    for name in ("true", "null"):
        scores = report.conditions[name]
        f1 = f"{scores['token_f1'].mean:.3f} ({'-'.join(f'{end:.3f}' for end in scores['token_f1'].ends)})"
        cells = [
            f"{scores['exact_match'].mean:.3f}",
            f1,
            f"{scores['bleu'].mean:.1f}",
            f"{scores['cosine'].mean:.3f}",
        ]
        (row,) = (line for line in rows_of(shown) if f1 in line)
        assert all(cell in row for cell in cells)
    (alone,) = (line for line in rows_of(shown) if line.strip().startswith("33-64"))
    # One sentence: means without intervals.
    assert "0.654" in alone
    assert "(" not in alone
    assert re.search(r"90-100 +\.95 +0\.31 +7,123", shown)
    error = report.likelihood.standard_error
    assert ("2.414 ± 0.021 nats" in shown) == (error is not None)


def test_an_evaluation_ends_with_two_of_the_best_the_median_and_the_worst(capsys):
    samples = [
        Sample(group, f"{group} source {number}", f"{group} text {number}", 0.5, f1, 10.0)
        for group, f1 in (("best", 0.9), ("median", 0.6), ("worst", 0.1), ("random", 0.5))
        for number in range(6)
    ]
    draw_evaluation(replace(FULL, samples=samples), "runs/tales")
    shown = capsys.readouterr().out.splitlines()[-18:]
    assert shown[:3] == ["best, token F1 0.900", "  source   best source 0", "  written  best text 0"]
    assert shown[2::3] == [
        f"  written  {name}"
        for name in (
            "best text 0",
            "best text 1",
            "median text 2",
            "median text 3",
            "worst text 4",
            "worst text 5",
        )
    ]


def test_the_table_of_a_benchmark(width, capsys):
    from sgdd_engine.benchmark.measurement import Machine, Row
    from sgdd_engine.benchmark.run import Report

    machine = Machine(
        **{**dict.fromkeys(Machine.__dataclass_fields__, "x"), "matmul_flops_per_second": {"fp32": 1e12}}
    )
    rows = [
        Row(
            measure="prepare-memory",
            title="peak memory of prepare-data at 750,000 sentences against 75,000",
            value=12_345_678.0,
            unit="sentences/s",
            goal=1_234.0,
        )
    ]
    settings = {"text": "tales.txt", "mean_tokens": 17.5, "dtype": "bf16", "repeats": 5}
    draw_benchmark(Report(machine=machine, settings=settings, rows=rows))
    shown = capsys.readouterr().out
    assert "12,345,678 sentences/s" in shown
    assert "≥ 1,234" in shown


def test_the_table_of_parameters(width, capsys):
    parts = [Component(f"encoder (some-organisation/{'a-long-name-' * 4})", 566_705_152, trainable=False)]
    cost = Cost(components=parts, **{name: 12 for name in Cost.__dataclass_fields__ if name != "components"})
    draw_cost(cost)
    shown = capsys.readouterr().out
    assert shown.count("566,705,152") == 3
    if width >= 80:
        assert max(map(len, shown.split("A training step")[0].splitlines())) <= width


def test_the_table_of_training():
    event = TrainingProgress(
        step=12_345,
        max_steps=100_000,
        fraction=0.12,
        loss=12.345,
        accuracy_by_mask_ratio={"0-25": 0.81, "25-50": 0.7, "50-75": 0.6, "75-100": 0.5, "100": 0.12},
        sentences_per_second=12_345.0,
        tokens_per_second=1.0,
        learning_rate=1e-3,
        memory_bytes=123_400_000,
        seconds_left=None,
    )
    console = Console(width=80)
    with console.capture() as found:
        console.print(training_table(event, 80))
    (row,) = rows_of(found.get())[-1:]
    assert training_table(event, 40).plain.splitlines()[1] == "loss 12.345"
    assert NUMBER.findall(row) == ["12.345", "81", "70", "60", "50", "12", "12,345", "1.00", "03", "123.4"]


def test_settings_paths_and_numbers_stay_whole(width, capsys):
    table = new_table("key", "value", "source", "count", numbers=["count"])
    path = "/" + "a-folder-of-some-length/" * 8
    table.add_row("train.learning_rate", "0.0005", path, "1,234,567")
    emit_table(table)
    shown = capsys.readouterr().out.split()
    assert {"train.learning_rate", "0.0005", path, "1,234,567"} <= set(shown)


def test_a_window_narrower_than_the_numbers_loses_none(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "30")
    draw_evaluation(replace(FULL, guidance_search=None), "runs/tales")
    shown = capsys.readouterr().out
    assert "0.732 (0.722-0.742)" in shown


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_hint_fits_the_window_and_is_one_command_for_a_shell(width):
    options = [("--config", "my settings.toml"), ("--set", "eval.limit=3"), ("--device", "cpu")]
    command = command_line("eval", "runs/tales", *options, "--quick")
    first, *others = command_lines(command, width, "Next: ", "        ")
    assert max(map(len, (first, *others))) <= width
    shown = "\n".join([first.removeprefix("Next: "), *others])
    assert shlex.split(shown.replace("\\\n", "")) == shlex.split(command)
    # An option is not torn from its value.
    assert not any(
        line.removesuffix(" \\").endswith(("--config", "--set", "--device")) for line in (first, *others)
    )


def test_a_cell_is_shown_as_it_is(capsys):
    """Rich would make pictures of names between colons."""
    table = new_table("id", "text")
    table.add_row("dept:b:2", "a :cat: at 1:100:1")
    emit_table(table)
    out = capsys.readouterr().out
    assert "dept:b:2" in out
    assert "a :cat: at 1:100:1" in out
