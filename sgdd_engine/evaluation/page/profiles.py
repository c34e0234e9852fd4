"""The calibration diagram and the profile of a sorted spectrum, as inline SVG."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from sgdd_engine.evaluation.calibration import Bin
from sgdd_engine.evaluation.page.plots import (
    WIDTH,
    Scale,
    circle,
    form,
    label,
    line,
    path,
    picture,
    round_ticks,
    tick_text,
    upright_axis,
)

# Below this share of the largest value a logarithmic axis ends: what lies there is rounding.
FLOOR = 1e-6
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def calibration(name: str, title: str, bins: Sequence[Bin]) -> Markup:
    """Accuracy against confidence, a circle for each bin with its area by its count, and the diagonal.

    On the diagonal a confidence of 0.7 is right seven times in ten; below it the model is too sure.
    """
    left, right, top, foot = 44.0, WIDTH - 16.0, 12.0, 296.0
    x, y = Scale(0, 1, left, right), Scale(0, 1, foot, top)
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    names = [tick_text(tick, ticks) for tick in ticks]
    drawn = [upright_axis(y, ticks, names, left, right)]
    drawn += [line(x(tick), top, x(tick), foot, "grid") for tick in ticks]
    drawn += [label(x(tick), foot + 16, text) for tick, text in zip(ticks, names, strict=True)]
    drawn.append(line(x(0), y(0), x(1), y(1), "reference"))
    largest = max((one.count for one in bins), default=1) or 1
    drawn.append(path([(x(b.confidence), y(b.accuracy)) for b in bins], "own stroke thin"))
    drawn += [
        circle(
            x(b.confidence), y(b.accuracy), 2.5 + 9 * math.sqrt(b.count / largest), "own fill veil", _told(b)
        )
        for b in bins
    ]
    drawn.append(label(x(0.06), y(0.94), "too modest", "hint", "start"))
    drawn.append(label(x(0.94), y(0.04), "too sure", "hint", "end"))
    drawn.append(label((left + right) / 2, foot + 35, "confidence of the likeliest token"))
    return picture(name, title, "; ".join(map(_told, bins)), foot + 42, drawn)


def _told(one: Bin) -> str:
    return f"confidence {form(one.confidence)}, right {form(one.accuracy)}, {one.count:,} tokens"


def profile(
    name: str, title: str, values: Sequence[float], *, axis: str, logarithmic: bool = False
) -> Markup:
    """Values in falling order as one filled outline, so that a thousand dimensions stay one path.

    Args:
        name: Unique on the page.
        title: What is shown.
        values: Finite, at least one; sorted here.
        axis: What is counted along the lower edge.
        logarithmic: Whether the upright axis shows powers of ten; for values that are not negative.
    """
    ranked = sorted(values, reverse=True)
    left, right, top, foot = 52.0, WIDTH - 6.0, 12.0, 162.0
    if logarithmic:
        least = max(ranked[0] * FLOOR, 1e-30)
        heights = [math.log10(max(value, least)) for value in ranked]
        ticks = _powers(heights)
        names = [_power(int(tick)) for tick in ticks]
    else:
        heights = list(ranked)
        ticks = round_ticks(heights, from_zero=True)
        names = [tick_text(tick, ticks) for tick in ticks]
    y, x = Scale(ticks[0], ticks[-1], foot, top), Scale(0, len(ranked), left, right)
    base = y(ticks[0]) if logarithmic else y(0)
    steps = [(x(i + side), y(height)) for i, height in enumerate(heights) for side in (0, 1)]
    drawn = [
        upright_axis(y, ticks, names, left, right),
        path([(left, base), *steps, (right, base)], "own area"),
        path(steps, "own stroke thin"),
    ]
    drawn += [
        label(x(place - 0.5), foot + 16, f"{place:,}")
        for place in sorted({1, (len(ranked) + 1) // 2, len(ranked)})
    ]
    drawn.append(label((left + right) / 2, foot + 35, axis))
    description = (
        f"{len(ranked):,} dimensions; largest {ranked[0]:.3g}, median {ranked[len(ranked) // 2]:.3g}, "
        f"smallest {ranked[-1]:.3g}"
    )
    return picture(name, title, description, foot + 42, drawn)


def _powers(heights: Sequence[float]) -> list[float]:
    """Whole exponents that enclose the given ones, at most five of them."""
    low, high = math.floor(min(heights)), math.ceil(max(heights))
    if low == high:
        low -= 1
    stride = -(-(high - low) // 4)
    return [float(low + stride * index) for index in range(-(-(high - low) // stride) + 1)]


def _power(exponent: int) -> str:
    """A power of ten as a short number: 100, 0.01, 10⁻⁵."""
    if -3 <= exponent <= 3:
        return f"{10.0**exponent:g}"
    return "10" + str(exponent).translate(_RAISED)
