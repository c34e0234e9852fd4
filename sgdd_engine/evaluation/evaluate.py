"""The evaluation as one call: reconstruction beside its controls, likelihood, and the settings that made them."""

from collections import Counter
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import sacrebleu
import torch

from sgdd_engine import __version__
from sgdd_engine.counted import counted
from sgdd_engine.data.corpus import Corpus
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.evaluation import verdicts
from sgdd_engine.evaluation.bootstrap import RESAMPLES, Resampling, bootstrap_interval
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.evaluation.cost import Part, encoder_calls, say_how_long, writing_part
from sgdd_engine.evaluation.data import EvaluationSet, fitted
from sgdd_engine.evaluation.diversity import SENTENCES as DIVERSITY_SENTENCES
from sgdd_engine.evaluation.diversity import Diversity, WordFigures, diversity_of_samples
from sgdd_engine.evaluation.guidance_search import GRID, GuidanceSearch, search_guidance
from sgdd_engine.evaluation.latent import latent_figures
from sgdd_engine.evaluation.likelihood import BINS, likelihood
from sgdd_engine.evaluation.metrics import METRICS, repetition
from sgdd_engine.evaluation.reconstruction import (
    CONDITIONS,
    comparisons,
    derangement,
    reconstruct_with_controls,
    texts_without_vector,
)
from sgdd_engine.evaluation.report import EvaluationReport, choose_samples, scores_by_length
from sgdd_engine.evaluation.scores import Scores, differences, intervals
from sgdd_engine.evaluation.token_temperature import token_temperature
from sgdd_engine.evaluation.training_text import TrainingComparison, compare_with_training
from sgdd_engine.events import Listener, Notice, ignore
from sgdd_engine.generation import RESAMPLING_TEMPERATURE, SGDD, validate_shortlist
from sgdd_engine.registry import load_extensions


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

    The choice of the other vector, the masks, the sampler and the bootstrap are seeded by
    `config.seed`: the same call gives the same numbers.

    References are the sources as the decoder's tokenizer can write them, `decode(encode(source))`, so that an
    uncased vocabulary is not scored on case.

    Metrics of installed packages (`sgdd.extensions`) are scored with sgdd's own.

    Args:
        model: A trained model.
        data: Held-out sentences, from `from_corpus` or `from_text_file`.
        config: What is measured. Its `limit`, `split` and `find_cfg` are read where the sentences are chosen.
        sampling: Steps, guidance, position rule, temperature; by default as the checkpoint records it.
        training: The corpus that the model was trained on, for retrieval and memorisation; left out without it.
        search_on: Other sentences, on which the best guidance weight is looked for first.
        keep_cfg: Evaluate with the weight of `sampling` all the same.
        on_event: Told of stages, progress, and anything left out.

    Raises:
        DataError: The data's vectors or tokens are not the model's, or fewer than two sentences fit it.
        EncoderError: The encoder, which re-encodes what was written, cannot be loaded.
        GenerationError: Guidance was asked of a model without a trained null condition.
    """
    for problem in load_extensions():
        on_event(Notice(problem, warning=True))
    config, sampling = config or EvalConfig(), sampling or model.recommended_sampling
    reads = not config.search and (config.candidates > 1 or config.refine > 0)
    config = replace(config, shortlist=validate_shortlist(config.shortlist, model.info, reads))
    seed = config.seed
    data = fitted(data, model, on_event)
    # Loaded before the long part, so that a missing encoder is said at once.
    _ = model.encoder
    others = None if search_on is None else fitted(search_on, model, on_event)
    _say_how_long(model, data, config, sampling, others, on_event, looks_up=training is not None)
    search = None
    if others is not None:
        search = search_guidance(model, others, sampling=sampling, seed=seed, on_event=on_event)
        sampling = sampling if keep_cfg else replace(sampling, cfg=search.best)
    head = model.model.head
    with token_temperature(head, head.temperature if search is None else search.token_temperature):
        return _measured(model, data, config, sampling, training, search, on_event)


def _measured(
    model: SGDD,
    data: EvaluationSet,
    config: EvalConfig,
    sampling: SamplingConfig,
    training: Corpus | None,
    search: GuidanceSearch | None,
    on_event: Listener,
) -> EvaluationReport:
    """All that is written and scored with the sampling that was found or given."""
    seed = config.seed
    scores = reconstruct_with_controls(model, data, config=config, sampling=sampling, on_event=on_event)
    true = scores["true"]
    compared = None
    if training is not None:
        compared = compare_with_training(
            model, data, true, training, limit=config.training_limit, seed=seed, on_event=on_event
        )
    if compared is not None:
        scores["nearest"] = compared.nearest
    scores = {name: scores[name] for name in CONDITIONS if name in scores}
    bound = likelihood(model, data, samples=config.nelbo_samples, seed=seed, on_event=on_event)
    samples = None
    if count := config.diversity_samples:
        samples = diversity_of_samples(
            model, data, samples=count, sampling=sampling, seed=seed, on_event=on_event
        )

    resampling = Resampling(len(data), seed)
    totals = {name: condition.totals(resampling) for name, condition in scores.items()}
    report = EvaluationReport(
        scores=scores,
        conditions={name: intervals(condition) for name, condition in totals.items()},
        differences={
            name: differences(totals["true"], condition)
            for name, condition in totals.items()
            if name != "true"
        },
        random_pair_cosine=bootstrap_interval(_random_pair_cosines(data, true, seed), seed),
        verdicts=(),
        by_length=scores_by_length(true, scores["shuffled"], [len(row) for row in data.token_ids], seed),
        likelihood=bound,
        latent=latent_figures(model, data.vectors),
        diversity=Diversity(WordFigures.of(true.texts), WordFigures.of(true.references), samples),
        memorisation=None if compared is None else compared.memorisation,
        guidance_search=search,
        samples=choose_samples(true, data.sentences, seed),
        settings=_settings(model, data, config, sampling, compared),
    )
    return replace(report, verdicts=_verdicts(report, config, sampling))


def _say_how_long(
    model: SGDD,
    data: EvaluationSet,
    config: EvalConfig,
    sampling: SamplingConfig,
    search_on: EvaluationSet | None,
    on_event: Listener,
    *,
    looks_up: bool,
) -> None:
    """Say about how long all that is written and scored takes, before any of it."""
    size, compared = len(data), comparisons(config, sampling)
    samples = min(size, DIVERSITY_SENTENCES) * config.diversity_samples
    searched = 0 if search_on is None else len(GRID) * len(search_on)
    texts = Counter[tuple[EvalConfig, SamplingConfig]](dict.fromkeys(compared.values(), size))
    texts[config, sampling] += size
    # Samples and texts without a vector take no longer than others that nothing chooses.
    texts[config.one_shot, sampling] += texts_without_vector(size, sampling) + samples + searched
    parts = [writing_part(model, *way, count) for way, count in texts.items()]

    def score_likelihood(few: EvaluationSet) -> None:
        likelihood(model, few, samples=config.nelbo_samples, seed=config.seed)

    counts = [
        f"{counted(size, 'sentence')} written under {len(compared) + 2} conditions",
        *encoder_calls(config, size),
        *([f"{counted(samples, 'sample')} for the diversity"] if samples else []),
        *([f"{counted(searched, 'text')} to find the guidance weight"] if searched else []),
    ]
    say_how_long(
        "the evaluation",
        data,
        [*parts, Part(score_likelihood, size)],
        counts,
        on_event,
        note="The comparison with the training sentences comes on top." * looks_up,
    )


def _random_pair_cosines(
    data: EvaluationSet, true: Scores, seed: int
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Cosines of the sentences' vectors with those they are shuffled with [N]."""
    other = data.vectors[torch.from_numpy(derangement(true.references, seed))]
    return torch.cosine_similarity(data.vectors.double(), other.double(), dim=-1).numpy()


