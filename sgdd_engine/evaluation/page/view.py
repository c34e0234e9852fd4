"""What a section of the page is made of, and how it writes numbers. The template draws these and decides nothing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.metrics import METRICS, Metric

Tone = Literal["", "good", "bad", "own"]


@dataclass(frozen=True)
class Cell:
    """A number in a table, what stands small beneath it, and how it is judged."""

    text: str
    note: str = ""
    tone: Tone = ""


@dataclass(frozen=True)
class Row:
    """A line of a table: its head, its cells, what the head means, and which way is good."""

    head: str
    cells: Sequence[Cell]
    meaning: str = ""
    way: str = ""


@dataclass(frozen=True)
class Table:
    """Numbers in lines and columns; the first column holds the heads. A narrow one stands beside the drawings."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Row]
    narrow: bool = False


@dataclass(frozen=True)
class Figure:
    """A drawing and the line beneath it: what it is and which way is good."""

    title: str
    drawing: Markup
    caption: str


@dataclass(frozen=True)
class Fact:
    """One figure that needs no table."""

    name: str
    value: str
    meaning: str = ""
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page."""

    anchor: str
    title: str
    lead: str
    facts: Sequence[Fact] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()


def form(value: float, decimals: int = 3) -> str:
    """A number with its decimals and a true minus; a dash where it is not finite."""
    if not math.isfinite(value):
        return "–"
    # Adding 0 turns a rounded -0.0 into 0.0.
    return f"{round(value, decimals) + 0.0:,.{decimals}f}".replace("-", "−")


def form_range(value: Interval, decimals: int = 3) -> str:
    """The two ends of an interval; nothing where there is none, or where it has no width."""
    if value.ends is None or value.low == value.high:
        return ""
    return " to ".join(form(end, decimals) for end in value.ends)


def cell(value: Interval, decimals: int = 3, tone: Tone = "") -> Cell:
    """A mean above its interval."""
    return Cell(form(value.mean, decimals), form_range(value, decimals), tone)


def title(text: str) -> str:
    """The text with a capital first letter, but for a name such as chrF."""
    return f"{text[:1].upper()}{text[1:]}" if text.partition(" ")[0].islower() else text


def which_way(metric: Metric) -> str:
    """Which way is good, in words."""
    return f"{metric.better} is better"


def metric_row(name: str, values: Sequence[Interval], own: int) -> Row:
    """One metric over several columns, of which the column `own` is set off."""
    metric = METRICS[name]
    cells = [cell(v, metric.decimals, "own" if i == own else "") for i, v in enumerate(values)]
    return Row(title(metric.label), cells, metric.meaning, which_way(metric))
