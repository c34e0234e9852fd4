"""The model card of `mini`: a template, filled with figures of the checkpoint and of `sgdd eval --json`.

python examples/mini/card.py CHECKPOINT [--after RUN]... [--calls REPORT]... "TITLE=REPORT" [...] > card.md

Each REPORT is what `sgdd eval --json` printed; those after --calls become rows of one table.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template
from typing import Any

from sgdd_engine.checkpoint import CheckpointInfo, load_checkpoint, read_info, resolve_checkpoint
from sgdd_engine.checkpoint.card import sampling_as_text
from sgdd_engine.evaluation.reconstruction import CONDITIONS
from sgdd_engine.generation.confidence import WAYS, recorded_fits

TEMPLATE = Path(__file__).with_name("card.template.md")
# Key of a score, its name, digits behind the point.
SCORES = (
    ("exact_match", "exact", 3),
    ("token_f1", "token F1", 3),
    ("set_f1", "set F1", 3),
    ("bleu", "BLEU", 1),
    ("corpus_bleu", "corpus BLEU", 1),
    ("chrf", "chrF", 1),
    ("cosine", "cosine", 3),
    ("repetition", "repeated", 3),
)
BY_LENGTH = ("exact_match", "token_f1", "bleu", "cosine")


def card(
    checkpoint: Path,
    after: Sequence[str],
    reports: dict[str, dict[str, Any]],
    calls: Sequence[dict[str, Any]] = (),
) -> str:
    """The whole card as Markdown; `after` are the runs of the stages before, `calls` reports of feedback, in order."""
    loaded = load_checkpoint(checkpoint)
    parameters = sum(parameter.numel() for parameter in loaded.model.parameters())
    sections = [section(title, report) for title, report in reports.items()]
    more = [
        *([feedback(calls)] if calls else []),
        *([confidence(loaded.info)] if loaded.info.confidence else []),
    ]
    scores = "\n\n".join([*sections, *more])
    stages = [*(read_info(resolve_checkpoint(run)) for run in after), loaded.info]
    facts = recipe(loaded.info) | {"training": "; then ".join(map(trained, stages))}
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        facts, parameters=f"{parameters / 1e6:.2f}", scores=scores
    )


def recipe(info: CheckpointInfo) -> dict[str, str]:
    """What the checkpoint knows of itself, by the names in the template."""
    model, decoder = info.model, info.model.decoder
    corpus = info.facts["corpus"]
    return {
        "max_tokens": str(model.max_tokens),
        "token_temperature": f"{info.token_temperature:.3f}",
        "dim": str(info.encoder.dim),
        "encoder_sha256": info.encoder.weights_sha256,
        "train_sentences": f"{corpus['train_sentences']:,}",
        "layers": str(decoder.layers),
        "width": str(decoder.width),
        "heads": str(decoder.heads),
        "memory_tokens": str(decoder.memory_tokens),
        "bottleneck": model.bottleneck.kind,
        "vocabulary": f"{model.vocabulary.size:,}",
        "sampling": sampling_as_text(info.sampling) or "the defaults of sgdd",
    }


def trained(info: CheckpointInfo) -> str:
    """One stage of training."""
    training = info.facts["training"]
    minutes = training["seconds"] / 60
    duration = f"{minutes / 60:.1f} hours" if minutes >= 60 else f"{minutes:.1f} minutes"
    alone = " of the surrogate alone" if info.facts.get("settings", {}).get("part") == "surrogate" else ""
    return (
        f"{info.step:,} steps{alone} over {training['sentences_seen']:,} sentences, {duration} "
        f"on {training['device']} ({training['precision']}, PyTorch {training['torch']})"
    )


def section(title: str, report: dict[str, Any]) -> str:
    """One report: its settings, all scores beside their controls, by length, and the verdicts."""
    sampling, settings = report["settings"]["sampling"], report["settings"]["eval"]
    parts = [f"{report['sentences']:,} sentences", f"{sampling['steps']} steps", f"cfg {sampling['cfg']:g}"]
    if feedback := how(settings):
        parts.append(feedback)
    if calls := report.get("encoder_calls"):
        parts.append(f"{calls:.1f} encoder calls per sentence")
    blocks = [conditions(report["conditions"]), by_length(report.get("by_length") or []), lines(report)]
    return "\n\n".join(
        [f"### {title}", f"{', '.join(parts)}.", *("\n".join(block) for block in blocks if block)]
    )


def how(settings: dict[str, Any]) -> str:
    """What is chosen and changed by the encoder's word."""
    parts = []
    if settings.get("search"):
        parts.append("a search")
    if settings["candidates"] > 1:
        parts.append(f"best of {settings['candidates']} candidates")
    if rounds := settings.get("refine"):
        parts.append(f"{rounds} rounds of refining" if rounds > 1 else "one correction")
    if (settings.get("shortlist") or 1) > 1:
        parts.append(f"shortlists of {settings['shortlist']}")
    return ", ".join(parts)


