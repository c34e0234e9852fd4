"""What this machine is and how fast it multiplies matrices: the measure that shares are taken of."""

import platform
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import psutil
import torch

from sgdd_engine.benchmark.clock import Work, timed

_REPEATS = 7
_CONTROL_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Machine:
    """The place that the figures hold for.

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
    dtypes = (torch.float32, torch.bfloat16)
    return Machine(
        cpu=_cpu_name(),
        cores=psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        threads=torch.get_num_threads(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        memory_bytes=psutil.virtual_memory().total,
        torch=torch.__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()}",
        matmul_flops_per_second={dtype_name(dtype): matmul_rate(size, dtype, device) for dtype in dtypes},
        matmul_size=size,
    )


def matmul_rate(size: int, dtype: torch.dtype, device: torch.device) -> float:
    """Operations per second of `size` × `size` products: the median of a few."""
    work = square_product(size, dtype, device)
    seconds = [timed(work, device) for _ in range(_REPEATS + 1)]
    return product_flops(size) / median(seconds[1:])


def square_product(size: int, dtype: torch.dtype, device: torch.device) -> Work:
    """One product of two random `size` × `size` matrices."""
    left = torch.randn(size, size, device=device).to(dtype)
    right = torch.randn(size, size, device=device).to(dtype)
    out = torch.empty_like(left)
    return partial(torch.mm, left, right, out=out)


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
    return min(int(psutil.virtual_memory().available), _free_in_control_group())


def _free_in_control_group() -> int:
    """What a container may still take: its limit is not in the machine's own figures."""
    try:
        limit = (_CONTROL_GROUP / "memory.max").read_text().strip()
        used = (_CONTROL_GROUP / "memory.current").read_text().strip()
        return int(limit) - int(used)
    except (OSError, ValueError):  # no Linux, no limit ("max"), or the older form
        return 1 << 62


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
