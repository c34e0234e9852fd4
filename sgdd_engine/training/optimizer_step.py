"""The optimiser, the learning rate, the moving average of the weights, and one optimiser step."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sgdd_engine.distributed import World
from sgdd_engine.models.blocks import AdaLNZeroBlock
from sgdd_engine.stop_signals import STOP_SIGNALS
from sgdd_engine.training.config import TrainConfig, TrainSpec
from sgdd_engine.training.dataloading import MicroBatch, Prefetcher, TrainingBatches
from sgdd_engine.training.distribution import SharedModel
from sgdd_engine.training.log import MetricAccumulator
from sgdd_engine.training.loss import BatchLoss, batch_loss, dropout_noise, step_generator


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimiser of `config.optimizer`; it reads its learning rate from its parameter groups.

    Matrices decay, while token tables, embeddings, gains and biases do not. Under `muon` Muon trains the matrices of
    the Transformer blocks, and AdamW everything else; where no such matrix is trained, AdamW alone.
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
    muon_ids = _hidden_matrices(model) if config.optimizer == "muon" else set()
    for_muon = [p for p in matrices if id(p) in muon_ids]
    adamw = _adamw([p for p in matrices if id(p) not in muon_ids], others, config)
    return _CombinedOptimizer(_muon(for_muon, config), adamw) if for_muon else adamw


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
    # Updates scaled to the root mean square of AdamW's, so that one learning rate fits both (arXiv 2502.16982 §2.2).
    return torch.optim.Muon(
        matrices,
        lr=config.learning_rate,
        weight_decay=config.weight_decay,
        adjust_lr_fn="match_rms_adamw",
    )


class _CombinedOptimizer(torch.optim.Optimizer):
    """Several optimisers of different parameters as one, with their groups and their state together."""

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        super().__init__([p for part in parts for group in part.param_groups for p in group["params"]], {})
        self._parts = parts
        self.param_groups = [group for part in parts for group in part.param_groups]
        for part in parts:
            part.state = self.state

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of each optimiser."""
        assert closure is None, "a closure is not supported: the loss is not computed again"
        for part in self._parts:
            part.step()