def _verdicts(
    report: EvaluationReport, config: EvalConfig, sampling: SamplingConfig
) -> list[verdicts.Verdict]:
    """The verdicts on all that was measured."""
    own, gains, references = report.conditions["true"], report.differences, report.scores["true"].references
    training = report.settings["training"] or {}
    overlap = verdicts.overlap_metric(references)
    found = [
        verdicts.vector_verdict(
            own, report.conditions["shuffled"], gains["shuffled"], report.sentences, overlap
        ),
        verdicts.posterior_verdict(report.latent),
    ]
    if "unguided" in gains:
        found.append(verdicts.guidance_verdict(sampling.cfg, gains["unguided"], overlap))
    if "one_shot" in gains:
        found.append(
            verdicts.feedback_verdict(report.encoder_calls, config.shortlist, gains["one_shot"], overlap)
        )
    if "nearest" in gains:
        part = training["searched"], training["available"]
        found.append(verdicts.retrieval_verdict(own, report.conditions["nearest"], gains["nearest"], *part))
    found.append(verdicts.calibration_verdict(report.likelihood.calibration))
    if report.memorisation is not None:
        found.append(verdicts.memorisation_verdict(report.memorisation, training["trained_on"]))
    repeated = float(np.mean([repetition(text) for text in references]))
    found.append(verdicts.repetition_verdict(own, repeated))
    return [verdicts.of_sentences(verdict, report.sentences) for verdict in found if verdict is not None]


