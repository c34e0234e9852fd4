"""`sgdd audit`: what vectors give away about their texts, and what defences change."""

import functools
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgdd_cli.console import command_line, emit_json, say
from sgdd_cli.decoding_options import DecodingOptions, with_decoding_options
from sgdd_cli.flags import (
    AsJson,
    AssumeSame,
    Column,
    Force,
    Ids,
    StoreTable,
    TextColumn,
    Where,
    check_output,
    require_store,
    setting,
)
from sgdd_engine.audit.config import AuditConfig
from sgdd_engine.errors import ConfigError, SgddError

if TYPE_CHECKING:
    from sgdd_cli.decoding_options import Writing
    from sgdd_engine.audit.rows import AuditRows
    from sgdd_engine.events import Listener
    from sgdd_engine.vectors import ReadOptions

# One text is written for each vector and number of calls, at its likeliest lengths.
_OPTIONS = ("cfg", "steps", "checkpoint", "encoder", "gpu", "device", "files", "assignments")
_USUAL = AuditConfig()


@functools.partial(with_decoding_options, only=_OPTIONS)
def audit(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="TEXTS",
            help="A file or folder with one text a line, or `-`; the model's encoder makes their vectors.",
        ),
    ] = None,
    vectors: Annotated[
        str | None,
        typer.Option(
            "--vectors",
            metavar="SOURCE",
            help="Instead, vectors with their texts, as `sgdd read` takes them.",
        ),
    ] = None,
    column: Column = None,
    text_column: TextColumn = None,
    ids: Ids = None,
    where: Where = None,
    table: StoreTable = None,
    assume_same: AssumeSame = False,
    limit: Annotated[int, setting(AuditConfig, "limit")] = _USUAL.limit,
    seed: Annotated[int, setting(AuditConfig, "seed")] = _USUAL.seed,
    calls: Annotated[str, setting(AuditConfig, "calls", metavar="N,N,...")] = ",".join(
        map(str, _USUAL.calls)
    ),
    defence_calls: Annotated[str, setting(AuditConfig, "defence_calls", metavar="N,N,...")] = ",".join(
        map(str, _USUAL.defence_calls)
    ),
    defences: Annotated[str, setting(AuditConfig, "defences", metavar="NAMES")] = ",".join(_USUAL.defences),
    attacker_texts: Annotated[
        Path | None,
        typer.Option(
            "--attacker-texts",
            metavar="FILE",
            help="Texts of the attacker's own, one a line. Default: other rows of the same source.",
        ),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            "--report",
            metavar="FILE",
            help="Also write the results, with all texts and charts, as one HTML page.",
        ),
    ] = None,
    force: Force = False,
    *,
    decoding: DecodingOptions,
    as_json: AsJson = False,
) -> None:
    """Measure what vectors give away: write their texts again, as an attacker would, and count what comes back.

    Counted are exact texts, words, and the names, numbers and rare words of the texts, beside what is written from
    another row's vector. Then the same on vectors under defences (noise, fewer bits, fewer dimensions, a secret
    rotation), each beside what retrieval still finds. The texts of the page and of --json are the audited ones.

    Example: sgdd audit letters.txt --limit 50 --calls 1,8,64 --report audit.html

    Example: sgdd audit --vectors rows.parquet --text-column body --defences noise:0.5,bits:8
    """
    load = decoding.resolve()
    config = AuditConfig(
        limit=limit,
        seed=seed,
        calls=_numbers(calls, "--calls"),
        defence_calls=_numbers(defence_calls, "--defence-calls"),
        defences=() if defences == "none" else tuple(filter(None, map(str.strip, defences.split(",")))),
    )
    if (data is None) == (vectors is None):
        raise ConfigError(
            "An audit is of the texts of a file or of the rows of a store; "
            + ("none was named." if data is None else "both were named."),
            f"{command_line('audit', 'TEXTS')}\n{command_line('audit', '--vectors', 'SOURCE')}",
        )
    require_store(
        vectors,
        "--vectors",
        "The column of the texts in a table is --column.",
        text_column=text_column,
        ids=ids,
        where=where,
        table=table,
        assume_same=assume_same,
    )
    if attacker_texts is not None and not config.defences:
        raise ConfigError(
            "Without a defence no attacker needs texts of their own.",
            "Leave out --attacker-texts, or --defences none.",
        )
    if page is not None:
        check_output(page, "--report", force=force)
    from sgdd_cli.models import checkpoint_name  # noqa: PLC0415 - `sgdd --help` need not load it
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415
    from sgdd_engine.audit.audit import audit as run_audit  # noqa: PLC0415 - loads torch
    from sgdd_engine.audit.page.write import write_page  # noqa: PLC0415
    from sgdd_engine.vectors import ReadOptions  # noqa: PLC0415

    writing = load()
    writing.warn_of_unused("an audit writes one text for each vector and number of calls (--calls)")
    # Other rows of the source are read only where they stand for the attacker's own texts.
    to_read = config if config.defences and attacker_texts is None else replace(config, own_texts=0)
    with ProgressDisplay() as display:
        if vectors is not None:
            read = ReadOptions(
                column=column, text_column=text_column, id_column=ids, where=where, table=table
            )
            rows = _of_store(vectors, read, writing, to_read, display, assume_same=assume_same)
        else:
            assert data is not None
            rows = _of_text(data, writing, to_read, decoding, display, column)
        own = rows.own
        if attacker_texts is not None:
            # `--column` of a store is that of its vectors.
            of_text = column if vectors is None else None
            many = replace(to_read, limit=config.own_texts)
            own = _of_text(attacker_texts, writing, many, decoding, display, of_text).audited
        found = run_audit(
            writing.model,
            rows.audited,
            own,
            config=config,
            sampling=writing.sampling,
            ids=rows.ids,
            on_event=display,
        )
    name = checkpoint_name(writing.folder)
    # First what stays: standard output may be full, or a pipe that nobody reads.
    try:
        if page is not None:
            write_page(found, name, page)
            say(f"Report: {page}")
    finally:
        if as_json:
            emit_json({"checkpoint": name, **found.to_dict()}, indent=2)
        else:
            from sgdd_cli.audit_tables import draw_audit  # noqa: PLC0415

            draw_audit(found, name)


