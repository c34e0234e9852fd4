import json
import os
import subprocess
import sys

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter
from typer.testing import CliRunner

from sgdd_cli.formatting import sparkline
from sgdd_cli.main import app
from sgdd_engine.atomic_files import exclusive_folder, is_locked
from sgdd_engine.errors import ConfigError, SgddError, TrainingError
from sgdd_engine.events import SamplesWritten, TrainingProgress, Validated
from sgdd_engine.tracking import LOG, TRACKERS, TrackedRun, Tracker, Tracking, read_log
from sgdd_engine.tracking.runs import summarize
from sgdd_engine.training.config import TrainConfig

PAIRS = (("A | B <b>", "A B"), ("Tom sold a cup.", "Tom sold it."))
SETTINGS = {"train.learning_rate": 1e-3, "train.max_steps": 40, "train.compile": False, "corpus": "tales"}


def reported(step: int) -> TrainingProgress:
    return TrainingProgress(
        step=step, max_steps=40, fraction=step / 40, loss=4 - step / 20, accuracy_by_mask_ratio={"0-25": 0.5},
        sentences_per_second=9.0, tokens_per_second=80.0, learning_rate=1e-3, memory_bytes=10, seconds_left=None,
        terms={"grad_norm": float("nan"), "length_nats": 1.0}, seconds=1.5 * step,
    )  # fmt: skip


def validated(step: int) -> Validated:
    return Validated(step, 4.5 - step / 20, 5.0, {"100": 0.1}, True)


def session(folder, first: int, last: int, *, tracker="tensorboard", settings=SETTINGS, ending="finished"):
    """A run's session from one step to another, with a report every 10 steps and a validation every 20."""
    notices = []
    folder.mkdir(parents=True, exist_ok=True)
    tracking = Tracking(TrackedRun(folder, settings), tracker, notices.append)
    tracking.start(first)
    for step in range(first // 10 * 10 + 10, last + 1, 10):
        tracking(reported(step))
        if step % 20 == 0:
            tracking(validated(step))
            tracking(SamplesWritten(step, PAIRS))
    tracking.end(last, ending or "stopped", 2.5)
    if ending is None:  # killed before it could say so
        lines = (folder / LOG).read_text().splitlines(keepends=True)
        (folder / LOG).write_text("".join(lines[:-1]))
    return notices


def board(folder):
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


def steps(folder, tag="loss/nats_per_masked_token"):
    return [point.step for point in board(folder).Scalars(tag)]


# --- the log ----------------------------------------------------------------------------------------------


def test_what_was_done_after_the_step_that_is_resumed_is_dropped(tmp_path):
    run = tmp_path / "run"
    session(run, 0, 40, ending=None)
    with (run / LOG).open("a") as file:
        file.write('{"step": 50, "time": 1, "scal')
    assert [step for step, _ in read_log(run).curves["train/loss"]] == [10, 20, 30, 40]
    assert read_log(run).ending is None
    session(run, 20, 30, ending="stopped")
    log = read_log(run)
    assert log.curves["train/loss"] == [(10, 3.5), (20, 3.0), (30, 2.5)]
    assert log.curves["validation/loss"] == [(20, 3.5)]
    assert log.ending == "stopped"
    assert [record["step"] for record in log.records if "texts" in record] == [20]
    assert steps(run / "tensorboard/train") == [10, 20, 30]
    assert steps(run / "tensorboard/validation") == [20]
    for line in (run / LOG).read_text().splitlines():
        json.loads(line, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))


def test_every_prefix_of_a_log_is_read(tmp_path):
    session(tmp_path, 0, 20, tracker="jsonl")
    whole = (tmp_path / LOG).read_bytes()
    ends = [place for place, byte in enumerate(whole) if byte == 10]
    for cut in range(0, len(whole), 37):
        (tmp_path / LOG).write_bytes(whole[:cut])
        # A line that is whole counts, its end missing or not.
        assert len(read_log(tmp_path).records) == sum(end <= cut for end in ends)


