"""What was written: the sections on its scores beside the controls, by length and by guidance, and on variety."""

from collections.abc import Sequence

from markupsafe import Markup

from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.diversity import Diversity
from sgdd_engine.evaluation.guidance_search import GuidanceSearch
from sgdd_engine.evaluation.metrics import METRICS, Metric
from sgdd_engine.evaluation.page.plots import Bar, Series, bars, lines
from sgdd_engine.evaluation.page.view import (
    Cell,
    Fact,
    Figure,
    Row,
    Section,
    Table,
    Tone,
    cell,
    form,
    form_range,
    metric_row,
    title,
    which_way,
)
from sgdd_engine.evaluation.reconstruction import CONDITIONS
from sgdd_engine.evaluation.report import EvaluationReport, LengthBucket
from sgdd_engine.evaluation.training_text import Memorisation

_HEADLINE = ("token_f1", "bleu", "cosine", "exact_match")
_DRAWN = ("token_f1", "bleu", "cosine")
_DRAWN_BY_WEIGHT = (*_DRAWN, "chrf", "exact_match", "repetition")
_MEANS = "Means, with their 95 % intervals beneath"


def headline(report: EvaluationReport) -> list[Fact]:
    """The four scores that sum it up, each with what another sentence's vector gives."""
    facts = []
    for name in _HEADLINE:
        own, other = (report.conditions[condition][name] for condition in ("true", "shuffled"))
        metric = METRICS[name]
        shown = cell(own, metric.decimals)
        beside = f"{form(other.mean, metric.decimals)} from {CONDITIONS['shuffled'].label}"
        facts.append(Fact(title(metric.label), shown.text, beside, shown.note))
    return facts


def conditions_section(report: EvaluationReport) -> Section:
    """Every score under every condition."""
    conditions = report.conditions
    figures = []
    for name in _DRAWN:
        metric = METRICS[name]
        drawn = [Bar(CONDITIONS[c].label, conditions[c][name], _colour(c)) for c in conditions]
        pair = ("two random sentences", report.random_pair_cosine.mean) if name == "cosine" else None
        drawing = bars(
            f"conditions-{name}", title(metric.label), drawn, decimals=metric.decimals, reference=pair
        )
        figures.append(_figure(metric, drawing))
    own = list(conditions).index("true")
    rows = [metric_row(name, [conditions[c][name] for c in conditions], own) for name in METRICS]
    lead = (
        "Each sentence is written from a full mask, given nothing but a vector. The controls show what the same "
        "model writes from another sentence's vector or from none, and, where a training corpus was at hand, what "
        "simply looking up the nearest training sentence gives. A good model stands well above all of them."
    )
    tables = [Table(_MEANS, [CONDITIONS[c].label for c in conditions], rows)]
    return Section("conditions", "What comes back, beside its controls", lead, (), figures, tables)


def differences_section(report: EvaluationReport) -> Section:
    """What the true vector adds to each control, sentence by sentence."""
    differences = report.differences
    rows = [
        Row(
            title(metric.label),
            [_judged(differences[other][name], metric) for other in differences],
            "",
            which_way(metric),
        )
        for name, metric in METRICS.items()
    ]
    lead = (
        "Its own vector's score less the control's, paired sentence by sentence. Where the 95 % interval holds "
        "zero, this many sentences cannot tell the two apart."
    )
    columns = [f"against {CONDITIONS[other].label}" for other in differences]
    table = Table("Mean difference, with its 95 % interval beneath", columns, rows)
    return Section("differences", "How sure the differences are", lead, tables=[table])


def _judged(value: Interval, metric: Metric) -> Cell:
    # A tenth of a BLEU point is too coarse for the end of an interval that lies near zero.
    shown = cell(value, max(2, metric.decimals))
    if not shown.note:
        return shown
    if not (value.above_zero or value.below_zero):
        return Cell(shown.text, f"{shown.note}: not clear")
    good = value.above_zero == (metric.better == "higher")
    tone: Tone = "good" if good else "bad"
    return Cell(shown.text, f"{shown.note}: {'better' if good else 'worse'}", tone)


def length_section(buckets: Sequence[LengthBucket]) -> Section:
    """Scores by the length of the source."""
    places = [bucket.tokens.replace("-", "–") for bucket in buckets]
    figures = []
    for name in _DRAWN:
        metric = METRICS[name]
        series = [Series(CONDITIONS["true"].label, [bucket.own[name] for bucket in buckets], "own")]
        if name == "token_f1":
            beside = [bucket.shuffled_token_f1 for bucket in buckets]
            series.append(Series(CONDITIONS["shuffled"].label, beside, "control"))
        drawing = lines(
            f"length-{name}",
            title(metric.label),
            places,
            series,
            axis="tokens of the source",
            decimals=metric.decimals,
        )
        figures.append(_figure(metric, drawing))
    names = list(buckets[0].own)
    rows = [
        Row(
            f"{place} tokens",
            [
                Cell(f"{bucket.sentences:,}"),
                *(cell(bucket.own[name], METRICS[name].decimals) for name in names),
                cell(bucket.shuffled_token_f1),
            ],
        )
        for place, bucket in zip(places, buckets, strict=True)
    ]
    columns = ["sentences", *(METRICS[name].label for name in names), "token F1, another's vector"]
    lead = (
        "One vector holds a short sentence more easily than a long one. How slowly the scores fall with length "
        "says how much the vector carries and how much of it the decoder reads."
    )
    return Section("length", "By length", lead, (), figures, [Table(_MEANS, columns, rows)])


