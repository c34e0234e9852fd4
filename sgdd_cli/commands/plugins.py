"""`sgdd plugins`: which commands other packages bring, and whether they work."""

from typing import Any

import typer

from sgdd_cli.console import emit_json, emit_table, new_table, say
from sgdd_cli.flags import AsJson
from sgdd_cli.group import Context


def plugins(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the commands that installed packages bring.

    A package brings a command by an entry point of the group `sgdd.commands` that names a function
    or a typer.Typer.

    Example: sgdd plugins --json
    """
    rows = [_row(plugin) for plugin in _found(ctx)]
    if as_json:
        emit_json(rows, indent=2)
        return
    if not rows:
        say("No plugins are installed.")
        return
    table = new_table("command", "package", "version", "target", "state")
    for row in rows:
        state = "works" if row["works"] else f"broken: {row['problem']}"
        table.add_row(row["command"], row["package"], row["version"], row["target"], state)
    emit_table(table)


def _found(ctx: Context) -> list[Any]:
    from sgdd_cli.plugins import find_plugins  # noqa: PLC0415 - imports nothing until a plugin is asked for

    return find_plugins(ctx.find_root().command.commands)


def _row(plugin: Any) -> dict[str, Any]:  # noqa: ANN401 - sgdd_cli.plugins.Plugin, imported late
    problem = plugin.problem()
    return {
        "command": plugin.name,
        "package": plugin.package,
        "version": plugin.version,
        "target": plugin.target,
        "works": problem is None,
        "problem": problem,
    }
