"""Charts as inline SVG: bars, lines, the profile of a sorted spectrum, and what they are made of.

Colours come from the page's style sheet by class (`own`, `second`, `third`, `control`), so that a drawing follows
the light and the dark scheme. Each drawing tells its numbers in its description, for those who do not see it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sgdd_engine.evaluation.bootstrap import Interval

WIDTH = 360
EMPTY = Markup("")
# An axis has about so many steps.
STEPS = 4
# Narrower ranges are drawn as one value: ticks are rounded to 12 decimals.
LEAST_SPAN = 1e-9
# Below this share of the largest value a logarithmic axis ends: what lies there is rounding.
FLOOR = 1e-6
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class Bar:
    """One bar: what it stands for, its value, and the class of its colour."""

    label: str
    value: Interval
    kind: str


@dataclass(frozen=True)
class Series:
    """One line: what it stands for, a value for each place on the axis, and the class of its colour."""

    label: str
    values: Sequence[Interval]
    kind: str


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


def round_ticks(values: Iterable[float], *, from_zero: bool) -> list[float]:
    """Evenly spaced round numbers that enclose all values, at least two.

    Args:
        values: Finite numbers, at least one.
        from_zero: Whether zero must be among them, as bars need; a line may show its own range.
    """
    found = list(values)
    low, high = min(found), max(found)
    if from_zero:
        low, high = min(0.0, low), max(0.0, high)
    if high - low < LEAST_SPAN * max(1.0, abs(high)):
        low, high = (
            (0.9 * low, 1.1 * low)
            if low > LEAST_SPAN and not from_zero
            else (min(low, 0.0), max(high, 0.0) + 1)
        )
    rough = (high - low) / STEPS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1.0, 2.0, 2.5, 5.0) if m * power >= rough * (1 - 1e-9)), 10 * power)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def tick_text(value: float, ticks: Sequence[float]) -> str:
    """A tick's number with as many decimals as the steps between the ticks need."""
    step = ticks[1] - ticks[0]
    decimals = next((d for d in range(7) if abs(round(step, d) - step) < 1e-9 * step), 7)
    return f"{value:,.{decimals}f}".replace("-", "−")


def axis_texts(ticks: Sequence[float]) -> list[tuple[float, str]]:
    """The ticks of an axis with their texts."""
    return [(tick, tick_text(tick, ticks)) for tick in ticks]


def format_number(value: float, decimals: int = 3) -> str:
    """A number with its decimals and a true minus; a dash where it is not finite."""
    if not math.isfinite(value):
        return "–"
    # Adding 0 turns a rounded -0.0 into 0.0.
    return f"{round(value, decimals) + 0.0:,.{decimals}f}".replace("-", "−")


def format_range(value: Interval, decimals: int = 3, factor: float = 1.0) -> str:
    """The two ends of an interval, times a factor; nothing where there is none, or where it has no width."""
    if value.ends is None or value.low == value.high:
        return ""
    return " to ".join(format_number(factor * end, decimals) for end in value.ends)


def picture(name: str, title: str, description: str, height: float, body: Iterable[Markup]) -> Markup:
    """A drawing `WIDTH` wide that fills its column, with its title and its numbers as text.

    Args:
        name: Unique on the page.
        title: What it shows.
        description: Its numbers in words.
        height: In the drawing's own units.
        body: What is drawn.
    """
    return Markup(
        '<svg viewBox="0 0 {width} {height:.0f}" role="img" aria-labelledby="{name}-title {name}-desc">'
        '<title id="{name}-title">{title}</title><desc id="{name}-desc">{description}</desc>{body}</svg>'
    ).format(
        width=WIDTH, height=height, name=name, title=title, description=description, body=EMPTY.join(body)
    )


