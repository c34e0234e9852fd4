"""`sgdd read`: vectors of a file or database in, their text out."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from sgdd_cli.certainty import say_of_confidence
from sgdd_cli.console import CliExit, emit, emit_json, emit_table, new_table, say, warn
from sgdd_cli.decoding_options import SEARCHED, DecodingOptions, with_decoding_options
from sgdd_cli.flags import AsJson, AssumeSame, Column, Ids, MapFile, StoreTable, TextColumn, Where
from sgdd_engine.counted import counted
from sgdd_engine.events import Listener, StageFinished, StageProgress, StageStarted, ignore

if TYPE_CHECKING:
    from sgdd_cli.decoding_options import Writing
    from sgdd_cli.progress import ProgressDisplay
    from sgdd_engine.generation import SGDD, ReadText
    from sgdd_engine.vectors import VectorBatch


@with_decoding_options
def read(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A file, folder or URL with vectors, or a database; `-` for standard input, `hf:owner/name` for a "
            "data set of the hub, or KIND:SOURCE to choose the kind, as in jsonl:export.txt.",
        ),
    ],
    column: Column = None,
    text_column: TextColumn = None,
    ids: Ids = None,
    where: Where = None,
    table: StoreTable = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Read only this many rows, the first ones.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option("--sample", min=1, help="Read this many rows, chosen at random by --seed.")
    ] = None,
    map_file: MapFile = None,
    mean_by: Annotated[
        str | None,
        typer.Option(
            "--mean-by",
            metavar="NAME",
            help="Group the rows by this column, and write what the mean vector of each group says.",
        ),
    ] = None,
    assume_same: AssumeSame = False,
    *,
    decoding: DecodingOptions,
    as_json: AsJson = False,
) -> None:
    """Write what the vectors of a file or database say, one line for each, in their order.

    The vectors must come from the model's encoder, or be mapped to it (--map); the first rows are checked. Rows without
    a usable vector are left out and named. --json prints the id, the text, the cosine between the vector of the text
    and the given one, the confidence (how likely the token F1 with the original text is above 0.8), and the stored text
    with its scores.

    --mean-by prints a table with one row for each group: the number of rows, what their mean vector says, the words
    that it makes more likely, and the row nearest to it.

    Example: sgdd read vectors.parquet --column embedding --limit 10 --json
    """
    load = decoding.resolve()
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415 - `sgdd --help` need not load it

    writing = load()
    writing.warn_of_equal_samples("vector")
    from sgdd_engine.data.cleaning import clean  # noqa: PLC0415 - as below
    from sgdd_engine.generation import CheckedVectors, write_texts  # noqa: PLC0415 - loads torch
    from sgdd_engine.vectors import ReadOptions, load_map, open_vectors  # noqa: PLC0415

    linear_map = None if map_file is None else load_map(map_file)
    read_options = ReadOptions(
        column=column,
        text_column=text_column,
        id_column=ids,
        group_column=mean_by,
        where=where,
        table=table,
        width=writing.model.info.model.embedding_dim if linear_map is None else linear_map.input_dim,
    )
    opened = open_vectors(source, read_options)
    say(f"Reading: {opened.name}")
    display = ProgressDisplay(watch=writing.watch)
    checked = CheckedVectors(
        writing.model, opened, linear_map=linear_map, assume_same=assume_same, on_event=display
    )
    chosen = _choose(checked, limit, sample, writing.config.seed, display)
    if mean_by is not None:

        def read_again() -> Iterable["VectorBatch"]:
            again = open_vectors(source, read_options)
            rows = CheckedVectors(writing.model, again, linear_map=linear_map, assume_same=True)
            return _choose(rows, limit, sample, writing.config.seed, ignore)

        if not opened.repeatable:
            warn(f"{opened.name} can be read only once, so the row nearest to each mean is not looked for.")
        _show_groups(writing, chosen, read_again if opened.repeatable else None, display, as_json=as_json)
        if checked.faulty:
            raise CliExit(1)
        return
    if as_json:
        say_of_confidence(writing)
    texts = write_texts(writing.model, chosen, score=as_json, confidence=as_json, **writing.options(display))
    counts = [count for count in (opened.rows, limit, sample) if count is not None]
    written = 0
    fit = writing.model.vocabulary_fit()
    repeating = 0
    with closing(texts):
        for rows in _shown(texts, display, min(counts, default=None)):
            written += len(rows)
            repeating += writing.repeating(row.written for row in rows)
            stored = [cleaned for row in rows if row.stored and (cleaned := clean(row.stored))]
            fit.add(stored, writing.model.tokenizer.encode_batch(stored))
            if as_json:
                _emit_json(writing.model, rows)
            else:
                for row in rows:
                    emit(row.written.text)
    writing.warn_of_repetitions(repeating, "vector")
    if 0 < written <= SEARCHED:
        writing.say_of_search()
    for message in fit.warnings():
        warn(f"Of the stored texts: {message}")
    if not written:
        warn(f"{opened.name} has no vectors that can be read; nothing was written.")
    if checked.faulty:
        raise CliExit(1)


def _choose(
    batches: Iterable["VectorBatch"], limit: int | None, sample: int | None, seed: int, display: Listener
) -> Iterable["VectorBatch"]:
    """The first rows, or a random sample of them."""
    import torch  # noqa: PLC0415 - loaded with the model

    from sgdd_engine.vectors.selection import first_rows, sample_rows  # noqa: PLC0415

    if limit is not None:
        batches = first_rows(batches, limit)
    if sample is None:
        yield from batches
        return

    def with_progress() -> Iterator["VectorBatch"]:
        done = 0
        for batch in batches:
            yield batch
            done += len(batch.ids)
            display(StageProgress("sampling", done))

    display(StageStarted("sampling", unit="vectors"))
    chosen = sample_rows(with_progress(), sample, torch.Generator().manual_seed(seed))
    display(StageFinished("sampling", f"{counted(len(chosen.ids), 'vector')}."))
    yield chosen


def _shown(
    texts: Iterator[list["ReadText"]], display: "ProgressDisplay", total: int | None
) -> Iterator[list["ReadText"]]:
    """The texts, with a display of progress that is cleared while they are written."""
    read = written = 0
    display(StageStarted("reading", total, "vectors"))
    while True:
        with display:
            rows = next(texts, None)
        if rows is None:
            break
        yield rows
        read, written = read + len({row.written.row for row in rows}), written + len(rows)
        display(StageProgress("reading", read))
    display(StageFinished("reading", f"{counted(read, 'vector')} read, {counted(written, 'text')} written."))


def _show_groups(
    writing: "Writing",
    rows: Iterable["VectorBatch"],
    read_again: Callable[[], Iterable["VectorBatch"]] | None,
    display: "ProgressDisplay",
    *,
    as_json: bool,
) -> None:
    """A line of JSON for each group, or all of them as a table."""
    from sgdd_engine.generation import name_groups  # noqa: PLC0415 - loaded with the model

    options = {**writing.options(display), "on_event": display}
    groups = name_groups(writing.model, rows, read_again, score=as_json, **options)
    table = new_table("group", "rows", "text", "words", "nearest row", numbers=["rows"])
    while True:
        with display:
            group = next(groups, None)
        if group is None:
            break
        nearest = group.nearest
        if as_json:
            emit_json(
                {
                    "group": group.group,
                    "size": group.size,
                    "texts": [
                        {"text": item.text, "cosine": item.cosine, "seed": item.seed}
                        for item in group.written
                    ],
                    "words": [{"word": word, "score": score} for word, score in group.words],
                    "nearest": None if nearest is None else asdict(nearest),
                }
            )
            continue
        texts, words = (item.text for item in group.written), (word for word, _ in group.words)
        shown = "" if nearest is None else nearest.text or nearest.id
        table.add_row(group.group, f"{group.size:,}", "\n".join(texts), ", ".join(words), shown)
    if table.row_count:
        emit_table(table)


def _emit_json(model: "SGDD", rows: list["ReadText"]) -> None:
    from sgdd_engine.data.cleaning import clean  # noqa: PLC0415 - loaded with the model
    from sgdd_engine.evaluation.stored_text import compare_with_stored  # noqa: PLC0415

    pairs = [(row.stored, row.written.text) for row in rows if row.stored and clean(row.stored)]
    scores = iter(compare_with_stored(model, [pair[0] for pair in pairs], [pair[1] for pair in pairs]))
    for row in rows:
        stored = None
        if row.stored and clean(row.stored):
            stored = {"text": row.stored, **asdict(next(scores))}
        emit_json(
            {
                "id": row.id,
                "text": row.written.text,
                "cosine": row.written.cosine,
                "confidence": row.written.confidence,
                "stored": stored,
                "seed": row.written.seed,
                "encoder_calls": row.written.encoder_calls,
            }
        )
