"""The sentences that are measured with: a random sample of the user's text, or the built-in corpus."""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sgdd_engine.data.builtin import builtin_sentences
from sgdd_engine.data.cleaning import clean, rejection
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.lines import read_lines
from sgdd_engine.errors import DataError

_SEED = 0
_FEWEST = 50


def sample_sentences(text: Path | None, count: int) -> list[str]:
    """Up to `count` clean sentences of a text, drawn at random; of the built-in corpus where there is no text.

    Raises:
        DataError: the text cannot be read, or holds too little.
    """
    if text is None:
        return list(builtin_sentences(count))
    generator, kept = random.Random(_SEED), list[str]()
    for index, line in enumerate(_usable(text)):
        if index < count:
            kept.append(line)
        elif (place := generator.randrange(index + 1)) < count:
            kept[place] = line
    if len(kept) < _FEWEST:
        raise DataError(
            f"`{text}` holds {len(kept)} usable sentences; the benchmark needs {_FEWEST}.",
            "Give more text, one sentence per line, or leave out --text for the built-in corpus.",
        )
    # The first `count` lines would otherwise stand first, in the order of the book.
    generator.shuffle(kept)
    return kept


def distinct_sentences(text: Path | None) -> Iterator[str]:
    """The sentences of a text, then those of the built-in corpus, for as long as anybody asks."""
    own = iter(()) if text is None else _usable(text)
    return itertools.chain(own, builtin_sentences(1 << 40))


def _usable(text: Path) -> Iterator[str]:
    config = DataConfig()
    for _, line in read_lines(text):
        sentence = clean(line)
        if rejection(sentence, config) is None:
            yield sentence


@dataclass(frozen=True)
class Tokens:
    """Token ids of sentences that the decoder can hold."""

    rows: Sequence[Sequence[int]]
    lengths: npt.NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]], longest: int) -> "Tokens":
        """Those of at most `longest` tokens.

        Raises:
            DataError: there are none.
        """
        kept = [row for row in rows if 1 <= len(row) <= longest]
        if not kept:
            raise DataError(
                f"The text holds no sentence of at most {longest} tokens.", "Choose another --text."
            )
        return cls(kept, np.array([len(row) for row in kept]))

    def typical_lengths(self, count: int) -> list[int]:
        """The mean length of each of `count` equal parts of the sentences, shortest first.

        Sentences of these lengths have, together, the mean length of the text, and so its arithmetic.
        """
        parts = np.array_split(np.sort(self.lengths), count)
        return [max(1, round(float(part.mean()))) for part in parts if len(part)]

    def of_length(self, length: int, count: int) -> list[list[int]]:
        """`count` sentences of exactly one length, the nearest to `length` that there is; again where too few."""
        nearest = int(self.lengths[np.abs(self.lengths - length).argmin()])
        found = itertools.cycle(list(row) for row in self.rows if len(row) == nearest)
        return list(itertools.islice(found, count))
