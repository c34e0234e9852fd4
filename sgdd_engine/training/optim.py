"""AdamW and Muon with decay where it belongs, the learning-rate curve, and the fp32 average of the weights.

Muon: Jordan et al. 2024 (kellerjordan.github.io/posts/muon); its use beside AdamW: arXiv 2502.16982.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sgdd_engine.models.blocks import AdaLNZeroBlock
from sgdd_engine.training.config import TrainConfig


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser that the settings ask for; it reads its learning rate from its groups.

    Matrices decay, while token tables, embeddings, gains and biases do not. Under `muon` the matrices of the
    Transformer blocks are Muon's and everything else is AdamW's.
    """
    tables = {
        id(p)
        for m in model.modules()
        for n, p in m.named_parameters(recurse=False)
        if n == "table" or isinstance(m, nn.Embedding)
    }
    parameters = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in parameters if p.ndim >= 2 and id(p) not in tables]
    others = [p for p in parameters if p.ndim < 2 or id(p) in tables]
    of_muon = _hidden_matrices(model) if config.optimizer == "muon" else set()
    adamw = _adamw([p for p in matrices if id(p) not in of_muon], others, config)
    if not of_muon:
        return adamw
    return _Both(_muon([p for p in matrices if id(p) in of_muon], config), adamw)


def _hidden_matrices(model: nn.Module) -> set[int]:
    """Ids of the weights between hidden states: the linear maps of the Transformer blocks."""
    blocks = [module for module in model.modules() if isinstance(module, AdaLNZeroBlock)]
    return {id(m.weight) for block in blocks for m in block.modules() if isinstance(m, nn.Linear)}


def _adamw(decayed: Sequence[Tensor], others: Sequence[Tensor], config: TrainConfig) -> torch.optim.AdamW:
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, config.beta2), eps=1e-8, fused=True)


def _muon(matrices: Sequence[Tensor], config: TrainConfig) -> torch.optim.Optimizer:
    # Scaled so that an update is as large as AdamW's, one learning rate fits both (arXiv 2502.16982 §2.2).
    return torch.optim.Muon(
        matrices,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )


class _Both(torch.optim.Optimizer):
    """Several optimisers of different parameters as one, with their groups and their state in one place."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        super().__init__([p for part in parts for group in part.param_groups for p in group["params"]], {})
        self._parts = parts
        self.param_groups = [group for part in parts for group in part.param_groups]
        for part in parts:
            part.state = self.state

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of each."""
        assert closure is None, "the loss is not computed again"
        for part in self._parts:
            part.step()


def learning_rate(step: int, fraction: float, config: TrainConfig) -> float:
    """Linear warm-up by steps, then a cosine from the peak to `min_learning_rate_share` of it.

    Args:
        step: Optimiser steps taken, from 0.
        fraction: Share of the run that is done, in 0–1, by steps or by time.
        config: Peak, floor and warm-up.
    """
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    floor = config.min_learning_rate_share
    curve = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, fraction)))
    return config.learning_rate * warm * curve


@dataclass
class Ema:
    """An exponential moving average of the parameters, in float32: in bf16 it would never move."""

    decay: float
    weights: dict[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module, decay: float) -> "Ema":
        """Start from the model's present weights."""
        return cls(decay, {name: p.detach().float().clone() for name, p in model.named_parameters()})

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model's weights; young averages move faster, `decay ≤ (1 + step) / (10 + step)`."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = [p.detach().float() for p in model.parameters()]
        torch._foreach_lerp_(list(self.weights.values()), current, 1 - decay)
