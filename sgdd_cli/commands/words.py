"""`sgdd words`: the words that a vector asks for, without writing a text."""

from typing import TYPE_CHECKING, Annotated

import typer

from sgdd_cli.console import CliExit, emit, emit_json, say
from sgdd_cli.flags import (
    AsJson,
    AssumeSame,
    Checkpoint,
    Column,
    Device,
    Encoder,
    Gpu,
    Ids,
    MapFile,
    StoreTable,
    TextColumn,
    Where,
    device_name,
    require_store,
)

if TYPE_CHECKING:
    from sgdd_engine.generation import SGDD
    from sgdd_engine.vectors import LinearMap, ReadOptions

# Texts encoded at once; lines of a pipe come back while it is still written.
BATCH = 32


def words(
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="Texts; `-` for lines of standard input."),
    ] = None,
    vectors: Annotated[
        str | None,
        typer.Option(
            "--vector",
            metavar="SOURCE",
            help="Vectors instead of texts: a file or database, as for `sgdd read`.",
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", min=1, help="Number of words to show for each text or vector.")
    ] = 10,
    column: Column = None,
    text_column: TextColumn = None,
    ids: Ids = None,
    where: Where = None,
    table: StoreTable = None,
    map_file: MapFile = None,
    assume_same: AssumeSame = False,
    *,
    checkpoint: Checkpoint = None,
    encoder: Encoder = None,
    gpu: Gpu = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Show the words that the vector of each text makes more likely, one line per text, the strongest first.

    They are the words that the model expects with the vector and does not expect without it. No text is written, so
    the text may be longer than the model can write. --json prints each word with its score in nats, and the text or
    the id of the row.

    Example: sgdd words "The captain ordered the crew to lower the boats." --count 5
    """
    if not texts and vectors is None:
        raise typer.BadParameter("Give texts, or vectors with --vector SOURCE.")
    if texts and vectors is not None:
        raise typer.BadParameter("Give texts or --vector SOURCE, not both.")
    require_store(
        vectors,
        "--vector",
        column=column,
        text_column=text_column,
        ids=ids,
        where=where,
        table=table,
        map=map_file,
        assume_same=assume_same,
    )
    place = device_name(gpu, device)
    from sgdd_cli.input_texts import batches, read_texts  # noqa: PLC0415 - `sgdd --help` need not load it

    found = batches(read_texts(texts or (), "words"), BATCH)
    from sgdd_cli.models import load_model  # noqa: PLC0415 - loads torch

    model, _ = load_model(checkpoint, place, encoder)
    if vectors is not None:
        from sgdd_engine.vectors import ReadOptions, load_map  # noqa: PLC0415 - loads numpy

        linear_map = None if map_file is None else load_map(map_file)
        options = ReadOptions(
            column=column,
            text_column=text_column,
            id_column=ids,
            where=where,
            table=table,
            width=model.info.model.embedding_dim if linear_map is None else linear_map.input_dim,
            batch_rows=BATCH,
        )
        _of_source(model, vectors, options, linear_map, count, assume_same=assume_same, as_json=as_json)
        return
    for batch in found:
        for text, wanted in zip(batch, model.words(batch, count), strict=True):
            _show({"source": text}, wanted, as_json)


def _of_source(
    model: "SGDD",
    source: str,
    options: "ReadOptions",
    linear_map: "LinearMap | None",
    count: int,
    *,
    assume_same: bool,
    as_json: bool,
) -> None:
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415 - as above
    from sgdd_engine.generation import CheckedVectors  # noqa: PLC0415
    from sgdd_engine.vectors import open_vectors  # noqa: PLC0415

    opened = open_vectors(source, options)
    say(f"Reading: {opened.name}")
    checked = CheckedVectors(
        model, opened, linear_map=linear_map, assume_same=assume_same, on_event=ProgressDisplay()
    )
    for batch in checked:
        for row, wanted in zip(batch.ids, model.words(batch.vectors, count), strict=True):
            _show({"id": row}, wanted, as_json)
    if checked.faulty:
        raise CliExit(1)


def _show(source: dict[str, str], wanted: list[tuple[str, float]], as_json: bool) -> None:
    if as_json:
        emit_json({**source, "words": [{"word": word, "score": score} for word, score in wanted]})
    else:
        emit(", ".join(word for word, _ in wanted))
