"""`sgdd param-count`: parameters, arithmetic and memory of a model, counted from its real modules."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sgdd_cli.completion import complete_checkpoint
from sgdd_cli.console import emit_json, emit_table, emit_text, new_table, warn
from sgdd_cli.flags import AsJson, Assignments, ConfigFiles

if TYPE_CHECKING:
    from sgdd_cli.settings import Settings
    from sgdd_engine.training.cost import Cost


def param_count(
    checkpoint: Annotated[
        str | None,
        typer.Argument(
            metavar="CHECKPOINT",
            help="Checkpoint or run folder, `mini`, or owner/name on the hub. Default: the model of the settings.",
            autocompletion=complete_checkpoint,
        ),
    ] = None,
    as_json: AsJson = False,
    files: ConfigFiles = None,
    assignments: Assignments = None,
) -> None:
    """Count parameters, arithmetic and memory of a model; downloads nothing, except a checkpoint named on the hub.

    Example: sgdd param-count --set decoder.layers=6
    """
    from sgdd_cli.settings import load_settings  # noqa: PLC0415 - `sgdd --help` need not load it

    resolved = load_settings(files or (), assignments or ())
    # Those that were given for this command, not those of the folder's own settings file.
    given = {"--set", *map(str, files or ())}
    unused = [
        key for key, origin in resolved.origins.items() if origin in given and not key.startswith("train.")
    ]
    if checkpoint is not None and unused:
        warn(f"Not used, since the model of a checkpoint is counted: {', '.join(unused)}.")
    cost = _cost(checkpoint, resolved.settings)
    if as_json:
        emit_json(_as_dict(cost), indent=2)
    else:
        draw_cost(cost)


def _cost(checkpoint: str | None, settings: "Settings") -> "Cost":
    from sgdd_cli.models import find_checkpoint  # noqa: PLC0415 - as above
    from sgdd_engine.checkpoint import read_info  # noqa: PLC0415
    from sgdd_engine.training.cost import cost_of, encoder_component, planned_model  # noqa: PLC0415

    if checkpoint is None:
        model, encoder = planned_model(
            settings.encoder,
            settings.tokenizer,
            settings.bottleneck,
            settings.decoder,
            settings.data.max_tokens,
        )
        return cost_of(model, encoder, settings.train, settings.diffusion)
    info = read_info(find_checkpoint(checkpoint))
    return cost_of(info.model, encoder_component(info), settings.train, info.diffusion)


def _as_dict(cost: "Cost") -> dict[str, Any]:
    return {
        "trainable": cost.trainable,
        "frozen": cost.frozen,
        "total": cost.total,
        "components": [
            {"name": part.name, "parameters": part.parameters, "trainable": part.trainable}
            for part in cost.components
        ],
        "buffers": cost.buffers,
        "flops_per_training_token": cost.flops_per_token,
        "head_share_of_flops": cost.head_flops_share,
        "tokens_per_sentence": cost.tokens_per_sentence,
        "training_memory_bytes": cost.training_bytes,
        "training_process_bytes": cost.process_bytes,
        "batch_tokens": cost.batch_tokens,
    }


def draw_cost(cost: "Cost") -> None:
    """Print the counts for people."""
    from sgdd_cli import formatting  # noqa: PLC0415 - as above

    table = new_table("part", "parameters", "", numbers=("parameters",))
    for part in cost.components:
        table.add_row(part.name, f"{part.parameters:,}", "trained" if part.trainable else "frozen")
    table.add_section()
    for name, count in (("frozen", cost.frozen), ("trainable", cost.trainable), ("total", cost.total)):
        table.add_row(name, f"{count:,}", f"{count / 1e6:.1f} M")
    emit_table(table)
    emit_text(
        f"A training step takes {cost.flops_per_token / 1e6:,.1f} MFLOP per token "
        f"({cost.head_flops_share:.0%} of it in the vocabulary head; sentences of {cost.tokens_per_sentence} tokens)."
    )
    emit_text(
        f"Training takes about {formatting.size(cost.training_bytes)} with batches of {cost.batch_tokens:,} tokens: "
        "weights, gradients, moments and average in fp32, and one batch's activations. On a CPU the process takes "
        f"about {formatting.size(cost.process_bytes)}."
    )
