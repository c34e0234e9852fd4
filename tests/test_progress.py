"""The display of progress: plain lines off a terminal, bars on one, warnings always."""

import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from sgdd_cli import formatting
from sgdd_cli.console import output_options
from sgdd_cli.progress import LinePainter, ProgressDisplay
from sgdd_cli.progress_live import CANVAS_MARGIN, LivePainter, canvas
from sgdd_engine.counted import about, counted
from sgdd_engine.events import (
    CanvasChanged,
    CheckpointSaved,
    Notice,
    SamplesWritten,
    StageFinished,
    StageProgress,
    StageStarted,
    TrainingProgress,
    Validated,
)

ACCURACY = {"0-25": 0.81, "100": 0.125}


def training(step: int) -> TrainingProgress:
    return TrainingProgress(
        step=step,
        max_steps=2000,
        fraction=step / 2000,
        loss=3.4567,
        accuracy_by_mask_ratio=ACCURACY,
        sentences_per_second=512.4,
        tokens_per_second=8000.0,
        learning_rate=9.8e-4,
        memory_bytes=1_234_000_000,
        seconds_left=3723.0,
    )


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def loud():
    output_options.quiet = output_options.debug = False
    yield
    output_options.quiet = output_options.debug = False


def test_figures():
    assert [formatting.duration(s) for s in (7.2, 754, 3723)] == ["0:07", "12:34", "1:02:03"]
    assert [formatting.size(b) for b in (512, 3_400_000, 1.2e9, 5e12)] == [
        "512 B",
        "3.4 MB",
        "1.2 GB",
        "5.0 TB",
    ]
    assert [formatting.rate(r) for r in (0.25, 9.96, 1234.5)] == ["0.2", "10.0", "1,234"]
    assert [formatting.share(v) for v in (0.0, 0.456, 1.0)] == [".00", ".46", "1.00"]


def test_plain_lines_come_every_few_seconds(capsys):
    clock = Clock()
    painter = LinePainter(clock=clock)
    painter.draw(StageStarted("encoding", 1000))
    for second in range(1, 13):
        clock.now = float(second)
        painter.draw(StageProgress("encoding", 50 * second))
    painter.draw(StageFinished("encoding", "1,000 sentences."))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "encoding: 1,000 sentences ...",
        "encoding: 250 of 1,000 sentences (25%), 50/s, 0:15 left",
        "encoding: 500 of 1,000 sentences (50%), 50/s, 0:10 left",
        "encoding: 1,000 sentences.",
    ]


def test_work_of_an_earlier_run_does_not_count_as_speed(capsys):
    clock = Clock()
    painter = LinePainter(clock=clock)
    painter.draw(StageStarted("encoding", 1000, done=900))
    clock.now = 10.0
    painter.draw(StageProgress("encoding", 950))
    assert "950 of 1,000 sentences (95%), 5.0/s, 0:10 left" in capsys.readouterr().err


def test_an_estimate_that_is_passed_is_no_share_above_all(capsys):
    now = iter(float(second) for second in range(0, 60, 6))
    painter = LinePainter(clock=lambda: next(now))
    painter.draw(StageStarted("reading", 100, "lines"))
    painter.draw(StageProgress("reading", 100))
    painter.draw(StageProgress("reading", 150))
    lines = capsys.readouterr().err.splitlines()
    assert "100 of 100 lines (100%)" in lines[1]
    assert lines[2].startswith("reading: 150 lines, ")
    assert "%" not in lines[2]
    assert "left" not in lines[2]
    screen = io.StringIO()
    live = LivePainter(Console(file=screen, force_terminal=True, width=120, color_system=None))
    live.start()
    live.draw(StageStarted("reading", 100, "lines"))
    live.draw(StageProgress("reading", 150))
    live.stop()
    assert "150/100" not in screen.getvalue()
    assert "150/?" in screen.getvalue()


def test_a_run_that_ends_by_the_clock_shows_no_share_of_its_steps():
    event = replace(training(20), max_steps=100_000, fraction=0.33)
    assert formatting.steps(event) == "step 20 (33% of the minutes)"
    assert formatting.steps(training(20)) == "step 20 of 2,000 (1%)"


def test_training_says_everything_and_always_its_last_figures(capsys):
    clock = Clock()
    painter = LinePainter(clock=clock)
    painter.draw(training(20))
    clock.now = 6.0
    painter.draw(training(40))
    painter.draw(training(60))
    painter.stop()
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(";")[0] for line in lines] == ["step 40 of 2,000 (2%)", "step 60 of 2,000 (3%)"]
    for part in (
        "loss 3.457",
        "0-25 % .81, 100 % .12",
        "512 sentences/s",
        "lr 9.80e-04",
        "1.2 GB",
        "1:02:03 left",
    ):
        assert part in lines[0]


def test_events_that_stand_for_themselves_come_at_once(capsys):
    with ProgressDisplay() as display:
        display(Validated(500, 3.2, 2.9, ACCURACY, best=True))
        display(SamplesWritten(500, (("He ran.", "He walks."),)))
        display(CheckpointSaved(500, Path("runs") / "a", 0.25))
        display(Notice("By the way [N, 3]."))
        display(CanvasChanged(1, 4, ("the _ _",)))
        display(StageProgress("never announced", 3))
    err = capsys.readouterr().err
    line = (
        "step 500: held-out loss 3.200, NELBO 2.900 nats/token, accuracy from a full mask .12 (best so far)"
    )
    assert line in err
    assert "  source   He ran.\n  written  He walks.\n" in err
    assert f"saved {Path('runs') / 'a'}" in err
    assert "By the way [N, 3]." in err
    assert "the _ _" not in err


