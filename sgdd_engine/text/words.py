"""Words in any script, by the word boundaries of Unicode (UAX #29, https://unicode.org/reports/tr29/).

`regex` and not `uniseg`: `transformers` installs it already, it knows the Unicode properties, and one compiled pattern
gives each word with its place.
"""

import re
from typing import Literal

import regex

# Letters of scripts that put no space between words: Han, kana, and those whose line breaks need a dictionary (class
# SA of UAX #14: Thai, Lao, Khmer, Myanmar and their relatives). UAX #29, too, makes a word of each but Katakana.
_UNSPACED = r"[[[\p{scx=Han}\p{scx=Hira}\p{scx=Kana}]&&[\p{L}\p{Nl}]][\p{LB=SA}&&\w]]"
_UNSPACED_LETTER = rf"{_UNSPACED}[\p{{WB=Extend}}\p{{WB=Format}}\p{{WB=ZWJ}}]*"
# `\w` holds letters, marks, decimal digits, `_` and the joiners within words; `\p{N}` adds `½` and `²`.
_SPACED = rf"[[\w\p{{N}}]--{_UNSPACED}]"
# What joins two parts of one word: "didn't", Catalan "col·lecció", the gershayim of a Hebrew acronym.
_JOINER = r"""(?:['’·״]|(?<=\p{Hebrew})"(?=\p{Hebrew}))"""

WORD = regex.compile(rf"(?V1){_UNSPACED_LETTER}|{_SPACED}+(?:{_JOINER}{_SPACED}+)*|(?!\s)\X")
"""The pattern of one word or one punctuation mark; see `words`."""

# None of those letters lies below U+0E00 or among the punctuation and symbols of U+2000 … U+2E7F. This looks 20 times
# as fast as the properties, and words are counted for millions of sentences.
_MAY_BE_UNSPACED = re.compile("[\u0e00-\u1fff\u2e80-\U0010ffff]")
_LETTER = regex.compile(rf"(?V1){_UNSPACED_LETTER}")
_WORD_CHARACTER = regex.compile(rf"(?V1){_SPACED}")
_BREAK = regex.compile(rf"(?V1)\s|{_UNSPACED_LETTER}")
_NOT_HAN = regex.compile(r"(?V1)[\p{Hiragana}\p{Katakana}\p{LB=SA}]")


def words(text: str) -> list[str]:
    """The words and the punctuation marks of a text, in order.

    The boundaries are those of UAX #29 with three exceptions. The first two keep the scores of English text as they
    were: full stops, commas and colons stand alone within numbers and abbreviations too ("3.5" is three), and
    fractions and raised digits belong to their word. The third: each kana is a word, as each Han character is.
    """
    found: list[str] = WORD.findall(text)
    return found


def count_words(text: str) -> int:
    """Number of words as white space divides the text; letters of scripts without spaces count one by one."""
    pieces = text.split()
    if text.isascii() or _MAY_BE_UNSPACED.search(text) is None:
        return len(pieces)
    return sum(map(_words_of_piece, pieces))


def longest_word(text: str) -> int:
    """Characters of the longest run without white space and without letters of scripts that use none."""
    return max(map(len, _BREAK.split(text)))


def touches_word(before: str, after: str) -> bool:
    """Whether a text ends with, or the next one begins with, a letter or digit of a script that sets words apart."""
    return any(_WORD_CHARACTER.match(character) for character in (before[-1:], after[:1]))


def spacing(text: str) -> Literal["spaced", "han", "unspaced"]:
    """How most words of a text are set apart.

    Returns:
        `spaced`: by spaces. `han`: not at all, and all such letters are Han characters. `unspaced`: not at all, and
        there are kana or letters of Thai, Lao, Khmer, Myanmar or the like.
    """
    if text.isascii() or _MAY_BE_UNSPACED.search(text) is None:
        return "spaced"
    found = words(text)
    letters = sum(_LETTER.match(word) is not None for word in found)
    others = sum(_WORD_CHARACTER.match(word) is not None for word in found)
    if letters <= others:
        return "spaced"
    return "han" if _NOT_HAN.search(text) is None else "unspaced"


def _words_of_piece(piece: str) -> int:
    """Words of a text without white space; a piece of punctuation alone counts as one, as it does in English."""
    stretches = _LETTER.split(piece)
    spaced = sum(_WORD_CHARACTER.search(stretch) is not None for stretch in stretches)
    return max(1, len(stretches) - 1 + spaced)
