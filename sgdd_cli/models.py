"""Loading the model that a command needs, and the sampling that fits it."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sgdd_cli.console import say
from sgdd_cli.places import RUNS
from sgdd_cli.settings import DEFAULT

if TYPE_CHECKING:
    from sgdd_cli.settings import Resolved
    from sgdd_engine.diffusion.config import SamplingConfig
    from sgdd_engine.generation import SGDD


def load_model(checkpoint: Path | None, device: str) -> tuple["SGDD", Path]:
    """The named model, or the best of the newest run, and the folder of its checkpoint.

    Raises:
        CheckpointError: there is none, or it is damaged.
        ConfigError: no such device.
    """
    from sgdd_engine.checkpoint import newest_checkpoint, resolve_checkpoint  # noqa: PLC0415 - loads torch
    from sgdd_engine.generation import SGDD  # noqa: PLC0415

    folder = newest_checkpoint(RUNS) if checkpoint is None else resolve_checkpoint(checkpoint)
    if folder != checkpoint:
        say(f"Checkpoint: {folder}")
    return SGDD.from_pretrained(folder, device), folder


def sampling_for(resolved: "Resolved", model: "SGDD") -> "SamplingConfig":
    """The settings' sampling; without guidance where nobody asked for it and the model has no null condition."""
    sampling = resolved.settings.sample
    if model.info.trained_null or sampling.cfg == 1 or resolved.origin("sample.cfg") != DEFAULT:
        return sampling
    say("This model was trained without a null condition: sampling without guidance (cfg 1).")
    return replace(sampling, cfg=1.0)
