"""Checkpoint folders: found by name, written whole or not at all, verified when read."""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sgdd_engine.atomic_files import (
    as_json,
    damage,
    replace_file,
    sha256_of,
    write_folder,
    write_json,
    write_text,
)
from sgdd_engine.checkpoint.info import CheckpointInfo, model_card
from sgdd_engine.errors import CheckpointError, SgddError
from sgdd_engine.mini import MINI, is_mini, mini_folder
from sgdd_engine.models.config import ModelConfig
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.text.tokenizer import TextTokenizer

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
TRAINING_STATE = "training/"
# The names that `checkpoint_folder` gives.
STEP_NAME = r"step-([0-9]{7}|[1-9][0-9]{7,})"
# Beginnings of the names of the files that using a model needs. The training state is several times as large, and
# README.md may be edited.
MODEL_FILES = (WEIGHTS, CONFIG, "tokenizer")
Dtype = Literal["fp32", "fp16"]
# Rounding to 11 bits changes a tensor by about 2e-4 of its norm; more means numbers too small for half precision.
ROUNDING = 1e-3
# Of vectors, only the biases of a vocabulary are as long.
LONG_VECTOR = 4096
# Checkpoints used to hold the pseudo-inverse of the whitening as well, which nothing reads.
UNUSED_TENSORS = ("bottleneck.inverse",)
_NAME_ONE = "Name a checkpoint folder such as runs/NAME/checkpoints/step-0001000, or a run folder."


@dataclass(frozen=True)
class Checkpoint:
    """A model with all that is needed to use it."""

    info: CheckpointInfo
    model: SemanticDecoder
    tokenizer: TextTokenizer


# --- which folder -----------------------------------------------------------------------------------------


def checkpoint_folder(run: Path, step: int) -> Path:
    """The checkpoint folder of a step of a run."""
    return run / "checkpoints" / f"step-{step:07d}"


def checkpoints_of(run: Path) -> list[Path]:
    """The checkpoint folders that training wrote into a run, oldest first; damaged ones included.

    A folder of any other name, such as a copy `step-0001000-keep`, is the user's.
    """
    found = [
        path
        for path in (run / "checkpoints").glob("step-*")
        if re.fullmatch(STEP_NAME, path.name) and path.is_dir()
    ]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def resolve_checkpoint(name: Path | str) -> Path:
    """The checkpoint that a name or path means: a checkpoint folder itself, a run folder's best, or `mini`.

    The best is the undamaged one of the lowest held-out loss. The text `mini` is the model that comes with sgdd, unless
    a folder of that name in the current folder is a checkpoint or a run. A `Path`, or a text such as `./mini`, always
    means a folder.

    Raises:
        CheckpointError: there is no usable checkpoint.
    """
    path = Path(name)
    if name == MINI and not _is_model(path):
        return mini_folder()
    if not path.exists():
        raise CheckpointError(
            f"There is no checkpoint at `{path}`.",
            f"Train one with `sgdd train`, check the path, or name `{MINI}`, which comes with sgdd.",
        )
    if (path / CONFIG).is_file():
        return path
    folders = checkpoints_of(path)
    for folder in sorted(folders, key=lambda folder: (_validation_loss(folder), -folders.index(folder))):
        if not checkpoint_damage(folder):
            return folder
    raise CheckpointError(
        f"`{path}` is neither a checkpoint nor a run with an undamaged checkpoint.", _NAME_ONE
    )


def newest_run(runs: Path = Path("runs")) -> Path | None:
    """The run in a folder of runs whose newest checkpoint was written last; None where no run has a checkpoint."""
    written = {
        run: max(folder.stat().st_mtime for folder in folders)
        for run in runs.glob("*")
        if (folders := checkpoints_of(run))
    }
    return max(written, key=written.__getitem__, default=None)


