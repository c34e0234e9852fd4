"""How much of the meaning comes back: the sections on what was written."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.page.naming import (
    CONDITIONS,
    SCORES,
    Score,
    form,
    interval,
    number,
    readable,
    score,
)
from sgdd_engine.evaluation.page.plots import Bar, Series, bars, lines
from sgdd_engine.evaluation.page.view import (
    Cell,
    Fact,
    Figure,
    Row,
    Section,
    Table,
    cell,
    mapping,
    names_in,
    rows_of,
    score_row,
    told,
    which_way,
)

_DRAWN = ("token_f1", "bleu", "cosine")
_MEANS = "Means, with their 95 % intervals beneath"
_HEADLINE = ("token_f1", "bleu", "cosine", "exact_match")


def headline(result: Mapping[str, Any]) -> list[Fact]:
    """The four scores that sum it up, each with what another sentence's vector gives."""
    conditions = mapping(result.get("conditions"))
    true, shuffled = mapping(conditions.get("true")), mapping(conditions.get("shuffled"))
    facts = []
    for name in _HEADLINE:
        own, other, kind = interval(true.get(name)), interval(shuffled.get(name)), score(name)
        if own is not None:
            shown = cell(own, kind.decimals)
            beside = f"{form(other.mean, kind.decimals)} from another sentence’s vector" if other else ""
            facts.append(Fact(_short(name), shown.text, shown.note, beside))
    return facts


def conditions_section(result: Mapping[str, Any]) -> Section | None:
    """Every score under every condition."""
    conditions = mapping(result.get("conditions"))
    there = [name for name in (*CONDITIONS, *conditions) if mapping(conditions.get(name))]
    there = list(dict.fromkeys(there))
    if not there:
        return None
    names = names_in([mapping(conditions[name]) for name in there], SCORES)
    labels = {name: CONDITIONS.get(name, (readable(name).lower(), "control")) for name in there}
    random_pair = interval(result.get("random_pair_cosine"))
    figures = []
    for name in _DRAWN:
        found = [(c, interval(conditions[c].get(name))) for c in there]
        rows = [Bar(labels[c][0], value, labels[c][1]) for c, value in found if value is not None]
        if not rows:
            continue
        kind = score(name)
        reference = ("two random sentences", random_pair.mean) if name == "cosine" and random_pair else None
        drawing = bars(f"conditions-{name}", kind.label, rows, decimals=kind.decimals, reference=reference)
        figures.append(Figure(kind.label, drawing, told(kind)))
    table = Table(
        _MEANS,
        [labels[c][0] for c in there],
        [score_row(n, [interval(conditions[c].get(n)) for c in there], _index(there, "true")) for n in names],
    )
    lead = (
        "Each sentence is written from a full mask, given nothing but a vector. The controls show what the same "
        "model writes from another sentence’s vector or from none, and, where a training corpus was at hand, what "
        "simply looking up the nearest training sentence gives. A good model stands well above all of them."
    )
    return Section(
        "conditions", "What comes back, beside its controls", lead, figures=figures, tables=[table]
    )


def differences_section(result: Mapping[str, Any]) -> Section | None:
    """What the true vector adds to each control, sentence by sentence."""
    differences = mapping(result.get("differences"))
    against = [name for name in dict.fromkeys((*CONDITIONS, *differences)) if mapping(differences.get(name))]
    if not against:
        return None
    rows = []
    for name in names_in([mapping(differences[other]) for other in against], SCORES):
        kind = score(name)
        cells = [_judged(interval(differences[other].get(name)), kind) for other in against]
        rows.append(Row(kind.label, cells, "", which_way(kind)))
    columns = [f"against {CONDITIONS.get(other, (readable(other), ''))[0]}" for other in against]
    lead = (
        "Its own vector’s score less the control’s, paired sentence by sentence. Where the 95 % interval holds "
        "zero, this many sentences cannot tell the two apart."
    )
    table = Table("Mean difference, with its 95 % interval beneath", columns, rows)
    return Section("differences", "How sure the differences are", lead, tables=[table])


def _judged(value: Interval | None, kind: Score) -> Cell:
    # A tenth of a BLEU point is too coarse for the end of an interval that lies near zero.
    shown = cell(value, max(2, kind.decimals))
    if value is None or kind.better is None or value.low == value.high:
        return shown
    if value.low <= 0 <= value.high:
        return Cell(shown.text, f"{shown.note}: not clear")
    good = (value.low > 0) == (kind.better == "higher")
    tone: Literal["good", "bad"] = "good" if good else "bad"
    return Cell(shown.text, f"{shown.note}: {'better' if good else 'worse'}", tone)