def test_a_run_from_before_there_was_a_log_keeps_its_curves(tmp_path):
    old = tmp_path / "tensorboard"
    for first, steps_drawn in ((0, (10, 20, 30)), (20, (30, 40))):
        writer = SummaryWriter(str(old), purge_step=first + 1, filename_suffix=str(first))
        for step in steps_drawn:
            writer.add_scalar("train/loss", step + first / 100, step)
        writer.close()
    # The later file's name comes first: the clock went back.
    later = next(old.glob("*20"))
    later.rename(old / "events.out.tfevents.0000000001.x.1.120")
    kept = [(10, 10.0), (20, 20.0), (30, pytest.approx(30.2)), (40, pytest.approx(40.2))]
    assert read_log(tmp_path).curves["train/loss"] == kept
    session(tmp_path, 40, 40)
    assert read_log(tmp_path).curves["train/loss"] == kept
    assert not list(old.glob("*.1.*"))
    assert steps(old / "train") == [10, 20, 30, 40]


def test_a_tracker_that_fails_does_not_end_the_run(tmp_path, monkeypatch):
    class Failing(Tracker):
        def scalars(self, step, values):
            raise OSError("no space")

    monkeypatch.setattr(TRACKERS, "_entries", {**TRACKERS._entries, "failing": Failing})
    notices = session(tmp_path, 0, 20, tracker="failing")
    assert [notice.message for notice in notices] == [
        "The tracker failing failed and records nothing more: OSError: no space"
    ]
    assert notices[0].warning
    assert read_log(tmp_path).ending == "finished"


# --- TensorBoard ------------------------------------------------------------------------------------------


def test_what_training_and_validation_measure_is_one_chart(tmp_path):
    session(tmp_path, 0, 40)
    folder = tmp_path / "tensorboard"
    train, held_out = (set(board(folder / name).Tags()["scalars"]) for name in ("train", "validation"))
    assert "loss/nats_per_masked_token" in train & held_out
    assert "loss/length_nats" in train
    assert not {tag for tag in train if "surrogate" in tag or "grad_norm" in tag or tag == "seconds"}
    (text,) = board(folder / "validation").Tags()["tensors"]
    last = board(folder / "validation").Tensors(text)[-1]
    assert last.step == 40
    assert "| A &#124; B &lt;b&gt; | A B |" in last.tensor_proto.string_val[0].decode()


def test_the_clock_does_not_decide_what_is_drawn(tmp_path):
    session(tmp_path, 0, 30, ending="stopped")
    for file in (tmp_path / "tensorboard").rglob("*tfevents*"):
        file.rename(file.with_name("events.out.tfevents.1900000000.x"))
    session(tmp_path, 20, 40)
    assert steps(tmp_path / "tensorboard/train") == [10, 20, 30, 40]


def test_settings_stand_beside_the_last_figures(tmp_path):
    from tensorboard.plugins.hparams import metadata

    session(tmp_path, 0, 40)
    tags = board(tmp_path / "tensorboard").PluginTagToContent("hparams")
    start = metadata.parse_session_start_info_plugin_data(tags[metadata.SESSION_START_INFO_TAG])
    assert start.hparams["train.learning_rate"].number_value == 1e-3
    assert start.hparams["corpus"].string_value == "tales"
    experiment = metadata.parse_experiment_plugin_data(tags[metadata.EXPERIMENT_TAG])
    for metric in experiment.metric_infos:
        drawn = board(tmp_path / "tensorboard" / metric.name.group).Tags()["scalars"]
        assert metric.name.tag in drawn
    assert metadata.SESSION_END_INFO_TAG in tags


