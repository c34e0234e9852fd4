"""The guidance weight that writes best, and the temperature of tokens, found on sentences that are not scored later."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from sgdd_engine.counted import counted
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.errors import GenerationError
from sgdd_engine.evaluation.bootstrap import Interval, Resampling
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.evaluation.data import EvaluationSet
from sgdd_engine.evaluation.metrics import METRICS
from sgdd_engine.evaluation.reconstruction import write
from sgdd_engine.evaluation.scores import intervals, score
from sgdd_engine.evaluation.token_temperature import find_token_temperature, token_temperature
from sgdd_engine.events import Listener, Notice, StageFinished, ignore
from sgdd_engine.generation import SGDD

# With fewer sentences a mean token F1 is known to ±.05 at best (`mini`, ±.011 from 1,000), more than weights differ by.
FEW_SENTENCES = 50
GRID = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
SENTENCES = 300


@dataclass(frozen=True)
class GuidancePoint:
    """How the model writes at one weight.

    Attributes:
        cfg: The weight w.
        figures: Every metric with its interval.
    """

    cfg: float
    figures: dict[str, Interval]

    @property
    def value(self) -> float:
        """The objective of the search: the mean of token F1 and cosine."""
        return (self.figures["token_f1"].mean + self.figures["cosine"].mean) / 2


@dataclass(frozen=True)
class GuidanceSearch:
    """The curve over the weights.

    Attributes:
        points: In the order of their weights.
        sentences: How many were written at each.
        token_temperature: The temperature that calibrates the probabilities of tokens, found before.
    """

    points: Sequence[GuidancePoint]
    sentences: int
    token_temperature: float

    @property
    def best(self) -> float:
        """The weight of the highest mean of token F1 and cosine; of equals the smallest."""
        return max(self.points, key=lambda point: point.value).cfg

    def to_dict(self) -> dict[str, Any]:
        """`best`, `sentences`, `token_temperature`, and the `grid` with its scores."""
        grid = [
            {
                "cfg": point.cfg,
                **{name: asdict(point.figures[name]) for name, metric in METRICS.items() if metric.main},
                "repetition": point.figures["repetition"].mean,
            }
            for point in self.points
        ]
        return {
            "best": self.best,
            "sentences": self.sentences,
            "token_temperature": self.token_temperature,
            "grid": grid,
        }


def search_guidance(
    model: SGDD,
    data: EvaluationSet,
    *,
    sampling: SamplingConfig,
    seed: int,
    on_event: Listener = ignore,
) -> GuidanceSearch:
    """Write every sentence at every weight of `GRID`, one shot each, and compare.

    The temperature of tokens is found first, and used: how far guidance pushes depends on it a little.

    Args:
        model: A trained model with a null condition.
        data: Sentences that fit it and are not scored afterwards.
        sampling: All but the weight.
        seed: Of the sampler and the bootstrap.
        on_event: Told of progress and of each weight's scores.

    Raises:
        GenerationError: The model was trained without a null condition.
    """
    if not model.info.trained_null:
        raise GenerationError(
            "The best guidance weight was asked for, and this model was trained without a null condition.",
            "Leave out --find-cfg, or train with train.condition_dropout above 0.",
        )
    if len(data) < FEW_SENTENCES:
        on_event(
            Notice(
                f"The guidance weight and the temperature of tokens are found on {counted(len(data), 'sentence')}; "
                f"{SENTENCES} are usual, and fewer than {FEW_SENTENCES} say little. Give more text, or score less: "
                "--limit N",
                warning=True,
            )
        )
    temperature = find_token_temperature(model, data, seed=seed, on_event=on_event)
    resampling, config = Resampling(len(data), seed), EvalConfig(seed=seed)
    points = []
    for weight in GRID:
        name = f"cfg {weight:g}"
        way = replace(sampling, cfg=weight)
        with token_temperature(model.model.head, temperature):
            written = write(model, data, name, config, way, on_event, tell_end=False)
        figures = intervals(score(model, data, written).totals(resampling))
        points.append(GuidancePoint(weight, figures))
        f1, cosine = figures["token_f1"].mean, figures["cosine"].mean
        on_event(StageFinished(name, f"token F1 {f1:.3f}, cosine {cosine:.3f}"))
    return GuidanceSearch(points, len(data), temperature)
