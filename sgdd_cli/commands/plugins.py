"""`sgdd plugins`: the commands that other packages add, and whether they work."""

from typing import Any

from sgdd_cli.command_registry import CommandEntry, plugin_entries
from sgdd_cli.console import emit_json, emit_table, new_table, say
from sgdd_cli.flags import AsJson


def plugins(as_json: AsJson = False) -> None:
    """List the commands that other packages add.

    A package adds a command by an entry point of the group `sgdd.commands` that names a function or a typer.Typer.

    Example: sgdd plugins --json
    """
    rows = [_row(entry) for entry in plugin_entries()]
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


def _row(entry: CommandEntry) -> dict[str, Any]:
    problem = entry.problem()
    return {
        "command": entry.name,
        "package": entry.package,
        "version": entry.version,
        "target": entry.entry_point.value,
        "works": problem is None,
        "problem": problem,
    }
