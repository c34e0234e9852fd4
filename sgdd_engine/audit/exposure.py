"""Names, numbers and rare words of texts, and what share of them stands in what was written.

The rules are for languages that write names, and not every noun, with a capital letter. They look at each text alone
and need no list of names, so they miss a name at the beginning of a sentence and take a capitalised word such as
"Monday" for one: the figures are shares of what the rules find, the same for the vector and for its control.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sgdd_engine.evaluation.bootstrap import Floats, Interval, Resampling, interval, share_interval
from sgdd_engine.text.tokenizer import TextTokenizer
from sgdd_engine.text.words import words

Rule = Callable[[str], list[str]]
# The full stop after these ends no sentence; as names they tell nothing.
_TITLES = frozenset(
    [
        *(
            "mr",
            "mrs",
            "ms",
            "miss",
            "dr",
            "prof",
            "st",
            "sir",
            "lady",
            "lord",
            "madam",
            "mme",
            "mlle",
            "messrs",
            "rev",
        ),
        *("capt", "captain", "col", "colonel", "gen", "general", "lt", "sgt", "hon", "jr", "sr", "esq"),
    ]
)
# "I" in English, alone and with what is joined to it.
_PRONOUNS = frozenset(["i", "i'm", "i've", "i'd", "i'll", "i’m", "i’ve", "i’d", "i’ll"])
_NUMBER_WORDS = frozenset(
    [
        *(
            "two",
            "three",
            "four",
            "five",
            "six",
            "seven",
            "eight",
            "nine",
            "ten",
            "eleven",
            "twelve",
            "thirteen",
        ),
        *(
            "fourteen",
            "fifteen",
            "sixteen",
            "seventeen",
            "eighteen",
            "nineteen",
            "twenty",
            "thirty",
            "forty",
            "fifty",
        ),
        *("sixty", "seventy", "eighty", "ninety", "hundred", "thousand", "million", "billion", "dozen"),
    ]
)
_DIGITS = re.compile(r"\w*\d\w*(?:[.,:/-]\d\w*)*")
_POSSESSIVE = re.compile("['’]s$")
# In a text with a larger share of capitalised words, such as a heading in capitals, a capital letter tells nothing.
_MOST_CAPITALS = 0.8
# Letters of the shortest rare word; shorter pieces of words are abbreviations and slips.
_SHORTEST_RARE = 4


@dataclass(frozen=True, slots=True)
class ItemKind:
    """One kind of what a text may give away.

    Attributes:
        label: Its name in tables and sentences.
        one: The same of a single one.
        meaning: By which rule it is found.
    """

    label: str
    one: str
    meaning: str


ITEMS: Mapping[str, ItemKind] = {
    "names": ItemKind(
        "names",
        "name",
        "words with a capital letter that follow another word or a comma, so that no sentence begins with them; "
        "neither “I”, single letters, nor a title such as “Mr”, and none in a text of which more than four of five "
        "words have one",
    ),
    "numbers": ItemKind(
        "numbers",
        "number",
        "words with a digit, and the words from “two” to “billion”; not “one”, which is often a pronoun",
    ),
    "rare_words": ItemKind(
        "rare words",
        "rare word",
        "words in lower case, of four letters or more, for which the decoder's vocabulary has no piece of their own: "
        "it was made from the training text, of whose frequent words it has one each",
    ),
}
"""What is looked for, by its name in reports."""


def item_rules(tokenizer: TextTokenizer) -> dict[str, Rule]:
    """The rules of `ITEMS` by name; each gives the distinct items of a text, as `written_words` spells them.

    Rare words of `mini`, whose vocabulary has 12,000 pieces: 95 % of them stand less than 11 times in a million words
    of its training text, and of the other words 95 % more than 16 times.
    """

    def rare_words(text: str) -> list[str]:
        found = [
            word
            for word in dict.fromkeys(words(text))
            if word.isalpha() and word == word.lower() and len(word) >= _SHORTEST_RARE
        ]
        pieces = tokenizer.encode_batch(found)
        return [word for word, ids in zip(found, pieces, strict=True) if len(ids) > 1]

    return {"names": names, "numbers": numbers, "rare_words": rare_words}


def names(text: str) -> list[str]:
    """The capitalised words of a text that begin no sentence, without "I" and titles, in lower case, each once."""
    found = words(text)
    spelled = [word for word in found if word[0].isalpha()]
    capitalised = [word for word in spelled if word[0].isupper()]
    if len(capitalised) > _MOST_CAPITALS * len(spelled):
        return []
    kept = []
    for place, (before, word) in enumerate(pairwise(found)):
        if not word[0].isupper() or len(word) == 1 or word.casefold() in _PRONOUNS | _TITLES:
            continue
        # The full stop of a title or of an initial ("Mr. Barry", "J. Barry") ends no sentence.
        title = (
            before == "."
            and place > 0
            and (len(found[place - 1]) == 1 or found[place - 1].casefold() in _TITLES)
        )
        if before[0].isalnum() or before == "," or title:
            kept.append(_plain(word))
    return list(dict.fromkeys(kept))


def numbers(text: str) -> list[str]:
    """The words of a text with a digit, and its number words, in lower case, each once."""
    spelled = [word for word in map(str.casefold, words(text)) if word in _NUMBER_WORDS]
    return list(dict.fromkeys([*(found.casefold() for found in _DIGITS.findall(text)), *spelled]))


def written_words(text: str) -> set[str]:
    """What a text writes, to look items up in: its words without "'s", in lower case, and its numbers."""
    return {*map(_plain, words(text)), *numbers(text)}


def spelling(text: str) -> dict[str, str]:
    """How a text spells the words that items are looked up by."""
    return {_plain(word): _POSSESSIVE.sub("", word) for word in reversed(words(text))}


def _plain(word: str) -> str:
    return _POSSESSIVE.sub("", word.casefold())


@dataclass(frozen=True)
class Recovery:
    """How many of the items of one kind were written.

    Attributes:
        items: How many there are in the sources.
        texts: In how many sources.
        own: Share of them in what was written from the source's own vector, with its interval; None without items.
        shuffled: The same for what was written from another row's vector.
        gain: The one less the other, on the same resamples.
    """

    items: int
    texts: int
    own: Interval | None
    shuffled: Interval | None
    gain: Interval | None


def recovery(
    items: Sequence[Sequence[str]], texts: Sequence[str], other_texts: Sequence[str], seed: int
) -> Recovery:
    """The share of items [N sources] that stand in texts [N], beside texts of other rows [N].

    The interval is over the texts that hold an item, since the items of one text are found together: a ratio of sums on
    each resample.
    """
    counts = np.array([len(row) for row in items], dtype=np.float64)
    total, holding = int(counts.sum()), int((counts > 0).sum())
    if not total:
        return Recovery(0, 0, None, None, None)
    rows = np.flatnonzero(counts)
    columns = np.stack([counts, found_items(items, texts), found_items(items, other_texts)], axis=1)[rows]
    sums = Resampling(len(rows), seed).sums(columns)
    own, shuffled = sums[:, 1] / sums[:, 0], sums[:, 2] / sums[:, 0]
    return Recovery(
        total,
        holding,
        share_interval(own, len(rows)),
        share_interval(shuffled, len(rows)),
        interval(own - shuffled),
    )


def found_items(items: Sequence[Sequence[str]], texts: Sequence[str]) -> Floats:
    """How many of the items of each source stand in its text [N]."""
    written = (written_words(text) if row else set() for row, text in zip(items, texts, strict=True))
    return np.array(
        [len(here.intersection(row)) for row, here in zip(items, written, strict=True)], np.float64
    )
