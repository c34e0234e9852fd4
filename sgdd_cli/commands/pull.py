"""`sgdd pull`: a model from the hub into its cache, verified."""

from typing import Annotated

import typer

from sgdd_cli.console import command_line, emit, emit_json, say, say_next
from sgdd_cli.flags import AsJson
from sgdd_engine.errors import CheckpointError


def pull(
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Model on the Hugging Face hub.")],
    revision: Annotated[
        str | None,
        typer.Option("--revision", help="Commit, branch or tag. Default: the newest commit."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Download all files again, for example if one is damaged.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fetch a model from the Hugging Face hub and verify it.

    Use it by its name then, also without a network: --checkpoint owner/name. Prints the name with the commit, which
    always means exactly these weights.

    Example: sgdd pull anna/tales --revision v1.0
    """
    from dataclasses import replace  # noqa: PLC0415 - `sgdd --help` need not load it

    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415
    from sgdd_engine.checkpoint import HubName  # noqa: PLC0415
    from sgdd_engine.checkpoint import pull as pull_checkpoint  # noqa: PLC0415

    asked = HubName.parse(name)
    if asked is None:
        raise CheckpointError(
            f"`{name}` is not a name on the hub.", "Name it as owner/name, such as anna/tales."
        )
    if revision is not None:
        asked = replace(asked, revision=revision)
    with ProgressDisplay() as display:
        folder = pull_checkpoint(asked, display, again=again)
    taken = HubName.of_folder(folder) or asked
    if as_json:
        emit_json({"name": taken.name, "commit": taken.revision, "path": str(folder)})
        return
    emit(str(taken))
    say(f"Verified, in {folder}")
    say_next(command_line("sample", "Some text.", "--checkpoint", taken))
