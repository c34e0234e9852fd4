"""The evaluation as one call: reconstruction beside its controls, likelihood, and the settings that made them."""

from dataclasses import asdict
from typing import Any

import sacrebleu
import torch

from sgdd_engine import __version__
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.evaluation.data import EvaluationSet, fitted
from sgdd_engine.evaluation.likelihood import latent_figures, likelihood
from sgdd_engine.evaluation.metrics import BOOTSTRAP_RESAMPLES, WORD, bootstrap_interval
from sgdd_engine.evaluation.reconstruction import reconstruct_with_controls
from sgdd_engine.evaluation.report import EvaluationReport, choose_samples, scores_by_length
from sgdd_engine.events import Listener, ignore
from sgdd_engine.generation import SGDD


def evaluate(
    model: SGDD,
    data: EvaluationSet,
    *,
    config: EvalConfig | None = None,
    sampling: SamplingConfig | None = None,
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
        config: Candidates, times per sentence for the bound, seed. Its `limit` is for whoever chose `data`.
        sampling: Steps, guidance, order, temperature.
        on_event: Told of stages, progress, and anything left out.

    Raises:
        DataError: The data's vectors or tokens are not the model's, or fewer than two sentences fit it.
        EncoderError: The encoder, which re-encodes what was written, cannot be loaded.
        GenerationError: Guidance was asked of a model without a trained null condition.
    """
    config, sampling = config or EvalConfig(), sampling or SamplingConfig()
    data = fitted(data, model, on_event)
    # Loaded before the long part, so that a missing encoder is said at once.
    _ = model.encoder
    conditions = reconstruct_with_controls(model, data, config=config, sampling=sampling, on_event=on_event)
    true, shuffled = conditions.true, conditions.shuffled
    return EvaluationReport(
        sentences=len(data),
        conditions=conditions,
        token_f1=bootstrap_interval(true.f1, config.seed),
        difference=bootstrap_interval(true.f1 - shuffled.f1, config.seed),
        likelihood=likelihood(model, data, samples=config.nelbo_samples, seed=config.seed, on_event=on_event),
        latent=latent_figures(model, data.vectors),
        by_length=scores_by_length(true, [len(tokens) for tokens in data.token_ids]),
        samples=choose_samples(true, data.sentences),
        settings=_settings(model, data, config, sampling),
    )


def _settings(
    model: SGDD, data: EvaluationSet, config: EvalConfig, sampling: SamplingConfig
) -> dict[str, Any]:
    """All that made the figures, as JSON values."""
    return {
        "eval": asdict(config),
        "sampling": asdict(sampling),
        "data": dict(data.origin),
        "model": {
            "step": model.info.step,
            "encoder": model.info.encoder.to_dict(),
            "schedule": model.info.diffusion.schedule,
            "null_trained": model.info.trained_null,
            "max_tokens": model.info.model.max_tokens,
            "vocabulary": model.info.model.vocabulary.size,
            "device": str(model.device),
        },
        "scoring": {
            "start": "full mask, predicted length",
            "references": "decode(encode(source)) by the model's tokenizer",
            "words": WORD.pattern,
            "token_f1": "multisets of words and marks",
            "bleu": "mean of sentence sacreBLEU (13a, exp, effective order); corpus_bleu over all sentences",
            "cosine": "re-encoded text with the source's own vector, under every condition",
            "shuffled": "another sentence's vector, each used once",
            "null": "no vector, one candidate",
            "nelbo": "given the vector (posterior mean) and the true length",
            "intervals": f"95 %, percentile bootstrap over sentences, {BOOTSTRAP_RESAMPLES} resamples",
        },
        "versions": {
            "sgdd": __version__,
            "torch": str(torch.__version__),
            "sacrebleu": sacrebleu.__version__,
        },
    }
