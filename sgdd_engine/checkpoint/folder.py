"""A checkpoint folder on the disk: what it says of itself, whether it is whole, and what is recorded in it later."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import Timeout

from sgdd_engine.atomic_files import HASHES, as_json, change_file, damage, sha256_of
from sgdd_engine.bounded_files import UnreadableError, read_json_object
from sgdd_engine.checkpoint.hub_name import HubName
from sgdd_engine.checkpoint.info import CONFIG, EVALUATIONS, CheckpointInfo
from sgdd_engine.errors import CheckpointError, SgddError
from sgdd_engine.mini import MINI, is_mini

WEIGHTS = "model.safetensors"
TRAINING_STATE = "training/"
# Beginnings of the names of the files that using a model needs. The training state is several times as large, and
# README.md may be edited.
MODEL_FILES = (WEIGHTS, CONFIG, "tokenizer")
TRAINING_FILES = tuple(
    TRAINING_STATE + name for name in ("weights.safetensors", "optimizer.safetensors", "progress.json")
)
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_meta.json")
NAME_ONE = "Name a checkpoint folder such as runs/NAME/checkpoints/step-0001000, or a run folder."


def checkpoint_damage(folder: Path, *, training_state: bool = False) -> str | None:
    """What is wrong with the files that using a checkpoint needs, as a clause; None if nothing is.

    Args:
        folder: The checkpoint.
        training_state: Verify what resuming needs as well.
    """
    problem = damage(folder, (*MODEL_FILES, TRAINING_STATE) if training_state else MODEL_FILES)
    if problem:
        return problem
    listed = read_json_object(folder / HASHES)
    # A file without a hash would be read without being verified.
    needed = (WEIGHTS, CONFIG, *TOKENIZER_FILES, *(TRAINING_FILES if training_state else ()))
    missing = next((name for name in needed if name not in listed), None)
    return f"`{HASHES}` has no hash of `{missing}`" if missing else None


def read_info(folder: Path) -> CheckpointInfo:
    """Read `config.json` of a checkpoint folder.

    Raises:
        CheckpointError: the folder is not a checkpoint or its format cannot be read.
    """
    try:
        plain = read_json_object(folder / CONFIG)
    except UnreadableError as error:
        raise CheckpointError(
            f"`{folder}` is not a checkpoint of sgdd: its {CONFIG} cannot be read ({error.reason}).", NAME_ONE
        ) from None
    if "format" not in plain:
        raise CheckpointError(f"`{folder}` is not a checkpoint of sgdd.", NAME_ONE)
    try:
        return CheckpointInfo.from_dict(plain)
    except SgddError as error:
        raise CheckpointError(f"`{folder}` cannot be read. {error.message}", error.hint) from None


def weights_sha256(folder: Path) -> str:
    """SHA-256 of the weights' file: two checkpoints with the same one are the same model, given the same shapes."""
    return sha256_of(folder / WEIGHTS)


def record_sampling(
    folder: Path, sampling: Mapping[str, Any], *, token_temperature: float | None = None
) -> None:
    """Write into a checkpoint how to sample from it, such as `{"cfg": 2.0}`; an older record of the same is replaced.

    Args:
        folder: The checkpoint.
        sampling: Fields of `SamplingConfig`.
        token_temperature: As `CheckpointInfo` has it; None keeps what is recorded.

    Raises:
        CheckpointError, OSError: as for `record_evaluation`.
    """

    def recorded(info: CheckpointInfo) -> CheckpointInfo:
        try:
            temperature = info.token_temperature if token_temperature is None else token_temperature
            return replace(info, sampling={**info.sampling, **sampling}, token_temperature=temperature)
        except SgddError as error:
            raise CheckpointError(
                f"This cannot be recorded in `{folder}`: {dict(sampling)}. {error.message}", error.hint
            ) from None

    _rewrite_info(folder, recorded)


def record_confidence(folder: Path, confidence: Mapping[str, Any]) -> None:
    """Write into a checkpoint what `generation.confidence.record_of` gives; its fits replace older ones by name.

    Raises:
        CheckpointError, OSError: as for `record_evaluation`.
    """

    def recorded(info: CheckpointInfo) -> CheckpointInfo:
        old = info.confidence if info.confidence.get("version") == confidence["version"] else {}
        fits = {**old.get("fits", {}), **confidence["fits"]}
        return replace(info, confidence={**confidence, "fits": fits})

    _rewrite_info(folder, recorded)


def record_evaluation(folder: Path, evaluation: Mapping[str, Any]) -> None:
    """Write the scores of an evaluation into a checkpoint, the newest first; see `CheckpointInfo.evaluations`.

    One of the same sentences under the same settings is replaced.

    Raises:
        CheckpointError: it is missing or damaged, or it is the model that comes with sgdd.
        OSError: the folder cannot be written.
    """

    def recorded(info: CheckpointInfo) -> CheckpointInfo:
        older = [one for one in info.evaluations if one.get("settings") != evaluation["settings"]]
        return replace(info, facts={**info.facts, EVALUATIONS: [dict(evaluation), *older]})

    _rewrite_info(folder, recorded)


def _rewrite_info(folder: Path, change: Callable[[CheckpointInfo], CheckpointInfo]) -> None:
    """Change `config.json`; killed at any moment, it leaves a checkpoint that verifies, with the old or the new one."""
    if is_mini(folder):
        raise CheckpointError(
            f"`{MINI}` is part of the installation and stays as it is.",
            f"Record it in a copy: sgdd export {MINI} my-{MINI}",
        )
    if (on_hub := HubName.of_folder(folder)) is not None:
        raise CheckpointError(
            f"`{on_hub}` lies in the hub's cache and stays as it is.",
            f"Record it in a copy: sgdd export {on_hub} {on_hub.name.rpartition('/')[2]}",
        )

    def changed() -> str:
        if problem := checkpoint_damage(folder):
            raise CheckpointError(f"Nothing can be recorded in `{folder}`: {problem}.", NAME_ONE)
        return as_json(change(read_info(folder)).to_dict())

    if not (folder / HASHES).is_file():  # nor is a folder made, to lock it
        changed()
    before = folder.stat()
    try:
        change_file(folder, CONFIG, changed)
    except Timeout:
        raise CheckpointError(
            f"Another process is recording in `{folder}` and does not end.", "Try again when it has ended."
        ) from None
    # Which run is the newest goes by training, not by records.
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
