"""Vectors written as text: JSON lists, numbers between spaces or commas, the brackets of numpy and PostgreSQL."""

import re

import numpy as np

from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors.rows import as_float32, shorten
from sgdd_engine.vectors.source import Vectors

_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_MISSING = {"", "null", "none", "\\n", "[]", "()", "{}"}


def parse_vector(text: str, name: str, place: str) -> Vectors | None:
    """Numbers from text such as `[0.1, 0.2]`, `{0.1,0.2}` or `0.1 0.2`: float32 [D]; None for an empty text or `null`.

    Raises:
        VectorSourceError: it is something else.
    """
    inner = text.strip()
    if is_missing(inner):
        return None
    if inner[0] in _BRACKETS and inner.endswith(_BRACKETS[inner[0]]):
        inner = inner[1:-1]
    if "..." in inner:
        raise VectorSourceError(
            f"{name} has a vector without its middle in {place}: {shorten(text)}.",
            "numpy shortens long arrays when it prints them; write vector.tolist() instead.",
        )
    try:
        # Through float64: numpy reads text as float32 with a rounding of its own.
        vector = as_float32(np.array(re.split(r"[\s,;]+", inner.strip(" \t\r\n,;")), dtype=np.float64))
    except ValueError:
        raise VectorSourceError(
            f"{name} has no vector in {place}: {shorten(text)}.", "A vector is a list of numbers: [0.1, -0.2]"
        ) from None
    return vector


def is_missing(text: str) -> bool:
    """Whether a cell of a table stands for no vector."""
    return text.strip().lower() in _MISSING


def looks_like_vector(text: str) -> bool:
    """Whether a cell of a table holds several numbers in brackets."""
    inner = text.strip()
    return (
        len(inner) > 2
        and inner[0] in _BRACKETS
        and inner.endswith(_BRACKETS[inner[0]])
        and (re.match(r"[\s\d.+-]|nan\b|inf", inner[1:], re.IGNORECASE) is not None)
    )


def is_number(text: str) -> bool:
    """Whether a cell of a table is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
