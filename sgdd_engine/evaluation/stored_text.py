"""Written texts beside the texts that a source of vectors stores with them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from sgdd_engine.data.cleaning import clean
from sgdd_engine.evaluation.metrics import sentence_bleu, token_f1
from sgdd_engine.generation import SGDD, encode_written


@dataclass(frozen=True, slots=True)
class StoredScores:
    """How close a written text comes to the stored one.

    Attributes:
        token_f1: As `metrics.token_f1`, 0–1.
        bleu: As `metrics.sentence_bleu`, 0–100.
        cosine: Of the vectors of the two texts.
    """

    token_f1: float
    bleu: float
    cosine: float


def compare_with_stored(model: SGDD, stored: Sequence[str], texts: Sequence[str]) -> list[StoredScores]:
    """Score written texts [N] against the stored ones [N], as the decoder's tokenizer can write these.

    Both are encoded: two encoder calls a row.
    """
    if not stored:
        return []
    cleaned = [clean(text) for text in stored]
    references = model.tokenizer.decode_batch(model.tokenizer.encode_batch(cleaned))
    vectors = encode_written(model.encoder, [*cleaned, *texts])
    cosines = torch.cosine_similarity(vectors[: len(stored)], vectors[len(stored) :], dim=-1).tolist()
    return [
        StoredScores(token_f1(reference, text), sentence_bleu(reference, text), cosine)
        for reference, text, cosine in zip(references, texts, cosines, strict=True)
    ]
