"""An audit as people read it in a terminal: tables, the most exposed texts, then the verdicts."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sgdd_cli import formatting
from sgdd_cli.console import emit, emit_table, emit_text, new_table
from sgdd_engine.audit.exposure import ITEMS
from sgdd_engine.audit.report import MEASURES
from sgdd_engine.counted import counted
from sgdd_engine.evaluation.metrics import METRICS

if TYPE_CHECKING:
    from sgdd_engine.audit.report import AuditReport, Leak
    from sgdd_engine.evaluation.bootstrap import Interval

_OTHER = "another row's"
_SHOWN = 5
_BY_LENGTH = ("exact_match", "token_f1", "bleu", "cosine")
# Given away, not told, and no such thing: `eval` marks its verdicts in the same way.
_MARKS = {False: "!", True: "ok", None: "?"}


def draw_audit(report: "AuditReport", checkpoint: str) -> None:
    """Print what an audit found."""
    emit_text(
        f"{checkpoint} writes {counted(report.texts, 'text')} again from their vectors; 95 % intervals in brackets",
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
    """What comes back by encoder calls, and from another row's vector."""
    ranges = ("token_f1",)
    heads = [f"{METRICS[name].label} (95 %)" if name in ranges else METRICS[name].label for name in MEASURES]
    items = [f"{kind.label} (95 %)" for kind in ITEMS.values()]
    table = new_table("encoder calls", *heads, *items, numbers=[*heads, *items])
    for leak in report.leaks:
        cells = [_figure(name, leak.own[name], name in ranges) for name in MEASURES]
        table.add_row(f"{leak.calls:,}", *cells, *_items(leak, "own"))
    last = report.last
    table.add_row(
        f"{last.calls:,}, {_OTHER} vector",
        *(_figure(name, last.shuffled[name], name in ranges) for name in MEASURES),
        *_items(last, "shuffled"),
    )
    emit_table(table)


def _draw_lengths(report: "AuditReport") -> None:
    heads = ["texts", *(METRICS[name].label for name in _BY_LENGTH), f"token F1, {_OTHER}"]
    table = new_table("tokens", *heads, numbers=heads)
    for bucket in report.by_length:
        cells = (_figure(name, bucket.own[name]) for name in _BY_LENGTH)
        other = _figure("token_f1", bucket.shuffled_token_f1)
        table.add_row(bucket.tokens, f"{bucket.sentences:,}", *cells, other)
    emit_table(table)


def _draw_defences(report: "AuditReport") -> None:
    """What each defence leaves to each attacker, beside what it leaves to retrieval."""
    emit_text(
        f"Under defences, with {counted(report.defences[0].attacks[0].last.calls, 'encoder call')}; neighbours among "
        f"{report.documents:,} vectors; the attacker has {counted(report.own_texts, 'text')} of their own",
        later="  ",
    )
    heads = ["recall@10", "NDCG@10", "token F1 (95 %)", f"F1, {_OTHER}", "names", "numbers", "rare words"]
    table = new_table("defence", "attacker", *heads, numbers=heads)
    plain = next(
        (leak for leak in report.leaks if leak.calls == report.defences[0].attacks[0].last.calls), None
    )
    if plain is not None:
        table.add_row("none", "", "1.00", "1.00", *_defence_cells(plain))
    for defence in report.defences:
        for place, attack in enumerate(defence.attacks):
            quality = defence.retrieval
            shown = () if place else (defence.label, f"{quality.recall.mean:.2f}", f"{quality.ndcg.mean:.2f}")
            label, *figures = shown or ("", "", "")
            table.add_row(label, attack.label, *figures, *_defence_cells(attack.last))
    emit_table(table)


def _defence_cells(leak: "Leak") -> Iterator[str]:
    yield _figure("token_f1", leak.own["token_f1"], True)
    yield _figure("token_f1", leak.shuffled["token_f1"])
    yield from _items(leak, "own", ranges=False)


def _items(leak: "Leak", which: str, *, ranges: bool = True) -> Iterator[str]:
    """The shares of items that were written, in percent; a dash where the texts hold none."""
    for name in ITEMS:
        value: Interval | None = getattr(leak.items[name], which)
        if value is None:
            yield "-"
        elif value.ends is None or not ranges:
            yield f"{100 * value.mean:.0f} %"
        else:
            yield f"{100 * value.mean:.0f} % ({100 * value.ends[0]:.0f}-{100 * value.ends[1]:.0f})"


def _figure(name: str, value: "Interval", with_range: bool = False) -> str:
    decimals = METRICS[name].decimals
    shown = f"{value.mean:.{decimals}f}"
    if not with_range or value.ends is None:
        return shown
    return f"{shown} ({value.ends[0]:.{decimals}f}-{value.ends[1]:.{decimals}f})"
