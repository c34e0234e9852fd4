"""What a benchmark finds, the timing of pieces of work in turns, the memory they take, and the machine they run on."""

import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
from torch.profiler import ProfilerActivity, profile

from sgdd_engine.errors import SgddError

Work = Callable[[], object]
# The median of so many products, after one that is not counted, varies by a few percent.
_PRODUCTS = 7
_CONTROL_GROUP = Path("/sys/fs/cgroup")
_STDERR = 2


class BenchmarkError(SgddError):
    """The benchmark cannot be trusted or cannot go on: two computations differ, or a measured command failed."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure.

    Attributes:
        measure: Its name, stable from run to run.
        title: What it says, in words.
        value: The figure; None where it could not be taken, and `note` says why.
        unit: `×`, `%`, `ms`, `s` …
        goal: What it should reach; None where there is no goal here.
        at_most: Whether the goal is an upper bound.
        details: What the figure is made of.
        note: What has to be known to read it.
    """

    measure: str
    title: str
    value: float | None
    unit: str
    goal: float | None = None
    at_most: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""

    @classmethod
    def of_median(cls, values: Sequence[float], *, details: Mapping[str, Any], **fields: Any) -> "Row":  # noqa: ANN401
        """A row whose value is the median of some repetitions; their spread stands in the details."""
        return cls(value=median(values), details={**details, "repetitions": spread(values)}, **fields)

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without a goal or a figure."""
        if self.goal is None or self.value is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        bound = None if self.goal is None else "at most" if self.at_most else "at least"
        fields = asdict(self)
        del fields["at_most"]
        return {**fields, "goal_is": bound, "met": self.met}


@dataclass(frozen=True)
class Timings:
    """Seconds of each repetition, by what was timed."""

    seconds: Mapping[str, Sequence[float]]

    def ratios(self, slow: str, fast: str) -> list[float]:
        """How many times faster `fast` was than `slow`, repetition by repetition."""
        return [s / f for s, f in zip(self.seconds[slow], self.seconds[fast], strict=True)]

    def details(self, **counts: float) -> dict[str, Any]:
        """The seconds, and the units per second in the median repetition: `sentences=64` gives sentences per second."""
        rates = {
            f"{unit}_per_second": {name: count / median(taken) for name, taken in self.seconds.items()}
            for unit, count in counts.items()
        }
        return {**rates, "seconds": {name: spread(taken) for name, taken in self.seconds.items()}}


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest of some repetitions."""
    return {"median": median(values), "min": min(values), "max": max(values)}


def timed(work: Work, device: torch.device) -> float:
    """Seconds that `work` takes, its kernels on the device included."""
    began = _now(device)
    work()
    return _now(device) - began


def race(
    contestants: Mapping[str, Sequence[Work]],
    *,
    repeats: int,
    device: torch.device,
    on_repeat: Callable[[int], None] = lambda _: None,
) -> Timings:
    """Time contestants in turns, so that a slow moment of the machine affects all of them.

    A repetition runs the first piece of each, then the second of each, and so on. Before the first repetition
    one piece of each is run untimed, which pays for what is done once.

    Args:
        contestants: Name → the pieces of work of one repetition, whose seconds are added up.
        repeats: Repetitions.
        device: Where they compute.
        on_repeat: Called with the number of finished repetitions.
    """
    for pieces in contestants.values():
        pieces[0]()
    seconds = {name: [0.0] * repeats for name in contestants}
    for repeat in range(repeats):
        for number in range(max(map(len, contestants.values()))):
            for name, pieces in contestants.items():
                if number < len(pieces):
                    seconds[name][repeat] += timed(pieces[number], device)
        on_repeat(repeat + 1)
    return Timings(seconds)


def _now(device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


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
