"""An evaluation report of chosen figures, with every part in it."""

from dataclasses import replace

import numpy as np

from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.diversity import Diversity, SampleFigures, WordFigures
from sgdd_engine.evaluation.guidance_search import GuidancePoint, GuidanceSearch
from sgdd_engine.evaluation.latent import LatentFigures, PosteriorFigures
from sgdd_engine.evaluation.likelihood import BINS, Calibration, LikelihoodFigures, MaskBucket
from sgdd_engine.evaluation.metrics import METRICS
from sgdd_engine.evaluation.report import EvaluationReport, LengthBucket, Sample
from sgdd_engine.evaluation.sampler_comparison import SamplerPoint
from sgdd_engine.evaluation.scores import Scores
from sgdd_engine.evaluation.training_text import Memorisation
from sgdd_engine.evaluation.verdicts import Verdict


def near(mean, width=0.01):
    return Interval(mean, mean - width, mean + width)


def metrics(share):
    """Every metric, at a share of a number that stands nowhere else."""
    values = {3: 0.7312, 1: 35.27, 2: 4.42}
    return {
        name: near((values[metric.decimals] + 0.001 * place) * share)
        for place, (name, metric) in enumerate(METRICS.items())
    }


def main(share):
    return {name: value for name, value in metrics(share).items() if METRICS[name].main}


def calibration():
    count, confidence, right = np.zeros((3, BINS))
    count[[4, 12]], confidence[[4, 12]], right[[4, 12]] = [1777, 3999], [533.1, 3319.2], [532, 3377]
    return Calibration(count, confidence, right)


def scores(count=1234):
    nothing = np.zeros(count)
    return Scores(["a"] * count, ["a"] * count, {"token_f1": nothing}, nothing + 8.5)


FULL = EvaluationReport(
    scores={"true": scores()},
    conditions={
        "true": metrics(1.0),
        "unguided": metrics(0.9),
        "nearest": metrics(0.4),
        "shuffled": metrics(0.25),
        "null": metrics(0.2),
    },
    differences={
        "unguided": {**metrics(0.1), "token_f1": near(-0.0731), "repetition": near(-0.0216, 0.001)},
        "nearest": metrics(0.6),
        "shuffled": {
            **metrics(0.75),
            "token_f1": near(0.5484),
            "repetition": near(0.0118, 0.001),
            "cosine": near(0.001, 0.02),
        },
        "null": metrics(0.8),
    },
    random_pair_cosine=near(0.0517, 0.003),
    verdicts=[
        Verdict("vector_used", True, "The vector is used."),
        Verdict("repetition", False, "Words are often repeated."),
        Verdict("guidance", None, "Whether guidance helps cannot be told."),
    ],
    by_length=[
        LengthBucket("1-8", 1034, main(0.9), near(0.1919)),
        LengthBucket("9-16", 199, main(0.7), near(0.1717)),
        # One sentence has no interval.
        LengthBucket("33-64", 1, {name: Interval(0.6543) for name in main(1)}, Interval(0.1616)),
    ],
    likelihood=LikelihoodFigures(
        nelbo_nats_per_token=2.4137,
        standard_error=0.0213,
        bits_per_byte=0.9126,
        bits_per_byte_standard_error=0.0084,
        by_mask_ratio=[
            *(MaskBucket(f"{low}-{low + 10}", 0.9517, 0.3131, 7123) for low in range(0, 100, 10)),
            MaskBucket("100", 0.4126, 3.1714, 91_234),
        ],
        calibration=calibration(),
    ),
    latent=LatentFigures(
        "vib", 4, [4.0, 3.0, 2.0, 1.0], 3.33, PosteriorFigures(6.137, [3.0, 2.0, 1.0, 0.137], 3, False)
    ),
    diversity=Diversity(
        WordFigures(0.3131, 0.6161, 5.151),
        WordFigures(0.3232, 0.6262, 5.252),
        SampleFigures(100, 4, 0.7, 0.4141, 0.7171, 41.26, 0.8181),
    ),
    memorisation=Memorisation(near(0.0042, 0.001), near(0.0113, 0.001), near(-0.0071, 0.001)),
    guidance_search=GuidanceSearch(
        [
            GuidancePoint(1.0, metrics(0.8)),
            GuidancePoint(2.0, metrics(0.95)),
            GuidancePoint(4.0, metrics(0.7)),
        ],
        300,
        1.1,
    ),
    samples=[
        Sample("best", "A door.", "A door.", 0.99, 1.0, 100.0),
        Sample("worst", "He saw her & left.", "<script>alert(1)</script> left he", 0.21, 0.2, 3.1),
    ],
    settings={
        "eval": {"limit": 1234, "candidates": 8, "refine": 6, "shortlist": 4, "seed": 3},
        "sampling": {"steps": 16, "cfg": 2.0, "temperature": 0.0},
        "data": {"path": "tales.txt"},
        "training": {"searched": 75_123, "available": 75_123},
        "model": {"step": 12000, "encoder": {"name": "minilm"}, "device": "cpu"},
        "versions": {"sgdd": "7.8.9"},
    },
    samplers=[
        SamplerPoint({"steps": 4, "position_rule": "margin"}, metrics(0.85), 121.4, 0.0141, efficient=True),
        SamplerPoint({"steps": 8, "position_rule": "margin"}, metrics(0.97), 207.2, 0.0262, efficient=True),
        SamplerPoint({"steps": 4, "position_rule": "random"}, metrics(0.55), 123.9, 0.0122),
        SamplerPoint({"steps": 8, "position_rule": "random"}, metrics(0.75), 209.6, 0.0235),
        SamplerPoint({"steps": 16, "position_rule": "margin"}, metrics(1.0), 453.8, 0.0519, efficient=True),
    ],
)

# Two sentences, a plain decoder, and nothing that can be left out.
SMALL = replace(
    FULL,
    scores={"true": replace(scores(2), encoder_calls=np.zeros(2))},
    conditions={name: FULL.conditions[name] for name in ("true", "shuffled", "null")},
    differences={name: FULL.differences[name] for name in ("shuffled", "null")},
    likelihood=replace(FULL.likelihood, standard_error=None, bits_per_byte_standard_error=None),
    latent=LatentFigures("none", 4, [4.0, 0.0, 0.0, 0.0], 1.0),
    diversity=replace(FULL.diversity, samples=None),
    memorisation=None,
    guidance_search=None,
    settings={**FULL.settings, "training": None},
    samplers=None,
)