def label(x: float, y: float, text: str, kind: str = "tick", anchor: str = "middle") -> Markup:
    """A text in a drawing; `anchor` is start, middle or end."""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        kind, x, y, anchor, text
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight stroke."""
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
        kind, x1, y1, x2, y2
    )


def path(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    """A stroke through several points; nothing for fewer than two."""
    if len(points) < 2:
        return EMPTY
    drawn = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return Markup('<path class="{}" d="{}"/>').format(kind, drawn)


def circle(x: float, y: float, radius: float, kind: str, tooltip: str) -> Markup:
    """A disc with a text that appears beside the pointer."""
    return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:.1f}"><title>{}</title></circle>').format(
        kind, x, y, radius, tooltip
    )


def chart(
    name: str,
    title: str,
    description: str,
    y: Scale,
    ticks: Sequence[tuple[float, str]],
    places: Iterable[tuple[float, str]],
    axis: str,
    drawn: Iterable[Markup],
    *,
    left: float = 44.0,
    right: float = WIDTH - 2.0,
) -> Markup:
    """A drawing above a named axis, with a line across it at each tick.

    Args:
        name: Unique on the page.
        title: What is shown.
        description: Its numbers in words.
        y: The upright axis, from its foot to its top.
        ticks: Values on it with their texts.
        places: Coordinates on the lower axis with their texts.
        axis: What the places are.
        drawn: What is drawn above the lines.
        left: Where the lower axis begins.
        right: Where it ends.
    """
    lower = y.start
    body = [
        line(left, y(tick), right, y(tick), "grid") + label(left - 6, y(tick) + 4, text, anchor="end")
        for tick, text in ticks
    ]
    body += [label(x, lower + 16, text) for x, text in places]
    body.append(label((left + right) / 2, lower + 35, axis))
    return picture(name, title, description, lower + 42, [*body, *drawn])


def describe(name: str, value: Interval, decimals: int) -> str:
    """A value and its interval in words: "its own vector 0.46 (0.45 to 0.48)"."""
    ends = format_range(value, decimals)
    return f"{name} {format_number(value.mean, decimals)}" + (f" ({ends})" if ends else "")


def bars(
    name: str,
    title: str,
    rows: Sequence[Bar],
    *,
    decimals: int = 3,
    reference: tuple[str, float] | None = None,
) -> Markup:
    """Lying bars from zero, each with a whisker for its interval.

    Args:
        name: Unique on the page.
        title: What is compared.
        rows: From top to bottom.
        decimals: Of the numbers beside the bars.
        reference: A named value drawn as a broken line across all bars.
    """
    pitch, top = 38.0, 2.0
    foot = top + pitch * len(rows)
    ticks = round_ticks(
        [*extent(row.value for row in rows), *([reference[1]] if reference else [])], from_zero=True
    )
    x = Scale(ticks[0], ticks[-1], 2, WIDTH - 50)
    drawn = [line(x(tick), top, x(tick), foot, "grid") for tick in ticks]
    if reference:
        drawn.append(line(x(reference[1]), top, x(reference[1]), foot, "reference"))
    drawn += [_bar(row, x, top + pitch * index, decimals) for index, row in enumerate(rows)]
    drawn += [label(x(tick), foot + 15, tick_text(tick, ticks)) for tick in ticks]
    description = "; ".join(describe(row.label, row.value, decimals) for row in rows)
    if reference:
        named = f"{reference[0]} {format_number(reference[1], decimals)}"
        drawn += [line(2, foot + 30, 24, foot + 30, "reference"), label(30, foot + 34, named, anchor="start")]
        description = f"{description}; {named}"
    return picture(name, title, description, foot + (42 if reference else 22), drawn)


def extent(values: Iterable[Interval]) -> list[float]:
    """All means and ends."""
    return [number for value in values for number in (value.mean, *(value.ends or ()))]


def _bar(row: Bar, x: Scale, y: float, decimals: int) -> Markup:
    left, right = sorted((x(0), x(row.value.mean)))
    middle = y + 25
    parts = [
        label(2, y + 13, row.label, "name", "start"),
        Markup(
            '<rect class="{} fill" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="11" rx="1.5">'
            "<title>{}</title></rect>"
        ).format(row.kind, left, y + 19.5, max(right - left, 0.5), describe(row.label, row.value, decimals)),
        line(x(0), y + 17, x(0), y + 33, "axis"),
        label(WIDTH - 2, middle + 4, format_number(row.value.mean, decimals), "value", "end"),
    ]
    if row.value.ends is not None and row.value.low != row.value.high:
        low, high = map(x, row.value.ends)
        parts.append(line(low, middle, high, middle, "whisker"))
        parts += [line(end, middle - 3, end, middle + 3, "whisker") for end in (low, high)]
    return EMPTY.join(parts)


def lines(
    name: str,
    title: str,
    places: Sequence[str],
    series: Sequence[Series],
    *,
    axis: str,
    at: Sequence[float] | None = None,
    decimals: int = 3,
    from_zero: bool = True,
    chosen: int | None = None,
) -> Markup:
    """Lines over places on an axis, each value a dot with its interval.

    Args:
        name: Unique on the page.
        title: What is shown.
        places: Names along the axis, from left to right.
        series: One or two lines; more than one gets a legend.
        axis: What the places are.
        at: Where the places lie, as numbers that rise; evenly spaced without.
        decimals: Of the numbers in the description.
        from_zero: Whether the upright axis holds zero.
        chosen: Index of a place that is marked.
    """
    top, left = (30.0, 44.0) if len(series) > 1 else (12.0, 44.0)
    foot = top + 150
    ticks = round_ticks(extent(value for one in series for value in one.values), from_zero=from_zero)
    y = Scale(ticks[0], ticks[-1], foot, top)
    where = list(at) if at is not None else [float(index) for index in range(len(places))]
    x = Scale(where[0], where[-1] if where[-1] > where[0] else where[0] + 1, left + 16, WIDTH - 16)
    xs = [x(place) for place in where]
    drawn = [line(xs[chosen], top, xs[chosen], foot, "reference")] if chosen is not None else []
    drawn += [_line(one, places, xs, y, decimals) for one in series]
    if len(series) > 1:
        drawn.append(_legend(series))
    description = ". ".join(
        f"{one.label}: "
        + "; ".join(describe(f"{p}:", v, decimals) for p, v in zip(places, one.values, strict=True))
        for one in series
    )
    shown = [(xs[i], places[i]) for i in _legible(places, xs)]
    return chart(name, title, description, y, axis_texts(ticks), shown, axis, drawn, left=left)


def _legible(places: Sequence[str], xs: Sequence[float]) -> list[int]:
    """Which of the names along an axis have room; the last always, for it is often the one that matters."""
    kept: list[int] = []
    room = float("inf")
    for index in reversed(range(len(places))):
        half = 3.3 * len(places[index]) + 3
        if xs[index] + half <= room:
            kept.append(index)
            room = xs[index] - half
    return kept


def _line(one: Series, places: Sequence[str], xs: Sequence[float], y: Scale, decimals: int) -> Markup:
    drawn = [path([(x, y(v.mean)) for x, v in zip(xs, one.values, strict=True)], f"{one.kind} stroke")]
    for x, place, value in zip(xs, places, one.values, strict=True):
        if value.ends is not None and value.low != value.high:
            low, high = map(y, value.ends)
            drawn.append(line(x, low, x, high, f"{one.kind} span"))
        drawn.append(
            circle(x, y(value.mean), 3.2, f"{one.kind} fill", describe(f"{place}:", value, decimals))
        )
    return EMPTY.join(drawn)


def _legend(series: Sequence[Series]) -> Markup:
    drawn, x = [], 46.0
    for one in series:
        drawn.append(Markup('<circle class="{} fill" cx="{:.1f}" cy="10" r="4"/>').format(one.kind, x))
        drawn.append(label(x + 9, 14, one.label, "name", "start"))
        x += 26 + 6.4 * len(one.label)
    return EMPTY.join(drawn)


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
        ticks = [(float(power), _power(power)) for power in _powers(heights)]
    else:
        heights = list(ranked)
        ticks = axis_texts(round_ticks(heights, from_zero=True))
    y, x = Scale(ticks[0][0], ticks[-1][0], foot, top), Scale(0, len(ranked), left, right)
    base = y(ticks[0][0]) if logarithmic else y(0)
    steps = [(x(i + side), y(height)) for i, height in enumerate(heights) for side in (0, 1)]
    drawn = [path([(left, base), *steps, (right, base)], "own area"), path(steps, "own stroke thin")]
    shown = sorted({1, (len(ranked) + 1) // 2, len(ranked)})
    places = [(x(place - 0.5), f"{place:,}") for place in shown]
    description = (
        f"{len(ranked):,} dimensions; largest {ranked[0]:.3g}, median {ranked[len(ranked) // 2]:.3g}, "
        f"smallest {ranked[-1]:.3g}"
    )
    return chart(name, title, description, y, ticks, places, axis, drawn, left=left, right=right)


def _powers(heights: Sequence[float]) -> list[int]:
    """Whole exponents that enclose the given ones, at most five of them."""
    low, high = math.floor(min(heights)), math.ceil(max(heights))
    if low == high:
        low -= 1
    stride = -(-(high - low) // 4)
    return [low + stride * index for index in range(-(-(high - low) // stride) + 1)]


def _power(exponent: int) -> str:
    """A power of ten as a short number: 100, 0.01, 10⁻⁵."""
    if -3 <= exponent <= 3:
        return f"{10.0**exponent:g}"
    return "10" + str(exponent).translate(_RAISED)
