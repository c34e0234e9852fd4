"""The words by which a source and what was written from its vector differ."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby
from typing import Literal

from sgdd_engine.text.words import WORD

Fold = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Run:
    """A stretch of a text.

    Attributes:
        text: As it stands there, spaces included.
        kind: `same` stands in both texts in this order; `moved` stands in both, elsewhere; `only` in this one.
    """

    text: str
    kind: Literal["same", "moved", "only"]


def compare(source: str, text: str, fold: Fold = str) -> tuple[list[Run], list[Run]]:
    """The two texts as runs: what they share, what has moved, and what only one of them has.

    Words and marks are those of `words`, each counted as often as it stands there, as token F1 does.

    Args:
        source: The sentence asked for.
        text: What was written.
        fold: What is compared of a word: `str.casefold` where "The" and "the" are one.

    Returns:
        The runs of the source and those of the text; joined, each is the text as it was.
    """
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


def _runs(whole: str, kept: set[int], moved: Counter[str], fold: Fold) -> Iterator[Run]:
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