# --- Weights & Biases -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_weights_and_biases_writes_a_run_without_a_network(tmp_path):
    pytest.importorskip("wandb")
    script = (
        "import sys, pathlib; sys.path.insert(0, 'tests')\n"
        "import test_tracking\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "for first, last in ((0, 20), (20, 40)):\n"
        "    print(*test_tracking.session(folder, first, last, tracker='wandb:project=tales'))\n"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        env={**clean, "WANDB_MODE": "offline", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Weights & Biases: ") == 2, done.stdout
    # Both sessions are one run there.
    number = (tmp_path / "wandb" / "run-id").read_text().strip()
    files = list((tmp_path / "wandb").glob(f"offline-run-*-{number}/run-{number}.wandb"))
    assert files
    content = b"".join(file.read_bytes() for file in files)
    for expected in (b"train/loss", b"validation/nelbo_nats_per_token", b"train.learning_rate", b"tales"):
        assert expected in content


def test_the_library_of_a_tracker_is_loaded_when_it_is_chosen(tmp_path):
    script = (
        "import sys; from sgdd_engine.training.config import TrainConfig; TrainConfig();"
        "from sgdd_cli.commands import runs; import sgdd_engine.tracking.runs;"
        "print(*{'torch', 'wandb', 'tensorboard', 'google.protobuf'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_tracker_that_is_not_there_is_said_at_once(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match=r"train\.tracker is 'tensorbord'") as caught:
        TrainConfig(tracker="tensorbord")
    assert "Did you mean tensorboard?" in caught.value.hint
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TrainingError, match="not installed") as caught:
        session(tmp_path, 0, 10, tracker="wandb")
    assert caught.value.hint == 'pip install "sgdd[wandb]"'


# --- sgdd runs --------------------------------------------------------------------------------------------


def call(*arguments, width=80):
    result = CliRunner().invoke(app, ["runs", *map(str, arguments)], env={"COLUMNS": str(width)})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


@pytest.fixture
def two_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session(tmp_path / "runs/tales-20261101-120000", 0, 40)
    other = {**SETTINGS, "train.learning_rate": 5e-4, "train.max_steps": 100}
    session(tmp_path / "runs/other", 0, 30, ending="stopped", settings=other)
    return tmp_path / "runs"


def test_runs_are_listed_with_their_figures(two_runs):
    found = {run["name"]: run for run in json.loads(call("--json"))["runs"]}
    tales, other = found["runs/tales-20261101-120000"], found["runs/other"]
    assert (tales["state"], tales["step"], tales["seconds"]) == ("finished", 40, 60.0)
    assert (tales["loss"], tales["best_validation"], tales["best_step"]) == (2.0, 2.5, 40)
    assert (other["state"], other["step"], other["max_steps"]) == ("stopped", 30, 100)
    assert other["validation"] == [[20, 3.5]]
    (line,) = [line for line in call(width=120).splitlines() if "tales" in line]
    assert line.split() == [
        "runs/tales-20261101-120000", "finished", "40", "1:00", "2.000", "2.500", "–", "█▁"
    ]  # fmt: skip
    assert "30 of 100" in call(width=120)


def test_two_runs_are_compared(two_runs):
    answer = json.loads(call("tales-20261101-120000", two_runs / "other", "--json"))
    assert answer["differences"] == {"train.learning_rate": [1e-3, 5e-4], "train.max_steps": [40, 100]}
    out = call("other", "tales-20261101-120000", width=120)
    assert "Settings that differ" in out
    (line,) = [line for line in out.splitlines() if "learning_rate" in line]
    assert line.split() == ["train.learning_rate", "0.0005", "0.001"]
    with pytest.raises(SgddError, match="`missing` is not a run"):
        call("missing")


@pytest.mark.parametrize("width", [40, 50, 80])
def test_runs_are_readable_in_a_narrow_window(two_runs, width):
    for arguments in ((), ("other", "tales-20261101-120000")):
        out = call(*arguments, width=width)
        assert max(map(len, out.splitlines())) <= width
        for word in ("runs/tales-20261101-120000", "finished", "2.500", "30 of 100", "█▁"):
            assert word in out
    assert "train.learning_rate" in out
    assert "0.0005" in out


def test_a_run_is_running_while_its_lock_is_held(tmp_path):
    session(tmp_path, 0, 20, ending=None, settings={**SETTINGS, "train.max_steps": 100})
    with exclusive_folder(tmp_path):
        assert summarize(tmp_path).state == "running"
    assert summarize(tmp_path).state == "stopped"
    (tmp_path / ".lock").touch()  # what a killed process leaves
    assert not is_locked(tmp_path)
    assert summarize(tmp_path).state == "stopped"
    session(tmp_path, 20, 100)
    assert summarize(tmp_path).state == "finished"


def test_a_curve_as_bars():
    assert sparkline([], 4) == ""
    assert sparkline([2.0, 2.0], 4) == "▁▁"
    assert sparkline([8, 7, 6, 5, 4, 3, 2, 1], 8) == "█▇▆▅▄▃▂▁"
    assert sparkline([3, 3, 2, 2, 1, 1], 3) == "█▅▁"
