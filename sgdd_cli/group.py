"""How `sgdd` finds its commands: built-in ones first, then those that plugins bring, loaded when called."""

import functools
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from sgdd_cli.console import manners

# What this type is called changes between Typer's minor versions; its own methods are all that is used here.
Context = Any


def _set_quiet(value: bool) -> None:
    manners.quiet = manners.quiet or value


def _set_debug(value: bool) -> None:
    manners.debug = manners.debug or value


@functools.cache
def _manner_options() -> tuple[Any, ...]:
    """`--quiet` and `--debug` as parameters that any command can carry; Typer builds them from a signature."""
    donor = typer.Typer(add_completion=False)

    @donor.command()
    def _(
        quiet: Annotated[
            bool, typer.Option("--quiet", "-q", callback=_set_quiet, help="No progress and no notes.")
        ] = False,
        debug: Annotated[
            bool, typer.Option("--debug", callback=_set_debug, help="Show tracebacks of errors.")
        ] = False,
    ) -> None:
        pass

    options = tuple(typer.main.get_command(donor).params)
    for option in options:
        option.expose_value = False
    return options


class SgddCommand(TyperCommand):
    """A command that knows `--quiet` and `--debug` too, so that they may stand before or after its name."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(*arguments, **named)
        own = {name for parameter in self.params for name in parameter.opts}
        self.params += [option for option in _manner_options() if own.isdisjoint(option.opts)]


class SgddGroup(TyperGroup):
    """The root: built-in commands, and plugins under names that no built-in has."""

    def list_commands(self, ctx: Context) -> list[str]:
        """Built-in names in their order, then the plugins'."""
        from sgdd_cli.plugins import usable_plugins  # noqa: PLC0415 - scans the installed distributions

        return [*super().list_commands(ctx), *usable_plugins(self.commands)]

    def get_command(self, ctx: Context, cmd_name: str) -> Any:  # noqa: ANN401 - as in Typer
        """The command of that name; a plugin is not imported before it is called."""
        if (built_in := super().get_command(ctx, cmd_name)) is not None:
            return built_in
        from sgdd_cli.plugins import usable_plugins  # noqa: PLC0415 - built-in commands must not pay for it

        plugin = usable_plugins(self.commands).get(cmd_name)
        return None if plugin is None else PluginCommand(plugin)


class PluginCommand(TyperCommand):
    """Stands for a plugin in lists; becomes the real command when it is called."""

    def __init__(self, plugin: Any) -> None:  # noqa: ANN401 - sgdd_cli.plugins.Plugin, imported late
        super().__init__(plugin.name, help=plugin.short_help(), rich_help_panel="Plugins")
        self._plugin = plugin

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: Context = None,
        **extra: Any,  # noqa: ANN401 - passed on
    ) -> Context:
        """Load the plugin and let its own command read the arguments.

        Raises:
            SgddError: the plugin is broken.
        """
        return self._plugin.command().make_context(info_name, args, parent=parent, **extra)
