"""An evaluation as people read it in a terminal: tables, then the verdicts, then some of what was written."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from sgdd_cli import formatting
from sgdd_cli.console import emit, emit_command, emit_table, emit_text, new_table
from sgdd_engine.counted import counted
from sgdd_engine.evaluation.metrics import METRICS
from sgdd_engine.evaluation.reconstruction import CONDITIONS
from sgdd_engine.generation.confidence import CLOSE_F1, WAYS

if TYPE_CHECKING:
    from sgdd_engine.evaluation.bootstrap import Interval
    from sgdd_engine.evaluation.confidence import JudgedFit
    from sgdd_engine.evaluation.diversity import Diversity, WordFigures
    from sgdd_engine.evaluation.latent import LatentFigures
    from sgdd_engine.evaluation.report import EvaluationReport
    from sgdd_engine.evaluation.sampler_comparison import SamplerPoint

_MARKS = {True: "ok", False: "!", None: "?"}
_BY_CONDITION = ("exact_match", "token_f1", "set_f1", "bleu", "chrf", "cosine", "retrieval_top1")
_BY_LENGTH = ("exact_match", "token_f1", "bleu", "cosine")
_BY_SAMPLER = ("token_f1", "bleu", "cosine")
_SHOWN_OF_EACH = 2
_BY_WEIGHT = ("token_f1", "cosine", "bleu", "repetition")


def draw_evaluation(report: "EvaluationReport", checkpoint: str) -> None:
    """Print the report of what was evaluated."""
    emit_text(_headline(report, checkpoint), later="  ")
    if (search := report.guidance_search) is not None:
        names = [f"{'best ' if p.cfg == search.best else ''}{p.cfg:g}" for p in search.points]
        points = list(zip(names, (p.figures for p in search.points), strict=True))
        _draw("guidance w", _BY_WEIGHT, points, ranges=("token_f1", "cosine"))
    conditions = [(CONDITIONS[name].label, found) for name, found in report.conditions.items()]
    _draw("decoded from", _BY_CONDITION, conditions)
    _draw_lengths(report)
    _draw_mask_ratios(report)
    for line in _lines(report):
        emit_text(line, later="  ")
    emit("")
    _emit_verdicts(report)
    emit("")
    emit_text("Best, median and worst of what was written, by token F1:")
    for sample in report.typical_samples(_SHOWN_OF_EACH):
        emit(f"{sample.group}, token F1 {_number('token_f1', sample.token_f1)}")
        for line in formatting.pair_lines(sample.source, sample.text).splitlines():
            emit_text(line, later=" " * 11)


def _emit_verdicts(report: "EvaluationReport") -> None:
    """The verdicts; a cause that several share is said after the last of them."""
    for index, verdict in enumerate(report.verdicts):
        emit_text(verdict.sentence, f"{_MARKS[verdict.ok]:<3}", "   ")
        following = {later.cause for later in report.verdicts[index + 1 :]}
        if verdict.cause is not None and verdict.cause not in following:
            emit_text(f"Likely cause: {verdict.cause}", "   ", "   ")
            if verdict.command is not None:
                emit_command(verdict.command, "     ")


def draw_samplers(points: Sequence["SamplerPoint"], sentences: int, checkpoint: str) -> None:
    """Print what ways of sampling cost and bring; those that pay are marked."""
    emit_text(f"{checkpoint}: {counted(sentences, 'sentence')} from a full mask")
    changed = list(points[0].changes)
    heads = [*(_head(name, ("token_f1", "cosine")) for name in _BY_SAMPLER), "positions", "ms"]
    table = new_table("", *changed, *heads, numbers=heads)
    for point in points:
        table.add_row(
            "*" if point.efficient else "",
            *(f"{value:g}" if isinstance(value, float) else str(value) for value in point.changes.values()),
            *(_cell(name, point.figures[name], ("token_f1", "cosine")) for name in _BY_SAMPLER),
            f"{point.positions_read:,.0f}",
            f"{1000 * point.seconds:,.0f}",
        )
    emit_table(table)
    emit_text(
        "* no other row is better at the same cost or less. positions: how many the decoder reads for a sentence; ms: "
        "processor time for a sentence."
    )


def draw_calibration(found: Mapping[str, "JudgedFit"], checkpoint: str) -> None:
    """Print how well it is told which sentences are close to their sources."""
    emit_text(f"{checkpoint}: how likely a written sentence has a token F1 above {CLOSE_F1} with its source")
    heads = ["sentences", "above", "Brier", "of the share", "calibration error", "AUC"]
    table = new_table("written", *heads, numbers=heads)
    for way, judged in found.items():
        facts = judged.fit.facts
        names = ("share_close", "brier", "brier_of_share", "expected_calibration_error", "auc")
        cells = (f"{facts[name]:.3f}" for name in names)
        table.add_row(WAYS[way], f"{facts['sentences']:,}", *cells)
    emit_table(table)
    emit_text(
        "Each sentence is judged by a fit on other sentences. Brier: mean squared error of the probability; of the "
        "share: the same error if every sentence gets the share above as its probability."
    )


def _headline(report: "EvaluationReport", checkpoint: str) -> str:
    sampling, asked = report.settings["sampling"], report.settings["eval"]
    parts = [
        f"{checkpoint}: {counted(report.sentences, 'sentence')} from a full mask",
        counted(sampling["steps"], "step"),
        f"cfg {sampling['cfg']:g}",
    ]
    if asked["candidates"] > 1:
        parts.append(f"best of {asked['candidates']}")
    if asked["refine"]:
        parts.append(counted(asked["refine"], "round") + " of feedback")
    if (asked["shortlist"] or 1) > 1:
        parts.append(f"shortlists of {asked['shortlist']}")
    if asked.get("search"):
        parts.append(f"a search of {asked['search']} calls")
    if report.encoder_calls:
        parts.append(f"{report.encoder_calls:.1f} encoder calls a sentence")
    return ", ".join(parts)


def _draw(
    first: str,
    names: Sequence[str],
    rows: Sequence[tuple[str, Mapping[str, "Interval"]]],
    ranges: Sequence[str] = ("token_f1",),
) -> None:
    """A table of metrics, one line for each of the named rows; those in `ranges` with their intervals."""
    heads = [_head(name, ranges) for name in names]
    table = new_table(first, *heads, numbers=heads)
    for label, found in rows:
        table.add_row(label, *(_cell(name, found[name], ranges) for name in names))
    emit_table(table)


def _draw_lengths(report: "EvaluationReport") -> None:
    heads = [
        "tokens",
        "sentences",
        *(_head(name) for name in _BY_LENGTH),
        f"token F1, {CONDITIONS['shuffled'].label}",
    ]
    table = new_table(*heads, numbers=heads)
    for bucket in report.by_length:
        cells = (_cell(name, bucket.own[name]) for name in _BY_LENGTH)
        table.add_row(
            bucket.tokens, f"{bucket.sentences:,}", *cells, _number("token_f1", bucket.shuffled_token_f1.mean)
        )
    emit_table(table)


def _draw_mask_ratios(report: "EvaluationReport") -> None:
    heads = ["% masked", "accuracy", "NLL, nats", "tokens"]
    table = new_table(*heads, numbers=heads)
    for row in report.likelihood.by_mask_ratio:
        table.add_row(row.masked, formatting.share(row.accuracy), f"{row.nll_nats:.2f}", f"{row.tokens:,}")
    emit_table(table)


def _lines(report: "EvaluationReport") -> Iterator[str]:
    true, bound, calibration = report.conditions["true"], report.likelihood, report.likelihood.calibration
    yield (
        f"Corpus scores: BLEU {true['corpus_bleu'].mean:.1f}, chrF {true['corpus_chrf'].mean:.1f}; the source is "
        f"number {true['retrieval_median_rank'].mean:g} of {report.sentences:,} (median)"
    )
    yield (
        f"Length: right in {true['length_exact'].mean:.0%} of the sentences, "
        f"off by {true['length_error'].mean:.2f} tokens on average"
    )
    yield (
        f"NELBO: {bound.nelbo_nats_per_token:.3f}{_error(bound.standard_error)} nats per token, "
        f"{bound.bits_per_byte:.3f}{_error(bound.bits_per_byte_standard_error)} bits per byte"
    )
    yield (
        f"Calibration: expected error {calibration.expected_error:.3f} over {int(calibration.count.sum()):,} masked "
        "tokens"
    )
    yield _latent(report.latent)
    yield from _diversity(report.diversity)
    if (known := report.memorisation) is not None:
        yield (
            f"Memorisation: {known.outputs.mean:.1%} of the outputs and {known.sources.mean:.1%} of the sources are "
            f"among {report.settings['training']['available']:,} training sentences"
        )
    yield f"Two random sentences: cosine {report.random_pair_cosine.mean:.3f}"


def _latent(latent: "LatentFigures") -> str:
    text = (
        f"Latent ({latent.kind}): {latent.dimensions} dimensions, effective rank {latent.effective_rank:.1f}"
    )
    if (posterior := latent.posterior) is None:
        return text
    return (
        f"{text}, {posterior.active_units} active, KL {posterior.kl_nats_per_sentence:.1f} nats per sentence"
    )


def _diversity(found: "Diversity") -> Iterator[str]:
    def pair(words: "WordFigures") -> str:
        return f"{formatting.share(words.distinct_1)}/{formatting.share(words.distinct_2)}"

    yield (
        f"Words: distinct-1/2 {pair(found.outputs)}, in the sources {pair(found.references)}; "
        f"entropy {found.outputs.entropy_nats:.2f} nats, in the sources {found.references.entropy_nats:.2f}"
    )
    if (samples := found.samples) is not None:
        yield (
            f"Diversity of {samples.samples_per_sentence} samples at temperature {samples.temperature:g}: "
            f"self-BLEU {samples.self_bleu:.1f}, distinct-1/2 {formatting.share(samples.samples_distinct_1)}/"
            f"{formatting.share(samples.samples_distinct_2)}, cosine {formatting.share(samples.samples_cosine)}"
        )


def _head(name: str, ranges: Sequence[str] = ("token_f1",)) -> str:
    return f"{METRICS[name].label} (95 %)" if name in ranges else METRICS[name].label


def _cell(name: str, value: "Interval", ranges: Sequence[str] = ("token_f1",)) -> str:
    shown = _number(name, value.mean)
    if name not in ranges or value.ends is None:
        return shown
    return f"{shown} ({'-'.join(_number(name, end) for end in value.ends)})"


def _number(name: str, value: float) -> str:
    return f"{value:.{METRICS[name].decimals}f}"


def _error(error: float | None) -> str:
    return "" if error is None else f" ± {error:.3f}"
