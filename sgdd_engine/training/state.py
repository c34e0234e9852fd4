"""The state of a run: progress, weights, optimiser moments; saved so that a resumed run continues bit-identically."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sgdd_engine.config_fields import from_plain
from sgdd_engine.distributed import World
from sgdd_engine.errors import CheckpointError, require
from sgdd_engine.models.model import SemanticDecoder, outline
from sgdd_engine.training.distribution import SharedModel, gather_full, shard_like
from sgdd_engine.training.optimizer_step import Ema


@dataclass
class Progress:
    """How far a run is; saved as `training/progress.json`.

    Attributes:
        step: Optimiser steps taken.
        seconds: Training time, earlier sessions included.
        sentences: Sentences seen.
        best_loss: Lowest held-out loss so far, since what is validated on has changed.
        position: Micro-batches taken: the position in their order, from which the next noise follows.
        micro_batches: Micro-batches per step, which determine how large one is.
        null_rows: Rows that have trained the null condition, in the run and in the checkpoint that it started from.
        skipped: Batches that were left out, since their loss or gradient was not finite.
        validation_set: How often what is validated on has changed; held-out losses compare only within one number.
    """

    step: int = 0
    seconds: float = 0.0
    sentences: int = 0
    best_loss: float = float("inf")
    position: int = 0
    micro_batches: int = 1
    null_rows: int = 0
    skipped: int = 0
    validation_set: int = 0

    def rescale_position(self, micro_batches: int) -> None:
        """Continue with another number of micro-batches per step, at about the same place of the epoch."""
        self.position = self.position * micro_batches // self.micro_batches
        self.micro_batches = micro_batches

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        plain = asdict(self)
        plain["best_loss"] = None if self.best_loss == float("inf") else self.best_loss
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> "Progress":
        """From what `to_dict` gave; older versions knew no micro-batches, so that a step was one."""
        require("step" in plain, "progress.json lacks step.")
        plain = {"position": plain["step"], **plain}
        if plain.get("best_loss") is None:
            plain.pop("best_loss", None)
        return from_plain(cls, plain, "progress.json")


@dataclass(frozen=True)
class RunContext:
    """Where a run is trained and written: its folder, this process's device, and the processes of the run.

    `encoder_batch_tokens` are computed at once by the encoder of drafts; None for as many as by default.
    """

    run: Path
    device: torch.device
    world: World
    encoder_batch_tokens: int | None = None


@dataclass(frozen=True)
class Training:
    """All that an optimiser step changes, and what it does not.

    Attributes:
        shared: The model. optimizer: Of its parameters. ema: Their average. progress: How far the run is.
        records: Fields of `CheckpointInfo` that were found of the weights before and stay right, since the run leaves
            them as they are.
    """

    shared: SharedModel
    optimizer: torch.optim.Optimizer
    ema: Ema
    progress: Progress
    records: Mapping[str, Any]


def training_state(
    model: SemanticDecoder, optimizer: torch.optim.Optimizer, progress: Progress, *, is_main: bool = True
) -> dict[str, Any]:
    """A copy of raw weights, optimiser moments and progress, as files of a checkpoint's `training/` folder.

    The averaged weights are not among them: they are the checkpoint's `model.safetensors`. Shards are gathered, so
    every rank must call it; where `is_main` is false the tensors are empty.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    weights: dict[str, Tensor] = {}
    moments: dict[str, Tensor] = {}
    for name, weight in model.named_parameters():
        weights[name] = _gathered(weight, is_main)
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            moments[f"{names[id(parameter)]}:{key}"] = _gathered(torch.as_tensor(value), is_main)
    return {
        "weights.safetensors": weights,
        "optimizer.safetensors": moments,
        "progress.json": progress.to_dict(),
    }


def averaged_model(model: SemanticDecoder, ema: Ema, *, is_main: bool = True) -> SemanticDecoder:
    """A copy of the averaged weights as a model, gathered as in `training_state`; on meta unless `is_main`."""
    tensors = {
        name: _gathered(tensor, is_main) for name, tensor in (*ema.weights.items(), *model.named_buffers())
    }
    averaged = outline(model.config)
    if is_main:
        averaged.load_state_dict(tensors, assign=True)
    return averaged


def _gathered(tensor: Tensor, is_main: bool) -> Tensor:
    # One after the other to the host: all of a sharded model at once may not fit on a device.
    gathered = gather_full(tensor.detach())
    return gathered.to("cpu", copy=True) if is_main else torch.empty(0)


@torch.no_grad()
def restore(
    state: dict[str, Any], model: SemanticDecoder, optimizer: torch.optim.Optimizer, ema: Ema
) -> None:
    """Restore a saved training state; `model` holds the averaged weights before and the raw ones afterwards."""
    _check_state(state, model)
    for name, parameter in model.named_parameters():
        ema.weights[name].copy_(parameter)
        parameter.copy_(shard_like(state["weights.safetensors"][name], parameter))
    moments: dict[str, dict[str, Tensor]] = {}
    for label, value in state["optimizer.safetensors"].items():
        name, key = label.rsplit(":", 1)
        moments.setdefault(name, {})[key] = value
    for name, parameter in model.named_parameters():
        # `step` stays a float32 scalar on the parameter's device, as the fused optimiser keeps it. A copy: what
        # was loaded is a map of the file, which Windows could then not delete when the checkpoint is pruned.
        optimizer.state[parameter] = {k: shard_like(v, parameter) for k, v in moments.get(name, {}).items()}


def _check_state(state: dict[str, Any], model: SemanticDecoder) -> None:
    """Check that weights and moments are those of the model's parameters; their numbers were checked as they were read.

    Raises:
        CheckpointError: a tensor is missing, is another parameter's, or has another shape.
    """
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    weights, moments = state["weights.safetensors"], state["optimizer.safetensors"]
    found = {name: tensor.shape for name, tensor in weights.items()}
    labelled = [(*label.rpartition(":")[::2], tensor) for label, tensor in moments.items()]
    # A moment is as large as its parameter, or a single number, as the count of steps is.
    if found != shapes or any(
        name not in shapes or tensor.shape not in (shapes[name], torch.Size([]))
        for name, _, tensor in labelled
    ):
        raise CheckpointError(
            "The training state of the checkpoint does not fit its model.",
            "Start a new run, without --resume.",
        )
