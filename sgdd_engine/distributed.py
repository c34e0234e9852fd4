"""Which of several processes this one is, and the exchanges between them.

A process that works alone is a world of one: the same code runs either way. The processes themselves are started by
PyTorch's elastic launcher (`torchrun`), which says in the environment who is who; `join` reads it through PyTorch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from torch import Tensor, distributed

from sgdd_engine.errors import ConfigError, SgddError

# How long a process waits for one that is behind: rank 0 reads a whole source before the others can begin.
TIMEOUT = timedelta(days=7)
CPU = torch.device("cpu")

Result = TypeVar("Result")


class LostProcessError(SgddError):
    """Another process of the same world ended, so this one cannot go on; the other one reports why."""


@dataclass(frozen=True, slots=True)
class World:
    """This process's place among those that work together.

    Its methods that exchange something are collective: every rank must call them, in the same order.

    Attributes:
        rank: Number of this process, from 0. size: Number of processes.
        device: Where tensors lie that are exchanged.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = CPU

    @property
    def is_main(self) -> bool:
        """Whether this process is rank 0, which writes the files that are written once."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until every rank has called this; every rank must call it."""
        if self.size > 1:
            distributed.barrier()

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The element-wise sum of every rank's `tensor`, on all ranks and in place; every rank must call it."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Rank 0's `tensor`, on all ranks and in place; every rank must call it."""
        if self.size > 1:
            distributed.broadcast(tensor, src=0)
        return tensor

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true on any rank; every rank must call it."""
        if self.size == 1:
            return flag
        return bool(self.all_reduce(torch.tensor(float(flag), device=self.device)))

    def broadcast_text(self, text: str) -> str:
        """Rank 0's `text`, on all ranks, sent as UTF-8 bytes and not as a pickle; every rank must call it."""
        if self.size == 1:
            return text
        encoded = torch.tensor(list(text.encode()), dtype=torch.uint8)
        length = int(self.broadcast(torch.tensor(len(encoded), device=self.device)))
        received = torch.zeros(length, dtype=torch.uint8) if self.rank else encoded
        return bytes(self.broadcast(received.to(self.device)).tolist()).decode()


ALONE = World()


def run_on_rank0(world: World, work: Callable[[], Result]) -> Result | None:
    """The result of `work` on rank 0, computed while the other ranks wait; None on those. Every rank must call it.

    Raises:
        LostProcessError: On the other ranks if it fails; rank 0 raises the reason.
    """
    try:
        result = work() if world.is_main else None
    except Exception:
        world.any(True)
        raise
    if world.any(False):
        raise LostProcessError("Rank 0 could not go on, and says why.")
    return result


@contextmanager
def join(device: torch.device, timeout: timedelta = TIMEOUT) -> Iterator[World]:
    """While entered, this process is one of those that the elastic launcher started.

    All of them leave together, unless one fails.

    Args:
        device: Where this process computes; CUDA devices exchange through NCCL, CPUs through gloo.
        timeout: How long a process waits for one that is behind before it fails.

    Raises:
        ConfigError: processes cannot work together on such a device.
        LostProcessError: another one ended.
    """
    if device.type not in {"cpu", "cuda"}:
        raise ConfigError(f"Several processes cannot share a device of type `{device.type}`.", "Use one.")
    if device.type == "cuda":
        torch.cuda.set_device(device)
        distributed.init_process_group("nccl", timeout=timeout, device_id=device)
    else:
        distributed.init_process_group("gloo", timeout=timeout)
    try:
        world = World(distributed.get_rank(), distributed.get_world_size(), device)
        yield world
        world.barrier()
    except RuntimeError as error:
        if _is_lost_connection(error):
            raise LostProcessError("Another process of this run ended, so this one cannot go on.") from error
        raise
    distributed.destroy_process_group()


def _is_lost_connection(error: RuntimeError) -> bool:
    # gloo has no class of its own for a connection that the other side closed.
    return isinstance(error, distributed.DistError) or "gloo" in str(error)