def newest_checkpoint(runs: Path = Path("runs")) -> Path:
    """The best checkpoint of the newest run in a folder of runs.

    Raises:
        CheckpointError: there is none.
    """
    run = newest_run(runs)
    if run is None:
        raise CheckpointError(
            f"No checkpoint was named and `{runs}` holds no run.",
            "Name one with --checkpoint FOLDER, or train one: sgdd train",
        )
    return resolve_checkpoint(run)


def _is_model(folder: Path) -> bool:
    """Whether a folder is meant to be a checkpoint or a run, damaged or not."""
    return (folder / CONFIG).is_file() or (folder / "checkpoints").is_dir()


def _validation_loss(folder: Path) -> float:
    try:
        return read_info(folder).validation_loss
    except CheckpointError:
        return float("inf")


# --- reading ----------------------------------------------------------------------------------------------


def checkpoint_damage(folder: Path, *, training_state: bool = False) -> str | None:
    """What is wrong with the files that using a checkpoint needs, as a clause; None if nothing is.

    Args:
        folder: The checkpoint.
        training_state: Verify what resuming needs as well.
    """
    return damage(folder, (*MODEL_FILES, TRAINING_STATE) if training_state else MODEL_FILES)


def read_info(folder: Path) -> CheckpointInfo:
    """Read `config.json` of a checkpoint folder.

    Raises:
        CheckpointError: the folder is not a checkpoint or its format cannot be read.
    """
    try:
        plain = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(plain, dict) or "format" not in plain:
            raise CheckpointError(f"`{folder}` is not a checkpoint of sgdd.", _NAME_ONE)
        return CheckpointInfo.from_dict(plain)
    except CheckpointError:
        raise
    except SgddError as error:
        raise CheckpointError(f"`{folder}` cannot be read. {error.message}", error.hint) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"`{folder}` is not a checkpoint: its config.json is missing or damaged ({type(error).__name__}).",
            _NAME_ONE,
        ) from None


def weights_sha256(folder: Path) -> str:
    """SHA-256 of the weights' file: two checkpoints with the same one are the same model, given the same shapes."""
    return sha256_of(folder / WEIGHTS)


def load_checkpoint(
    folder: Path, device: torch.device | str = "cpu", config: ModelConfig | None = None
) -> Checkpoint:
    """Load a checkpoint folder, verified; its model is in evaluation mode.

    Args:
        folder: The checkpoint itself; see `resolve_checkpoint`.
        device: Where the model is put.
        config: The model to put the weights into; by default the one that was saved. It must have the same tensors.

    Raises:
        CheckpointError: it is missing, damaged, or from a format that cannot be read.
    """
    info = read_info(folder)
    if problem := checkpoint_damage(folder):
        raise CheckpointError(
            f"The checkpoint `{folder}` cannot be used: {problem}.", "Use another checkpoint of the run."
        )
    model = SemanticDecoder(config or info.model)
    try:
        tensors = load_weights(folder / WEIGHTS)
        model.load_state_dict({name: t for name, t in tensors.items() if name not in UNUSED_TENSORS})
    except (RuntimeError, OSError, SafetensorError) as error:
        raise CheckpointError(f"The weights of `{folder}` do not fit its config.json: {error}") from None
    return Checkpoint(info, model.to(device).eval(), TextTokenizer.load(folder))


def load_training_state(folder: Path) -> dict[str, Any]:
    """What `save_checkpoint` was given as `training_state`, verified.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    problem = damage(folder, TRAINING_STATE)
    files = sorted((folder / TRAINING_STATE).glob("*"))
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


def load_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name, as `save_weights` wrote them; half precision is read as float32."""
    return {
        name: tensor.float() if tensor.dtype == torch.float16 else tensor
        for name, tensor in load_file(path).items()
    }


