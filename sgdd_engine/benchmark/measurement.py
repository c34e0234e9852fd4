"""What a benchmark finds, and the timing of pieces of work in turns."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

import torch

from sgdd_engine.errors import SgddError

Work = Callable[[], object]


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
