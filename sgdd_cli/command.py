"""A command that carries the options for output, so that they may stand before or after its name."""

import functools
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from sgdd_cli.console import output_options


def _set_quiet(value: bool) -> None:
    output_options.quiet = output_options.quiet or value


def _set_debug(value: bool) -> None:
    output_options.debug = output_options.debug or value


@functools.cache
def _shared_options() -> tuple[Any, ...]:
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
    """A command that knows `--quiet` and `--debug` too."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(*arguments, **named)
        # In full: left alone, a list of commands shows as much of the first sentence as fits on one line.
        self.short_help = self.short_help or (self.help or "").partition("\n\n")[0]
        own = {name for parameter in self.params for name in parameter.opts}
        self.params += [option for option in _shared_options() if own.isdisjoint(option.opts)]
