"""`sgdd corpus verify`: whether a prepared corpus is what its preparation wrote."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sgdd_cli.command_registry import SgddCommand
from sgdd_cli.completion import complete_corpus
from sgdd_cli.console import emit_json, emit_table, emit_text, new_table, say
from sgdd_cli.flags import AsJson
from sgdd_cli.formatting import size

if TYPE_CHECKING:
    from sgdd_engine.data.corpus import VerifiedFile

corpus = typer.Typer(help="Check a prepared corpus.", no_args_is_help=True, rich_markup_mode=None)


@corpus.command(cls=SgddCommand)
def verify(
    folder: Annotated[
        Path,
        typer.Argument(metavar="CORPUS", help="Folder of a prepared corpus.", autocompletion=complete_corpus),
    ],
    as_json: AsJson = False,
) -> None:
    """Read every file of a corpus, compare it with its SHA-256, and check every token and vector.

    Other commands check a file when they first open it and not again for a day; this one always reads everything.

    Example: sgdd corpus verify data/tales
    """
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415 - `sgdd --help` need not load it
    from sgdd_engine.data.corpus import Corpus  # noqa: PLC0415 - loads torch

    with ProgressDisplay() as display:
        opened = Corpus.open(folder, on_event=display)
        files = opened.verify()
    if as_json:
        emit_json(
            {
                "folder": str(folder),
                "fingerprint": opened.manifest.fingerprint(),
                "files": [
                    {"name": one.name, "bytes": one.bytes, "sha256": one.hashed, "sentences": one.rows}
                    for one in files
                ],
            },
            indent=2,
        )
        return
    _draw(files)
    emit_text(f"`{folder}` is undamaged: {size(sum(one.bytes for one in files))} in {len(files)} files.")
    if not all(one.hashed for one in files):
        say("It was prepared by an earlier version, which recorded fewer hashes.")


def _draw(files: list["VerifiedFile"]) -> None:
    table = new_table("file", "size", "sentences", "compared with", numbers=("size", "sentences"))
    for one in files:
        rows = "" if one.rows is None else f"{one.rows:,}"
        table.add_row(one.name, size(one.bytes), rows, "its SHA-256" if one.hashed else "its form alone")
    emit_table(table)
