"""The drawings of the page: the parts of a report as charts."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Literal

from markupsafe import Markup

from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.guidance_search import GuidanceSearch
from sgdd_engine.evaluation.likelihood import Bin, MaskBucket
from sgdd_engine.evaluation.metrics import METRICS
from sgdd_engine.evaluation.page.charts import (
    EMPTY,
    WIDTH,
    Bar,
    Scale,
    Series,
    axis_texts,
    bars,
    chart,
    circle,
    format_number,
    label,
    line,
    lines,
    path,
    round_ticks,
    tick_text,
)
from sgdd_engine.evaluation.page.scatter import Spot, scatter
from sgdd_engine.evaluation.reconstruction import CONDITIONS
from sgdd_engine.evaluation.report import EvaluationReport, LengthBucket
from sgdd_engine.evaluation.sampler_comparison import SamplerPoint, efficient


def by_condition(report: EvaluationReport, name: str) -> Markup:
    """A metric under every condition."""
    rows = [Bar(CONDITIONS[c].label, found[name], _colour(c)) for c, found in report.conditions.items()]
    pair = ("two random sentences", report.random_pair_cosine.mean) if name == "cosine" else None
    metric = METRICS[name]
    return bars(f"conditions-{name}", metric.label, rows, decimals=metric.decimals, reference=pair)


def _colour(condition: str) -> str:
    """The class of a condition's marks."""
    default = "control" if CONDITIONS[condition].control else "second"
    return {"true": "own", "nearest": "third"}.get(condition, default)


# Points drawn of a curve, each the mean of as many reports: more are not told apart on so few pixels.
CURVE_POINTS = 120


def training(curves: Mapping[str, Sequence[tuple[int, float]]]) -> Markup:
    """The loss of training and of held-out sentences by step; nothing where neither has two points."""
    named = {"train/loss": ("training", "control"), "validation/loss": ("held out", "own")}
    found = {
        name: _thinned([(step, value) for step, value in curves[name] if math.isfinite(value)])
        for name in named
        if name in curves
    }
    drawn_ones = {name: points for name, points in found.items() if len(points) > 1}
    if not drawn_ones:
        return EMPTY
    every = [point for points in drawn_ones.values() for point in points]
    left, right, top, foot = 44.0, WIDTH - 16.0, 30.0, 180.0
    ticks = round_ticks([value for _, value in every], from_zero=False)
    steps = round_ticks([step for step, _ in every], from_zero=True)
    y, x = Scale(ticks[0], ticks[-1], foot, top), Scale(steps[0], steps[-1], left, right)
    drawn, told, beside = [], [], 46.0
    for name, points in drawn_ones.items():
        title, kind = named[name]
        last = f"{title}: {format_number(points[0][1])} at first, {format_number(points[-1][1])} at the end"
        told.append(last)
        drawn.append(path([(x(step), y(value)) for step, value in points], f"{kind} stroke"))
        drawn.append(circle(beside, 10, 4, f"{kind} fill", last))
        drawn.append(label(beside + 9, 14, title, "name", "start"))
        beside += 26 + 6.4 * len(title)
    places = [(x(step), tick_text(step, steps)) for step in steps]
    return chart(
        "training-loss", "Loss by step", "; ".join(told), y, axis_texts(ticks), places, "training step", drawn,
        left=left, right=right,
    )  # fmt: skip