# --- writing ----------------------------------------------------------------------------------------------


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
        card: The text of README.md; by default `model_card` of the checkpoint.

    Raises:
        CheckpointError: the tensors cannot be written.
        OSError: another file cannot be written, for example on a full disk.
    """

    def fill(aside: Path) -> None:
        save_weights(aside / WEIGHTS, checkpoint.model.state_dict(), dtype)
        write_json(aside / CONFIG, checkpoint.info.to_dict())
        checkpoint.tokenizer.save(aside)
        write_text(aside / "README.md", card or model_card(checkpoint.info))
        for name, value in (training_state or {}).items():
            (aside / TRAINING_STATE).mkdir(exist_ok=True)
            if name.endswith(".json"):
                write_json(aside / TRAINING_STATE / name, value)
            else:
                save_weights(aside / TRAINING_STATE / name, value)

    try:
        write_folder(folder, fill)
    except SafetensorError as error:  # its own name for what the system refuses
        raise CheckpointError(
            f"The checkpoint `{folder}` cannot be written: {error}.",
            "Make room on the disk; what was saved before is complete.",
        ) from error


def save_weights(path: Path, tensors: Mapping[str, Tensor], dtype: Dtype = "fp32") -> None:
    """Write tensors to a safetensors file.

    Short vectors (biases, statistics of the inputs, the null latent) stay float32 under `fp16` too: they take next to
    nothing, and a standard deviation near zero would be divided by. So does what holds numbers too large or too small
    for half precision.

    Raises:
        SafetensorError: the system refuses to write.
    """
    plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    save_file({name: _halved(t) for name, t in plain.items()} if dtype == "fp16" else plain, path)


def _halved(tensor: Tensor) -> Tensor:
    """A matrix or a long vector in float16 where that can hold it, anything else as it is."""
    if (tensor.ndim < 2 and tensor.numel() < LONG_VECTOR) or not tensor.is_floating_point():
        return tensor
    half = tensor.to(torch.float16)
    change = (half.double() - tensor.double()).norm()
    # Not so for an overflow either, whose change is infinite.
    return half if change <= ROUNDING * tensor.double().norm() else tensor


def record_sampling(folder: Path, sampling: Mapping[str, float]) -> None:
    """Write into a checkpoint how to sample from it, such as `{"cfg": 2.0}`; an older record of the same is replaced.

    Raises:
        CheckpointError: it is missing or damaged, it is the model that comes with sgdd, or the record cannot be.
        OSError: the folder cannot be written.
    """

    def recorded(info: CheckpointInfo) -> CheckpointInfo:
        try:
            return replace(info, sampling={**info.sampling, **sampling})
        except SgddError as error:
            raise CheckpointError(
                f"This cannot be recorded in `{folder}`: {dict(sampling)}. {error.message}", error.hint
            ) from None

    _rewrite_info(folder, recorded)


def record_confidence(folder: Path, confidence: Mapping[str, Any]) -> None:
    """Write into a checkpoint what `generation.confidence.record_of` gives; its fits replace older ones by name.

    Raises:
        CheckpointError: it is missing or damaged, or it is the model that comes with sgdd.
        OSError: the folder cannot be written.
    """

    def recorded(info: CheckpointInfo) -> CheckpointInfo:
        old = info.confidence if info.confidence.get("version") == confidence["version"] else {}
        fits = {**old.get("fits", {}), **confidence["fits"]}
        return replace(info, confidence={**confidence, "fits": fits})

    _rewrite_info(folder, recorded)


def _rewrite_info(folder: Path, change: Callable[[CheckpointInfo], CheckpointInfo]) -> None:
    """Change `config.json`; killed at any moment, it leaves a checkpoint that verifies, with the old or the new one."""
    if is_mini(folder):
        raise CheckpointError(
            f"`{MINI}` is part of the installation and stays as it is.",
            f"Record it in a copy: sgdd export {MINI} my-{MINI}",
        )
    if problem := checkpoint_damage(folder):
        raise CheckpointError(f"Nothing can be recorded in `{folder}`: {problem}.", _NAME_ONE)
    info = change(read_info(folder))
    before = folder.stat()
    replace_file(folder, CONFIG, as_json(info.to_dict()))
    # Which run is the newest goes by training, not by records.
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