def _of_text(
    path: Path,
    writing: "Writing",
    config: AuditConfig,
    decoding: DecodingOptions,
    on_event: "Listener",
    column: str | None,
) -> "AuditRows":
    """The lines of a file, cleaned and filtered as the settings say."""
    from sgdd_cli.settings import load_settings  # noqa: PLC0415 - as above
    from sgdd_engine.audit.rows import rows_of_text  # noqa: PLC0415

    flags = [("--column", "data.column", column)]
    settings = load_settings(decoding.files or (), decoding.assignments or (), flags).settings
    try:
        return rows_of_text(
            path,
            writing.model,
            config.limit,
            config.own_texts,
            config.seed,
            config=settings.data,
            on_event=on_event,
        )
    except SgddError as error:
        if path.suffix.lower() in (".npy", ".npz", ".safetensors", ".faiss", ".sqlite3", ".db"):
            error.hint = f"For vectors with their texts: {command_line('audit', '--vectors', path)}"
        raise


def _of_store(
    source: str,
    read: "ReadOptions",
    writing: "Writing",
    config: AuditConfig,
    on_event: "Listener",
    *,
    assume_same: bool,
) -> "AuditRows":
    """The rows of a store."""
    from sgdd_engine.audit.rows import rows_of_store  # noqa: PLC0415 - as above
    from sgdd_engine.vectors import open_vectors  # noqa: PLC0415

    opened = open_vectors(source, replace(read, width=writing.model.info.model.embedding_dim))
    say(f"Reading: {opened.name}")
    return rows_of_store(
        opened,
        writing.model,
        config.limit,
        config.own_texts,
        config.seed,
        assume_same=assume_same,
        on_event=on_event,
    )


def _numbers(text: str, flag: str) -> tuple[int, ...]:
    """Whole numbers between commas.

    Raises:
        ConfigError: there is something else.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) < 10 for part in parts):
        raise ConfigError(
            f"{flag} is {text}; it must be whole numbers that rise.", f"Write for example: {flag} 1,8,64"
        )
    return tuple(map(int, parts))
