"""This machine: what it is, how fast it multiplies matrices, and what memory a piece of work takes on it."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import median

import psutil
import torch
from torch.profiler import ProfilerActivity, profile

from sgdd_engine.benchmark.measurement import BenchmarkError, Work, timed

# The median of so many products, after one that is not counted, varies by a few percent.
_PRODUCTS = 7
_CONTROL_GROUP = Path("/sys/fs/cgroup")
_STDERR = 2


@dataclass(frozen=True)
class Machine:
    """What the figures hold for.

    Attributes:
        cpu, cores, threads: Name, physical cores, and threads that PyTorch computes with.
        device: The GPU's name where one was used, else `cpu`.
        memory_bytes: Of the machine.
        torch, python, system: Versions.
        matmul_flops_per_second: Rate of square products, by dtype: the median of a few.
        matmul_size: Their side.
    """

    cpu: str
    cores: int
    threads: int
    device: str
    memory_bytes: int
    torch: str
    python: str
    system: str
    matmul_flops_per_second: dict[str, float]
    matmul_size: int


def describe_machine(device: torch.device, size: int) -> Machine:
    """Name this machine and measure its matrix-multiply rate in fp32 and bf16."""
    rates = {}
    for dtype in (torch.float32, torch.bfloat16):
        work = square_product(size, dtype, device)
        seconds = [timed(work, device) for _ in range(_PRODUCTS + 1)]
        rates[dtype_name(dtype)] = product_flops(size) / median(seconds[1:])
    return Machine(
        cpu=_cpu_name(),
        cores=psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        memory_bytes=psutil.virtual_memory().total,
        torch=torch.__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
        matmul_flops_per_second=rates,
        matmul_size=size,
    )


def square_product(size: int, dtype: torch.dtype, device: torch.device) -> Work:
    """One product of two random `size` × `size` matrices."""
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    return partial(torch.mm, left, right, out=torch.empty_like(left))


def product_flops(size: int) -> float:
    """Operations of such a product."""
    return 2.0 * size**3


def dtype_name(dtype: torch.dtype) -> str:
    """`fp32` or `bf16`."""
    return {torch.float32: "fp32", torch.bfloat16: "bf16"}[dtype]


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated where tensors live."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    try:  # a container's own limit, which psutil does not know
        limit = int((_CONTROL_GROUP / "memory.max").read_text())
        return min(free, limit - int((_CONTROL_GROUP / "memory.current").read_text()))
    except (OSError, ValueError):  # no Linux, no limit ("max"), or control groups of the first version
        return free


def peak_bytes(work: Work, device: torch.device) -> int:
    """The most that PyTorch held at once during `work`, above what it held before.

    On CUDA it is the caching allocator's own figure. On a CPU it is the running sum of the allocations and
    releases that PyTorch's profiler records; what a library takes for itself (scratch space of a matrix product)
    is not in either.

    Raises:
        BenchmarkError: this build of PyTorch records no allocations.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.synchronize(device)
        return int(torch.cuda.max_memory_allocated(device) - before)
    recorder = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    with _stderr_closed():
        recorder.start()
    try:
        work()
    finally:
        with _stderr_closed():
            recorder.stop()
    recorded = getattr(recorder.profiler, "kineto_results", None)
    if recorded is None:
        raise BenchmarkError(
            "This build of PyTorch cannot record memory.", "Leave out the measure step-memory."
        )
    changes = [event for event in recorded.events() if event.name() == "[memory]"]
    changes.sort(key=lambda event: event.start_ns())
    return max(accumulate((int(event.nbytes()) for event in changes), initial=0))


@contextmanager
def _stderr_closed() -> Iterator[None]:
    """Close stderr to the profiler's library, which writes a line to it, past Python, when it starts and stops."""
    saved, nowhere = os.dup(_STDERR), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, _STDERR)
        yield
    finally:
        os.dup2(saved, _STDERR)
        os.close(saved)
        os.close(nowhere)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