def learning_rate(step: int, fraction: float, config: TrainConfig) -> float:
    """Linear warm-up over the first steps, times a cosine from the peak to `min_learning_rate_share` of it.

    `peak · min(1, (step + 1) / warmup_steps) · (floor + (1 − floor) · (1 + cos(π · fraction)) / 2)`

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
    """Exponential moving average of the parameters.

    In float32: in bf16 a change of a thousandth is rounded away, and the average never moves.
    """

    decay: float
    weights: dict[str, Tensor]

    @classmethod
    def of(cls, model: nn.Module, decay: float) -> "Ema":
        """An average that starts from the model's present weights."""
        return cls(decay, {name: p.detach().float().clone() for name, p in model.named_parameters()})

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model's weights: `average ← d · average + (1 − d) · weights`.

        `d = min(decay, (1 + step) / (10 + step))`, so that the first steps count for little (the rule of
        TensorFlow's ExponentialMovingAverage with `num_updates`).
        """
        decay = min(self.decay, (1 + step) / (10 + step))
        # What is not trained stays what it is, and so does its average.
        trained = {name: p.detach().float() for name, p in model.named_parameters() if p.requires_grad}
        torch._foreach_lerp_([self.weights[name] for name in trained], list(trained.values()), 1 - decay)


@dataclass(frozen=True, slots=True)
class StepStatus:
    """What all processes know of a step before its new weights are computed.

    Attributes:
        finite: Every loss and the gradient are finite.
        sentences: Sentences of the step, over all processes.
        null_rows: Rows among them whose condition was dropped.
        seconds: Training time on rank 0's clock, as the step began.
        signal: A signal that asked one of the processes to stop.
    """

    finite: bool
    sentences: int
    null_rows: int
    seconds: float
    signal: int | None


@dataclass(frozen=True, slots=True)
class Gradient:
    """What one process computed of a step, besides the gradient itself.

    Attributes:
        finite: Whether its losses and the gradient are finite; a scalar on the device.
        null_rows: Rows whose condition was dropped; a scalar on the device.
        sentences: Sentences of its micro-batches.
    """

    finite: Tensor
    null_rows: Tensor
    sentences: int


def reduce_status(world: World, gradient: Gradient, *, seconds: float, signal: int | None) -> StepStatus:
    """Combine what each process knows, in one exchange, which every rank must call.

    It is the only place of a step where the host waits for the device.
    """
    not_finite, null_rows = torch.stack([(~gradient.finite).long(), gradient.null_rows]).tolist()
    asked = [float(signal == number) for number in STOP_SIGNALS]
    own = [not_finite, null_rows, gradient.sentences, seconds if world.is_main else 0.0, *asked]
    sums = world.all_reduce(torch.tensor(own, dtype=torch.float64, device=world.device)).tolist()
    not_finite, null_rows, sentences, clock, *asked = sums
    stopped = next((int(number) for number, count in zip(STOP_SIGNALS, asked, strict=True) if count), None)
    return StepStatus(not not_finite, int(sentences), int(null_rows), clock, stopped)


class OptimizerStep:
    """Takes the optimiser steps of a run.

    Args:
        shared: The model.
        optimizer: The optimiser of its parameters.
        ema: The moving average of its parameters.
        prefetcher: This process's micro-batches, in order.
        spec: The run's settings.
        micro_batches: Micro-batches of a step that this process computes.
        device: Where they are computed. dtype: Of matrix products.
    """

    def __init__(
        self,
        shared: SharedModel,
        optimizer: torch.optim.Optimizer,
        ema: Ema,
        prefetcher: Prefetcher,
        spec: TrainSpec,
        *,
        micro_batches: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self._shared, self._optimizer, self._ema, self._prefetcher = shared, optimizer, ema, prefetcher
        self._spec, self._micro_batches, self._device, self._dtype = spec, micro_batches, device, dtype

    def gradient(self, step: int, metrics: MetricAccumulator) -> Gradient:
        """Accumulate the gradient of a step over the micro-batches, and clip it."""
        losses, null_rows, sentences = [], [], 0
        for number in range(self._micro_batches):
            micro_batch = self._prefetcher.next()
            with self._shared.no_sync(last=number == self._micro_batches - 1):
                loss = self._loss(micro_batch, step)
                loss.total.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.total.detach())
            null_rows.append(loss.null_rows)
            sentences += len(micro_batch.x)
            metrics.add_micro_batch(loss)
        norm = self._shared.clip(self._spec.train.grad_clip)
        metrics.add_step(norm)
        finite = torch.isfinite(torch.stack([*losses, norm])).all()
        return Gradient(finite, torch.stack(null_rows).sum(), sentences)

    def apply(self, step: int, rate: float) -> None:
        """Move the weights by the accumulated gradient at a learning rate, and their average after them."""
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._ema.update(self._shared.model, step)

    def skip(self, metrics: MetricAccumulator) -> None:
        """Drop the accumulated gradient, and leave the step out of the metrics."""
        self._optimizer.zero_grad(set_to_none=True)
        metrics.forget_step(self._micro_batches)

    def look_up(self, question: Callable[[TrainingBatches], str]) -> str:
        """An answer from the order of the micro-batches; see `Prefetcher.look_up`."""
        return self._prefetcher.look_up(question)

    def _loss(self, micro_batch: MicroBatch, step: int) -> BatchLoss:
        noise = (self._spec.train.seed, micro_batch.position, self._device)
        with (
            torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32),
            dropout_noise(*noise) if self._spec.decoder.dropout else nullcontext(),
        ):
            return self._shared.loss(
                lambda model: batch_loss(
                    model,
                    micro_batch.x,
                    micro_batch.e,
                    config=self._spec.train,
                    diffusion=self._spec.diffusion,
                    step=step,
                    generator=step_generator(*noise),
                    drafts=micro_batch.drafts,
                )
            )
