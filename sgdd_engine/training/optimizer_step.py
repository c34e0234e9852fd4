"""The optimiser, the learning rate, the moving average of the weights, and one step of them all."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from signal import SIGINT, SIGTERM

import torch
from torch import Tensor, nn

from sgdd_engine.distributed import World
from sgdd_engine.models.blocks import AdaLNZeroBlock
from sgdd_engine.training.config import TrainConfig, TrainSpec
from sgdd_engine.training.dataloading import MicroBatch, Prefetcher
from sgdd_engine.training.distribution import SharedModel
from sgdd_engine.training.log import MetricAccumulator
from sgdd_engine.training.loss import BatchLoss, batch_loss, dropout_noise, step_generator


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


STOPPING = (SIGINT, SIGTERM)


@dataclass(frozen=True, slots=True)
class StepStatus:
    """What all processes know alike of a step before its new weights are computed.

    Attributes:
        sound: Every loss and the gradient are finite.
        sentences: Of all pieces of the step.
        seconds: Training time on rank 0's clock, as the step began.
        signal: A signal that asked one of them to stop.
    """

    sound: bool
    sentences: int
    seconds: float
    signal: int | None


def reduce_status(
    world: World, *, sound: Tensor, sentences: int, seconds: float, signal: int | None
) -> StepStatus:
    """Put together what each process knows, in one exchange; the only time in a step that the host waits."""
    if world.size == 1:
        return StepStatus(bool(sound), sentences, seconds, signal)
    own = [
        0.0,
        sentences,
        seconds if world.is_main else 0.0,
        *(float(signal == number) for number in STOPPING),
    ]
    numbers = torch.tensor(own, dtype=torch.float64, device=world.device)
    numbers[0] = (~sound).double()
    unsound, total, clock, *asked = world.all_reduce(numbers).tolist()
    signals = [int(number) for number, count in zip(STOPPING, asked, strict=True) if count]
    return StepStatus(not unsound, int(total), clock, signals[0] if signals else None)


class OptimizerStep:
    """Takes the steps of a run.

    Args:
        shared: The model.
        optimizer: Of its parameters.
        ema: Their average.
        feed: This process's pieces, in order.
        spec: The run's settings.
        pieces: How many pieces of a step are this process's.
        device: Where they are computed. dtype: Of matrix products.
    """

    def __init__(
        self,
        shared: SharedModel,
        optimizer: torch.optim.Optimizer,
        ema: Ema,
        feed: Prefetcher,
        spec: TrainSpec,
        *,
        pieces: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._shared, self._optimizer, self._ema, self._feed = shared, optimizer, ema, feed
        self._spec, self._pieces, self._device, self._dtype = spec, pieces, device, dtype

    def gradient(self, step: int, meter: MetricAccumulator) -> tuple[Tensor, int]:
        """Add up the gradient of a step and clip it.

        Returns:
            Whether this process's losses and the gradient are finite, a scalar on the device; and how many sentences
            this process has seen in the step.
        """
        losses, sentences = [], 0
        for number in range(self._pieces):
            piece = self._feed.next()
            with self._shared.no_sync(last=number == self._pieces - 1):
                loss = self._loss(piece, step)
                loss.total.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.total.detach())
            sentences += len(piece.x)
            meter.add_micro_batch(loss)
        norm = self._shared.clip(self._spec.train.grad_clip)
        meter.add_step(norm)
        return torch.isfinite(torch.stack([*losses, norm])).all(), sentences

    def apply(self, step: int, rate: float) -> None:
        """Take the step that the gradient asks for."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._ema.update(self._shared.model, step)

    def _loss(self, piece: MicroBatch, step: int) -> BatchLoss:
        noise = (self._spec.train.seed, piece.position, self._device)
        with (
            torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32),
            dropout_noise(*noise) if self._spec.decoder.dropout else nullcontext(),
        ):
            return self._shared.loss(
                lambda model: batch_loss(
                    model,
                    piece.x,
                    piece.e,
                    config=self._spec.train,
                    diffusion=self._spec.diffusion,
                    step=step,
                    generator=step_generator(*noise),
                    drafts=piece.drafts,
                )
            )
