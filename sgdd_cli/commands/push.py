"""`sgdd push`: a checkpoint to the hub."""

from pathlib import Path
from typing import Annotated

import typer

from sgdd_cli.completion import complete_run
from sgdd_cli.console import command_line, emit, emit_json, emit_table, new_table, say
from sgdd_cli.flags import AsJson, Dtype
from sgdd_cli.formatting import size


def push(
    checkpoint: Annotated[
        str,
        typer.Argument(metavar="CHECKPOINT", help="Checkpoint or run folder.", autocompletion=complete_run),
    ],
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Model on the Hugging Face hub.")],
    private: Annotated[
        bool, typer.Option("--private", help="Show the model only to people whom you give access.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be sent, with sizes, and send nothing.")
    ] = False,
    license_: Annotated[
        str | None,
        typer.Option(
            "--license", metavar="ID", help="What others may do with the weights, such as mit or cc-by-4.0."
        ),
    ] = None,
    language: Annotated[
        list[str] | None,
        typer.Option(
            "--language", metavar="CODE", help="Language that the model writes, such as en; may be repeated."
        ),
    ] = None,
    dtype: Dtype = "fp16",
    card: Annotated[
        Path | None,
        typer.Option(
            "--card",
            help="Markdown file to use as model card, README.md. Default: the one in the checkpoint if you wrote it, "
            "else one made from what the checkpoint records.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Share a model on the Hugging Face hub: weights, tokenizer and model card, without the training state.

    A damaged checkpoint is not sent. Log in first: `hf auth login`, or the variable HF_TOKEN. Prints the address.

    Example: sgdd push runs/tales anna/tales --private --license mit --language en
    """
    from sgdd_cli.models import find_checkpoint, model_to_share, read_card  # noqa: PLC0415 - `sgdd --help` need not load it
    from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415
    from sgdd_engine.checkpoint import own_card, states_license  # noqa: PLC0415
    from sgdd_engine.mini import is_mini  # noqa: PLC0415

    text = None if card is None else read_card(card)
    folder = find_checkpoint(checkpoint)
    model = model_to_share(folder)
    if is_mini(folder):
        license_, language = license_ or "mit", language or ["en"]
    text = text or own_card(folder)
    licensed = license_ is not None or (text is not None and states_license(text))
    with ProgressDisplay() as display:
        sent = model.push_to_hub(
            name,
            private=private or None,
            dtype=dtype,
            card=text,
            license=license_,
            language=language or (),
            dry_run=dry_run,
            on_event=display,
        )
    if not licensed:
        say("The card states no licence, so others may not use the model: --license mit says that they may.")
    if not model.info.evaluations and not is_mini(folder):
        say(f"No scores are recorded; to measure them for the card: {command_line('eval', checkpoint)}")
    if as_json:
        emit_json(sent.to_dict())
        return
    if not dry_run:
        emit(sent.url)
        return
    table = new_table("file", "size", numbers=("size",))
    for file, count in sent.files.items():
        table.add_row(file, size(count))
    table.add_section()
    table.add_row(f"to {sent.url}", size(sum(sent.files.values())))
    emit_table(table)
    say("Nothing was sent.")
