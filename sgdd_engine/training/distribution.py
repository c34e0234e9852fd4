"""One model on several devices: gradients are summed over them, whole copies or shards of the weights on each.

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

T = TypeVar("T")
Work = Callable[[SemanticDecoder], T]


class _Entrance(nn.Module):
    """Any work with the model as a `forward`, around which DDP and FSDP2 do theirs."""

    def __init__(self, model: SemanticDecoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Work[T]) -> T:
        return work(self.model)


class SharedModel:
    """A model that the processes of a world train together; in a world of one, just the model.

    Args:
        model: The same architecture on every process; rank 0's numbers are taken. Its parameters may be other
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
        self._entrance = self._trained = _Entrance(model)
        self._replicas: DistributedDataParallel | None = None
        if world.size == 1:
            return
        _take_main_numbers(model, world)
        if self.sharded:
            _shard(self._entrance, world, device)
        else:
            self._replicas = _replicate(self._entrance, device)

    def parameters(self) -> Iterable[nn.Parameter]:
        """The model's parameters; shards of them where it is sharded."""
        return self.model.parameters()

    def loss(self, work: Work[T]) -> T:
        """What `work` computes of the model, to be differentiated."""
        result: T = (self._replicas or self._entrance)(work)
        return result

    @torch.no_grad()
    def evaluate(self, work: Work[T], weights: Mapping[str, Tensor]) -> T:
        """What `work` computes of the model with other weights, without gradients; every process must ask alike.

        Args:
            work: The computation.
            weights: By name, kept as the model's parameters are.
        """
        own = [_local(parameter) for parameter in self.model.parameters()]
        kept = [tensor.clone() for tensor in own]
        torch._foreach_copy_(own, [_local(weights[name]) for name, _ in self.model.named_parameters()])
        try:
            result = self._evaluate(work)
        finally:
            torch._foreach_copy_(own, kept)
        return result

    def _evaluate(self, work: Work[T]) -> T:
        result: T = self._entrance(work)
        # Otherwise the gathered weights stay, and the next step would compute with them.
        for module in self._entrance.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
        return result

    def no_sync(self, last: bool) -> AbstractContextManager[None]:
        """Around the loss and gradient of a piece: devices exchange gradients with a step's last piece alone.

        Shards are exchanged with every piece, since a whole gradient may not fit on a device.
        """
        if self._replicas is not None and not last:
            return self._replicas.no_sync()
        return nullcontext()

    def clip(self, largest_norm: float) -> Tensor:
        """Scale the gradient down to a norm; returns the norm that it had, over all parameters and processes."""
        trained = [p for p in self.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm([p.grad for p in trained if p.grad is not None])
        found = gather_full(norm)
        # A large table's gradient takes long to go through; a GPU would have to be waited for to know.
        if found.device.type != "cpu" or not found <= largest_norm:
            nn.utils.clip_grads_with_norm_(trained, largest_norm, norm)
        return found


def gather_full(tensor: Tensor) -> Tensor:
    """A tensor gathered from its shards; every process must ask. Others are given back as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _local(tensor: Tensor) -> Tensor:
    """This process's part of a tensor, sharing its memory."""
    detached = tensor.detach()
    return detached.to_local() if isinstance(detached, DTensor) else detached


def shard_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """This process's share of a whole tensor that belongs to a parameter, as the parameter itself is kept."""
    tensor = tensor.to(parameter.device, copy=True)
    if not isinstance(parameter, DTensor) or tensor.shape != parameter.shape:
        return tensor
    # Every process holds the whole: nothing has to be sent.
    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None)


def micro_batches_per_step(wanted: int | None, before: int | None, world: World) -> int:
    """Into how many pieces a step is cut, so that every process has equally many.

    Args:
        wanted: See `TrainConfig.micro_batches`.
        before: Pieces per step so far, if the run goes on.
        world: The processes.

    Raises:
        ConfigError: `wanted` cannot be dealt evenly.
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
def _take_main_numbers(model: nn.Module, world: World) -> None:
    """What starts from random numbers or a decomposition may differ between machines; rank 0's is used by all."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.copy_(world.broadcast(tensor.detach().to(world.device)))


def _replicate(entrance: _Entrance, device: torch.device) -> DistributedDataParallel:
    # The buffers are fitted before the first step and never change. PyTorch 2.13 renamed the option.
    known = inspect.signature(DistributedDataParallel).parameters
    sync_buffers = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {sync_buffers: False, "gradient_as_bucket_view": True}
    if device.type == "cuda":
        options["device_ids"] = [device]
    replicas = DistributedDataParallel(entrance, **options)
    replicas.register_comm_hook(None, _sum_gradients)
    return replicas


def _sum_gradients(
    _: object,
    bucket: distributed.GradBucket,  # type: ignore[name-defined]  # DDP insists on the annotation
) -> torch.futures.Future[Tensor]:
    """The loss is divided by the tokens of the whole step, so gradients add up; DDP itself would average them."""
    summed: torch.futures.Future[list[Tensor]] = distributed.all_reduce(
        bucket.buffer(), async_op=True
    ).get_future()
    return summed.then(lambda done: done.value()[0])


def _shard(entrance: _Entrance, world: World, device: torch.device) -> None:
    mesh = init_device_mesh(device.type, (world.size,))
    for module in (*entrance.model.denoiser.blocks, entrance):
        fully_shard(module, mesh=mesh)
    for module in entrance.modules():
        if isinstance(module, FSDPModule):
            # As `_sum_gradients` says; and gloo can only add.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
