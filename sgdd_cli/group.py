"""How `sgdd` finds its commands: built-in ones first, then those that plugins bring, loaded when called."""

from typing import Any

from typer.core import TyperCommand, TyperGroup

from sgdd_cli.plugins import Plugin, usable_plugins

# What this type is called changes between Typer's minor versions; its own methods are all that is used here.
Context = Any


class SgddGroup(TyperGroup):
    """The root: built-in commands, and plugins under names that no built-in has."""

    def list_commands(self, ctx: Context) -> list[str]:
        """Built-in names in their order, then the plugins'."""
        return [*super().list_commands(ctx), *usable_plugins(self.commands)]

    def get_command(self, ctx: Context, cmd_name: str) -> Any:  # noqa: ANN401 - as in Typer
        """The command of that name; a plugin is not imported before it is called."""
        if (built_in := super().get_command(ctx, cmd_name)) is not None:
            return built_in
        plugin = usable_plugins(self.commands).get(cmd_name)
        return None if plugin is None else PluginCommand(plugin)


class PluginCommand(TyperCommand):
    """Stands for a plugin in lists; becomes the real command when it is called."""

    def __init__(self, plugin: Plugin) -> None:
        super().__init__(plugin.name, short_help=plugin.short_help())
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