def guidance_section(search: GuidanceSearch) -> Section:
    """The search of the best guidance weight."""
    weights = [point.cfg for point in search.points]
    chosen = weights.index(search.best)
    figures = []
    for name in _DRAWN_BY_WEIGHT:
        metric = METRICS[name]
        drawing = lines(
            f"guidance-{name}",
            title(metric.label),
            [f"{weight:g}" for weight in weights],
            [Series(metric.label, [point.figures[name] for point in search.points], "own")],
            axis="guidance weight w",
            at=weights,
            decimals=metric.decimals,
            from_zero=False,
            chosen=chosen,
        )
        figures.append(_figure(metric, drawing))
    names = [name for name, metric in METRICS.items() if metric.main or name in _DRAWN_BY_WEIGHT]
    rows = [
        Row(
            f"w = {point.cfg:g}" + (" (chosen)" if index == chosen else ""),
            [
                cell(point.figures[name], METRICS[name].decimals, "own" if index == chosen else "")
                for name in names
            ],
        )
        for index, point in enumerate(search.points)
    ]
    lead = (
        f"Guidance pushes the text towards the vector; w = 1 is none. The weight was chosen on {search.sentences:,} "
        "sentences that are not among those scored above. Too little wastes the vector, too much makes the text "
        "repeat or break."
    )
    facts = [Fact("Chosen weight", f"{search.best:g}", "used above, unless another was asked for")]
    tables = [Table(_MEANS, [METRICS[name].label for name in names], rows)]
    return Section("guidance", "How much guidance helps", lead, facts, figures, tables)


def variety_section(diversity: Diversity, memory: Memorisation | None, encoder_calls: float) -> Section:
    """Copied training sentences, diversity of samples and of words, and what a text cost."""
    facts = []
    if memory is not None:
        facts += [
            _share("Outputs found in training", memory.outputs, "written texts that are training sentences"),
            _share(
                "Sources found in training", memory.sources, "sources that are; what overlap alone explains"
            ),
            _share("Copied beyond that", memory.excess, "the one less the other; near zero is good"),
        ]
    lead = "Whether it writes texts of its own, and how different they are from one another."
    if (samples := diversity.samples) is not None:
        lead += (
            f" Variety is that of {samples.samples_per_sentence} texts from each of {samples.sentences:,} vectors, at "
            f"temperature {samples.temperature:g}."
        )
        facts += [
            Fact(
                "Self-BLEU",
                form(samples.self_bleu, 1),
                "likeness of several texts from one vector, 0–100; lower is more varied",
            ),
            Fact(
                "Cosine of samples",
                form(samples.samples_cosine),
                "closeness of such texts to their vector; higher is better",
            ),
            Fact(
                "Distinct words",
                form(samples.samples_distinct_1),
                "different words among the words of such texts; higher is more varied",
            ),
            Fact(
                "Distinct pairs", form(samples.samples_distinct_2), "the same of pairs of neighbouring words"
            ),
        ]
    if encoder_calls:
        meaning = "texts encoded per sentence, to choose among drafts and to refine them"
        facts.append(Fact("Encoder calls", form(encoder_calls, 1), meaning))
    words = (
        ("distinct_1", "Distinct words", "different words, as a share of all words"),
        ("distinct_2", "Distinct pairs", "different pairs of neighbouring words, as a share of all"),
        ("entropy_nats", "Entropy", "evenness of the words used, in nats"),
    )
    sides = (diversity.outputs, diversity.references)
    rows = [
        Row(head, [Cell(form(getattr(side, name))) for side in sides], meaning, "near the sources' is good")
        for name, head, meaning in words
    ]
    tables = [Table("All words written", ["written", "sources"], rows, narrow=True)]
    return Section("variety", "Variety and memory", lead, facts, tables=tables)


def _share(name: str, value: Interval, meaning: str) -> Fact:
    """A share in per cent, with its interval."""
    percent = Interval(100 * value.mean, *(100 * end for end in value.ends or ()))
    return Fact(name, f"{form(percent.mean, 1)} %", meaning, form_range(percent, 1))


def _colour(condition: str) -> str:
    """The class of a condition's marks in the drawings."""
    default = "control" if CONDITIONS[condition].control else "second"
    return {"true": "own", "nearest": "third"}.get(condition, default)


def _figure(metric: Metric, drawing: Markup) -> Figure:
    return Figure(title(metric.label), drawing, f"{title(metric.explanation)}.")