def length_section(result: Mapping[str, Any]) -> Section | None:
    """Scores by the length of the source."""
    rows = rows_of(result.get("by_length"))
    if not rows:
        return None
    places = [_dashed(row.get("tokens", "?")) for row in rows]
    named = names_in(rows, (*SCORES, "shuffled_token_f1"))
    names = [name for name in named if name not in ("sentences", "tokens")]
    figures = []
    for name in (n for n in _DRAWN if n in names):
        kind = score(name)
        series = [Series("its own vector", [interval(row.get(name)) for row in rows], "own")]
        if f"shuffled_{name}" in names:
            beside = [interval(row.get(f"shuffled_{name}")) for row in rows]
            series.append(Series("another sentence’s", beside, "control"))
        drawing = lines(
            f"length-{name}", kind.label, places, series, axis="tokens of the source", decimals=kind.decimals
        )
        figures.append(Figure(kind.label, drawing, told(kind)))
    columns = ["sentences", *(_short(name) for name in names)]
    body = [
        Row(
            f"{place} tokens",
            [
                Cell(form(number(row.get("sentences")), 0)),
                *(cell(interval(row.get(name)), _kind(name).decimals) for name in names),
            ],
        )
        for place, row in zip(places, rows, strict=True)
    ]
    lead = (
        "One vector holds a short sentence more easily than a long one. How slowly the scores fall with length "
        "says how much the vector carries and how much of it the decoder reads."
    )
    return Section("length", "By length", lead, figures=figures, tables=[Table(_MEANS, columns, body)])


def guidance_section(result: Mapping[str, Any]) -> Section | None:
    """The search of the best guidance weight."""
    search = mapping(result.get("guidance_search"))
    grid = [row for row in rows_of(search.get("grid")) if number(row.get("cfg")) is not None]
    if not grid:
        return None
    grid.sort(key=lambda row: float(row["cfg"]))
    weights = [float(row["cfg"]) for row in grid]
    places = [f"{weight:g}" for weight in weights]
    best = number(search.get("best"))
    chosen = weights.index(best) if best in weights else None
    names = [name for name in names_in(grid, SCORES) if name != "cfg"]
    drawn = [name for name in (*_DRAWN, "chrf", "exact_match", "repetition") if name in names]
    figures = [_guidance_figure(name, grid, weights, chosen) for name in drawn]
    body = [
        Row(
            f"w = {place}" + (" (chosen)" if index == chosen else ""),
            [cell(interval(row.get(n)), score(n).decimals, "own" if index == chosen else "") for n in names],
        )
        for index, (place, row) in enumerate(zip(places, grid, strict=True))
    ]
    count = number(search.get("sentences"))
    on = "sentences" if count is None else f"{count:,.0f} sentences"
    lead = (
        f"Guidance pushes the text towards the vector; w = 1 is none. The weight was chosen on {on} that are "
        "not among those scored above. Too little wastes the vector, too much makes the text repeat or break."
    )
    facts = (
        [Fact("Chosen weight", f"{best:g}", "", "used above, unless another was asked for")] if best else []
    )
    tables = [Table(_MEANS, [_short(n) for n in names], body)]
    return Section("guidance", "How much guidance helps", lead, facts, figures, tables)


def _guidance_figure(
    name: str, grid: Sequence[Mapping[str, Any]], weights: Sequence[float], chosen: int | None
) -> Figure:
    kind = score(name)
    drawing = lines(
        f"guidance-{name}",
        kind.label,
        [f"{weight:g}" for weight in weights],
        [Series(kind.label, [interval(row.get(name)) for row in grid], "own")],
        axis="guidance weight w",
        at=weights,
        decimals=kind.decimals,
        from_zero=False,
        chosen=chosen,
    )
    return Figure(kind.label, drawing, told(kind))


def _kind(name: str) -> Score:
    """How a score is shown, that of a control as the score itself."""
    return score(name.removeprefix("shuffled_"))


def _short(name: str) -> str:
    """A column's head: without the explanations that a score's own line has room for."""
    label = _kind(name).label.replace(", mean of sentences", "")
    return f"{label}, another’s" if name.startswith("shuffled_") else label


def _index(there: Sequence[str], name: str) -> int | None:
    return there.index(name) if name in there else None


def _dashed(place: object) -> str:
    return str(place).replace("-", "–")
