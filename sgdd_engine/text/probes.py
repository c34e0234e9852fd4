"""A few sentences with the vectors that an encoder gave them; encoded again, they tell whether it still is the same.

Hashes of an encoder's files say that something changed, not that nothing did: a pooling of another package, a library
that computes otherwise, weights that were replaced under a running process have no hash that was recorded.
"""

import binascii
from base64 import b64decode, b64encode
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from sgdd_engine.errors import EncoderError

# Short, since they are encoded before anything else; with case and an apostrophe, numbers, accents, and a single word.
SENTENCES = (
    "The old sailor didn't SELL his boat.",
    "In 1912, 48,000 people ate crème brûlée.",
    "Bread",
)
# A hostile file could name millions of them.
_MOST = 16
# How far a vector moves by arithmetic alone, as one minus its cosine with the recorded one. Measured with MiniLM in
# float32: 2e-8 by being stored, 8e-7 in float16, 6e-5 in bfloat16; deeper networks round more often.
_ROUNDING = {"float32": 1e-5, "float16": 1e-4, "bfloat16": 5e-3}

Probes = Mapping[str, str]
"""Sentence → its vector `[D]` in float16, as base64."""


def as_probes(vectors: npt.NDArray[np.float32]) -> dict[str, str] | None:
    """The record of the vectors `[N, D]` of `SENTENCES`; None of numbers that float16 cannot hold."""
    if not np.abs(vectors).max() <= np.finfo(np.float16).max:
        return None
    rows = vectors.astype("<f2")
    return {text: b64encode(row.tobytes()).decode("ascii") for text, row in zip(SENTENCES, rows, strict=True)}


def vectors_of(probes: Probes, dim: int) -> npt.NDArray[np.float32]:
    """The recorded vectors `[N, D]`.

    Raises:
        EncoderError: They are no such record.
    """
    try:
        if not 0 < len(probes) <= _MOST:
            raise ValueError
        rows = [
            np.frombuffer(b64decode(text, validate=True), "<f2").astype(np.float32)
            for text in probes.values()
        ]
        vectors = np.stack(rows)
        if vectors.shape[1] != dim or not np.isfinite(vectors).all():
            raise ValueError
    except (ValueError, TypeError, AttributeError, binascii.Error) as error:
        raise EncoderError("The probe sentences of the encoder's description are damaged.") from error
    return vectors


def most_different(
    probes: Probes, vectors: npt.NDArray[np.float32], *dtypes: str
) -> tuple[str, float] | None:
    """The sentence whose vector moved most, and its cosine with the recorded one; None where all stayed.

    Args:
        probes: What was recorded.
        vectors: What the encoder gives now for the same sentences, `[N, D]`.
        dtypes: The arithmetics that made the two, such as `float32`; the coarser one says how far a vector may move.
    """
    recorded = vectors_of(probes, vectors.shape[1]).astype(np.float64)
    found = vectors.astype(np.float64)
    product, lengths = (recorded * found).sum(axis=1), np.linalg.norm(recorded, axis=1)
    norms = np.linalg.norm(found, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosines = product / (lengths * norms)
        # Of vectors that are not normalised the length counts too: as far as the angle, for the same error.
        stretched = np.square(norms / lengths - 1) / 2
    moved = np.nan_to_num(np.maximum(1 - cosines, stretched), nan=np.inf)
    row = int(moved.argmax())
    if moved[row] <= max(_ROUNDING.get(dtype, 1e-2) for dtype in dtypes):
        return None
    return list(probes)[row], float(np.nan_to_num(cosines[row]))
