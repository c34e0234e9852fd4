"""The weights of a checkpoint: a whole folder is written and loaded here, with all that a model needs."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sgdd_engine.atomic_files import HASHES, damage, write_folder, write_json, write_text
from sgdd_engine.bounded_files import UnreadableError, open_regular, read_json_object, shortened
from sgdd_engine.checkpoint.card import model_card
from sgdd_engine.checkpoint.folder import (
    TRAINING_FILES,
    TRAINING_STATE,
    WEIGHTS,
    checkpoint_damage,
    read_info,
)
from sgdd_engine.checkpoint.info import CONFIG, CheckpointInfo
from sgdd_engine.errors import CheckpointError
from sgdd_engine.models.config import ModelConfig
from sgdd_engine.models.model import SemanticDecoder, outline
from sgdd_engine.text.tokenizer import TextTokenizer

Dtype = Literal["fp32", "fp16"]
# Rounding to 11 bits changes a tensor by about 2e-4 of its norm; more means numbers too small for half precision.
ROUNDING = 1e-3
# Of vectors, only the biases of a vocabulary are as long.
LONG_VECTOR = 4096
# Checkpoints used to hold the pseudo-inverse of the whitening as well, which nothing reads.
UNUSED_TENSORS = ("bottleneck.inverse",)
# Decoders used to read a draft at the canvas's own positions. Such a reader is left out: without it the decoder writes
# what it wrote before it learnt to correct, and refines without corrections.
FORMER_READER = frozenset(
    f"draft_reader.{name}"
    for name in (
        "louder",
        "meaning.0.weight",
        "meaning.0.bias",
        "meaning.2.weight",
        "meaning.2.bias",
        "words.weight",
    )
)


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
        raise _unusable(folder, problem)
    tokenizer = _load_tokenizer(folder, info)
    held = _tensor_names(folder / WEIGHTS)
    unused = [*UNUSED_TENSORS]
    if {name for name in held if name.startswith("draft_reader.")} == FORMER_READER:
        unused.extend(FORMER_READER)
        decoder = replace(info.model.decoder, feedback=False)
        info = replace(info, model=replace(info.model, decoder=decoder))
    model = _outline(folder, config or info.model, held)
    wanted = model.state_dict()
    try:
        tensors = load_weights(folder / WEIGHTS, wanted, unused)
    except UnreadableError as error:
        raise _unusable(folder, error.reason) from None
    if not (tensors["standardize.std"] > 0).all():
        raise _unusable(folder, f"`{WEIGHTS}` has a standard deviation that is not above 0")
    # Copies: the tensors are maps of the file, which Windows then could not delete.
    model.load_state_dict({name: tensors[name].clone() for name in wanted}, assign=True)
    model.head.temperature = info.token_temperature
    return Checkpoint(info, model.to(device).eval(), tokenizer)


def _outline(folder: Path, config: ModelConfig, held: Collection[str]) -> SemanticDecoder:
    """The networks of a configuration, without memory: sizes that nothing has are refused by torch."""
    # Each layer has tensors; building it takes a millisecond.
    if held and config.decoder.layers > len(held):
        raise _unusable(
            folder,
            f"`{CONFIG}` says {config.decoder.layers:,} layers, and `{WEIGHTS}` has {len(held)} tensors",
        )
    try:
        return outline(config)
    except (RuntimeError, OverflowError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise _unusable(
            folder, f"no networks can have the sizes in `{CONFIG}` ({shortened(reason)})"
        ) from None


def _load_tokenizer(folder: Path, info: CheckpointInfo) -> TextTokenizer:
    """The tokenizer of a checkpoint, which must be the one that its model was trained with."""
    tokenizer = TextTokenizer.load(folder)
    if tokenizer.vocabulary() != info.model.vocabulary:
        raise _unusable(
            folder,
            f"its tokenizer has {tokenizer.vocab_size:,} pieces with the mask {tokenizer.mask_id}, and its model was "
            f"trained with {info.model.vocabulary.size:,} and the mask {info.model.vocabulary.mask_id}",
        )
    if info.tokenizer_sha256 not in (None, tokenizer.fingerprint()):
        raise _unusable(folder, "its tokenizer is not the one that its model was trained with")
    return tokenizer


def _unusable(folder: Path, problem: str) -> CheckpointError:
    return CheckpointError(
        f"The checkpoint `{folder}` cannot be used: {problem}.", "Use another checkpoint of the run."
    )


@dataclass(frozen=True)
class Verified:
    """What `verify_checkpoint` has read and found sound.

    Attributes:
        folder: The checkpoint.
        files: Those that were read and compared with their hashes.
        bytes: Of these.
        tensors: Of the model.
        parameters: Numbers in them.
        training_state: Whether there is what resuming needs, which was read too.
    """

    folder: Path
    files: int
    bytes: int
    tensors: int
    parameters: int
    training_state: bool

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "folder": str(self.folder)}


def verify_checkpoint(folder: Path) -> Verified:
    """Read all of a checkpoint and check it as loading does, its training state and its card too.

    Raises:
        CheckpointError, DataError: it is damaged, incomplete, or its parts do not belong together.
    """
    checkpoint = load_checkpoint(folder)
    if problem := damage(folder):
        raise _unusable(folder, problem)
    if resumable := (folder / TRAINING_STATE).is_dir():
        load_training_state(folder)
    files = [folder / name for name in read_json_object(folder / HASHES)]
    tensors = checkpoint.model.state_dict().values()
    return Verified(
        folder,
        len(files),
        sum(path.stat().st_size for path in files),
        len(tensors),
        sum(tensor.numel() for tensor in tensors),
        resumable,
    )


def load_training_state(folder: Path) -> dict[str, Any]:
    """What `save_checkpoint` was given as `training_state`, verified.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    problem = checkpoint_damage(folder, training_state=True)
    if not (folder / TRAINING_STATE).is_dir():
        problem = "it holds no training state"
    try:
        if problem is None:
            paths = [folder / name for name in TRAINING_FILES]
            return {
                path.name: read_json_object(path) if path.suffix == ".json" else load_weights(path)
                for path in paths
            }
    except UnreadableError as error:
        problem = error.reason
    raise CheckpointError(f"Training cannot go on from `{folder}`: {problem}.")


