"""`sgdd plugins`: the commands and vector sources that other packages add, and whether they work."""

from typing import Any

from sgdd_cli.command_registry import CommandEntry, plugin_entries
from sgdd_cli.console import emit_json, emit_table, new_table, say
from sgdd_cli.flags import AsJson
from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors import VectorKind, vector_kinds


def plugins(as_json: AsJson = False) -> None:
    """List the commands and vector sources that other packages add.

    A package adds a command by an entry point of the group `sgdd.commands` that names a function or a typer.Typer, and
    a kind of source for `sgdd read` by one of `sgdd.vectors`.

    Example: sgdd plugins --json
    """
    rows = [_row(entry) for entry in plugin_entries()]
    rows += [_row_of_source(kind) for kind in vector_kinds() if kind.package != "sgdd"]
    if as_json:
        emit_json(rows, indent=2)
        return
    if not rows:
        say("No plugins are installed.")
        return
    table = new_table("adds", "name", "package", "version", "target", "state")
    for row in rows:
        state = "works" if row["works"] else f"broken: {row['problem']}"
        adds = "command" if "command" in row else "vector source"
        name = row["command"] if "command" in row else row["vector_source"]
        table.add_row(adds, name, row["package"], row["version"], row["target"], state)
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


def _row_of_source(kind: VectorKind) -> dict[str, Any]:
    problem = None
    try:
        kind.load()
    except VectorSourceError as error:
        problem = f"{type(error.__cause__).__name__}: {error.__cause__}"
    return {
        "vector_source": kind.name,
        "package": kind.package,
        "version": kind.version,
        "target": kind.entry_point.value,
        "works": problem is None,
        "problem": problem,
    }
