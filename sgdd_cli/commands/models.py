"""`sgdd models`: the models on this machine."""

from typing import TYPE_CHECKING

from sgdd_cli.console import command_line, emit_json, emit_table, new_table, say, warn
from sgdd_cli.default_paths import RUNS
from sgdd_cli.flags import AsJson
from sgdd_cli.formatting import size
from sgdd_engine.paths_and_shells import last_part

if TYPE_CHECKING:
    from sgdd_engine.checkpoint import ListedModel

_PLACES = {"box": "sgdd", "run": "run", "hub": "hub's cache"}


def models(as_json: AsJson = False) -> None:
    """List the models on this machine: the one that comes with sgdd, the best of each run, those from the hub.

    Scores are those of the newest evaluation that is recorded in a checkpoint. Nothing is downloaded.

    Example: sgdd models --json
    """
    from sgdd_engine.checkpoint import list_models  # noqa: PLC0415 - `sgdd --help` need not load it

    found = list_models(RUNS)
    if as_json:
        emit_json([model.to_dict() for model in found], indent=2)
        return
    if not found:
        say(f"There is no model here. Train one: {command_line('train')}")
        return
    numbers = ("parameters", "token F1", "cosine", "size")
    table = new_table("name", "from", "parameters", "encoder", "token F1", "cosine", "size", numbers=numbers)
    for model in found:
        table.add_row(*_cells(model))
    emit_table(table)
    for model in found:
        if model.problem is not None:
            warn(f"{model.name} cannot be used. {model.problem}")
    unscored = next((m for m in found if m.place == "run" and m.problem is None and m.scores() is None), None)
    if unscored is not None:
        say(f"Without scores; to measure them: {command_line('eval', unscored.name)}")


def _cells(model: "ListedModel") -> list[str]:
    scores = model.scores() or {}
    return [
        model.name,
        _PLACES[model.place],
        "–" if model.parameters is None else f"{model.parameters / 1e6:.2f} M",
        _encoder(model),
        *(f"{scores[name]:.3f}" if name in scores else "–" for name in ("token_f1", "cosine")),
        size(model.bytes),
    ]


def _encoder(model: "ListedModel") -> str:
    """The encoder's name; of a folder the last part, which tells it from others."""
    if model.info is None:
        return "–"
    encoder = model.info.encoder
    return last_part(encoder.name) if encoder.is_folder else encoder.name
