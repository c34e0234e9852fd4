"""Checkpoint folders: written whole or not at all, verified when read."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from sgdd_engine.atomic_files import as_json, damage, replace_file, write_folder, write_json, write_text
from sgdd_engine.checkpoint.card import model_card
from sgdd_engine.checkpoint.info import CheckpointInfo
from sgdd_engine.checkpoint.weights import Dtype, load_weights, save_weights
from sgdd_engine.errors import CheckpointError, SgddError
from sgdd_engine.mini import MINI, is_mini
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.text.tokenizer import TextTokenizer

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TRAINING = "training/"
# What using a model needs; the training state beside it is several times as large.
MODEL = (WEIGHTS, CONFIG, "tokenizer")
NAME_ONE = "Name a checkpoint folder such as runs/NAME/checkpoints/step-0001000, or a run folder."


@dataclass(frozen=True)
class Checkpoint:
    """A model with all that is needed to use it."""

    info: CheckpointInfo
    model: SemanticDecoder
    tokenizer: TextTokenizer


def save_checkpoint(
    folder: Path,
    checkpoint: Checkpoint,
    training_state: dict[str, Any] | None = None,
    *,
    dtype: Dtype = "fp32",
    card: str | None = None,
) -> None:
    """Write a checkpoint folder, whole or not at all.

    Args:
        folder: The final name.
        checkpoint: What to save; its model's state becomes `model.safetensors`.
        training_state: Name → tensors by name (one safetensors file each) or JSON values, for resuming.
        dtype: `fp16` halves the matrices; vectors and the training state stay as they are.
        card: The text of README.md; by default one is made of what the checkpoint knows of itself.

    Raises:
        CheckpointError: the tensors cannot be written, or not in half precision.
        OSError: another file cannot be written, for example on a full disk.
    """

    def fill(aside: Path) -> None:
        save_weights(aside / WEIGHTS, checkpoint.model.state_dict(), dtype)
        write_json(aside / CONFIG, checkpoint.info.to_dict())
        checkpoint.tokenizer.save(aside)
        write_text(aside / "README.md", card or model_card(checkpoint.info))
        for name, value in (training_state or {}).items():
            (aside / TRAINING).mkdir(exist_ok=True)
            if name.endswith(".json"):
                write_json(aside / TRAINING / name, value)
            else:
                save_weights(aside / TRAINING / name, value)

    try:
        write_folder(folder, fill)
    except SafetensorError as error:  # its own name for what the system refuses
        raise CheckpointError(
            f"The checkpoint `{folder}` cannot be written: {error}.",
            "Make room on the disk; what was saved before is complete.",
        ) from error


def record_sampling(folder: Path, sampling: Mapping[str, float]) -> None:
    """Write into a checkpoint how to sample from it, such as `{"cfg": 2.0}`; an older record of the same is replaced.

    Killed at any moment, it leaves a checkpoint that verifies, with the old record or with the new one.

    Raises:
        CheckpointError: it is missing or damaged, it is the model that comes with sgdd, or the record cannot be.
        OSError: the folder cannot be written.
    """
    if is_mini(folder):
        raise CheckpointError(
            f"`{MINI}` is part of the installation and stays as it is.",
            f"Record it in a copy: sgdd export {MINI} my-{MINI}",
        )
    if problem := damage(folder, MODEL):
        raise CheckpointError(f"Nothing can be recorded in `{folder}`: {problem}.", NAME_ONE)
    info = read_info(folder)
    try:
        info = replace(info, sampling={**info.sampling, **sampling})
    except SgddError as error:
        raise CheckpointError(
            f"This cannot be recorded in `{folder}`: {dict(sampling)}. {error.message}", error.hint
        ) from None
    written = folder.stat()
    replace_file(folder, CONFIG, as_json(info.to_dict()))
    # Which run is the newest is a matter of training, not of records.
    os.utime(folder, ns=(written.st_atime_ns, written.st_mtime_ns))


def read_info(folder: Path) -> CheckpointInfo:
    """Read `config.json` of a checkpoint folder.

    Raises:
        CheckpointError: the folder is not a checkpoint or its format cannot be read.
    """
    try:
        plain = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(plain, dict) or "format" not in plain:
            raise CheckpointError(f"`{folder}` is not a checkpoint of sgdd.", NAME_ONE)
        return CheckpointInfo.from_dict(plain)
    except CheckpointError:
        raise
    except SgddError as error:
        raise CheckpointError(f"`{folder}` cannot be read. {error.message}", error.hint) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"`{folder}` is not a checkpoint: its config.json is missing or damaged ({type(error).__name__}).",
            NAME_ONE,
        ) from None


def load_checkpoint(folder: Path, device: torch.device | str = "cpu") -> Checkpoint:
    """Load a checkpoint folder, verified.

    Raises:
        CheckpointError: it is missing, damaged, or from a format that cannot be read.
    """
    info = read_info(folder)
    if problem := damage(folder, MODEL):
        raise CheckpointError(
            f"The checkpoint `{folder}` cannot be used: {problem}.", "Use another checkpoint of the run."
        )
    model = SemanticDecoder(info.model)
    try:
        model.load_state_dict(load_weights(folder / WEIGHTS))
    except (RuntimeError, OSError, SafetensorError) as error:
        raise CheckpointError(f"The weights of `{folder}` do not fit its config.json: {error}") from None
    return Checkpoint(info, model.to(device).eval(), TextTokenizer.load(folder))


def load_training_state(folder: Path) -> dict[str, Any]:
    """What `save_checkpoint` was given as `training_state`, verified.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    problem = damage(folder, TRAINING)
    files = sorted((folder / TRAINING).glob("*"))
    if problem or not files:
        raise CheckpointError(
            f"Training cannot go on from `{folder}`: {problem or 'it holds no training state'}."
        )
    return {
        path.name: json.loads(path.read_text(encoding="utf-8"))
        if path.suffix == ".json"
        else load_weights(path)
        for path in files
    }
