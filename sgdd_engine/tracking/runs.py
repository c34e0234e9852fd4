"""What became of the runs on this machine, from what they recorded."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from sgdd_engine.atomic_files import is_locked
from sgdd_engine.bounded_files import UnreadableError, read_toml
from sgdd_engine.checkpoint import CheckpointInfo, checkpoints_of, read_info, resolve_checkpoint
from sgdd_engine.errors import CheckpointError
from sgdd_engine.tracking.log import LOG, Curve, RunLog, read_log

State = Literal["running", "finished", "stopped"]
# The sections of settings.toml that a run is trained with.
_SECTIONS = ("train", "bottleneck", "decoder", "diffusion", "feedback")


@dataclass(frozen=True)
class RunSummary:
    """One run.

    Attributes:
        name: Its folder as it was named.
        state: `running`, `finished` when it took all its steps or minutes, else `stopped`.
        step: Optimiser steps taken.
        max_steps: Those it was to take; None where it was limited by time, or nothing says so.
        seconds: Of training; None where it is not recorded.
        loss: Newest training loss in nats per masked token.
        best_validation: The lowest held-out loss since what is validated on has changed, in the same unit.
        best_step: When it was reached.
        nelbo_nats_per_token: The newest held-out bound.
        token_f1: Of the newest recorded evaluation of the best checkpoint.
        validation: Steps and values of the held-out loss.
        settings: Those of the newest session, by key.
    """

    name: str
    state: State
    step: int
    max_steps: int | None
    seconds: float | None
    loss: float | None
    best_validation: float | None
    best_step: int | None
    nelbo_nats_per_token: float | None
    token_f1: float | None
    validation: Sequence[tuple[int, float]]
    settings: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def list_runs(runs: Path) -> list[RunSummary]:
    """The runs in a folder of runs, the one that was written last first."""
    found = {folder: _written(folder) for folder in runs.glob("*") if _is_run(folder)}
    return [summarize(folder) for folder in sorted(found, key=found.__getitem__, reverse=True)]


def find_run(name: Path, runs: Path) -> Path:
    """The folder of a run that is named by its path, or by its name alone.

    Raises:
        CheckpointError: there is none.
    """
    for folder in (name, runs / name):
        if _is_run(folder):
            return folder
    raise CheckpointError(f"`{name}` is not a run, and there is none of that name in `{runs}`.", "sgdd runs")


def _is_run(folder: Path) -> bool:
    return (folder / LOG).is_file() or bool(checkpoints_of(folder))


def _written(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder / LOG, *checkpoints_of(folder)) if path.exists())


def summarize(run: Path) -> RunSummary:
    """What a run recorded; runs from before there was a log are read from what they drew and saved."""
    log, info = read_log(run), _best_checkpoint(run)
    settings = log.settings or _settings_file(run)
    validation = list(log.curves.get("validation/loss", ()))
    best_step, best = min(validation, key=lambda point: point[1], default=(None, None))
    step, max_steps = _steps(run, log), settings.get("train.max_steps")
    return RunSummary(
        name=str(run),
        state=_state(run, log, step, max_steps),
        step=step,
        max_steps=max_steps,
        seconds=_seconds(log, info),
        loss=_last(log.curves.get("train/loss")),
        best_validation=best,
        best_step=best_step,
        nelbo_nats_per_token=_last(log.curves.get("validation/nelbo_nats_per_token")),
        token_f1=_token_f1(info),
        validation=validation,
        settings=settings,
    )


def different_settings(runs: Iterable[RunSummary]) -> dict[str, list[Any]]:
    """The settings in which runs differ: by key the value of each run, None where it has none."""
    all_settings = [run.settings for run in runs]
    keys = dict.fromkeys(key for settings in all_settings for key in settings)
    found = {key: [settings.get(key) for settings in all_settings] for key in keys}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values)}


def _state(run: Path, log: RunLog, step: int, max_steps: int | None) -> State:
    if is_locked(run):
        return "running"
    if log.ending is not None:
        return log.ending
    # Killed, or from before there was a log, which says how far it was to go.
    return "finished" if max_steps is not None and step >= max_steps and checkpoints_of(run) else "stopped"


def _steps(run: Path, log: RunLog) -> int:
    saved = [int(folder.name.removeprefix("step-")) for folder in checkpoints_of(run)[-1:]]
    logged = [int(record["step"]) for record in log.records[-1:]]
    return max([0, *saved, *logged])


def _seconds(log: RunLog, info: CheckpointInfo | None) -> float | None:
    """Seconds of training, of which a run without reports has those of its best checkpoint."""
    recorded = None if info is None else info.facts.get("training", {}).get("seconds")
    return _last(log.curves.get("train/seconds")) or recorded


def _last(curve: Curve | None) -> float | None:
    return curve[-1][1] if curve else None


def _token_f1(info: CheckpointInfo | None) -> float | None:
    if info is None or not info.evaluations:
        return None
    own = next(one for one in info.evaluations[0]["conditions"] if one["name"] == "true")
    score = own["scores"].get("token_f1")
    return None if score is None else float(score["mean"])


def _best_checkpoint(run: Path) -> CheckpointInfo | None:
    try:
        return read_info(resolve_checkpoint(run))
    except CheckpointError:
        return None


def _settings_file(run: Path) -> dict[str, Any]:
    file = run / "settings.toml"
    try:
        plain = read_toml(file)
    except UnreadableError:
        return {}
    return {f"{name}.{key}": value for name in _SECTIONS for key, value in plain.get(name, {}).items()}
