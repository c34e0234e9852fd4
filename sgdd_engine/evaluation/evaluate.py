"""The evaluation as one call: reconstruction beside its controls, likelihood, and the settings that made them."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import sacrebleu
import torch

from sgdd_engine import __version__
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.evaluation import verdicts as say
from sgdd_engine.evaluation.bootstrap import BOOTSTRAP_RESAMPLES, Interval, Resampling, bootstrap_interval
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.evaluation.data import EvaluationSet, fitted
from sgdd_engine.evaluation.diversity import diversity_of_outputs, diversity_of_samples
from sgdd_engine.evaluation.guidance_search import GuidanceSearch, search_guidance
from sgdd_engine.evaluation.latent import latent_figures
from sgdd_engine.evaluation.likelihood import LikelihoodFigures, likelihood
from sgdd_engine.evaluation.metrics import repetition
from sgdd_engine.evaluation.reconstruction import Controlled, reconstruct_with_controls
from sgdd_engine.evaluation.report import EvaluationReport, choose_samples, scores_by_length
from sgdd_engine.evaluation.scores import Scores, differences, intervals
from sgdd_engine.evaluation.training_text import TrainingSide, training_side
from sgdd_engine.events import Listener, ignore
from sgdd_engine.generation import RESAMPLING_TEMPERATURE, SGDD, validate_shortlist


def evaluate(
    model: SGDD,
    data: EvaluationSet,
    *,
    config: EvalConfig | None = None,
    sampling: SamplingConfig | None = None,
    training: Corpus | None = None,
    search_on: EvaluationSet | None = None,
    keep_cfg: bool = False,
    on_event: Listener = ignore,
) -> EvaluationReport:
    """Reconstruct held-out sentences from a full mask, beside the controls, and score their likelihood.

    The choice of the other vector, the masks, the times, the sampler and the bootstrap are seeded by
    `config.seed`: the same call gives the same numbers.

    References are the sources as the decoder's tokenizer can write them, `decode(encode(source))`, so that an
    uncased vocabulary is not scored on case.

    Args:
        model: A trained model.
        data: Held-out sentences, from `from_corpus` or `from_text_file`.
        config: What is measured. Its `limit`, `split` and `find_cfg` are for whoever chose the sentences.
        sampling: Steps, guidance, order, temperature; by default as the checkpoint records it.
        training: The corpus that the model was trained on, for retrieval and memorisation; left out without it.
        search_on: Other sentences, on which the best guidance weight is looked for first.
        keep_cfg: Evaluate with the weight of `sampling` all the same.
        on_event: Told of stages, progress, and anything left out.

    Raises:
        DataError: The data's vectors or tokens are not the model's, or fewer than two sentences fit it.
        EncoderError: The encoder, which re-encodes what was written, cannot be loaded.
        GenerationError: Guidance was asked of a model without a trained null condition.
    """
    config, sampling = config or EvalConfig(), sampling or model.recommended_sampling
    reads = config.candidates > 1 or config.refine > 0
    config = replace(config, shortlist=validate_shortlist(config.shortlist, model.info, reads))
    data = fitted(data, model, on_event)
    # Loaded before the long part, so that a missing encoder is said at once.
    _ = model.encoder
    search = None
    if search_on is not None:
        others = fitted(search_on, model, on_event)
        search = search_guidance(model, others, sampling=sampling, seed=config.seed, on_event=on_event)
        sampling = sampling if keep_cfg else replace(sampling, cfg=search.best)
    written = reconstruct_with_controls(model, data, config=config, sampling=sampling, on_event=on_event)
    beside = None
    if training is not None:
        beside = training_side(model, data, written.true, training, config.training_limit, on_event)
    scored = likelihood(model, data, samples=config.nelbo_samples, seed=config.seed, on_event=on_event)
    diversity = diversity_of_outputs(written.true)
    if config.diversity_samples:
        diversity |= diversity_of_samples(
            model,
            data,
            samples=config.diversity_samples,
            sampling=sampling,
            seed=config.seed,
            on_event=on_event,
        )
    return _report(model, data, config, sampling, written, beside, scored, diversity, search)


def _report(
    model: SGDD,
    data: EvaluationSet,
    config: EvalConfig,
    sampling: SamplingConfig,
    written: Controlled,
    beside: TrainingSide | None,
    scored: LikelihoodFigures,
    diversity: Mapping[str, float],
    search: GuidanceSearch | None,
) -> EvaluationReport:
    scores = _conditions(written, beside)
    resampling = Resampling(len(data), config.seed)
    figures = {name: condition.figures(resampling) for name, condition in scores.items()}
    conditions = {name: intervals(columns) for name, columns in figures.items()}
    gains = {
        name: differences(figures["true"], columns) for name, columns in figures.items() if name != "true"
    }
    latent = latent_figures(model, data.vectors)
    memorisation = None if beside is None else beside.memorisation(config.seed)
    return EvaluationReport(
        scores=scores,
        conditions=conditions,
        differences=gains,
        random_pair_cosine=bootstrap_interval(written.random_pair_cosines, config.seed),
        verdicts=_verdicts(conditions, gains, written.true, config, sampling, latent, scored, memorisation),
        by_length=scores_by_length(
            written.true, written.shuffled, [len(tokens) for tokens in data.token_ids], config.seed
        ),
        likelihood=scored,
        latent=latent,
        diversity=diversity,
        memorisation=memorisation,
        guidance_search=search,
        samples=choose_samples(written.true, data.sentences, config.seed),
        settings=_settings(model, data, config, sampling, beside),
    )


def _conditions(written: Controlled, beside: TrainingSide | None) -> dict[str, Scores]:
    """The conditions that were made, in the order of their expected success."""
    found = {
        "true": written.true,
        "one_shot": written.one_shot,
        "unguided": written.unguided,
        "nearest": None if beside is None else beside.nearest,
        "shuffled": written.shuffled,
        "null": written.null,
    }
    return {name: scores for name, scores in found.items() if scores is not None}


def _verdicts(
    conditions: Mapping[str, Mapping[str, Interval]],
    gains: Mapping[str, Mapping[str, Interval]],
    written: Scores,
    config: EvalConfig,
    sampling: SamplingConfig,
    latent: Mapping[str, Any],
    scored: LikelihoodFigures,
    memorisation: Mapping[str, Any] | None,
) -> list[say.Verdict]:
    true, nearest = conditions["true"], conditions.get("nearest")
    repeated = float(np.mean([repetition(text) for text in written.references]))
    return say.answered(
        [
            say.vector_verdict(true, conditions["shuffled"], gains["shuffled"], len(written)),
            say.posterior_verdict(latent),
            say.guidance_verdict(sampling.cfg, gains["unguided"]) if "unguided" in gains else None,
            say.feedback_verdict(float(written.encoder_calls.mean()), config.shortlist, gains["one_shot"])
            if "one_shot" in gains
            else None,
            None if nearest is None else say.retrieval_verdict(true, nearest, gains["nearest"]),
            say.calibration_verdict(scored.calibration),
            None if memorisation is None else say.memorisation_verdict(memorisation),
            say.repetition_verdict(true, repeated),
        ]
    )


def _settings(
    model: SGDD,
    data: EvaluationSet,
    config: EvalConfig,
    sampling: SamplingConfig,
    beside: TrainingSide | None,
) -> dict[str, Any]:
    """All that made the figures, as JSON values."""
    return {
        "eval": asdict(config),
        "sampling": asdict(sampling),
        "data": dict(data.origin),
        "training": None if beside is None else dict(beside.origin),
        "model": {
            "step": model.info.step,
            "encoder": model.info.encoder.to_dict(),
            "schedule": model.info.diffusion.schedule,
            "null_trained": model.info.trained_null,
            "max_tokens": model.info.model.max_tokens,
            "vocabulary": model.info.model.vocabulary.size,
            "device": str(model.device),
        },
        "scoring": SCORING,
        "versions": {
            "sgdd": __version__,
            "torch": str(torch.__version__),
            "sacrebleu": sacrebleu.__version__,
        },
    }


SCORING = {
    "start": "full mask, predicted length",
    "references": "decode(encode(source)) by the model's tokenizer",
    "words": "Unicode word boundaries (UAX #29); single letters in scripts without spaces; each mark a word",
    "token_f1": "multisets of words and marks",
    "set_f1": "sets of the same words and marks, as vec2text's token F1 but for its word split",
    "bleu": "mean of sentence sacreBLEU (exp, effective order; 13a, but zh where the "
    "reference is Chinese and char where it is in another script without spaces); corpus_bleu over all sentences",
    "chrf": "mean of sentence chrF2 (character n-grams up to 6); corpus_chrf over all sentences",
    "cosine": "re-encoded text with the source's own vector, under every condition",
    "retrieval": "rank of the source among all sources by cosine with the re-encoded text",
    "shuffled": "another sentence's vector, each used once",
    "null": "no vector, one candidate, no feedback",
    "unguided": "its own vector, w = 1, all else the same",
    "one_shot": "its own vector, one candidate, no rounds of refining, no shortlist",
    "shortlist": "the surrogate of the encoder chooses among so many sentences before each encoder call; 1: none",
    "nearest": "the training sentence whose stored vector has the highest cosine with the source's",
    "nelbo": "given the vector (posterior mean) and the true length; every number of masks equally often",
    "calibration": "probability of the likeliest token of each masked position, given the vector and the true "
    "length, without guidance; every number of masks equally often, the full mask once; 15 bins of equal width",
    "memorisation": "token by token, by the model's tokenizer",
    "diversity": f"temperature {RESAMPLING_TEMPERATURE:g}, one candidate, no feedback",
    "guidance_search": "one shot; the highest mean of token F1 and cosine",
    "intervals": f"95 %, percentile bootstrap over sentences, {BOOTSTRAP_RESAMPLES} resamples",
}
