"""The browsable samples: each source above what was written, with the words that differ."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby
from typing import Literal

from sgdd_engine.evaluation.metrics import METRICS
from sgdd_engine.evaluation.page.plots import form
from sgdd_engine.evaluation.report import SAMPLE_SCORES, Sample
from sgdd_engine.text.words import WORD


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of a text.

    Attributes:
        text: As it stands there, spaces included.
        kind: `same` stands in both texts in this order; `moved` stands in both, elsewhere; `only` in this one.
    """

    text: str
    kind: Literal["same", "moved", "only"]


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


def shown_samples(samples: Sequence[Sample]) -> list[Shown]:
    """The samples in their order, with their differences marked."""
    # A vocabulary without capitals writes none: then they are no difference.
    cased = any(sample.text != sample.text.lower() for sample in samples)
    shown = []
    for sample in samples:
        first, second = compare(sample.source, sample.text, cased=cased)
        scores = [
            (name, metric.label, form(value, min(2, metric.decimals)), value)
            for name in SAMPLE_SCORES
            for metric, value in [(METRICS[name], getattr(sample, name))]
        ]
        fold = str if cased else str.casefold
        shown.append(Shown(sample.group, first, second, fold(sample.source) == fold(sample.text), scores))
    return shown


def compare(source: str, text: str, *, cased: bool = True) -> tuple[list[Run], list[Run]]:
    """The two texts as runs: what they share, what has moved, and what only one of them has.

    Words and marks are those of `words`, each counted as often as it stands there, as token F1 does.

    Args:
        source: The sentence asked for.
        text: What was written.
        cased: Whether "The" and "the" are two words.

    Returns:
        The runs of the source and those of the text; joined, each is the text as it was.
    """
    fold = str if cased else str.casefold
    sides = tuple([fold(word) for word in WORD.findall(side)] for side in (source, text))
    kept: tuple[set[int], set[int]] = (set(), set())
    for block in SequenceMatcher(None, sides[0], sides[1], autojunk=False).get_matching_blocks():
        kept[0].update(range(block.a, block.a + block.size))
        kept[1].update(range(block.b, block.b + block.size))
    left = [
        Counter(word for index, word in enumerate(side) if index not in here)
        for side, here in zip(sides, kept, strict=True)
    ]
    shared = left[0] & left[1]
    first, second = (
        list(_merged(_runs(whole, here, shared.copy(), fold)))
        for whole, here in zip((source, text), kept, strict=True)
    )
    return first, second


def _runs(whole: str, kept: set[int], moved: Counter[str], fold: Callable[[str], str]) -> Iterator[Run]:
    """Each word and each gap between words, in order; `moved` is used up."""
    end = 0
    for index, match in enumerate(WORD.finditer(whole)):
        if match.start() > end:
            yield Run(whole[end : match.start()], "same")
        end = match.end()
        word = match.group()
        key = fold(word)
        if index in kept:
            yield Run(word, "same")
        elif moved[key] > 0:
            moved[key] -= 1
            yield Run(word, "moved")
        else:
            yield Run(word, "only")
    if end < len(whole):
        yield Run(whole[end:], "same")


def _merged(runs: Iterator[Run]) -> Iterator[Run]:
    """Neighbours of one kind as one run; a gap between two marked words is marked with them."""
    found = list(runs)
    for index in range(1, len(found) - 1):
        before, here, after = found[index - 1 : index + 2]
        if here.text.isspace() and before.kind == after.kind:
            found[index] = Run(here.text, before.kind)
    for kind, group in groupby(found, key=lambda run: run.kind):
        yield Run("".join(run.text for run in group), kind)
