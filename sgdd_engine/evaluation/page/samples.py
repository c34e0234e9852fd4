"""The browsable samples: each source above what was written, with the words that differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sgdd_engine.evaluation.page.differences import Run, compare
from sgdd_engine.evaluation.page.naming import SCORES, form, number, score
from sgdd_engine.evaluation.page.view import names_in, rows_of


@dataclass(frozen=True)
class Shown:
    """One sample.

    Attributes:
        group: best, median, worst or random.
        source: The sentence asked for, in runs.
        text: What was written, in runs.
        same: Whether the two are one string, but for capitals the vocabulary lacks.
        scores: Name and label with the number as shown and as it is, for reading and for sorting.
    """

    group: str
    source: Sequence[Run]
    text: Sequence[Run]
    same: bool
    scores: Sequence[tuple[str, str, str, float]]


@dataclass(frozen=True)
class Samples:
    """All samples, the groups they fall into, and the scores they can be sorted by."""

    shown: Sequence[Shown]
    groups: Sequence[str]
    scores: Sequence[tuple[str, str]]


def samples(result: Mapping[str, Any]) -> Samples | None:
    """The samples of an evaluation in their order; None where there are none."""
    rows = rows_of(result.get("samples"))
    if not rows:
        return None
    names = [name for name in names_in(rows, SCORES) if name in SCORES]
    # A vocabulary without capitals writes none: then they are no difference.
    cased = any(text != text.lower() for row in rows if (text := str(row.get("text", ""))))
    shown = []
    for row in rows:
        source, text = str(row.get("source", "")), str(row.get("text", ""))
        first, second = compare(source, text, cased=cased)
        figures = [
            (name, _label(name), form(value, min(2, score(name).decimals)), value)
            for name in names
            if (value := number(row.get(name))) is not None
        ]
        same = source == text if cased else source.casefold() == text.casefold()
        shown.append(Shown(str(row.get("group", "")), first, second, same, figures))
    groups = list(dict.fromkeys(one.group for one in shown if one.group))
    return Samples(shown, groups, [(name, _label(name)) for name in names])


def _label(name: str) -> str:
    return score(name).label.replace(", mean of sentences", "")
