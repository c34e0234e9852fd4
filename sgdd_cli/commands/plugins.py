"""`sgdd plugins`: what other packages add to sgdd, and whether it works."""

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sgdd_cli.command_registry import SgddCommand
from sgdd_cli.console import CliExit, command_line, emit, emit_json, emit_table, new_table, say
from sgdd_cli.flags import AsJson
from sgdd_engine.errors import ConfigError

if TYPE_CHECKING:
    from sgdd_cli.plugin_check import Finding, Installed

plugins = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
_WORDS = {"command": "command", "extension": "extension", "vector_source": "vector source"}


@plugins.callback()
def list_plugins(context: typer.Context, as_json: AsJson = False) -> None:
    """List what other packages add to sgdd: commands, extensions and vector sources.

    A package names a command by an entry point of the group `sgdd.commands`, a module that adds schedules, position
    rules and the like by one of `sgdd.extensions`, and a kind of source for `sgdd read` by one of `sgdd.vectors`. Each
    is imported in another process.

    Example: sgdd plugins --json
    """
    context.obj = as_json
    if context.invoked_subcommand is not None:
        return
    rows = _rows(None)
    if as_json:
        emit_json(rows, indent=2)
        return
    if not rows:
        say("No plugins are installed.")
        return
    table = new_table("adds", "name", "package", "version", "target", "state")
    for row in rows:
        state = "works" if row["works"] else f"broken: {row['problem']}"
        table.add_row(*_named(row), row["package"], row["version"], row["target"], state)
    emit_table(table)
    if any(not row["works"] or row["notes"] for row in rows):
        say(f"More about each: {command_line('plugins', 'check')}")


@plugins.command(cls=SgddCommand)
def check(
    context: typer.Context,
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="A package, or one of its plugins. Default: all.")
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit", metavar="SECONDS", min=1, help="How long the check of one plugin may take."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Import each plugin in another process, and say what it adds, or why it is broken and what to fix.

    The exit code is 1 if one of them does not work.

    Example: sgdd plugins check sgdd-telephone
    """
    rows = _rows(name, time_limit)
    if as_json or context.obj:
        emit_json(rows, indent=2)
    elif not rows:
        say("No plugins are installed.")
    else:
        for row in rows:
            _show(row)
    if not all(row["works"] for row in rows):
        raise CliExit(1)


def _rows(name: str | None, time_limit: float | None = None) -> list[dict[str, Any]]:
    from sgdd_cli.plugin_check import SECONDS, check_plugins, installed_plugins  # noqa: PLC0415 - as others

    found = installed_plugins()
    if name is not None:
        found = _chosen(found, name)
    findings = check_plugins(found, time_limit or SECONDS)
    return [_row(plugin, finding) for plugin, finding in zip(found, findings, strict=True)]


def _chosen(found: "Sequence[Installed]", name: str) -> "list[Installed]":
    chosen = [plugin for plugin in found if name in (plugin.package, plugin.entry_point.name)]
    if chosen:
        return chosen
    known = list(
        dict.fromkeys(word for plugin in found for word in (plugin.package, plugin.entry_point.name))
    )
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Installed: {', '.join(known) or 'none'}."
    raise ConfigError(f"There is no plugin and no package with plugins that is called `{name}`.", hint)


def _row(plugin: "Installed", finding: "Finding") -> dict[str, Any]:
    return {
        plugin.kind: plugin.entry_point.name,
        "package": plugin.package,
        "version": plugin.version,
        "target": plugin.entry_point.value,
        "works": finding.problem is None,
        "problem": finding.problem,
        "adds": list(finding.adds),
        "notes": list(finding.notes),
    }


def _named(row: dict[str, Any]) -> tuple[str, str]:
    """What kind of plugin it is, and its name."""
    kind = next(kind for kind in _WORDS if kind in row)
    return _WORDS[kind], row[kind]


def _show(row: dict[str, Any]) -> None:
    kind, name = _named(row)
    emit(
        f"{kind} {name} ({row['package']} {row['version']}): "
        + ("works" if row["works"] else f"broken: {row['problem']}")
    )
    for line in (*(f"adds {entry}" for entry in row["adds"]), *row["notes"]):
        emit(f"  {line}")
