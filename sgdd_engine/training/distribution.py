"""One model on several devices: copies (DDP) or shards (FSDP2) of the weights on each, gradients summed over them.

Sources: DDP, Li et al. 2020 (arXiv 2006.15704); sharding, Rajbhandari et al. 2019 (arXiv 1910.02054) and PyTorch's
`fully_shard` (FSDP2).
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from sgdd_engine.distributed import World
from sgdd_engine.errors import ConfigError
from sgdd_engine.models.model import SemanticDecoder

Value = TypeVar("Value")
Computation = Callable[[SemanticDecoder], Value]


class _ForwardCall(nn.Module):
    """A module whose `forward` calls a function with the model: DDP and FSDP2 hook into `forward`."""

    def __init__(self, model: SemanticDecoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, computation: Computation[Value]) -> Value:
        return computation(self.model)


class SharedModel:
    """A model that the processes of a world train together; in a world of one, just the model.

    Every rank must make one, and call its methods in the same order.

    Args:
        model: The same architecture on every process; rank 0's values are taken. Its parameters may be other
            objects afterwards, so an optimiser is built later.
        world: The processes.
        mode: See `TrainConfig.parallel`.
        device: Where this process computes.
    """

    def __init__(
        self, model: SemanticDecoder, world: World, mode: Literal["ddp", "fsdp"], device: torch.device
    ) -> None:
        self.model = model
        self.sharded = mode == "fsdp" and world.size > 1
        self._call = _ForwardCall(model)
        self._replicas: DistributedDataParallel | None = None
        if world.size == 1:
            return
        _broadcast_weights(model, world)
        if self.sharded:
            _shard(self._call, world, device)
        else:
            self._replicas = _replicate(self._call, device)

    def parameters(self) -> Iterable[nn.Parameter]:
        """The model's parameters; shards of them where it is sharded."""
        return self.model.parameters()

    def loss(self, computation: Computation[Value]) -> Value:
        """The result of a computation with the model that will be differentiated."""
        result: Value = (self._replicas or self._call)(computation)
        return result

    @torch.no_grad()
    def evaluate(self, computation: Computation[Value], weights: Mapping[str, Tensor]) -> Value:
        """The result of a computation with the model under other weights, without gradients.

        Args:
            computation: The computation.
            weights: By name, sharded as the model's parameters are.
        """
        own = [_local(parameter) for parameter in self.model.parameters()]
        saved = [tensor.clone() for tensor in own]
        torch._foreach_copy_(own, [_local(weights[name]) for name, _ in self.model.named_parameters()])
        try:
            result = self._evaluate(computation)
        finally:
            torch._foreach_copy_(own, saved)
        return result

    def _evaluate(self, computation: Computation[Value]) -> Value:
        result: Value = self._call(computation)
        # Otherwise the gathered weights stay, and the next step would compute with them.
        for module in self._call.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
        return result

    def no_sync(self, last: bool) -> AbstractContextManager[None]:
        """A context for loss and gradient of a micro-batch: copies exchange gradients with a step's last one only.

        Shards exchange them with every micro-batch, since a whole gradient may not fit on a device.
        """
        if self._replicas is not None and not last:
            return self._replicas.no_sync()
        return nullcontext()

    def clip(self, largest_norm: float) -> Tensor:
        """Scale the gradient down to a norm; returns the norm before, over all parameters and processes."""
        trained = [p for p in self.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
        full_norm = gather_full(norm)
        # A CPU skips scaling by 1, which for a large token table takes long; on a GPU the host would have to wait.
        if full_norm.device.type != "cpu" or not full_norm <= largest_norm:
            nn.utils.clip_grads_with_norm_(trained, largest_norm, norm)
        return full_norm


def gather_full(tensor: Tensor) -> Tensor:
    """A sharded tensor as a whole, for which every rank must call it; other tensors as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor, sharing its memory."""
    detached = tensor.detach()
    return detached.to_local() if isinstance(detached, DTensor) else detached


def shard_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """This process's shard of a whole tensor, sharded as a parameter is; a copy."""
    tensor = tensor.to(parameter.device, copy=True)
    if not isinstance(parameter, DTensor) or tensor.shape != parameter.shape:
        return tensor
    # Every process holds the whole: nothing has to be sent.
    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None)


def micro_batches_per_step(wanted: int | None, before: int | None, world: World) -> int:
    """Micro-batches of a step, over all processes, each of which computes equally many.

    Args:
        wanted: See `TrainConfig.micro_batches`.
        before: Micro-batches per step so far, if a run is resumed.
        world: The processes.

    Raises:
        ConfigError: `wanted` is not a multiple of the number of processes.
    """
    if wanted is None:
        return before if before and before % world.size == 0 else world.size
    if wanted % world.size:
        raise ConfigError(
            f"train.micro_batches is {wanted}, which {world.size} processes cannot share evenly.",
            f"Use a multiple of {world.size}, such as --set train.micro_batches={world.size}",
        )
    return wanted


@torch.no_grad()
def _broadcast_weights(model: nn.Module, world: World) -> None:
    """Give all ranks rank 0's values: random numbers and decompositions may differ between machines."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.copy_(world.broadcast(tensor.detach().to(world.device)))


def _replicate(call: _ForwardCall, device: torch.device) -> DistributedDataParallel:
    # The buffers are fitted before the first step and never change. PyTorch 2.13 renamed the option.
    accepted = inspect.signature(DistributedDataParallel).parameters
    sync_buffers = "forward_sync_buffers" if "forward_sync_buffers" in accepted else "broadcast_buffers"
    options: dict[str, Any] = {sync_buffers: False, "gradient_as_bucket_view": True}
    if device.type == "cuda":
        options["device_ids"] = [device]
    replicas = DistributedDataParallel(call, **options)
    replicas.register_comm_hook(None, _sum_gradients)
    return replicas


def _sum_gradients(
    _: object,
    bucket: distributed.GradBucket,  # type: ignore[name-defined]  # DDP insists on the annotation
) -> torch.futures.Future[Tensor]:
    """The loss is divided by the tokens of the whole step, so gradients are summed; DDP itself would average them."""
    summed: torch.futures.Future[list[Tensor]] = distributed.all_reduce(
        bucket.buffer(), async_op=True
    ).get_future()
    return summed.then(lambda done: done.value()[0])


def _shard(call: _ForwardCall, world: World, device: torch.device) -> None:
    mesh = init_device_mesh(device.type, (world.size,))
    for module in (*call.model.denoiser.blocks, call):
        fully_shard(module, mesh=mesh)
    for module in call.modules():
        if isinstance(module, FSDPModule):
            # As `_sum_gradients` says; and gloo can only add.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
