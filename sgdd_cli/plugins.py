"""The plugin door: entry points of the group `sgdd.commands`, each a function or a `typer.Typer`."""

import contextlib
import functools
import inspect
import re
import sys
from collections.abc import Container
from dataclasses import dataclass, replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer

from sgdd_cli.command import SgddCommand
from sgdd_engine.errors import SgddError

GROUP = "sgdd.commands"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


class PluginError(SgddError):
    """A plugin is installed but cannot be used."""


@dataclass(frozen=True)
class Plugin:
    """An installed entry point, not imported yet.

    Attributes:
        name: The name of the command it brings.
        package: The distribution it comes from.
        version: Of that distribution.
        summary: What the distribution says about itself.
        target: `module:object`.
        refused: Why its name cannot be used, or None.
    """

    name: str
    package: str
    version: str
    summary: str
    target: str
    entry_point: EntryPoint
    refused: str | None = None

    def command(self) -> Any:  # noqa: ANN401 - Typer's command type has no public name
        """Import it and make its command.

        Raises:
            PluginError: it cannot be imported, or is neither a function nor a `typer.Typer`.
        """
        try:
            # What a module prints while it is imported is no data of ours.
            with contextlib.redirect_stdout(sys.stderr):
                return _command_of(self.name, self.entry_point.load())
        # A plugin that calls sys.exit while it is imported is broken like any other.
        except (Exception, SystemExit) as error:
            reason = " ".join(str(error).split()) or "no reason given"
            raise PluginError(
                f"The plugin command `{self.name}` of {self.package} {self.version} is broken: "
                f"{type(error).__name__}: {reason}",
                f"Everything else works without it; to remove it: pip uninstall {self.package}",
            ) from error

    def short_help(self) -> str:
        """One line for `sgdd --help`; others' packages speak for themselves, since importing them may be slow."""
        if self.package == "sgdd" and self.problem() is None:
            return (inspect.getdoc(self.entry_point.load()) or self.summary).partition("\n")[0]
        return f"{self.summary} ({self.package} {self.version})"

    def problem(self) -> str | None:
        """Why it cannot be used, or None; imports it."""
        if self.refused:
            return self.refused
        try:
            self.command()
        except PluginError as error:
            return f"{type(error.__cause__).__name__}: {error.__cause__}"
        return None


def _command_of(name: str, found: object) -> Any:  # noqa: ANN401 - as above
    if isinstance(found, typer.Typer):
        return typer.main.get_group(found)
    if not callable(found) or isinstance(found, type):
        raise TypeError(f"it is a {type(found).__name__}, neither a function nor a typer.Typer")
    shell = typer.Typer(add_completion=False, rich_markup_mode=None)
    shell.command(name, cls=SgddCommand)(found)
    return typer.main.get_command(shell)


def find_plugins(built_in: Container[str]) -> list[Plugin]:
    """All installed plugins by name, without importing any; names that clash are marked as refused."""
    found: list[Plugin] = []
    for plugin in _installed():
        if any((p.name, p.target, p.package) == (plugin.name, plugin.target, plugin.package) for p in found):
            continue  # the same distribution seen twice, as with a checkout that is installed as well
        found.append(replace(plugin, refused=_refusal(plugin, built_in, found)))
    return found


@functools.cache
def _installed() -> list[Plugin]:
    """By name, our own first. Reading every distribution's metadata takes longer than everything else in `--help`."""
    plugins = [Plugin(p.name, *_package(p), p.value, p) for p in entry_points(group=GROUP)]
    return sorted(plugins, key=lambda p: (p.name, p.package != "sgdd", p.package, p.version, p.summary))


def _refusal(plugin: Plugin, built_in: Container[str], earlier: list[Plugin]) -> str | None:
    if plugin.name in built_in:
        return f"`{plugin.name}` is a command of sgdd itself"
    if not _NAME.fullmatch(plugin.name):
        return "a command's name is made of a-z, 0-9, - and _"
    if other := next((p for p in earlier if p.name == plugin.name and not p.refused), None):
        return f"the name is taken by {other.package}"
    return None


def usable_plugins(built_in: Container[str]) -> dict[str, Plugin]:
    """Plugins by command name, those refused left out."""
    return {plugin.name: plugin for plugin in find_plugins(built_in) if not plugin.refused}


def _package(point: EntryPoint) -> tuple[str, str, str]:
    if point.dist is None:
        return "an unknown package", "", ""
    metadata = point.dist.metadata
    name = metadata["Name"] or "an unknown package"
    return name, metadata["Version"] or "", metadata["Summary"] or f"from {name}"