def _settings(
    model: SGDD,
    data: EvaluationSet,
    config: EvalConfig,
    sampling: SamplingConfig,
    compared: TrainingComparison | None,
) -> dict[str, Any]:
    """All that made the figures, as JSON values."""
    return {
        "eval": asdict(config),
        "sampling": asdict(sampling),
        "data": dict(data.origin),
        "training": None if compared is None else dict(compared.origin),
        "model": {
            "step": model.info.step,
            "encoder": model.info.encoder.described(),
            "schedule": model.info.diffusion.schedule,
            "null_trained": model.info.trained_null,
            "max_tokens": model.info.model.max_tokens,
            "vocabulary": model.info.model.vocabulary.size,
            "device": str(model.device),
        },
        "scoring": _scoring(),
        "versions": {
            "sgdd": __version__,
            "torch": str(torch.__version__),
            "sacrebleu": sacrebleu.__version__,
        },
    }


def _scoring() -> dict[str, str]:
    """How the figures are made, by their names in the report."""
    return {
        "start": "full mask, predicted length",
        "references": "decode(encode(source)) by the model's tokenizer",
        "words": "Unicode word boundaries (UAX #29); single letters in scripts without spaces; each mark a word",
        **{name: metric.explanation for name, metric in METRICS.items()},
        "bleu_details": "sacreBLEU, exponential smoothing, effective order for sentences; tokenizer 13a, but zh where "
        "the reference is Chinese and char where it is in another script without spaces",
        **{name: f"{condition.label}: {condition.meaning}" for name, condition in CONDITIONS.items()},
        "shortlist": "the surrogate of the encoder chooses among so many sentences before each encoder call, with some "
        "weight on how likely each is; 1: none",
        "nelbo": "given the vector (posterior mean) and the true length; every number of masks equally often",
        "calibration": "probability of the likeliest token of each masked position, given the vector and the true "
        "length, without guidance; every number of masks equally often, the full mask once; "
        f"{BINS} bins of equal width",
        "memorisation": "token by token, by the model's tokenizer; the interval of the difference as by Newcombe 1998",
        "diversity": f"temperature {RESAMPLING_TEMPERATURE:g}, one candidate, no feedback",
        "guidance_search": "one shot; the highest mean of token F1 and cosine",
        "intervals": f"95 %, percentile bootstrap over sentences, {RESAMPLES} resamples",
    }
