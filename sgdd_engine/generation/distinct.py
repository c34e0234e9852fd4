"""Several samples of a vector, or of a text with blanks, that differ: for a text that repeats come further seeds."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from sgdd_engine.events import CanvasChanged, Event, Listener, ignore
from sgdd_engine.generation.fill import FilledText
from sgdd_engine.generation.written import Generation

# Texts written for each one wanted at most. At temperature 0.7 `mini` writes 5.9 different texts of six; what is still
# missing after four times as many is of sentences that it knows only one way to write.
DRAWS = 4

Sample = TypeVar("Sample", bound=Generation | FilledText)
WriteRows = Callable[[Sequence[int], int, Listener], list[Sample]]
"""`(rows, first seed, listener)` → the samples of these rows, all of the first row first; `row` counts these rows."""


def distinct_samples(
    write: WriteRows[Sample], rows: int, count: int, seed: int, on_event: Listener = ignore
) -> list[Sample]:
    """`count` samples of each row, different where so many are found.

    Which further seeds a row takes depends on its own texts alone, so that samples do not depend on the batch.

    Args:
        write: Writes `count` samples of rows, with the seeds from the one that it is given.
        rows: Rows in all.
        count: Samples of each.
        seed: The first seed.
        on_event: Told of steps, with the numbers of the rows among all.

    Returns:
        The samples of each row in the order of their seeds; where too few differ, the first repetitions fill up.
    """
    distinct: list[dict[str, Sample]] = [{} for _ in range(rows)]
    repeated: list[list[Sample]] = [[] for _ in range(rows)]
    wanting = list(range(rows))
    for first in range(0, DRAWS * count, count):
        for item in write(wanting, seed + first, _of_rows(wanting, on_event)):
            found = replace(item, row=wanting[item.row])
            if distinct[found.row].setdefault(found.text, found) is not found:
                repeated[found.row].append(found)
        wanting = [row for row in wanting if len(distinct[row]) < count]
        if not wanting:
            break
    return [
        item
        for row in range(rows)
        for item in sorted([*distinct[row].values(), *repeated[row]][:count], key=lambda item: item.seed)
    ]


def _of_rows(rows: Sequence[int], on_event: Listener) -> Listener:
    if on_event is ignore:
        return ignore

    def report(event: Event) -> None:
        if isinstance(event, CanvasChanged):
            event = replace(event, rows=tuple(rows[row] for row in event.rows))
        on_event(event)

    return report
