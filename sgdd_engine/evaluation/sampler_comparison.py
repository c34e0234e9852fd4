"""What ways of sampling cost and bring: every combination of some settings on the same sentences, and which pay."""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from sgdd_engine.counted import counted
from sgdd_engine.diffusion.config import SamplingConfig
from sgdd_engine.evaluation.bootstrap import Interval, Resampling
from sgdd_engine.evaluation.config import EvalConfig
from sgdd_engine.evaluation.cost import encoder_calls, say_how_long, writing_part
from sgdd_engine.evaluation.data import EvaluationSet, fitted
from sgdd_engine.evaluation.reconstruction import write
from sgdd_engine.evaluation.scores import intervals, score
from sgdd_engine.events import Listener, StageFinished, ignore
from sgdd_engine.generation import SGDD, with_remasking
from sgdd_engine.models.decoder import DenoisingTransformer


@dataclass(frozen=True)
class SamplerPoint:
    """One way of sampling.

    Attributes:
        changes: The fields of `SamplingConfig` in which it differs from the others, with their values.
        figures: Every metric with its interval.
        positions_read: Positions that the decoder read to write one sentence, anchors and both branches of guidance
            among them: the arithmetic, which does not depend on the machine.
        seconds: Processor time of this process for one sentence.
        efficient: Whether no other point has at least its token F1 for fewer positions, or more for as many.
    """

    changes: dict[str, Any]
    figures: dict[str, Interval]
    positions_read: float
    seconds: float
    efficient: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As plain data."""
        figures = {name: asdict(value) for name, value in self.figures.items()}
        return {**asdict(self), "figures": figures}


def combinations(sampling: SamplingConfig, varied: Mapping[str, Sequence[Any]]) -> list[SamplingConfig]:
    """All combinations of the values of some fields, the last field varying fastest.

    Raises:
        ConfigError: a value is out of range.
    """
    return [
        replace(sampling, **with_remasking(dict(zip(varied, values, strict=True))))
        for values in itertools.product(*varied.values())
    ]


def compare_samplers(
    model: SGDD,
    data: EvaluationSet,
    *,
    sampling: SamplingConfig,
    varied: Mapping[str, Sequence[Any]],
    config: EvalConfig,
    on_event: Listener = ignore,
) -> list[SamplerPoint]:
    """Write every sentence in every way.

    Args:
        model: A trained model.
        data: N ≥ 2 sentences with their vectors; those that are too long for the model are left out.
        sampling: What is not varied.
        varied: Values by fields of `SamplingConfig`.
        config: Candidates, rounds of feedback, seed.
        on_event: Told of progress and of each way's scores.

    Returns:
        In the order of `combinations`.

    Raises:
        DataError: the vectors or tokens are not the model's, or fewer than two sentences fit it.
        GenerationError: guidance of a model without a trained null condition.
    """
    data = fitted(data, model, on_event)
    ways = combinations(sampling, varied)
    say_how_long(
        "the comparison",
        data,
        [writing_part(model, config, way, len(data)) for way in ways],
        [
            f"{counted(len(data), 'sentence')} written in {counted(len(ways), 'way')}",
            *encoder_calls(config, len(ways) * len(data)),
        ],
        on_event,
    )
    resampling = Resampling(len(data), config.seed)
    points = []
    for way in ways:
        changes = {name: getattr(way, name) for name in varied}
        name = ", ".join(f"{key}={value}" for key, value in changes.items())
        positions, started = _Positions(model.model.denoiser), time.process_time()
        with positions:
            written = write(model, data, name, config, way, on_event, tell_end=False)
        seconds = time.process_time() - started
        figures = intervals(score(model, data, written).totals(resampling))
        point = SamplerPoint(changes, figures, positions.read / len(data), seconds / len(data))
        points.append(point)
        f1, cosine = figures["token_f1"].mean, figures["cosine"].mean
        on_event(StageFinished(name, f"token F1 {f1:.3f}, cosine {cosine:.3f}"))
    pays = efficient(points, "token_f1", "positions_read")
    return [replace(point, efficient=one) for point, one in zip(points, pays, strict=True)]


class _Positions:
    """Counts the positions that a network reads, while it is entered."""

    def __init__(self, denoiser: DenoisingTransformer) -> None:
        self._denoiser = denoiser
        self.read = 0

    def __enter__(self) -> None:
        extra = sum(self._denoiser.around)

        def count(_: nn.Module, arguments: tuple[Any, ...]) -> None:
            (rows, length), condition = arguments[0].shape, arguments[2]
            self.read += rows * (length + extra) if condition.reading is None else condition.reading.numel()

        self._handle = self._denoiser.register_forward_pre_hook(count)

    def __exit__(self, *_: object) -> None:
        self._handle.remove()


def efficient(points: Sequence[SamplerPoint], metric: str, cost: str) -> list[bool]:
    """Of each way of sampling: whether no other one is as good for less, or better for as much (the Pareto front).

    Args:
        points: The ways.
        metric: A metric of which more is better.
        cost: `positions_read` or `seconds`.
    """
    found = [(point.figures[metric].mean, getattr(point, cost)) for point in points]
    return [
        not any(
            other >= value and price <= paid and (other > value or price < paid) for other, price in found
        )
        for value, paid in found
    ]
