"""An evaluation as people read it in a terminal: tables within 100 columns, then the verdicts."""

from collections.abc import Iterator, Mapping
from typing import Any

from sgdd_cli import formatting
from sgdd_cli.console import emit, emit_table, new_table

CONDITIONS = {
    "true": "its own vector",
    "one_shot": "the same, one shot",
    "unguided": "the same, w = 1",
    "nearest": "nearest training text",
    "shuffled": "another sentence's",
    "null": "no vector",
}
_MARKS = {True: "ok", False: "!", None: "?"}


def draw_evaluation(result: Mapping[str, Any]) -> None:
    """Print the object that `--json` prints, for people."""
    emit(_headline(result))
    if result["guidance_search"] is not None:
        _draw_search(result["guidance_search"])
    _draw_conditions(result["conditions"])
    _draw_lengths(result["by_length"])
    _draw_mask_ratios(result["by_mask_ratio"])
    for line in _lines(result):
        emit(line)
    emit("")
    for verdict in result["verdicts"]:
        emit(f"{_MARKS[verdict['ok']]:<3}{verdict['sentence']}")


def _headline(result: Mapping[str, Any]) -> str:
    sampling, asked = result["settings"]["sampling"], result["settings"]["eval"]
    parts = [
        f"{result['checkpoint']}: {result['sentences']:,} sentences from a full mask",
        f"{sampling['steps']} steps",
        f"cfg {sampling['cfg']:g}",
    ]
    if asked["candidates"] > 1:
        parts.append(f"best of {asked['candidates']}")
    if asked["refine"]:
        parts.append(f"{asked['refine']} rounds of feedback")
    if (asked.get("shortlist") or 1) > 1:
        parts.append(f"shortlists of {asked['shortlist']}")
    if result["encoder_calls"]:
        parts.append(f"{result['encoder_calls']:.1f} encoder calls a sentence")
    return ", ".join(parts)


def _draw_search(search: Mapping[str, Any]) -> None:
    columns = ("token F1 (95 %)", "cosine (95 %)", "BLEU", "repeated")
    table = new_table("guidance w", *columns, numbers=("guidance w", *columns))
    for row in search["grid"]:
        table.add_row(
            f"{'best ' if row['cfg'] == search['best'] else ''}{row['cfg']:g}",
            _with_range(row["token_f1"]),
            _with_range(row["cosine"]),
            f"{row['bleu']['mean']:.1f}",
            formatting.share(row["repetition"]),
        )
    emit_table(table)


def _draw_conditions(conditions: Mapping[str, Mapping[str, Any]]) -> None:
    columns = ("exact", "token F1 (95 %)", "set F1", "BLEU", "chrF", "cosine", "rank 1")
    table = new_table("decoded from", *columns, numbers=columns)
    for name, scores in conditions.items():
        table.add_row(
            CONDITIONS[name],
            _share(scores["exact_match"]),
            _with_range(scores["token_f1"]),
            _share(scores["set_f1"]),
            f"{scores['bleu']['mean']:.1f}",
            f"{scores['chrf']['mean']:.1f}",
            _share(scores["cosine"]),
            _share(scores["retrieval_top1"]),
        )
    emit_table(table)


def _draw_lengths(rows: list[Mapping[str, Any]]) -> None:
    columns = ("sentences", "exact", "token F1 (95 %)", "another's F1", "BLEU", "cosine")
    table = new_table("tokens", *columns, numbers=("tokens", *columns))
    for row in rows:
        table.add_row(
            row["tokens"],
            f"{row['sentences']:,}",
            _share(row["exact_match"]),
            _with_range(row["token_f1"]),
            _share(row["shuffled_token_f1"]),
            f"{row['bleu']['mean']:.1f}",
            _share(row["cosine"]),
        )
    emit_table(table)


def _draw_mask_ratios(rows: list[Mapping[str, Any]]) -> None:
    names = tuple(row["masked"] for row in rows)
    table = new_table("% masked", *names, numbers=names)
    table.add_row("accuracy", *(formatting.share(row["accuracy"]) for row in rows))
    table.add_row("NLL, nats", *(f"{row['nll_nats']:.2f}" for row in rows))
    emit_table(table)


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    true, bound, calibration = result["conditions"]["true"], result["likelihood"], result["calibration"]
    yield (
        f"Corpus scores: BLEU {true['corpus_bleu']['mean']:.1f}, chrF {true['corpus_chrf']['mean']:.1f}; the source is "
        f"number {true['retrieval_median_rank']['mean']:g} of {result['sentences']:,} (median)"
    )
    yield (
        f"Length: right in {formatting.share(true['length_exact']['mean'])} of the sentences, "
        f"off by {true['length_error']['mean']:.2f} tokens on average"
    )
    yield (
        f"NELBO: {bound['nelbo_nats_per_token']:.3f} ± {bound['standard_error']:.3f} nats per token, "
        f"{bound['bits_per_byte']:.3f} ± {bound['bits_per_byte_standard_error']:.3f} bits per byte"
    )
    yield f"Calibration: expected error {calibration['ece']:.3f} over {calibration['tokens']:,} masked tokens"
    yield _latent(result["latent"])
    yield from _diversity(result["diversity"])
    if result["memorisation"] is not None:
        known = result["memorisation"]
        yield (
            f"Memorisation: of {result['settings']['training']['searched']:,} training sentences, "
            f"{formatting.share(known['outputs']['mean'])} of the outputs are one, "
            f"{formatting.share(known['sources']['mean'])} of the sources"
        )
    yield f"Two random sentences: cosine {_share(result['random_pair_cosine'])}"


def _latent(latent: Mapping[str, Any]) -> str:
    rank = latent["effective_rank"]
    text = f"Latent ({latent['kind']}): {latent['dimensions']} dimensions, effective rank {rank:.1f}"
    if "active_units" not in latent:
        return text
    return (
        f"{text}, {latent['active_units']} active, KL {latent['kl_nats_per_sentence']:.1f} nats per sentence"
    )


def _diversity(found: Mapping[str, Any]) -> Iterator[str]:
    def pair(name: str) -> str:
        return (
            f"{formatting.share(found[f'{name}_distinct_1'])}/{formatting.share(found[f'{name}_distinct_2'])}"
        )

    yield (
        f"Words: distinct-1/2 {pair('outputs')}, in the sources {pair('references')}; "
        f"entropy {found['outputs_entropy_nats']:.2f} nats, in the sources {found['references_entropy_nats']:.2f}"
    )
    if "self_bleu" in found:
        yield (
            f"Diversity of {found['samples_per_sentence']} samples at temperature {found['temperature']:g}: "
            f"self-BLEU {found['self_bleu']:.1f}, distinct-1/2 {pair('samples')}, "
            f"cosine {formatting.share(found['samples_cosine'])}"
        )


def _share(score: Mapping[str, float]) -> str:
    return f"{score['mean']:.3f}"


def _with_range(score: Mapping[str, float]) -> str:
    return f"{score['mean']:.3f} ({score['low']:.3f}-{score['high']:.3f})"
