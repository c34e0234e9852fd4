"""Timing side by side: what is compared is run in turns, so that a slow moment of the machine strikes both."""

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median

import torch

Work = Callable[[], object]


def timed(work: Work, device: torch.device) -> float:
    """Seconds that `work` takes, its kernels on the device included."""
    _finish(device)
    began = time.perf_counter()
    work()
    _finish(device)
    return time.perf_counter() - began


def race(
    contestants: Mapping[str, Sequence[Work]],
    *,
    repeats: int,
    device: torch.device,
    on_repeat: Callable[[int], None] = lambda _: None,
) -> dict[str, list[float]]:
    """Time contestants against each other.

    A repetition runs the first piece of each, then the second of each, and so on. Before the first repetition
    one piece of each is run untimed, which pays for what is done once.

    Args:
        contestants: Name → the pieces of work of one repetition.
        repeats: Repetitions.
        device: Where they compute.
        on_repeat: Called with the number of finished repetitions.

    Returns:
        Name → seconds of each repetition, its pieces added up.
    """
    for pieces in contestants.values():
        timed(pieces[0], device)
    seconds = {name: [0.0] * repeats for name in contestants}
    for repeat in range(repeats):
        for number in range(max(map(len, contestants.values()))):
            for name, pieces in contestants.items():
                if number < len(pieces):
                    seconds[name][repeat] += timed(pieces[number], device)
        on_repeat(repeat + 1)
    return seconds


def ratios(slow: Sequence[float], fast: Sequence[float]) -> list[float]:
    """How many times faster `fast` was, repetition by repetition."""
    return [s / f for s, f in zip(slow, fast, strict=True)]


def rate(count: float, seconds: Sequence[float]) -> float:
    """Units per second in the median repetition."""
    return count / median(seconds)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
