"""What the benchmark found: rows with a goal, and the sentence that stands where a number could not be taken."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from sgdd_engine.benchmark.machine import Machine
from sgdd_engine.errors import SgddError


class BenchmarkError(SgddError):
    """The benchmark cannot be trusted or cannot go on: the two ways differ, or a command under test failed."""


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

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None without a goal or a figure."""
        if self.goal is None or self.value is None:
            return None
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "measure": self.measure,
            "title": self.title,
            "value": self.value,
            "unit": self.unit,
            "goal": self.goal,
            "goal_is": None if self.goal is None else "at most" if self.at_most else "at least",
            "met": self.met,
            "details": dict(self.details),
            "note": self.note,
        }


@dataclass(frozen=True, kw_only=True)
class Report:
    """All rows of a run, the machine they hold for, and the settings that made them."""

    machine: Machine
    settings: Mapping[str, Any]
    rows: Sequence[Row]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "machine": asdict(self.machine),
            "settings": dict(self.settings),
            "rows": [row.to_dict() for row in self.rows],
        }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, lowest and highest of some repetitions."""
    return {"median": median(values), "min": min(values), "max": max(values)}
