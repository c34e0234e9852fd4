"""`sgdd align`: a map from another encoder's vectors to the model's."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgdd_cli.console import command_line, emit, emit_json, emit_table, emit_text, new_table, say, say_next
from sgdd_cli.decoding_options import DecodingOptions, with_decoding_options
from sgdd_cli.flags import AsJson, Column, Force, StoreTable, TextColumn, Where, check_output, options_for
from sgdd_engine.counted import counted
from sgdd_engine.visible_text import without_secrets

if TYPE_CHECKING:
    from sgdd_engine.evaluation.alignment import Alignment
    from sgdd_engine.evaluation.alignment_figures import MapFigures
    from sgdd_engine.evaluation.bootstrap import Interval


# One text is written for each held-out pair, at its likeliest length.
_OPTIONS = ("cfg", "steps", "checkpoint", "encoder", "gpu", "device", "files", "assignments")


@functools.partial(with_decoding_options, only=_OPTIONS)
def align(
    pairs_of: Annotated[
        str,
        typer.Argument(
            metavar="PAIRS",
            help="A file, folder or URL with vectors of another encoder and their texts, as for `sgdd read`.",
        ),
    ],
    column: Column = None,
    text_column: TextColumn = None,
    where: Where = None,
    table: StoreTable = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="File to write the map to.")] = Path(
        "map.safetensors"
    ),
    force: Force = False,
    pairs: Annotated[
        int,
        typer.Option(
            "--pairs",
            help="Fit the map on at most this many pairs, chosen at random; more are more exact and take more memory.",
        ),
    ] = 10_000,
    texts: Annotated[
        int, typer.Option("--texts", help="Number of held-out texts to write, for the scores.")
    ] = 200,
    seed: Annotated[
        int,
        typer.Option("--seed", help="Seed of the choice of pairs, of the held-out part and of the sampler."),
    ] = 0,
    *,
    decoding: DecodingOptions,
    as_json: AsJson = False,
) -> None:
    """Learn to read the vectors of another encoder, from pairs of a vector and its text.

    Fits a linear map (ridge regression) from these vectors to the vectors that the model's encoder gives for the same
    texts; `sgdd read --map` uses it. The scores are of held-out pairs, beside controls: a map of shuffled pairs, the
    mean vector, and the vectors of the model's encoder, which no map can beat.

    Example: sgdd align rows.parquet --text-column body --out map.safetensors
    """
    load = decoding.resolve()
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415 - `sgdd --help` need not load it
    from sgdd_engine.evaluation.alignment import align as run_alignment  # noqa: PLC0415 - loads torch
    from sgdd_engine.vectors import ReadOptions, open_vectors  # noqa: PLC0415

    check_output(out, "--out", force=force)
    opened = open_vectors(
        pairs_of, ReadOptions(column=column, text_column=text_column, table=table, where=where)
    )
    writing = load()
    writing.warn_of_unused("one text is written for each held-out pair (--texts)")
    say(f"Reading: {opened.name}")
    with ProgressDisplay() as display:
        found = run_alignment(
            writing.model,
            opened,
            pairs=pairs,
            texts=texts,
            seed=seed,
            sampling=writing.sampling,
            on_event=display,
        )
    found.linear_map.save(out)
    if as_json:
        emit_json({"map": str(out), **found.to_dict()}, indent=2)
    else:
        _draw(found)
    say(f"The map is in {out}.")
    options = options_for(
        "read",
        decoding.files,
        decoding.assignments,
        column=column,
        text_column=text_column,
        where=where,
        table=table,
        checkpoint=decoding.checkpoint,
        encoder=decoding.encoder,
        gpu=decoding.gpu,
        device=decoding.device,
    )
    # A pipe cannot be read again, and a password or key does not belong into what a terminal or a log keeps.
    source = pairs_of if opened.repeatable and without_secrets(pairs_of) == pairs_of else "SOURCE"
    say_next(command_line("read", source, "--map", out, "--limit", 10, *options))


def _draw(found: "Alignment") -> None:
    from sgdd_engine.evaluation.alignment_figures import CONDITIONS  # noqa: PLC0415 - loaded with the model

    linear_map = found.linear_map
    emit_text(
        f"Vectors of {linear_map.input_dim:,} numbers to those of `{linear_map.encoder.name}`: {linear_map.pairs:,} "
        f"pairs, penalty {linear_map.penalty:.1e}; judged on {found.held_out:,} others, {found.texts:,} of them written"
    )
    for reason, count in found.left_out.items():
        emit_text(f"Left out: {counted(count, 'row')} with {reason}")
    heads = ["cosine (95 %)", "rank 1", "token F1 (95 %)", "text cosine (95 %)"]
    table = new_table("written from", *heads, numbers=heads)
    for name, figures in found.conditions.items():
        table.add_row(CONDITIONS[name], *_cells(figures))
    emit_table(table)
    table = new_table("pairs", "penalty", *heads, numbers=["pairs", "penalty", *heads])
    for point in found.curve:
        table.add_row(f"{point.pairs:,}", f"{point.penalty:.1e}", *_cells(point.figures))
    emit_table(table)
    for example in found.examples:
        emit_text(f"text        {example.text}", later="  ")
        emit_text(f"from true   {example.from_true}", later="  ")
        emit_text(f"from mapped {example.from_mapped}", later="  ")
        emit("")
    for verdict in found.verdicts:
        emit_text(verdict)


def _cells(figures: "MapFigures") -> tuple[str, ...]:
    def cell(value: "Interval") -> str:
        ends = "" if value.ends is None else f" ({value.ends[0]:.3f}-{value.ends[1]:.3f})"
        return f"{value.mean:.3f}{ends}"

    return cell(figures.cosine), f"{figures.rank_1:.3f}", cell(figures.token_f1), cell(figures.text_cosine)
