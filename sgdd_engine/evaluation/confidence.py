"""The confidence in sentences (`generation.confidence`), fitted on held-out ones and judged by cross-validation."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sgdd_engine.counted import counted
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.errors import DataError
from sgdd_engine.evaluation.bootstrap import Floats
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.evaluation.cost import encoder_calls, say_how_long, writing_part
from sgdd_engine.evaluation.data import EvaluationSet, fitted
from sgdd_engine.evaluation.likelihood import Calibration
from sgdd_engine.evaluation.metrics import token_f1
from sgdd_engine.evaluation.reconstruction import write
from sgdd_engine.evaluation.scores import references_of
from sgdd_engine.events import Listener, Notice, ignore
from sgdd_engine.generation import SGDD, validate_shortlist
from sgdd_engine.generation.confidence import (
    CLOSE_F1,
    COSINE_FEATURE,
    WAYS,
    ConfidenceFit,
    features_of,
    record_of,
    way_of,
)

# Six numbers are fitted. Where one outcome is so rare that they fit chance (Peduzzi et al. 1996 want ten cases of it
# for each number), probabilities of held-out sentences are worse than the share alone, and the fit is not given.
LEAST_SENTENCES = 100
FOLDS = 5
# The prior of each weight of a standardised feature is normal with variance 1; it decides only where the outcomes can
# be separated without error, and a weight would grow without end.
PENALTY = 1.0
# That of the bias, only so that it stays finite where a fold holds one outcome alone.
BIAS_PENALTY = 1e-6
# Newton's method on a convex loss: it converges in fewer than ten.
NEWTON_STEPS = 50


@dataclass(frozen=True)
class JudgedFit:
    """A fit, and how probabilities do on sentences that they were not fitted on.

    Attributes:
        fit: On all sentences, with the figures among its facts.
        calibration: The cross-validated probabilities, in bins.
    """

    fit: ConfidenceFit
    calibration: Calibration


def calibrate_score(
    model: SGDD,
    data: EvaluationSet,
    *,
    sampling: SamplingConfig,
    config: EvalConfig,
    on_event: Listener = ignore,
) -> dict[str, JudgedFit]:
    """Write sentences from their vectors, and fit how likely it is that one is close to its source.

    The fit is that of all sentences. It is judged by cross-validation: each sentence by a fit on four fifths of the
    others, so that no probability is of a sentence that it was fitted on.

    Args:
        model: A trained model.
        data: Sentences that are scored nowhere else.
        sampling: Steps, guidance, position rule, temperature.
        config: Candidates, rounds of refining, shortlist and seed. With any of the first three, one fit for sentences
            that were chosen by the cosine; else two, with and without the cosine.
        on_event: Told of progress and of what is left out.

    Returns:
        The fits by the names of `WAYS`; one that foretells no better than the share of close sentences is left out.

    Raises:
        DataError: the data are not the model's or too few, all sentences are close to their sources, or none, or no
            fit is better than the share.
    """
    data = fitted(data, model, on_event)
    if len(data) < LEAST_SENTENCES:
        raise DataError(
            f"{counted(len(data), 'sentence')} {'is' if len(data) == 1 else 'are'} left "
            f"to fit the confidence on, and {LEAST_SENTENCES} are needed.",
            "Give more text, or leave more of it unscored: --limit 100",
        )
    reads = config.candidates > 1 or config.refine > 0
    config = replace(config, shortlist=validate_shortlist(config.shortlist, model.info, reads))
    say_how_long(
        "the calibration",
        data,
        [writing_part(model, config, sampling, len(data))],
        [f"{counted(len(data), 'sentence')} written", *encoder_calls(config, len(data))],
        on_event,
        fewer="--calibrate-score",
    )
    written = write(model, data, "writing", config, sampling, on_event, explain=True, score=True)
    with torch.inference_mode():
        z = model.model.latent(data.vectors.to(model.device)).z
    of_rows = [replace(item, row=row) for row, item in enumerate(written)]
    features = {name: values.numpy() for name, values in features_of(model.model, z, of_rows).items()}
    pairs = zip(references_of(model, data), written, strict=True)
    close = np.array(
        [token_f1(reference, item.text) > CLOSE_F1 for reference, item in pairs], dtype=np.float64
    )
    asked = {"candidates": config.candidates, "refine": config.refine, "shortlist": config.shortlist}
    facts = {
        "text": Path(str(data.origin.get("path"))).name,
        "seed": config.seed,
        "sampling": asdict(sampling),
        **asked,
    }
    if not 0 < close.sum() < len(close):
        raise DataError(
            f"Of {len(close):,} sentences {'all' if close[0] else 'none'} came back with a token F1 above {CLOSE_F1}: "
            "there is nothing to tell apart.",
            "Calibrate on other text, or train the model for longer.",
        )
    ways = {way_of(feedback=config.feedback, encoded=encoded) for encoded in (True, False)}
    judged = {way: _judged(way, features, close, facts) for way in WAYS if way in ways}
    better = {
        way: one for way, one in judged.items() if one.fit.facts["brier"] < one.fit.facts["brier_of_share"]
    }
    if not better:
        raise DataError(
            f"What is known of a sentence does not tell whether it is one of the {int(close.sum()):,} "
            f"of {len(close):,} that came back with a token F1 above {CLOSE_F1}, better than this share does.",
            "Calibrate on more sentences: a higher --calibrate-score",
        )
    for way in judged.keys() - better.keys():
        on_event(
            Notice(
                f"The confidence of {WAYS[way]} is left out: on held-out sentences it is no better than their share."
            )
        )
    return better


def calibration_dict(found: Mapping[str, JudgedFit]) -> dict[str, Any]:
    """What is recorded, and for each fit the bins of its cross-validated probabilities, as JSON values."""
    bins = {way: [asdict(one) for one in judged.calibration.bins] for way, judged in found.items()}
    return {"confidence": record_of({way: judged.fit for way, judged in found.items()}), "bins": bins}


def _judged(way: str, features: Mapping[str, Floats], close: Floats, facts: Mapping[str, Any]) -> JudgedFit:
    """Fitted on all sentences [N]; each is judged by a fit on the folds that it is not in."""
    names = [name for name in features if name != COSINE_FEATURE or way != "one_shot"]
    table = np.stack([features[name] for name in names], axis=1)

    def fit(rows: npt.NDArray[np.bool_]) -> ConfidenceFit:
        weights, bias = logistic_regression(table[rows], close[rows])
        return ConfidenceFit(dict(zip(names, weights.tolist(), strict=True)), bias, {})

    fold, found = np.arange(len(close)) % FOLDS, np.empty(len(close))
    for number in range(FOLDS):
        held_out = {name: torch.from_numpy(features[name][fold == number]) for name in names}
        found[fold == number] = fit(fold != number).probabilities(held_out).numpy()
    calibration, share = Calibration.of(found, close), float(close.mean())
    figures = {
        "sentences": len(close),
        "share_close": share,
        "brier": float(((found - close) ** 2).mean()),
        # Of a forecast that says the same share of every sentence.
        "brier_of_share": share * (1 - share),
        "expected_calibration_error": calibration.expected_error,
        "auc": area_under_curve(found, close),
    }
    whole = fit(np.ones(len(close), dtype=np.bool_))
    return JudgedFit(replace(whole, facts={**facts, **figures}), calibration)


def logistic_regression(table: Floats, happened: Floats) -> tuple[Floats, float]:
    """Weights [C] and bias of the logistic regression of outcomes [N] in {0, 1} on columns [N, C], by Newton's method.

    Minimises `−Σ log p(outcome) + PENALTY/2 Σ w² + BIAS_PENALTY/2 b²`, w being the weights of the standardised columns
    and b the bias.
    """
    mean, spread = table.mean(axis=0), np.maximum(table.std(axis=0), 1e-12)
    columns = np.c_[(table - mean) / spread, np.ones(len(table))]
    penalty = np.full(columns.shape[1], PENALTY)
    penalty[-1] = BIAS_PENALTY
    w = np.zeros(columns.shape[1])
    for _ in range(NEWTON_STEPS):
        p = 1.0 / (1.0 + np.exp(-(columns @ w)))
        gradient = columns.T @ (p - happened) + penalty * w
        hessian = columns.T @ (columns * (p * (1 - p))[:, None]) + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient)
        w -= step
        if np.abs(step).max() < 1e-10:
            break
    weights = w[:-1] / spread
    return weights, float(w[-1] - weights @ mean)


def area_under_curve(found: Floats, happened: Floats) -> float | None:
    """Probability that of two sentences, one of each outcome, the right one has the higher score; ties count half.

    The area under the ROC curve, by ranks (Hanley & McNeil 1982); None where all outcomes are alike.
    """
    yes, no = np.sort(found[happened > 0]), np.sort(found[happened == 0])
    if not len(yes) or not len(no):
        return None
    below = (np.searchsorted(no, yes, "left") + np.searchsorted(no, yes, "right")) / 2
    return float(below.mean() / len(no))
