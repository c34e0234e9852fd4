"""The drawings of the page, each from its part of the report."""

from collections.abc import Sequence

from markupsafe import Markup

from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.guidance_search import GuidanceSearch
from sgdd_engine.evaluation.likelihood import MaskBucket
from sgdd_engine.evaluation.metrics import METRICS
from sgdd_engine.evaluation.page.plots import Bar, Series, bars, lines
from sgdd_engine.evaluation.reconstruction import CONDITIONS
from sgdd_engine.evaluation.report import EvaluationReport, LengthBucket


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
