"""Bars and lines with their intervals, as inline SVG: pure functions of numbers.

Colours come from the page's style sheet by class (`own`, `second`, `third`, `control`), so that a drawing follows
the light and the dark scheme. Each drawing tells its numbers in its description, for those who do not see it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.page.naming import form, form_range
from sgdd_engine.evaluation.page.scales import Scale, round_ticks, tick_text

WIDTH = 360
EMPTY = Markup("")


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
    values: Sequence[Interval | None]
    kind: str


def picture(name: str, title: str, description: str, height: float, body: Markup) -> Markup:
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
    ).format(width=WIDTH, height=height, name=name, title=title, description=description, body=body)


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


def said(name: str, value: Interval, decimals: int) -> str:
    """A value and its interval in words: "its own vector 0.46 (0.45 to 0.48)"."""
    ends = form_range(value, decimals)
    return f"{name} {form(value.mean, decimals)}" + (f" ({ends})" if ends else "")


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
    ends = [end for row in rows for end in (row.value.low, row.value.mean, row.value.high)]
    ticks = round_ticks([*ends, *([reference[1]] if reference else [])], from_zero=True)
    x = Scale(ticks[0], ticks[-1], 2, WIDTH - 50)
    drawn = [line(x(tick), top, x(tick), foot, "grid") for tick in ticks]
    if reference:
        drawn.append(line(x(reference[1]), top, x(reference[1]), foot, "reference"))
    drawn += [_bar(row, x, top + pitch * index, decimals) for index, row in enumerate(rows)]
    drawn += [label(x(tick), foot + 15, tick_text(tick, ticks)) for tick in ticks]
    told = "; ".join(said(row.label, row.value, decimals) for row in rows)
    if reference:
        named = f"{reference[0]} {form(reference[1], decimals)}"
        drawn += [line(2, foot + 30, 24, foot + 30, "reference"), label(30, foot + 34, named, anchor="start")]
        told = f"{told}; {named}"
    return picture(name, title, told, foot + (42 if reference else 22), EMPTY.join(drawn))


def _bar(row: Bar, x: Scale, y: float, decimals: int) -> Markup:
    left, right = sorted((x(0), x(row.value.mean)))
    middle = y + 25
    parts = [
        label(2, y + 13, row.label, "name", "start"),
        Markup(
            '<rect class="{} fill" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="11" rx="1.5">'
            "<title>{}</title></rect>"
        ).format(row.kind, left, y + 19.5, max(right - left, 0.5), said(row.label, row.value, decimals)),
        line(x(0), y + 17, x(0), y + 33, "axis"),
        label(WIDTH - 2, middle + 4, form(row.value.mean, decimals), "value", "end"),
    ]
    if row.value.high > row.value.low:
        parts.append(_whisker(x(row.value.low), x(row.value.high), middle))
    return EMPTY.join(parts)


def _whisker(low: float, high: float, y: float) -> Markup:
    return EMPTY.join(
        (
            line(low, y, high, y, "whisker"),
            line(low, y - 3, low, y + 3, "whisker"),
            line(high, y - 3, high, y + 3, "whisker"),
        )
    )


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
    """Values along an axis, each with a whisker for its interval.

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
    known = [value for one in series for value in one.values if value is not None]
    ticks = round_ticks([end for v in known for end in (v.low, v.mean, v.high)], from_zero=from_zero)
    y = Scale(ticks[0], ticks[-1], foot, top)
    where = list(at) if at is not None else [float(index) for index in range(len(places))]
    x = Scale(where[0], where[-1] if where[-1] > where[0] else where[0] + 1, left + 16, WIDTH - 16)
    drawn = [line(left, y(tick), WIDTH - 2, y(tick), "grid") for tick in ticks]
    drawn += [label(left - 6, y(tick) + 4, tick_text(tick, ticks), anchor="end") for tick in ticks]
    if chosen is not None:
        drawn.append(line(x(where[chosen]), top, x(where[chosen]), foot, "reference"))
    drawn += [label(x(where[i]), foot + 16, places[i]) for i in _legible(places, [x(w) for w in where])]
    drawn.append(label((left + WIDTH) / 2, foot + 35, axis))
    drawn += [_line(one, places, [x(w) for w in where], y, decimals) for one in series]
    if len(series) > 1:
        drawn.append(_legend(series))
    told = ". ".join(
        f"{one.label}: "
        + "; ".join(said(f"{p}:", v, decimals) for p, v in zip(places, one.values, strict=True) if v)
        for one in series
    )
    return picture(name, title, told, foot + 42, EMPTY.join(drawn))


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
    points = [(x, p, v) for x, p, v in zip(xs, places, one.values, strict=True) if v is not None]
    path = "M" + " L".join(f"{x:.1f} {y(v.mean):.1f}" for x, _, v in points)
    drawn = [Markup('<path class="{} stroke" d="{}"/>').format(one.kind, path)] if len(points) > 1 else []
    for x, place, value in points:
        if value.high > value.low:
            drawn.append(line(x, y(value.low), x, y(value.high), f"{one.kind} span"))
        drawn.append(
            Markup(
                '<circle class="{} fill" cx="{:.1f}" cy="{:.1f}" r="3.2"><title>{}</title></circle>'
            ).format(one.kind, x, y(value.mean), said(f"{place}:", value, decimals))
        )
    return EMPTY.join(drawn)


def _legend(series: Sequence[Series]) -> Markup:
    drawn, x = [], 46.0
    for one in series:
        drawn.append(Markup('<circle class="{} fill" cx="{:.1f}" cy="10" r="4"/>').format(one.kind, x))
        drawn.append(label(x + 9, 14, one.label, "name", "start"))
        x += 26 + 6.4 * len(one.label)
    return EMPTY.join(drawn)
