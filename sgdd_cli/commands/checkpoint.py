"""`sgdd checkpoint verify`: whether a checkpoint is whole, and its parts belong together."""

from pathlib import Path
from typing import Annotated

import typer

from sgdd_cli.command_registry import SgddCommand
from sgdd_cli.completion import complete_checkpoint
from sgdd_cli.console import CliExit, command_line, emit_json, emit_text
from sgdd_cli.flags import AsJson
from sgdd_cli.formatting import size
from sgdd_engine.counted import counted
from sgdd_engine.errors import CheckpointError

checkpoint = typer.Typer(help="Check a checkpoint.", no_args_is_help=True, rich_markup_mode=None)


@checkpoint.command(cls=SgddCommand)
def verify(
    folder: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Checkpoint or run folder, `mini`, or owner/name on the hub.",
            autocompletion=complete_checkpoint,
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Read all of a checkpoint, and check that it is complete and undamaged.

    Every file is compared with its hash. The tensors must have the names, shapes and types that config.json gives, and
    finite numbers. The tokenizer must be the one of the model. The training state, if there is one, is read too. This
    does not tell whether the model is good, or who made it. Of a run the best checkpoint is read; if others are
    damaged, they are named, and the exit code is 1.

    Example: sgdd checkpoint verify runs/tales
    """
    from sgdd_cli.models import find_checkpoint  # noqa: PLC0415 - `sgdd --help` need not load it
    from sgdd_engine.checkpoint import checkpoint_damage, checkpoints_of, verify_checkpoint  # noqa: PLC0415 - loads torch

    found = verify_checkpoint(find_checkpoint(folder))
    # Of a run the best undamaged one was taken, and what is wrong with those before it was said.
    damaged = [one for one in checkpoints_of(Path(folder)) if checkpoint_damage(one) is not None]
    if as_json:
        emit_json({**found.to_dict(), "damaged": [one.name for one in damaged]})
        if damaged:
            raise CliExit(1)
        return
    resumable = "training can continue from it" if found.training_state else "it has no training state"
    emit_text(f"Undamaged: {found.files} files ({size(found.bytes)}) match their hashes; {resumable}.")
    emit_text(
        f"{found.tensors} tensors of {found.parameters:,} numbers, all finite, have the shapes in config.json; the "
        "tokenizer is that of the model."
    )
    if damaged:
        raise CheckpointError(
            f"{counted(len(damaged), 'checkpoint')} of the run {'is' if len(damaged) == 1 else 'are'} damaged: "
            f"{', '.join(one.name for one in damaged)}.",
            f"Each is read by its own name: {command_line('checkpoint', 'verify', damaged[0])}",
        )
