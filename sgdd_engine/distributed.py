"""Which of several processes this one is, and the exchanges between them.

A process that works alone is a world of one: the same code runs either way. The processes themselves are started by
PyTorch's elastic launcher (`torchrun`), which says in the environment who is who; `join` reads it through PyTorch.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import psutil
import torch
from torch import Tensor, distributed
from torch.distributed import PrefixStore, Store  # type: ignore[attr-defined]  # which PyTorch documents
from torch.distributed.rendezvous import rendezvous

from sgdd_engine.errors import ConfigError, SgddError

# How long a process waits for one that is behind: rank 0 reads a whole source before the others can begin.
TIMEOUT = timedelta(days=7)
# How long a process may show no sign of life before the others end. A thread of its own shows it, so that neither long
# work nor a wait for another process counts.
SILENCE = timedelta(minutes=1)
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
        raise LostProcessError("Rank 0 stopped with an error; its message says why.")
    return result


def _end(error: LostProcessError) -> None:  # noqa: ARG001 - the signature of `on_lost`
    os._exit(1)


@contextmanager
def join(
    device: torch.device,
    timeout: timedelta = TIMEOUT,
    *,
    silence: timedelta = SILENCE,
    on_lost: Callable[[LostProcessError], None] = _end,
) -> Iterator[World]:
    """While entered, this process is one of those that the elastic launcher started.

    All of them leave together, unless one fails. One that is stopped or cut off ends the others, and a launcher that is
    gone asks them to stop, as SIGTERM does.

    Args:
        device: Where this process computes; CUDA devices exchange through NCCL, CPUs through gloo.
        timeout: How long a process waits for one that is behind before it fails.
        silence: How long the process of the next rank may show no sign of life.
        on_lost: Called in a thread when it has shown none for so long; must end this process, which may wait for the
            other one in a call that cannot be interrupted.

    Raises:
        ConfigError: processes cannot work together on such a device.
        LostProcessError: another one ended.
    """
    if device.type not in {"cpu", "cuda"}:
        raise ConfigError(f"Several processes cannot share a device of type `{device.type}`.", "Use one.")
    store, rank, size = next(rendezvous("env://", timeout=timeout))
    group = {"store": PrefixStore("group", store), "rank": rank, "world_size": size}
    if device.type == "cuda":
        torch.cuda.set_device(device)
        distributed.init_process_group("nccl", timeout=timeout, device_id=device, **group)
    else:
        distributed.init_process_group("gloo", timeout=timeout, **group)
    try:
        world = World(rank, size, device)
        with _Watch(world, store, silence, on_lost):
            yield world
            world.barrier()
    except RuntimeError as error:
        if _is_lost_connection(error):
            raise LostProcessError("Another process of this run ended, so this one cannot go on.") from error
        raise
    distributed.destroy_process_group()


class _Watch:
    """Shows the other processes that this one is alive, and looks after the next one's and the launcher's life.

    Each process counts up a number of its own in the store that all of them share. A thread does so: it also runs while
    this process computes, writes, or waits for another one, and stands still when the process is stopped.
    """

    def __init__(
        self,
        world: World,
        store: Store,
        silence: timedelta,
        on_lost: Callable[[LostProcessError], None],
    ) -> None:
        self._world, self._silence, self._on_lost = world, silence.total_seconds(), on_lost
        # A store of its own, since a thread that waits in one keeps others out of it.
        self._store = store.clone()  # type: ignore[attr-defined]  # not in its stub
        # A few signs of life in that time, so that a busy machine may lose some.
        self._interval = self._silence / 12
        # A store that has stopped itself must not hold the thread.
        self._store.set_timeout(silence)
        self._launcher = psutil.Process(os.getppid())
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._look, name="watch", daemon=True)

    def __enter__(self) -> None:
        if self._world.size > 1:
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._left.set()

    def _look(self) -> None:
        own, other = self._world.rank, (self._world.rank + 1) % self._world.size
        last, heard = -1, time.monotonic()
        while not self._left.wait(self._interval):
            if os.getppid() != self._launcher.pid or not self._launcher.is_running():
                # What the launcher would have sent: a run is saved. The others see the same.
                signal.raise_signal(signal.SIGTERM)
                return
            now = self._sign(own, other)
            if now not in (None, last):
                last, heard = now or 0, time.monotonic()
            elif time.monotonic() - heard > self._silence and not self._left.is_set():
                self._on_lost(
                    LostProcessError(
                        f"The process of rank {other} has shown no sign of life for {self._silence:g} seconds: it was "
                        "stopped, or its machine is gone. The others end.",
                        "Go on with --resume.",
                    )
                )
                return

    def _sign(self, own: int, other: int) -> int | None:
        """Count up this process's number, and read another one's; None where the store does not answer."""
        try:
            self._store.add(f"alive/{own}", 1)
            return int(self._store.add(f"alive/{other}", 0))
        except RuntimeError:
            return None


def _is_lost_connection(error: RuntimeError) -> bool:
    # gloo has no class of its own for a connection that the other side closed.
    return isinstance(error, distributed.DistError) or "gloo" in str(error)
