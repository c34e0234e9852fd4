"""Cleaning and filtering of sentences: Unicode form, white space, length in words."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sgdd_engine.data.config import DataConfig
from sgdd_engine.text.words import count_words, longest_word

# A longer string without spaces is a link, a table row or binary data; no word of prose is this long.
MAX_WORD_CHARACTERS = 100

# Of an example of what was left out: more than a message shows, and little beside a row of millions, which would make
# the files of a preparation larger than those that are read.
EXAMPLE_CHARACTERS = 100

# U+2581, with which SentencePiece vocabularies write a space: what they encode as one must be one beforehand.
_SPACE_OF_VOCABULARIES = "▁"

# Control characters (white space among them is collapsed before), soft hyphens, zero-width spaces, direction
# marks, byte order marks, lone surrogates, non-characters. The zero-width joiners stay: Persian needs them.
_INVISIBLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f"
    "\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff]"
)


class Rejection(StrEnum):
    """The reason why a line of the source is left out."""

    EMPTY = "empty"
    TOO_FEW_WORDS = "too_few_words"
    TOO_MANY_WORDS = "too_many_words"
    LONG_WORD = "long_word"
    NO_LETTERS = "no_letters"
    DUPLICATE = "duplicate"
    TOO_MANY_TOKENS = "too_many_tokens"
    NO_TOKENS = "no_tokens"


@dataclass
class Rejections:
    """Lines that were left out: how many for each reason, and the beginning of the first text of each."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, reason: Rejection, text: str, count: int = 1) -> None:
        """Count texts; `text` is one of them."""
        self.counts[reason.value] += count
        if text:
            self.examples.setdefault(reason.value, beginning(text))


def beginning(text: str) -> str:
    """As much of a text as is kept for an example."""
    return text[:EXAMPLE_CHARACTERS]


def clean(text: str) -> str:
    """One line of text in Unicode form NFC, with single spaces and nothing invisible in it; `▁` becomes a space."""
    # str.split knows every white space of Unicode, line separators and no-break spaces included.
    text = " ".join(text.replace(_SPACE_OF_VOCABULARIES, " ").split())
    if text.isascii() and text.isprintable():
        return text
    return " ".join(unicodedata.normalize("NFC", _INVISIBLE.sub("", text)).split())


def rejection(sentence: str, config: DataConfig) -> Rejection | None:
    """Why a cleaned sentence is left out, or None if it is kept.

    Duplicates and sentences of too many tokens are only known later, and counted there. In scripts without spaces
    each letter counts towards `min_words` and none towards `max_words`, since 64 letters of Thai are some 15 words:
    there `max_tokens` is the upper limit.
    """
    pieces = sentence.split(" ")
    if not sentence:
        return Rejection.EMPTY
    if count_words(sentence) < config.min_words:
        return Rejection.TOO_FEW_WORDS
    if len(pieces) > config.max_words:
        return Rejection.TOO_MANY_WORDS
    if max(map(len, pieces)) > MAX_WORD_CHARACTERS and longest_word(sentence) > MAX_WORD_CHARACTERS:
        return Rejection.LONG_WORD
    if not any(map(str.isalpha, sentence)):
        return Rejection.NO_LETTERS
    return None


def token_rejection(count: int, max_tokens: int) -> Rejection | None:
    """Why a sentence of `count` tokens is left out, or None if it is kept."""
    if count == 0:
        return Rejection.NO_TOKENS
    return Rejection.TOO_MANY_TOKENS if count > max_tokens else None


def shown(text: str, most: int = 60) -> str:
    """A text as a message shows it: in quotes, nothing in it that moves a cursor, cut where it is long."""
    return json.dumps(text if len(text) <= most else f"{text[: most - 1]}…", ensure_ascii=False)


def describe_rejections(counts: Mapping[str, int], config: DataConfig) -> str:
    """The counts in words, the largest first: "12 shorter than data.min_words (3), 2 duplicates"."""
    parts = [
        f"{count:,} {_in_words(Rejection(reason), config, count)}" for reason, count in _largest_first(counts)
    ]
    return ", ".join(parts) or "none"


def describe_examples(
    counts: Mapping[str, int], examples: Mapping[str, str], config: DataConfig
) -> Iterator[str]:
    """A line for each reason that left lines out, with one of them: `2 duplicates, such as "He ran."`."""
    for reason, count in _largest_first(counts):
        such_as = f", such as {shown(examples[reason])}" if examples.get(reason) else ""
        yield f"{count:,} {_in_words(Rejection(reason), config, count)}{such_as}"


def _largest_first(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return [(reason, count) for reason, count in sorted(counts.items(), key=lambda item: -item[1]) if count]


def _in_words(reason: Rejection, config: DataConfig, count: int) -> str:
    return {
        Rejection.EMPTY: "empty",
        Rejection.TOO_FEW_WORDS: f"shorter than data.min_words ({config.min_words})",
        Rejection.TOO_MANY_WORDS: f"longer than data.max_words ({config.max_words})",
        Rejection.LONG_WORD: f"with a word above {MAX_WORD_CHARACTERS} characters",
        Rejection.NO_LETTERS: "without a letter",
        Rejection.DUPLICATE: "duplicate" if count == 1 else "duplicates",
        Rejection.TOO_MANY_TOKENS: f"above data.max_tokens ({config.max_tokens})",
        Rejection.NO_TOKENS: "without a piece of the vocabulary",
    }[reason]
