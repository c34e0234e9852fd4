"""Loading the model that a command needs, the sampling that fits it, and the text it is scored on."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgdd_cli.console import say
from sgdd_cli.default_paths import RUNS, corpus_of
from sgdd_cli.settings import DEFAULT
from sgdd_engine.errors import DataError
from sgdd_engine.mini import MINI, SENTENCES, is_mini, mini_is_here

if TYPE_CHECKING:
    from sgdd_cli.settings import Resolved
    from sgdd_engine.diffusion.config import SamplingConfig
    from sgdd_engine.generation import SGDD


def load_model(checkpoint: str | Path | None, device: str) -> tuple["SGDD", Path]:
    """The named model, or the default one, and the folder of its checkpoint; see `find_checkpoint`.

    Raises:
        CheckpointError: there is none, or it is damaged.
        ConfigError: no such device.
    """
    from sgdd_engine.generation import SGDD  # noqa: PLC0415 - loads torch

    folder = find_checkpoint(checkpoint)
    return SGDD.from_pretrained(folder, device), folder


def find_checkpoint(named: str | Path | None) -> Path:
    """The folder of the named checkpoint, of the newest run's best, or of `mini` where there is no run.

    Says on stderr which one was taken, unless the name was the folder itself.

    Raises:
        CheckpointError: there is none.
    """
    from sgdd_engine.checkpoint import checkpoints_of, newest_checkpoint, resolve_checkpoint  # noqa: PLC0415 - as above

    if named is None and (not mini_is_here() or any(checkpoints_of(run) for run in RUNS.glob("*"))):
        folder = newest_checkpoint(RUNS)
        say(f"Checkpoint: {folder}, of the newest run.")
        return folder
    folder = resolve_checkpoint(MINI if named is None else named)
    if is_mini(folder):
        why = f"; no run stands in `{RUNS}`" if named is None else ""
        say(f"Checkpoint: {MINI}, the small English model that comes with sgdd{why}.")
    elif named == MINI:
        say(f"Checkpoint: {folder}, from the folder `{MINI}` here; not the `{MINI}` that comes with sgdd.")
    elif folder != Path(named or ""):
        say(f"Checkpoint: {folder}")
    return folder


def checkpoint_name(folder: Path) -> str:
    """What to call a checkpoint in a report: its folder, or `mini` for the one that comes with sgdd."""
    return MINI if is_mini(folder) else str(folder)


def text_to_score(checkpoint: Path, facts: Mapping[str, Any]) -> Path:
    """What a checkpoint is evaluated on where nobody says: the corpus it was trained on.

    The corpus of `mini` is not part of sgdd; sentences that were written for sgdd stand in for it.

    Raises:
        DataError: its corpus is not found.
    """
    try:
        return corpus_of(checkpoint, facts, "Name it, or a text file, with --data.")
    except DataError:
        if not is_mini(checkpoint):
            raise
    count = len(SENTENCES.read_text(encoding="utf-8").splitlines())
    say(
        f"Evaluated on {count} sentences that come with sgdd, written for it and in no book; for a text of your own: "
        "--data FILE"
    )
    return SENTENCES


def sampling_for(resolved: "Resolved", model: "SGDD") -> "SamplingConfig":
    """The settings' sampling; where nobody asked for another, as the checkpoint records it.

    Without guidance where nobody asked for it and the model has no null condition.
    """
    recorded: Mapping[str, Any] = {
        name: value
        for name, value in model.info.sampling.items()
        if resolved.origin(f"sample.{name}") == DEFAULT
    }
    sampling = replace(resolved.settings.sample, **recorded)
    if model.info.trained_null or sampling.cfg == 1 or resolved.origin("sample.cfg") != DEFAULT:
        return sampling
    say("This model was trained without a null condition: sampling without guidance (cfg 1).")
    return replace(sampling, cfg=1.0)
