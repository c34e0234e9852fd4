"""The confidence in a sentence: how likely its token F1 against the source, which is not known, is above 0.8.

A logistic regression on what generation knows of the sentence. Its weights are fitted on held-out sentences
(`evaluation.confidence`, `sgdd eval CHECKPOINT --calibrate-score N`) and recorded in the checkpoint; without them
there is no confidence.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sgdd_engine.checkpoint import CheckpointInfo
from sgdd_engine.errors import CheckpointError
from sgdd_engine.generation.written import Generation
from sgdd_engine.models.model import SemanticDecoder
from sgdd_engine.version import __version__

VERSION = 1
# Of the words of source and text together four in five are shared: most of the sentence is there.
CLOSE_F1 = 0.8
EVENT = f"token_f1 > {CLOSE_F1}"
# Of a token that was written against all odds; its logarithm stays finite.
LEAST_PROBABILITY = 1e-6
# Vectors of one text differ by as much where they are stored in half precision.
LEAST_DISTANCE = 1e-3
FEATURES = ("mean_log_prob", "min_log_prob", "length_log_prob", "log_tokens")
COSINE_FEATURE = "log_distance"
WAYS = {
    "one_shot": "one sentence, not encoded",
    "one_shot_encoded": "one sentence, its cosine known",
    "feedback": "chosen or refined by the cosine",
}
"""How a sentence can have been written; each way has a fit of its own, since a cosine that was chosen says less."""


def way_of(*, feedback: bool, encoded: bool) -> str | None:
    """The name in `WAYS` of a sentence that was, or was not, chosen or refined, and encoded; None if it has none."""
    if feedback:
        return "feedback" if encoded else None
    return "one_shot_encoded" if encoded else "one_shot"


@dataclass(frozen=True)
class ConfidenceFit:
    """One logistic regression: `p = σ(bias + Σ weight · feature)`.

    Attributes:
        weights: By the names of `FEATURES`, and of `COSINE_FEATURE` where the cosine is known.
        bias: The constant.
        facts: What it was fitted and judged on, as JSON values.
    """

    weights: Mapping[str, float]
    bias: float
    facts: Mapping[str, Any]

    def probabilities(self, features: Mapping[str, Tensor]) -> Tensor:
        """Probabilities [N] of the event in float64, from features [N] by their names."""
        logits = torch.full_like(next(iter(features.values())), self.bias)
        for name, weight in self.weights.items():
            logits = logits + weight * features[name]
        return logits.sigmoid()

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"weights": dict(self.weights), "bias": self.bias, **self.facts}


def recorded_fits(info: CheckpointInfo) -> dict[str, ConfidenceFit]:
    """The fits that a checkpoint records, by the names of `WAYS`; none where it records none.

    Raises:
        CheckpointError: what is recorded is of a later version, or is no such record.
    """
    record = info.confidence
    if not record:
        return {}
    if record.get("version") != VERSION or record.get("event") != EVENT:
        raise CheckpointError(
            f"The checkpoint records a confidence that sgdd {__version__} does not know: version "
            f"{record.get('version')!r}, of {record.get('event')!r}.",
            "Upgrade sgdd.",
        )
    try:
        return {way: _fit(way, dict(plain)) for way, plain in record["fits"].items() if way in WAYS}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"The confidence that the checkpoint records is damaged ({type(error).__name__}: {error}).",
            "Record it again: sgdd eval CHECKPOINT --data FILE --calibrate-score 2000",
        ) from None


def _fit(way: str, plain: dict[str, Any]) -> ConfidenceFit:
    names = (*FEATURES, COSINE_FEATURE) if way != "one_shot" else FEATURES
    weights, bias = plain.pop("weights"), float(plain.pop("bias"))
    weights = {name: float(weights[name]) for name in names}
    if not all(map(math.isfinite, (bias, *weights.values()))):
        raise ValueError("a weight is not finite")
    if not isinstance(plain.get("sampling", {}), dict):
        raise TypeError("the sampling is no object")
    return ConfidenceFit(weights, bias, plain)


def record_of(fits: Mapping[str, ConfidenceFit]) -> dict[str, Any]:
    """The record of fits for a checkpoint, as JSON values."""
    return {"version": VERSION, "event": EVENT, "fits": {way: fit.to_dict() for way, fit in fits.items()}}


@torch.inference_mode()
def features_of(model: SemanticDecoder, z: Tensor, written: Sequence[Generation]) -> dict[str, Tensor]:
    """What generation knows of sentences, by the names of `FEATURES` and `COSINE_FEATURE`: [N] each, in float64.

    Args:
        model: The model.
        z: Latents [M, latent_dim] that they were written from.
        written: N sentences with `details`; the cosine is a feature where all have one.
    """
    log_p_length = model.length_logits(z).log_softmax(dim=-1).cpu().double()
    log_probs = [
        torch.tensor([token.probability for token in item.details], dtype=torch.float64)
        .clamp_min(LEAST_PROBABILITY)
        .log()
        for item in written
    ]
    lengths = torch.tensor([len(item.tokens) for item in written])
    features = {
        "mean_log_prob": torch.stack([row.mean() for row in log_probs]),
        "min_log_prob": torch.stack([row.min() for row in log_probs]),
        "length_log_prob": log_p_length[[item.row for item in written], lengths - 1],
        "log_tokens": lengths.double().log(),
    }
    cosines = [item.cosine for item in written if item.cosine is not None]
    if len(cosines) == len(written):
        distances = (1.0 - torch.tensor(cosines, dtype=torch.float64)).clamp_min(0.0)
        features[COSINE_FEATURE] = (distances + LEAST_DISTANCE).log()
    return features


def with_confidence(
    fit: ConfidenceFit, model: SemanticDecoder, z: Tensor, written: Sequence[Generation]
) -> list[Generation]:
    """The same sentences [N] with their `confidence`; arguments as for `features_of`."""
    found = fit.probabilities(features_of(model, z, written)).tolist()
    return [replace(item, confidence=p) for item, p in zip(written, found, strict=True)]
