"""What a run must remember to go on as if it had never stopped."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.training.optim import Ema


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        step: Optimiser steps taken; also the position in the order of batches, and the seed of the next noise.
        seconds: Training time, earlier sessions included.
        sentences: Sentences seen.
        best_loss: Lowest held-out loss so far.
    """

    step: int = 0
    seconds: float = 0.0
    sentences: int = 0
    best_loss: float = float("inf")


def training_state(
    model: SemanticDecoder, optimizer: torch.optim.Optimizer, progress: Progress
) -> dict[str, Any]:
    """Raw weights, optimiser moments and progress, as files of a checkpoint's `training/` folder.

    The averaged weights need no place here: they are the checkpoint's `model.safetensors`.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    moments: dict[str, Tensor] = {}
    for parameter, state in optimizer.state.items():
        for key, value in state.items():
            moments[f"{names[id(parameter)]}:{key}"] = torch.as_tensor(value)
    plain = asdict(progress)
    plain["best_loss"] = None if progress.best_loss == float("inf") else progress.best_loss
    # A copy: the averaged weights stand in the model while the checkpoint is written.
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    return {"weights.safetensors": weights, "optimizer.safetensors": moments, "progress.json": plain}


@torch.no_grad()
def restore(
    state: dict[str, Any], model: SemanticDecoder, optimizer: torch.optim.Optimizer, ema: Ema
) -> Progress:
    """Put a saved state back; `model` holds the averaged weights when called and the raw ones afterwards."""
    for name, parameter in model.named_parameters():
        ema.weights[name].copy_(parameter)
        parameter.copy_(state["weights.safetensors"][name])
    moments: dict[str, dict[str, Tensor]] = {}
    for label, value in state["optimizer.safetensors"].items():
        name, key = label.rsplit(":", 1)
        moments.setdefault(name, {})[key] = value
    for name, parameter in model.named_parameters():
        # `step` stays a float32 scalar on the parameter's device, as the fused optimiser keeps it. A copy: what
        # was loaded is a map of the file, which Windows could then not delete when the checkpoint is pruned.
        optimizer.state[parameter] = {
            k: v.to(parameter.device, copy=True) for k, v in moments.get(name, {}).items()
        }
    plain = dict(state["progress.json"])
    if plain["best_loss"] is None:
        plain["best_loss"] = float("inf")
    return Progress(**plain)