def load_weights(
    path: Path, wanted: Mapping[str, Tensor] | None = None, unused: Sequence[str] = ()
) -> dict[str, Tensor]:
    """Tensors by name, as `save_weights` wrote them: finite, and in float32 where they were halved.

    Args:
        path: A safetensors file.
        wanted: Tensors of the names, shapes and types that must be there, for example on the meta device; no memory is
            asked for others. None takes what there is.
        unused: Names that may be there beside them.

    Raises:
        UnreadableError: it is damaged, has other tensors than wanted, or numbers that are not finite.
    """
    try:
        open_regular(path).close()
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            if wanted is not None:
                names = [name for name in names if name not in unused]
                _check_header(path, wanted, {name: file.get_slice(name) for name in names})
            tensors = {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UnreadableError(path, f"`{path.name}` is damaged ({shortened(str(error))})") from None
    for name, tensor in tensors.items():
        # One pass over the numbers: a sum is not finite where one of them is not. An overflow is looked at again.
        if tensor.is_floating_point() and not tensor.sum().isfinite() and not tensor.isfinite().all():
            raise UnreadableError(path, f"`{name}` in `{path.name}` holds numbers that are not finite")
    return {name: t.float() if t.dtype == torch.float16 else t for name, t in tensors.items()}


def _tensor_names(path: Path) -> Collection[str]:
    """Names of the tensors of a safetensors file, from its header alone; none where that cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return list(file.keys())
    except (SafetensorError, OSError):
        return ()


def _check_header(path: Path, wanted: Mapping[str, Tensor], found: Mapping[str, Any]) -> None:
    """Compare the names, shapes and types that a file claims with those that are wanted."""
    if missing := wanted.keys() - found.keys():
        raise UnreadableError(path, f"`{path.name}` has no tensor `{min(missing)}`")
    if other := found.keys() - wanted.keys():
        name = shortened(min(other))
        raise UnreadableError(path, f"`{path.name}` has the tensor `{name}`, which its model has not")
    for name, tensor in wanted.items():
        shape, dtype = list(found[name].get_shape()), found[name].get_dtype()
        if shape != list(tensor.shape):
            raise UnreadableError(
                path, f"`{name}` in `{path.name}` has the shape {shape}, not {list(tensor.shape)}"
            )
        if dtype not in (("F32", "F16") if tensor.is_floating_point() else ("I64",)):
            raise UnreadableError(path, f"`{name}` in `{path.name}` holds numbers of the type {dtype}")


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
        info = replace(checkpoint.info, tokenizer_sha256=checkpoint.tokenizer.fingerprint())
        write_json(aside / CONFIG, info.to_dict())
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
