"""An audit as people read it in a terminal: tables, the most exposed texts, then the verdicts."""

from typing import TYPE_CHECKING, Literal

from sgdd_cli import formatting
from sgdd_cli.console import emit, emit_table, emit_text, new_table
from sgdd_engine.audit.exposure import ITEMS
from sgdd_engine.audit.report import MEASURES
from sgdd_engine.audit.retrieval import chance_among, depth_among
from sgdd_engine.counted import counted
from sgdd_engine.evaluation.metrics import METRICS

if TYPE_CHECKING:
    from sgdd_engine.audit.report import AuditReport, Leak
    from sgdd_engine.evaluation.bootstrap import Interval

_OTHER = "other row"
_SHOWN = 5
_BY_LENGTH = ("exact_match", "token_f1", "bleu", "cosine")
# Given away, not told, and no such thing: `eval` marks its verdicts in the same way.
_MARKS = {False: "!", True: "ok", None: "?"}


def draw_audit(report: "AuditReport", checkpoint: str) -> None:
    """Print what an audit found."""
    emit_text(
        f"{checkpoint} writes {counted(report.texts, 'text')} again from their vectors; “other row”: from another "
        "row's vector",
        later="  ",
    )
    _draw_leaks(report)
    _draw_lengths(report)
    if report.defences:
        _draw_defences(report)
    emit_text("Most exposed, with the most encoder calls:")
    for row in report.rows[:_SHOWN]:
        written = [item for items in row.written.values() for item in items]
        named = "" if row.id is None else f"row {row.id}, "
        emit_text(
            f"{named}token F1 {row.token_f1:.2f}{', written: ' * bool(written)}{', '.join(written)}",
            later="  ",
        )
        for line in formatting.pair_lines(row.source, row.text).splitlines():
            emit_text(line, later=" " * 11)
    emit("")
    for verdict in report.verdicts:
        emit_text(verdict.sentence, f"{_MARKS[verdict.ok]:<3}", "   ")


def _draw_leaks(report: "AuditReport") -> None:
    """The wording that comes back by encoder calls, and the items, each beside another row's vector."""
    heads = [
        f"{METRICS[name].label} (95 %)" if name == "token_f1" else METRICS[name].label for name in MEASURES
    ]
    wording = new_table("encoder calls", *heads, numbers=heads)
    kinds = [f"{kind.label} (95 %)" for kind in ITEMS.values()]
    items = new_table("encoder calls", *kinds, numbers=kinds)
    last = report.last
    rows = [(f"{leak.calls:,}", leak.own, _items(leak, "own")) for leak in report.leaks]
    rows.append((f"{last.calls:,}, {_OTHER}", last.shuffled, _items(last, "shuffled")))
    for label, figures, shares in rows:
        wording.add_row(label, *(_figure(name, figures[name], name == "token_f1") for name in MEASURES))
        items.add_row(label, *shares)
    emit_table(wording)
    emit_table(items)


def _draw_lengths(report: "AuditReport") -> None:
    heads = ["texts", *(METRICS[name].label for name in _BY_LENGTH), f"F1, {_OTHER}"]
    table = new_table("tokens", *heads, numbers=heads)
    for bucket in report.by_length:
        cells = (_figure(name, bucket.own[name]) for name in _BY_LENGTH)
        other = _figure("token_f1", bucket.shuffled_token_f1)
        table.add_row(bucket.tokens, f"{bucket.sentences:,}", *cells, other)
    emit_table(table)


def _draw_defences(report: "AuditReport") -> None:
    """What each defence leaves to each attacker, beside what it leaves to retrieval."""
    calls = report.defences[0].strongest.last.calls
    emit_text(
        f"Under defences, with {counted(calls, 'encoder call')}; recall and NDCG of the "
        f"{depth_among(report.documents)} nearest of {report.documents:,} vectors (unrelated vectors would have a "
        f"recall of {chance_among(report.documents):.2f}); the attacker has "
        f"{counted(report.own_texts, 'text')} of their own:",
        later="  ",
    )
    heads = ["recall", "NDCG", "token F1", f"F1, {_OTHER}", *(kind.label for kind in ITEMS.values())]
    table = new_table("defence", "attacker", *heads, numbers=heads)
    assert report.undefended is not None, "there are defences"
    table.add_row("none", "", "1.00", "1.00", *_leak_cells(report.undefended))
    for defence in report.defences:
        quality = defence.retrieval
        for attack in defence.attacks:
            found = f"{quality.recall.mean:.2f}", f"{quality.ndcg.mean:.2f}"
            table.add_row(defence.name, attack.label, *found, *_leak_cells(attack.last))
    emit_table(table)


def _leak_cells(leak: "Leak") -> list[str]:
    figures = [_figure("token_f1", found["token_f1"]) for found in (leak.own, leak.shuffled)]
    return [*figures, *_items(leak, "own", ranges=False)]


def _items(leak: "Leak", which: Literal["own", "shuffled"], *, ranges: bool = True) -> list[str]:
    """The shares of items that were written, in percent; a dash where the texts hold none."""
    found = (getattr(leak.items[name], which) for name in ITEMS)
    return ["-" if value is None else _percent(value, ranges) for value in found]


def _percent(value: "Interval", with_range: bool) -> str:
    shown = f"{100 * value.mean:.0f} %"
    if not with_range or value.ends is None:
        return shown
    return f"{shown} ({100 * value.ends[0]:.0f}-{100 * value.ends[1]:.0f})"


def _figure(name: str, value: "Interval", with_range: bool = False) -> str:
    decimals = METRICS[name].decimals
    shown = f"{value.mean:.{decimals}f}"
    if not with_range or value.ends is None:
        return shown
    return f"{shown} ({value.ends[0]:.{decimals}f}-{value.ends[1]:.{decimals}f})"
