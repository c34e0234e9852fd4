"""Readable text from BERT's word list, which forgets the spaces around punctuation.

The library's own clean-up also rewrites words ("do not" becomes "don't"); this one only moves spaces, so that
the text, tokenised again, gives the same pieces.
"""

import re
from collections.abc import Sequence

_CLOSING = frozenset(".,!?;:%)]}’”…")
_OPENING = frozenset("([{$£€#“‘")
_CONTRACTIONS = frozenset({"s", "t", "m", "d", "re", "ve", "ll", "em", "til", "clock", "all"})


def readable(words: Sequence[str]) -> str:
    """Join words and punctuation marks as English prose is spaced; letters are never changed."""
    parts: list[str] = []
    open_quotes: dict[str, bool] = {'"': False, "'": False}
    glue = True
    for index, word in enumerate(words):
        before = words[index - 1] if index else ""
        after = words[index + 1] if index + 1 < len(words) else ""
        if word == "'" and before.endswith("s") and not open_quotes["'"] and "'" not in words[index + 1 :]:
            left, right = True, False  # the boys' house
        else:
            left, right = _sides(word, before, after, open_quotes)
        parts.append(word if glue or left else " " + word)
        glue = right
    return "".join(parts)


def _sides(word: str, before: str, after: str, open_quotes: dict[str, bool]) -> tuple[bool, bool]:
    """Whether a word clings to what stands before it, and to what comes after."""
    if word == "'" and before[-1:].isalpha() and after.lower() in _CONTRACTIONS:
        return True, True
    if word in open_quotes:
        closes = open_quotes[word]
        open_quotes[word] = not closes
        return (True, False) if closes else (False, True)
    if word in "-/" and before[-1:].isalnum() and after[:1].isalnum():
        return True, True
    if word == "-" and "-" in (before, after):
        return True, after == "-" or after[:1].isalnum()
    if word in ".,:" and before.isdigit() and after.isdigit():
        return True, _joins_numbers(word, before, after)
    return word in _CLOSING, word in _OPENING or word in ("@", "_", "\\")


def _joins_numbers(mark: str, before: str, after: str) -> bool:
    """3.5, 1,000 and 10:30 are one number; "in 1999, 20 of them" is not."""
    if mark == ",":
        return bool(re.fullmatch(r"\d{3}", after)) and len(before) <= 3
    return mark == "." or len(after) == 2