def test_quiet_leaves_warnings_only(capsys):
    output_options.quiet = True
    with ProgressDisplay(watch=True) as display:
        display(StageStarted("encoding", 10))
        display(training(20))
        display(Notice("Hush."))
        display(Notice("Careful.", warning=True))
    assert capsys.readouterr().err == "Warning: Careful.\n"


def test_watching_off_a_terminal_prints_each_canvas(capsys):
    with ProgressDisplay(watch=True) as display:
        display(CanvasChanged(1, 2, ("the _", "_ _")))
    assert capsys.readouterr().err.splitlines() == ["1/2  the _", "1/2  _ _"]


def drawn(*events: CanvasChanged, width: int, height: int) -> list[str]:
    """The lines of the last canvases on a screen of this size."""
    console = Console(file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None)
    shown = canvas(events[-1], console.width, console.height - CANVAS_MARGIN)
    return [line.rstrip() for line in "".join(s.text for s in console.render(shown)).splitlines()]


def test_canvases_stand_in_the_order_of_their_texts_and_are_whole_where_there_is_room():
    event = CanvasChanged(2, 8, ("c _", "b _ _ _ _ _ _ _ long.", "a \u6f22\u5b57 _"), rows=(2, 1, 0))
    assert drawn(event, width=80, height=24) == [
        "step 2 of 8",
        "a \u6f22\u5b57 _",
        "b _ _ _ _ _ _ _ long.",
        "c _",
    ]
    assert drawn(event, width=16, height=24)[2:4] == ["b _ _ _ _ _ _ _", "long."]
    assert drawn(event, width=16, height=7)[1:] == ["a \u6f22\u5b57 _", "b _ _ _ _ _ _ _…", "c _"]
    assert drawn(event, width=16, height=6)[1:] == ["a \u6f22\u5b57 _", "\u2026 and 2 more"]
    # Canvases of which is not told whose they are keep their order.
    assert drawn(CanvasChanged(1, 2, ("x _", "_")), width=80, height=24)[1:] == ["x _", "_"]


def test_on_a_terminal_everything_is_drawn_and_the_last_figures_stay():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, color_system=None)
    painter = LivePainter(console, watch=True)
    painter.start()
    painter.draw(StageStarted("encoding", 1000, done=5))
    painter.draw(StageProgress("encoding", 500, "train-00000"))
    painter.draw(training(20))
    painter.draw(Validated(500, 3.2, 2.9, ACCURACY, best=False))
    painter.draw(SamplesWritten(500, (("He ran.", "He walks."),)))
    painter.draw(CheckpointSaved(500, Path("a"), 0.25))
    painter.draw(CanvasChanged(1, 4, ("the _ home",)))
    painter.draw(Notice("Careful.", warning=True))
    painter.draw(StageFinished("encoding"))
    painter.stop()
    seen = screen.getvalue()
    for part in (
        "500/1000",
        "train-00000",
        "sentences/s",
        "0-25 %",
        "step 20 of 2,000 (1%)",
        "last checkpoint: step 500",
        "Warning: Careful.",
        "step 1 of 4",
        "the _ home",
        "  written  He walks.",
        "encoding: done.",
    ):
        assert part in seen, part
    cleared = " ".join(seen.rpartition("\x1b")[2].split())
    assert "step 20 of 2,000 (1%); loss 3.457" in cleared


def test_a_surrogate_that_is_trained_alone_has_no_accuracies(capsys):
    alone = replace(training(20), accuracy_by_mask_ratio={}, loss=0.52)
    screen = io.StringIO()
    painter = LivePainter(
        Console(file=screen, force_terminal=True, width=120, color_system=None), watch=False
    )
    painter.start()
    painter.draw(alone)
    painter.stop()
    assert "squared distance" in screen.getvalue()
    assert "mask" not in screen.getvalue()
    with ProgressDisplay() as display:
        display(alone)
        display(Validated(500, 0.5, 2.9, ACCURACY, best=True, surrogate_error=0.5))
    err = capsys.readouterr().err
    assert "loss 0.520; 512 sentences/s" in err
    assert "surrogate's squared distance 0.500 (best so far)" in err


# What Rich asks an IPython kernel for, and the packages that it then draws with; neither is needed to run sgdd.
NOTEBOOK = """
import builtins, sys
class ZMQInteractiveShell: pass
builtins.get_ipython = lambda: ZMQInteractiveShell()
import IPython
from sgdd_cli.progress import ProgressDisplay
print(type(ProgressDisplay()._painter).__name__)
"""


@pytest.mark.parametrize(
    ("packages", "painter"), [(("IPython", "ipywidgets"), "LivePainter"), (("IPython",), "LinePainter")]
)
def test_a_notebook_is_drawn_in_where_it_can_be(tmp_path, packages, painter):
    for name in packages:
        (tmp_path / f"{name}.py").touch()
    path = os.pathsep.join([str(Path(__file__).parents[1]), str(tmp_path)])
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert (done.stdout, done.stderr) == (f"{painter}\n", "")


@pytest.mark.parametrize(
    ("count", "words"), [(0, "0 texts"), (1, "1 text"), (2, "2 texts"), (1234, "1,234 texts")]
)
def test_a_count_has_the_right_form_of_its_noun(count, words):
    assert counted(count, "text") == words


def test_an_estimated_time_has_a_unit_that_can_be_grasped():
    times = [about(seconds) for seconds in (0.2, 1, 90, 119, 7000, 7200, 23 * 3600, 4 * 86_400)]
    assert times == [
        "about 1 second", "about 1 second", "about 90 seconds", "about 119 seconds",
        "about 117 minutes", "about 2 hours", "about 23 hours", "about 4 days",
    ]  # fmt: skip
