"""`sgdd export`: a checkpoint without its training state and without folder names of this machine, to share."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sgdd_cli.completion import complete_assignment, complete_checkpoint
from sgdd_cli.console import emit, say
from sgdd_cli.flags import Dtype, Force, check_output
from sgdd_cli.formatting import size
from sgdd_engine.errors import SgddError

if TYPE_CHECKING:
    from sgdd_engine.generation import SGDD


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Checkpoint or run folder, `mini`, or owner/name on the hub.",
            autocompletion=complete_checkpoint,
        ),
    ],
    out: Annotated[Path, typer.Argument(metavar="FOLDER", help="New or empty folder to write to.")],
    dtype: Dtype = "fp16",
    card: Annotated[
        Path | None,
        typer.Option(
            "--card",
            help="Markdown file to use as model card, README.md. Default: the one that you wrote in FOLDER or in the "
            "checkpoint, else one made from what the checkpoint records.",
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Record a default of the sampler in the exported model, such as sample.steps=10.",
            autocompletion=complete_assignment,
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Write a checkpoint to share: half precision, no training state, no folder names of this machine.

    Example: sgdd export runs/tales tales-model

    Example: sgdd export runs/tales quick-model --set sample.steps=8 --set sample.kv_cache=true
    """
    from sgdd_cli.models import find_checkpoint, model_to_share, read_card  # noqa: PLC0415 - `sgdd --help` need not load it
    from sgdd_engine.checkpoint import own_card  # noqa: PLC0415

    sampling = _recorded_sampling(assignments or ())
    check_output(out, force=force, folder=True)
    text = None if card is None else read_card(card)
    if text is None and (text := own_card(out)) is not None:
        say(
            f"`{out / 'README.md'}` was written or changed by hand, and is kept; for another one: --card FILE"
        )
    folder = find_checkpoint(checkpoint)
    if out.resolve() == folder.resolve():
        raise SgddError(f"`{out}` is the checkpoint itself.", "Name another folder.")
    model = model_to_share(folder)
    model.save_pretrained(out, dtype=dtype, card=text or own_card(folder), sampling=sampling)
    _note_local_encoder(model)
    say(f"{size(sum(path.stat().st_size for path in out.iterdir()))} in all.")
    emit(str(out))


def _recorded_sampling(assignments: Sequence[str]) -> dict[str, Any]:
    from sgdd_cli.settings import load_settings, sampler_settings  # noqa: PLC0415 - `sgdd --help` need not load it

    resolved = load_settings(assignments=assignments)
    given = resolved.given("sample")
    recorded: dict[str, Any] = {}
    for key in (key for key, origin in resolved.origins.items() if origin == "--set"):
        name = key.removeprefix("sample.")
        if name == key or name not in given:
            raise typer.BadParameter(
                f"{key} is not a setting of the sampler. A checkpoint can record only these: {sampler_settings()}.",
                param_hint="--set",
            )
        recorded[name] = given[name]
    return recorded


def _note_local_encoder(model: "SGDD") -> None:
    encoder = model.info.encoder
    if encoder.is_folder:
        say(
            f"To use the exported model, the folder of its encoder, {encoder.name}, is needed too. On another machine, "
            "say where it is: --encoder FOLDER"
        )
