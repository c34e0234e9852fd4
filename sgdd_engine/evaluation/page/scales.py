"""From values to places in a drawing: axes that end on round numbers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Scale:
    """A straight map of the values `low` … `high` to the coordinates `start` … `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The coordinate of a value; values outside lie on the edge."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)


def round_step(span: float, count: int) -> float:
    """The least of 1, 2, 2.5, 5 × 10ⁿ that covers `span` in at most `count` steps."""
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    return next((m * power for m in (1.0, 2.0, 2.5, 5.0) if m * power >= rough * (1 - 1e-9)), 10 * power)


def round_ticks(values: Iterable[float], *, from_zero: bool, count: int = 4) -> list[float]:
    """Evenly spaced round numbers that enclose all values, at least two.

    Args:
        values: Finite numbers; none at all gives 0 and 1.
        from_zero: Whether zero must be among them, as bars need; a line may show its own range.
        count: About how many steps.
    """
    found = list(values) or [0.0, 1.0]
    low, high = min(found), max(found)
    if from_zero:
        low, high = min(0.0, low), max(0.0, high)
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = (
            (0.9 * low, 1.1 * low) if low > 0 and not from_zero else (min(low, 0.0), max(high, 0.0) + 1.0)
        )
    step = round_step(high - low, count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def tick_text(value: float, ticks: Sequence[float]) -> str:
    """A tick's number with as many decimals as the steps between the ticks need."""
    step = ticks[1] - ticks[0]
    decimals = next((d for d in range(7) if abs(round(step, d) - step) < 1e-9 * step), 7)
    return f"{value:,.{decimals}f}".replace("-", "−")
