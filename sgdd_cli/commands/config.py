"""`sgdd config show`: each setting, its value and where that came from."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sgdd_cli.command_registry import SgddCommand
from sgdd_cli.console import emit_json, emit_lines, emit_table, new_table, say
from sgdd_cli.flags import AsJson, Assignments, ConfigFiles

if TYPE_CHECKING:
    from sgdd_cli.settings import Resolved

config = typer.Typer(
    help="Show the settings and where they come from.", no_args_is_help=True, rich_markup_mode=None
)


@config.command(cls=SgddCommand)
def show(
    files: ConfigFiles = None,
    assignments: Assignments = None,
    as_json: AsJson = False,
    as_toml: Annotated[
        bool,
        typer.Option(
            "--toml", help="Print a settings file that --config can read, with the defaults as comments."
        ),
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Also show what each setting means.")] = False,
) -> None:
    """Show each setting, its value, and where the value comes from.

    Example: sgdd config show --set train.learning_rate=5e-4
    """
    from sgdd_cli.settings import load_settings, to_template  # noqa: PLC0415 - `sgdd --help` need not load it

    resolved = load_settings(files or (), assignments or ())
    for file in resolved.files:
        say(f"Settings are read from {file}.")
    if as_json:
        emit_json(_as_json(resolved), indent=2)
    elif as_toml:
        emit_lines(to_template(resolved, explain).rstrip().split("\n"))
    else:
        _draw(resolved, explain)


def _as_json(resolved: "Resolved") -> dict[str, Any]:
    from sgdd_cli.settings import OPTIONS  # noqa: PLC0415 - as above

    return {
        key: {"value": option.of(resolved.settings), "source": resolved.origin(key), "help": option.help}
        for key, option in OPTIONS.items()
    }


def _draw(resolved: "Resolved", explain: bool) -> None:
    from sgdd_cli.settings import OPTIONS  # noqa: PLC0415 - as above

    table = new_table("key", "value", "source", *(["meaning"] if explain else []))
    section = ""
    for key, option in OPTIONS.items():
        if section and not key.startswith(section):
            table.add_section()
        section = key.partition(".")[0] + "."
        origin = resolved.origin(key)
        cells = [key, _shown(option.of(resolved.settings)), origin, *([option.help] if explain else [])]
        table.add_row(*cells, style=None if key in resolved.origins else "dim")
    emit_table(table)


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value)
