"""A chart of values against what they cost, with the points that pay joined and named."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.page.charts import (
    EMPTY,
    WIDTH,
    Scale,
    axis_texts,
    chart,
    circle,
    describe,
    extent,
    format_number,
    label,
    line,
    path,
    round_ticks,
    tick_text,
)

# Size of a label's letters in the drawing's own units: `svg text` in the style sheet is 12 high.
LETTER, LINE = 6.4, 12.0
Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""


@dataclass(frozen=True)
class Spot:
    """One labelled point of a scatter: where it lies, what it is called, and whether it belongs to the front."""

    label: str
    x: float
    value: Interval
    on_front: bool


def scatter(
    name: str, title: str, spots: Sequence[Spot], *, axis: str, decimals: int = 3, x_decimals: int = 0
) -> Markup:
    """Values against what they cost: the points of the front joined and labelled, the others in grey beside them.

    Args:
        name: Unique on the page.
        title: What is shown.
        spots: At least one.
        axis: What is counted along the lower edge, from zero.
        decimals: Of the values in the description.
        x_decimals: Of the costs in it.
    """
    left, right, top, foot = 44.0, WIDTH - 10.0, 16.0, 226.0
    ticks = round_ticks(extent(spot.value for spot in spots), from_zero=False)
    x_ticks = round_ticks([spot.x for spot in spots], from_zero=True)
    y, x = Scale(ticks[0], ticks[-1], foot, top), Scale(x_ticks[0], x_ticks[-1], left, right)
    front = sorted((spot for spot in spots if spot.on_front), key=lambda spot: spot.x)
    drawn = [path([(x(spot.x), y(spot.value.mean)) for spot in front], "own stroke thin")]
    told = []
    for spot in sorted(spots, key=lambda spot: spot.on_front):
        kind = "own" if spot.on_front else "control"
        text = f"{describe(spot.label + ':', spot.value, decimals)} at {format_number(spot.x, x_decimals)}"
        told.append(text)
        if spot.on_front and spot.value.ends is not None and spot.value.low != spot.value.high:
            low, high = map(y, spot.value.ends)
            drawn.append(line(x(spot.x), low, x(spot.x), high, f"{kind} span"))
        drawn.append(circle(x(spot.x), y(spot.value.mean), 3.6, f"{kind} fill", text))
    taken = [(x(spot.x) - 4, y(spot.value.mean) - 4, x(spot.x) + 4, y(spot.value.mean) + 4) for spot in spots]
    for spot in front:
        drawn.append(_name_beside(spot.label, x(spot.x), y(spot.value.mean), (left, top, right, foot), taken))
    places = [(x(tick), tick_text(tick, x_ticks)) for tick in x_ticks]
    return chart(
        name, title, "; ".join(told), y, axis_texts(ticks), places, axis, drawn, left=left, right=right
    )


def _name_beside(text: str, x: float, y: float, within: Box, taken: list[Box]) -> Markup:
    """A point's name on the first side where it meets nothing; nowhere if there is none. `taken` gets its place."""
    width, gap = LETTER * len(text), 8.0
    # Below on the right and above on the left first: a front rises, and there its line is not.
    for dx, dy, anchor in (
        (6.0, 15.0, "start"),
        (-6.0, -7.0, "end"),
        (gap, 4.0, "start"),
        (-gap, 4.0, "end"),
        (6.0, -7.0, "start"),
        (-6.0, 15.0, "end"),
        (0.0, 17.0, "middle"),
        (0.0, -10.0, "middle"),
    ):
        start = x + dx - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        box = (start, y + dy - LINE + 2, start + width, y + dy + 2)
        inside = box[0] >= within[0] and box[1] >= within[1] and box[2] <= within[2] and box[3] <= within[3]
        if inside and not any(_meet(box, other) for other in taken):
            taken.append(box)
            return label(x + dx, y + dy, text, "name", anchor)
    return EMPTY


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
