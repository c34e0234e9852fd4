"""What a section of the page is made of. The template draws these and decides nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from markupsafe import Markup

from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.page.naming import MISSING, Score, form, form_range, interval, score


@dataclass(frozen=True)
class Cell:
    """A number in a table, what stands small beneath it, and how it is judged."""

    text: str
    note: str = ""
    tone: Literal["", "good", "bad", "own"] = ""


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
    note: str = ""
    meaning: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the page, left out where it holds nothing."""

    anchor: str
    title: str
    lead: str
    facts: Sequence[Fact] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()


def cell(value: Interval | None, decimals: int, tone: Literal["", "good", "bad", "own"] = "") -> Cell:
    """A mean above its interval."""
    if value is None:
        return Cell(MISSING)
    return Cell(form(value.mean, decimals), form_range(value, decimals), tone)


def which_way(kind: Score) -> str:
    """Which way is good, in words; nothing where neither is."""
    return f"{kind.better} is better" if kind.better else ""


def told(kind: Score) -> str:
    """What a score is and which way is good, as a sentence."""
    text = "; ".join(part for part in (kind.meaning, which_way(kind)) if part)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def names_in(parts: Iterable[Mapping[str, Any]], known: Iterable[str]) -> list[str]:
    """All keys with figures in them: the known ones in their order, then whatever else is there."""
    found = {name: None for part in parts for name, value in part.items() if interval(value) is not None}
    first = [name for name in known if name in found]
    return first + [name for name in found if name not in first]


def mapping(value: Any) -> Mapping[str, Any]:  # noqa: ANN401 - any JSON value
    """A JSON object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def rows_of(value: Any) -> list[Mapping[str, Any]]:  # noqa: ANN401 - any JSON value
    """The objects of a JSON list; none for anything else."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list | tuple) else []


def score_row(name: str, values: Sequence[Interval | None], own: int | None = None) -> Row:
    """One score over several columns; the column `own` is set off from its controls."""
    kind = score(name)
    cells = [cell(v, kind.decimals, "own" if i == own else "") for i, v in enumerate(values)]
    return Row(kind.label, cells, kind.meaning, which_way(kind))