def feedback(reports: Sequence[dict[str, Any]]) -> str:
    """What encoder calls bring: a row per report, each against one shot on the same sentences."""
    names = ["how", "sentences", "token F1", "against one shot", "cosine", "against one shot", "BLEU"]
    rows = header("encoder calls", [*names, "against one shot", "exact"])
    for report in reports:
        asked, true, gain = (
            report["settings"]["eval"],
            report["conditions"]["true"],
            report["differences"]["one_shot"],
        )
        scores = (("token_f1", 3), ("cosine", 3), ("bleu", 1))
        pairs = [
            cell
            for name, digits in scores
            for cell in (f"{true[name]['mean']:.{digits}f}", change(gain[name], digits))
        ]
        exact = f"{true['exact_match']['mean']:.3f}"
        cells = [how(asked), f"{report['sentences']:,}", *pairs, exact]
        rows.append(row(f"{report['encoder_calls']:.1f}", cells))
    return "\n\n".join(["### What encoder calls bring, held-out novels", "\n".join(rows)])


def confidence(info: CheckpointInfo) -> str:
    """How well it is told which sentences are close to their sources, as the checkpoint records it."""
    rows = header("written", ["sentences", "above 0.8", "Brier", "of the share", "calibration error", "AUC"])
    names = ("share_close", "brier", "brier_of_share", "expected_calibration_error", "auc")
    for way, fit in recorded_fits(info).items():
        rows.append(
            row(WAYS[way], [f"{fit.facts['sentences']:,}", *(f"{fit.facts[name]:.3f}" for name in names)])
        )
    what = (
        "How likely a token F1 above 0.8 with the source is, told without the source by a logistic regression on what "
        "generation knows, and judged by cross-validation on sentences that are scored nowhere else. Brier is the mean "
        "squared error of the probability; of the share: of saying the same of every sentence."
    )
    return "\n\n".join(["### Confidence in a sentence, held-out novels", what, "\n".join(rows)])


def conditions(found: dict[str, dict[str, Any]]) -> list[str]:
    shown = [score for score in SCORES if score[0] in found["true"]]
    rows = header("decoded from", [name for _, name, _ in shown])
    for key, condition in CONDITIONS.items():
        if scores := found.get(key):
            label = f"*control:* {condition.label}" if condition.control else condition.label
            rows.append(row(label, [interval(scores.get(score), digits) for score, _, digits in shown]))
    return rows


def by_length(buckets: list[dict[str, Any]]) -> list[str]:
    if not buckets:
        return []
    shown = [score for score in SCORES if score[0] in BY_LENGTH and score[0] in buckets[0]]
    rows = header("tokens", ["sentences", *(name for _, name, _ in shown)])
    for bucket in buckets:
        cells = [interval(bucket[score], digits) for score, _, digits in shown]
        rows.append(row(bucket["tokens"], [f"{bucket['sentences']:,}", *cells]))
    return rows


def lines(report: dict[str, Any]) -> list[str]:
    return [f"- {line}" for line in _lines(report)]


def _lines(report: dict[str, Any]) -> Iterator[str]:
    if pair := report.get("random_pair_cosine"):
        yield f"cosine of two random sentences: {interval(pair, 3)}"
    if bound := report.get("likelihood"):
        yield (
            f"NELBO: {bound['nelbo_nats_per_token']:.3f} ± {bound['standard_error']:.3f} nats per token; "
            f"{bound['bits_per_byte']:.3f} bits per byte"
        )
    if calibration := report.get("calibration"):
        yield f"expected calibration error of token confidence: {calibration['ece']:.3f}"
    if copied := report.get("memorisation"):
        yield (
            f"outputs that are training sentences: {share(copied['outputs'])} "
            f"(of the sources themselves: {share(copied['sources'])})"
        )
    yield from (verdict["sentence"] for verdict in report.get("verdicts", []))


def header(first: str, names: list[str]) -> list[str]:
    return [row(first, names), row("---", ["---:"] * len(names))]


def row(first: str, cells: list[str]) -> str:
    return f"| {' | '.join([first, *cells])} |"


def interval(value: dict[str, float] | None, digits: int) -> str:
    if value is None:
        return "-"
    # A single sentence has no interval.
    if value["low"] is None:
        return f"{value['mean']:.{digits}f}"
    return f"{value['mean']:.{digits}f} ({value['low']:.{digits}f}–{value['high']:.{digits}f})"


def change(value: dict[str, float], digits: int) -> str:
    return f"{value['mean']:+.{digits}f} ({value['low']:+.{digits}f} to {value['high']:+.{digits}f})"


def share(value: dict[str, float] | float) -> str:
    """A share in percent, with its interval where there is one."""
    if isinstance(value, dict):
        return f"{value['mean']:.1%} ({value['low']:.1%}–{value['high']:.1%})"
    return f"{value:.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument(
        "--after", action="append", default=[], metavar="RUN", help="a stage before, in order"
    )
    parser.add_argument(
        "--calls", action="append", default=[], metavar="REPORT", help="a row of what encoder calls bring"
    )
    parser.add_argument("reports", nargs="+", metavar="TITLE=REPORT")
    asked = parser.parse_args()
    reports = {}
    for argument in asked.reports:
        title, equals, path = argument.rpartition("=")
        if not equals:
            sys.exit(f"`{argument}` is no TITLE=REPORT.")
        reports[title] = json.loads(Path(path).read_text(encoding="utf-8"))
    calls = [json.loads(Path(path).read_text(encoding="utf-8")) for path in asked.calls]
    sys.stdout.write(card(asked.checkpoint, asked.after, reports, calls))


if __name__ == "__main__":
    main()
