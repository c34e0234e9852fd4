"""The page of an audit as a file: a report goes in, one HTML file that needs no other comes out."""

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from markupsafe import Markup

from sgdd_engine.atomic_files import write_bytes
from sgdd_engine.audit.exposure import ITEMS
from sgdd_engine.audit.report import MEASURES, AuditReport, DefenceFigures, Leak
from sgdd_engine.audit.retrieval import chance_among, depth_among
from sgdd_engine.audit.verdicts import FEWEST_TEXTS
from sgdd_engine.evaluation.bootstrap import Interval
from sgdd_engine.evaluation.metrics import METRICS
from sgdd_engine.evaluation.page.charts import EMPTY, Series, lines
from sgdd_engine.evaluation.page.scatter import Spot, scatter
from sgdd_engine.evaluation.page.write import checkpoint_title, page_template, without_folders
from sgdd_engine.visible_text import visible

# Rows that are shown under every defence.
_SHOWN_UNDER = 3
_COLOURS = ("own", "second", "third")


def write_page(report: AuditReport, checkpoint: str, path: Path) -> None:
    """Write an audit as one self-contained HTML page that is whole under its name or not there.

    It holds the audited texts. Of folders and files it has the names and not where they are.

    Args:
        report: The audit.
        checkpoint: Name of the attacker's decoder.
        path: The file to write; an older file of that name is replaced.

    Raises:
        OSError: The file cannot be written.
    """
    write_bytes(path, render(report, checkpoint).encode(errors="xmlcharrefreplace"))


def render(report: AuditReport, checkpoint: str) -> str:
    """The page as text; every text in the report is escaped, also what would turn the direction of a line."""
    settings = without_folders(report.settings)
    named = {defence.name for defence in report.defences}
    page = page_template("audit.html.j2", __package__).render(
        report=report,
        checkpoint=checkpoint_title(checkpoint),
        made_with=_made_with(report, settings),
        verdicts=[verdict for verdict in report.verdicts if verdict.name not in named],
        of_defences=[verdict for verdict in report.verdicts if verdict.name in named],
        fewest=FEWEST_TEXTS,
        short=_short,
        depth=depth_among(report.documents),
        chance=chance_among(report.documents),
        items=ITEMS,
        measures=MEASURES,
        by_calls=by_calls,
        items_by_calls=items_by_calls,
        by_length=by_length,
        against_retrieval=against_retrieval,
        under=report.rows[:_SHOWN_UNDER] if report.defences else (),
        # A vocabulary without capitals writes none: then they are no difference.
        fold=str if any(row.text != row.text.lower() for row in report.rows) else str.casefold,
        settings=json.dumps(settings, indent=2, ensure_ascii=False),
        today=date.today().isoformat(),
    )
    return visible(page, keep="\n\t")


def by_calls(leaks: Sequence[Leak], name: str) -> Markup:
    """A metric by the attacker's encoder calls, beside that of another row's vector."""
    metric = METRICS[name]
    series = [
        Series("its own vector", [leak.own[name] for leak in leaks], "own"),
        Series("another row's", [leak.shuffled[name] for leak in leaks], "control"),
    ]
    places = [f"{leak.calls:,}" for leak in leaks]
    return lines(
        f"calls-{name}", metric.label, places, series, axis="encoder calls", decimals=metric.decimals
    )


def items_by_calls(leaks: Sequence[Leak]) -> Markup:
    """The shares of names, numbers and rare words that were written, by encoder calls, in percent; of enough texts."""
    series = [
        Series(kind.label, [_percent(leak.items[name].own) for leak in leaks], colour)
        for (name, kind), colour in zip(ITEMS.items(), _COLOURS, strict=True)
        if leaks[0].items[name].texts >= FEWEST_TEXTS
    ]
    if not series:
        return EMPTY
    places = [f"{leak.calls:,}" for leak in leaks]
    title = "Names, numbers and rare words, %"
    return lines("calls-items", title, places, series, axis="encoder calls", decimals=0)


def _percent(value: Interval | None) -> Interval:
    assert value is not None, "items are the same at every number of calls"
    ends = value.ends
    return Interval(100 * value.mean, *(() if ends is None else (100 * ends[0], 100 * ends[1])))


def by_length(report: AuditReport, name: str) -> Markup:
    """A metric by tokens of the source, token F1 beside that of another row's vector."""
    metric = METRICS[name]
    series = [Series("its own vector", [bucket.own[name] for bucket in report.by_length], "own")]
    if name == "token_f1":
        beside = [bucket.shuffled_token_f1 for bucket in report.by_length]
        series.append(Series("another row's", beside, "control"))
    places = [bucket.tokens.replace("-", "–") for bucket in report.by_length]
    axis = "tokens of the source"
    return lines(f"length-{name}", metric.label, places, series, axis=axis, decimals=metric.decimals)


def against_retrieval(report: AuditReport, name: str) -> Markup:
    """What the strongest attacker of each defence writes, against the neighbours that are still found.

    Args:
        report: The audit.
        name: `token_f1`, or a kind of item.
    """

    def given(leak: Leak) -> Interval | None:
        if name in leak.own:
            return leak.own[name]
        return _percent(leak.items[name].own) if leak.items[name].texts >= FEWEST_TEXTS else None

    found = [(_short(one), one.retrieval.recall.mean, given(one.strongest.last)) for one in report.defences]
    found += [("no defence", 1.0, given(leak)) for leak in (report.undefended,) if leak is not None]
    points = [(label, recall, value) for label, recall, value in found if value is not None]
    if not points:
        return EMPTY
    spots = [
        Spot(label, recall, value, on_front=not any(_beats(other, (recall, value.mean)) for other in points))
        for label, recall, value in points
    ]
    title = f"{ITEMS[name].label}, %" if name in ITEMS else METRICS[name].label
    return scatter(
        f"retrieval-{name}",
        f"{title} and retrieval",
        spots,
        axis=f"nearest neighbours that are still found (recall@{depth_among(report.documents)})",
        decimals=0 if name in ITEMS else 2,
        x_decimals=2,
    )


def _beats(other: tuple[str, float, Interval], point: tuple[float, float]) -> bool:
    """Whether a defence finds as much and gives away less than another one, or finds more and gives away no more."""
    _, recall, value = other
    return recall >= point[0] and value.mean <= point[1] and (recall > point[0] or value.mean < point[1])


def _short(defence: DefenceFigures) -> str:
    """A label that fits into a drawing: `noise 0.5`, `1 bit`, `first 96`."""
    kind, _, value = defence.name.partition(":")
    if kind == "bits":
        return defence.label
    return f"{kind} {value}".strip()


def _made_with(report: AuditReport, settings: dict[str, Any]) -> list[tuple[str, str]]:
    """The settings that a reader needs to judge the figures; all of them stand at the page's end."""
    asked, made = settings["audit"], settings["model"]
    shown = {
        "data": settings["data"].get("path"),
        "encoder": made["encoder"]["name"],
        "encoder calls": ", ".join(map(str, asked["calls"])),
        "under defences": ", ".join(map(str, asked["defence_calls"])) if report.defences else None,
        "attacker's own texts": f"{report.own_texts:,}",
        "training step": f"{made['step']:,}",
        "device": made["device"],
        "seed": asked["seed"],
    }
    return [(name, str(value)) for name, value in shown.items() if value is not None]
