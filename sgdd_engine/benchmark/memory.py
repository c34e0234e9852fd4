"""Peak memory of a piece of work, counted by the allocator itself."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import accumulate

import torch
from torch.profiler import ProfilerActivity, profile

from sgdd_engine.benchmark.measurement import BenchmarkError

_STDERR = 2


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
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
    return max(accumulate(_changes(work), initial=0))


def _changes(work: Callable[[], object]) -> list[int]:
    """Bytes taken (above 0) and given back (below 0), in order."""
    recorder = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    with _without_chatter():
        recorder.start()
    try:
        work()
    finally:
        with _without_chatter():
            recorder.stop()
    recorded = getattr(recorder.profiler, "kineto_results", None)
    if recorded is None:
        raise BenchmarkError(
            "This build of PyTorch cannot record memory.", "Leave out the measure step-memory."
        )
    events = [event for event in recorded.events() if event.name() == "[memory]"]
    return [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]


@contextmanager
def _without_chatter() -> Iterator[None]:
    """The profiler's library writes a line to stderr when it starts and stops, past Python and its settings."""
    saved, nowhere = os.dup(_STDERR), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, _STDERR)
        yield
    finally:
        os.dup2(saved, _STDERR)
        os.close(saved)
        os.close(nowhere)
