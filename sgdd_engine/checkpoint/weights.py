"""The weights of a checkpoint: a whole folder is written and loaded here, with all that a model needs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sgdd_engine.atomic_files import damage, write_folder, write_json, write_text
from sgdd_engine.bounded_files import read_json
from sgdd_engine.checkpoint.card import model_card
from sgdd_engine.checkpoint.folder import CONFIG, TRAINING_STATE, WEIGHTS, checkpoint_damage, read_info
from sgdd_engine.checkpoint.info import CheckpointInfo
from sgdd_engine.errors import CheckpointError
from sgdd_engine.models.config import ModelConfig
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.text.tokenizer import TextTokenizer

Dtype = Literal["fp32", "fp16"]
# Rounding to 11 bits changes a tensor by about 2e-4 of its norm; more means numbers too small for half precision.
ROUNDING = 1e-3
# Of vectors, only the biases of a vocabulary are as long.
LONG_VECTOR = 4096
# Checkpoints used to hold the pseudo-inverse of the whitening as well, which nothing reads.
UNUSED_TENSORS = ("bottleneck.inverse",)


@dataclass(frozen=True)
class Checkpoint:
    """A model with all that is needed to use it."""

    info: CheckpointInfo
    model: SemanticDecoder
    tokenizer: TextTokenizer


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
    return {path.name: read_json(path) if path.suffix == ".json" else load_weights(path) for path in files}


def load_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name, as `save_weights` wrote them; half precision is read as float32."""
    return {
        name: tensor.float() if tensor.dtype == torch.float16 else tensor
        for name, tensor in load_file(path).items()
    }


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
