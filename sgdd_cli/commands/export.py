"""`sgdd export`: a checkpoint without its training state and without folder names of this machine, to share."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sgdd_cli.completion import complete_assignment, complete_checkpoint
from sgdd_cli.console import emit, say
from sgdd_cli.flags import Force, check_output
from sgdd_cli.formatting import size
from sgdd_engine.errors import EncoderError

if TYPE_CHECKING:
    from sgdd_engine.generation import SGDD


def export(
    checkpoint: Annotated[
        str,
        typer.Argument(
            help="Checkpoint or run folder, `mini`, or owner/name on the hub.",
            autocompletion=complete_checkpoint,
        ),
    ],
    out: Annotated[Path, typer.Argument(help="New or empty folder to write.")],
    dtype: Annotated[
        Literal["fp16", "fp32"], typer.Option("--dtype", help="Precision of the matrices.")
    ] = "fp16",
    card: Annotated[
        Path | None,
        typer.Option(
            "--card",
            help="Markdown file to use as README.md. Default: one made from the facts in the checkpoint.",
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Record how the model is sampled where nobody says otherwise, such as sample.steps=10.",
            autocompletion=complete_assignment,
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Write a checkpoint to share: half precision, no training state, no folder names of this machine.

    Example: sgdd export runs/tales tales-model

    Example: sgdd export runs/tales quick-model --set sample.steps=8 --set sample.kv_cache=true
    """
    from sgdd_cli.models import find_checkpoint, read_card  # noqa: PLC0415 - `sgdd --help` need not load it
    from sgdd_engine.generation import SGDD  # noqa: PLC0415 - loads torch

    sampling = _recorded_sampling(assignments or ())
    check_output(out, force=force, folder=True)
    text = None if card is None else read_card(card)
    model = SGDD.from_pretrained(find_checkpoint(checkpoint), "cpu")
    encoder = model.info.encoder
    # Of an encoder on the hub the weights might have to be fetched for this.
    if encoder.probes is None and encoder.revision is None:
        with suppress(EncoderError):
            _ = model.encoder  # what earlier versions did not record of it is then written too
    model.save_pretrained(out, dtype=dtype, card=text, sampling=sampling)
    _note_local_encoder(model)
    say(f"{size(sum(path.stat().st_size for path in out.iterdir()))} in all.")
    emit(str(out))


def _recorded_sampling(assignments: Sequence[str]) -> dict[str, Any]:
    from sgdd_cli.settings import load_settings  # noqa: PLC0415 - `sgdd --help` need not load it

    resolved = load_settings(assignments=assignments)
    given = resolved.given("sample")
    recorded: dict[str, Any] = {}
    for key in (key for key, origin in resolved.origins.items() if origin == "--set"):
        name = key.removeprefix("sample.")
        if name == key or name not in given:
            raise typer.BadParameter(
                f"{key} is no setting of the denoising loop, and a checkpoint records those alone, such as "
                "sample.steps, sample.cfg and sample.temperature.",
                param_hint="--set",
            )
        recorded[name] = given[name]
    return recorded


def _note_local_encoder(model: "SGDD") -> None:
    encoder = model.info.encoder
    if encoder.is_folder:
        say(
            f"Who uses the exported model needs the encoder's folder, {encoder.name}, "
            "and says where it is: --encoder FOLDER"
        )