def _thinned(points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """Means of neighbouring points, `CURVE_POINTS` of them at most."""
    size = max(1, -(-len(points) // CURVE_POINTS))
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(fmean(step for step, _ in group), fmean(value for _, value in group)) for group in groups]


def by_length(buckets: Sequence[LengthBucket], name: str) -> Markup:
    """A metric by the length of the source, token F1 beside that of another sentence's vector."""
    metric = METRICS[name]
    series = [Series(CONDITIONS["true"].label, [bucket.own[name] for bucket in buckets], "own")]
    if name == "token_f1":
        beside = [bucket.shuffled_token_f1 for bucket in buckets]
        series.append(Series(CONDITIONS["shuffled"].label, beside, "control"))
    places = [bucket.tokens.replace("-", "–") for bucket in buckets]
    axis = "tokens of the source"
    return lines(f"length-{name}", metric.label, places, series, axis=axis, decimals=metric.decimals)


def by_mask_ratio(rows: Sequence[MaskBucket], name: str, label: str) -> Markup:
    """A figure of guesses, `accuracy` or `nll_nats`, by the share of tokens that are masked."""
    places = [row.masked.replace("-", "–") for row in rows]
    series = [Series(label, [Interval(getattr(row, name)) for row in rows], "own")]
    return lines(f"mask-{name}", label, places, series, axis="tokens masked, %")


def by_weight(search: GuidanceSearch, name: str) -> Markup:
    """A metric by guidance weight, with the chosen one marked."""
    weights, metric = [point.cfg for point in search.points], METRICS[name]
    return lines(
        f"guidance-{name}",
        metric.label,
        [f"{weight:g}" for weight in weights],
        [Series(metric.label, [point.figures[name] for point in search.points], "own")],
        axis="guidance weight w",
        at=weights,
        decimals=metric.decimals,
        from_zero=False,
        chosen=weights.index(search.best),
    )


def by_cost(points: Sequence[SamplerPoint], name: str, cost: Literal["positions_read", "seconds"]) -> Markup:
    """A metric of ways of sampling against their cost; those that no other one beats in both are joined."""
    metric, milliseconds = METRICS[name], cost == "seconds"
    spots = [
        Spot(
            short_name(point),
            getattr(point, cost) * (1000 if milliseconds else 1),
            point.figures[name],
            on_front=pays,
        )
        for point, pays in zip(points, efficient(points, name, cost), strict=True)
    ]
    return scatter(
        f"cost-{name}-{cost}",
        f"{metric.label} against cost",
        spots,
        axis="processor time per text, ms" if milliseconds else "positions read per text",
        decimals=metric.decimals,
    )


def short_name(point: SamplerPoint) -> str:
    """The values in which a way of sampling differs from the others."""
    return ", ".join(map(_value, point.changes.values()))


def full_name(point: SamplerPoint) -> str:
    """The same with the names of the settings."""
    return ", ".join(f"{name} = {_value(value)}" for name, value in point.changes.items())


def _value(value: float | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def calibration(name: str, title: str, bins: Sequence[Bin]) -> Markup:
    """Accuracy against confidence, a circle for each bin with its area by its count, and the diagonal.

    On the diagonal a confidence of 0.7 is right seven times in ten; below it the model is too sure.
    """
    left, right, top, foot = 44.0, WIDTH - 16.0, 12.0, 296.0
    x, y = Scale(0, 1, left, right), Scale(0, 1, foot, top)
    ticks = axis_texts([0.0, 0.25, 0.5, 0.75, 1.0])
    drawn = [line(x(tick), top, x(tick), foot, "grid") for tick, _ in ticks]
    drawn.append(line(x(0), y(0), x(1), y(1), "reference"))
    largest = max((one.count for one in bins), default=1) or 1
    drawn.append(path([(x(b.confidence), y(b.accuracy)) for b in bins], "own stroke thin"))
    drawn += [
        circle(
            x(b.confidence),
            y(b.accuracy),
            2.5 + 9 * math.sqrt(b.count / largest),
            "own fill veil",
            _describe_bin(b),
        )
        for b in bins
    ]
    drawn.append(label(x(0.06), y(0.94), "too modest", "hint", "start"))
    drawn.append(label(x(0.94), y(0.04), "too sure", "hint", "end"))
    places, axis = [(x(tick), text) for tick, text in ticks], "confidence of the likeliest token"
    return chart(
        name,
        title,
        "; ".join(map(_describe_bin, bins)),
        y,
        ticks,
        places,
        axis,
        drawn,
        left=left,
        right=right,
    )


def _describe_bin(one: Bin) -> str:
    return f"confidence {format_number(one.confidence)}, right {format_number(one.accuracy)}, {one.count:,} tokens"
