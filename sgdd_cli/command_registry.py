"""The commands of `sgdd`: those of sgdd itself in one table, those of other packages by entry points.

Both are the same thing, a function or a `typer.Typer` that is imported when its command is called. A package adds a
command by an entry point of the group `sgdd.commands`; see `.github/CONTRIBUTING.md`.
"""

import functools
import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from sgdd_cli.console import command_lines, output_options
from sgdd_engine.errors import SgddError
from sgdd_engine.paths_and_shells import shell_line
from sgdd_engine.plugins import BrokenPlugin, load_plugin, reason_of
from sgdd_engine.version import __version__
from sgdd_engine.visible_text import visible

GROUP = "sgdd.commands"
BUILT_IN = {
    "prepare-data": "sgdd_cli.commands.prepare_data:prepare_data",
    "corpus": "sgdd_cli.commands.corpus:corpus",
    "train": "sgdd_cli.commands.train:train",
    "eval": "sgdd_cli.commands.eval:evaluate",
    "sample": "sgdd_cli.commands.sample:sample",
    "read": "sgdd_cli.commands.read:read",
    "fill": "sgdd_cli.commands.fill:fill",
    "audit": "sgdd_cli.commands.audit:audit",
    "align": "sgdd_cli.commands.align:align",
    "blend": "sgdd_cli.commands.blend:blend",
    "interpolate": "sgdd_cli.commands.interpolate:interpolate",
    "vary": "sgdd_cli.commands.vary:vary",
    "words": "sgdd_cli.commands.words:words",
    "play": "sgdd_cli.commands.play:play",
    "export": "sgdd_cli.commands.export:export",
    "push": "sgdd_cli.commands.push:push",
    "pull": "sgdd_cli.commands.pull:pull",
    "checkpoint": "sgdd_cli.commands.checkpoint:checkpoint",
    "models": "sgdd_cli.commands.models:models",
    "runs": "sgdd_cli.commands.runs:runs",
    "doctor": "sgdd_cli.commands.doctor:doctor",
    "param-count": "sgdd_cli.commands.param_count:param_count",
    "config": "sgdd_cli.commands.config:config",
    "plugins": "sgdd_cli.commands.plugins:plugins",
    "demo": "sgdd_cli.commands.demo:demo",
    "bench": "sgdd_cli.commands.bench:bench",
}
"""The commands of sgdd itself by name, in the order of `sgdd --help`.

A table and not entry points: to read the metadata of every installed package takes longer than all else in `--help`.
"""
# What begins like an option and may be a text: a number, and what has a space in it.
_LIKE_A_TEXT = re.compile(r"-\d|-.*\s")
# A text with a weight, as `sgdd blend` takes it, which is never an option.
_WEIGHTED_TEXT = re.compile(r"-[^-].*:\s*[+-]?[\d.]+", re.DOTALL)
# Stands before such a text while options are parsed; no argument of a process can hold it.
_MARK = "\0"
# Begins a paragraph of a help text that is a command.
_EXAMPLE = "Example: "
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
# What Typer's context type is called changes between its minor versions; its own methods are all that is used here.
Context = Any


class PluginError(SgddError):
    """A plugin is installed but cannot be used."""


@dataclass(frozen=True)
class CommandEntry:
    """A command, not imported yet.

    Attributes:
        name: Of the command.
        entry_point: The object that it is made of, as `module:object`.
        package: The distribution that brings it.
        version: Of that distribution.
        summary: What the distribution says about itself; empty for sgdd's own commands.
        conflict: Why its name cannot be used, or None.
    """

    name: str
    entry_point: EntryPoint
    package: str
    version: str
    summary: str = ""
    conflict: str | None = None

    @property
    def built_in(self) -> bool:
        """Whether it is one of sgdd's own."""
        return self.name in BUILT_IN and self.entry_point.value == BUILT_IN[self.name]

    def command(self) -> Any:  # noqa: ANN401 - Typer's command type has no public name
        """Import it and make its command.

        Raises:
            PluginError: it is a plugin's, and cannot be imported or is neither a function nor a `typer.Typer`.
        """
        if self.built_in:
            return _as_command(self.name, self.entry_point.load())
        try:
            found = load_plugin(self.entry_point)
            try:
                return _as_command(self.name, found)
            except Exception as error:  # such as an argument of a type that Typer cannot read
                raise BrokenPlugin(reason_of(error)) from error
        except BrokenPlugin as error:
            raise PluginError(
                f"The plugin command `{self.name}` of {self.package} {self.version} is broken: {error}",
                error.hint or f"Everything else works without it; to remove it: pip uninstall {self.package}",
            ) from error

    def short_help(self) -> str:
        """One line for `sgdd --help`; a plugin is not imported for it, since that may be slow."""
        if not self.built_in:
            return f"{self.summary} ({self.package} {self.version})"
        found = self.entry_point.load()
        if isinstance(found, typer.Typer) and found.registered_callback is not None:
            found = found.registered_callback.callback
        text = found.info.help if isinstance(found, typer.Typer) else inspect.getdoc(found)
        return str(text).partition("\n")[0]


@functools.cache
def plugin_entries() -> Sequence[CommandEntry]:
    """The commands of other packages by name; none is imported, and those whose name is taken have a `conflict`."""
    found: list[CommandEntry] = []
    for point in sorted(entry_points(group=GROUP), key=_order):
        package, version, summary = _package(point)
        # The same distribution may be seen twice, as with a checkout that is installed as well; and older versions of
        # sgdd had entry points for some of their own commands.
        seen = any(
            p.entry_point.value == point.value and (p.name, p.package) == (point.name, package) for p in found
        )
        if not seen and package != "sgdd":
            conflict = _conflict(point.name, found)
            found.append(CommandEntry(point.name, point, package, version, summary, conflict))
    return found


def find_entry(name: str) -> CommandEntry | None:
    """The command of that name; plugins are looked for only if sgdd itself has none."""
    if name in BUILT_IN:
        return CommandEntry(name, EntryPoint(name, BUILT_IN[name], GROUP), "sgdd", __version__)
    return next((entry for entry in plugin_entries() if entry.name == name and not entry.conflict), None)


def _order(point: EntryPoint) -> tuple[str, ...]:
    return point.name, *_package(point)


def _conflict(name: str, earlier: Sequence[CommandEntry]) -> str | None:
    if name in BUILT_IN:
        return f"`{name}` is a command of sgdd itself"
    if not _NAME.fullmatch(name):
        return "a command's name is made of a-z, 0-9, - and _"
    if other := next((entry for entry in earlier if entry.name == name and not entry.conflict), None):
        return f"the name is taken by {other.package}"
    return None


def _package(point: EntryPoint) -> tuple[str, str, str]:
    if point.dist is None:
        return "an unknown package", "", ""
    metadata = point.dist.metadata
    name = metadata["Name"] or "an unknown package"
    return name, metadata["Version"] or "", metadata["Summary"] or f"from {name}"


def _as_command(name: str, found: object) -> Any:  # noqa: ANN401 - as above
    if isinstance(found, typer.Typer):
        return _with_shared_options(typer.main.get_group(found))
    if not callable(found) or isinstance(found, type):
        raise TypeError(f"it is a {type(found).__name__}, neither a function nor a typer.Typer")
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(name, cls=SgddCommand)(found)
    return typer.main.get_command(single)


class SgddGroup(TyperGroup):
    """`sgdd` itself: finds its commands by `find_entry`."""

    def list_commands(self, ctx: Context) -> list[str]:  # noqa: ARG002 - Typer's signature
        """The names of sgdd's own commands in their order, then those of plugins."""
        return [*BUILT_IN, *(entry.name for entry in plugin_entries() if not entry.conflict)]

    def get_command(self, ctx: Context, cmd_name: str) -> Any:  # noqa: ANN401, ARG002 - Typer's signature
        """The command of that name, not imported yet."""
        entry = find_entry(cmd_name)
        return None if entry is None else LazyCommand(entry)


class LazyCommand(TyperCommand):
    """Stands for a command in lists; becomes the command itself when it is called."""

    def __init__(self, entry: CommandEntry) -> None:
        super().__init__(entry.name)
        self._entry = entry

    def get_short_help_str(self, limit: int = 0) -> str:  # noqa: ARG002 - Typer's signature
        """Its line in `sgdd --help`, in full; Typer would show as much of it as fits on one line."""
        return self._entry.short_help()

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: Context = None,
        **extra: Any,  # noqa: ANN401 - passed on
    ) -> Context:
        """Import the command and let it read its arguments.

        Raises:
            PluginError: it is a broken plugin.
        """
        return self._entry.command().make_context(info_name, args, parent=parent, **extra)


def _unmarked(value: Any) -> Any:  # noqa: ANN401 - what an option or argument was given
    if isinstance(value, list | tuple):
        return type(value)(map(_unmarked, value))
    return value.removeprefix(_MARK) if isinstance(value, str) else value


def _set_quiet(value: bool) -> None:
    output_options.quiet = output_options.quiet or value


def _set_debug(value: bool) -> None:
    output_options.debug = output_options.debug or value


@functools.cache
def _shared_options() -> tuple[Any, ...]:
    """`--quiet` and `--debug` as parameters that any command can carry; Typer builds them from a signature."""
    carrier = typer.Typer(add_completion=False)

    @carrier.command()
    def _(
        quiet: Annotated[
            bool, typer.Option("--quiet", "-q", callback=_set_quiet, help="No progress and no notes.")
        ] = False,
        debug: Annotated[
            bool, typer.Option("--debug", callback=_set_debug, help="Show the traceback of an error.")
        ] = False,
    ) -> None:
        pass

    options = tuple(typer.main.get_command(carrier).params)
    for option in options:
        option.expose_value = False
    return options


def _with_shared_options(command: Any) -> Any:  # noqa: ANN401 - as above
    own = {name for parameter in command.params for name in parameter.opts}
    command.params += [option for option in _shared_options() if own.isdisjoint(option.opts)]
    return command


class SgddCommand(TyperCommand):
    """A command that takes `--quiet` and `--debug` too, so that they may stand before or after its name."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - passed on
        super().__init__(*arguments, **named)
        # In full: left alone, a list of commands shows as much of the first sentence as fits on one line.
        self.short_help = self.short_help or (self.help or "").partition("\n\n")[0]
        _with_shared_options(self)

    def format_help_text(self, ctx: Context, formatter: Any) -> None:  # noqa: ANN401, ARG002 - Typer's signature
        """Write the help, with the examples as a shell reads them, however narrow the window is."""
        for paragraph in inspect.cleandoc(self.help or "").split("\n\n"):
            formatter.write_paragraph()
            with formatter.indentation():
                lead, command = paragraph[: len(_EXAMPLE)], paragraph[len(_EXAMPLE) :]
                if lead == _EXAMPLE:
                    width = formatter.width - formatter.current_indent
                    lines = command_lines(" ".join(command.split()), width, lead, "  ")
                    formatter.write("".join(f"{' ' * formatter.current_indent}{line}\n" for line in lines))
                else:
                    formatter.write_text(paragraph)

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Read the arguments; where a text was taken for an option, the error names `--`.

        A text with a weight needs none: "-A cat.:0.2".

        Raises:
            TyperException: wrong usage.
        """
        end = args.index("--") if "--" in args else len(args)
        options = args[:end]
        takes_texts = any(parameter.nargs == -1 for parameter in self.params)
        if takes_texts:
            marked = (_MARK + word if _WEIGHTED_TEXT.fullmatch(word) else word for word in options)
            args = [*marked, *args[end:]]
        try:
            rest = super().parse_args(ctx, args)
            ctx.params.update({name: _unmarked(value) for name, value in ctx.params.items()})
            return rest
        except TyperException as error:
            texts = [word for word in options if _LIKE_A_TEXT.match(word) and "=" not in word.split()[0]]
            if texts and takes_texts:
                example = f"{ctx.command_path} -- {shell_line([texts[0]])}"
                error.message += f"\nA text that begins with `-` is written after `--`: {example}"
            error.message = visible(error.message, keep="\n")
            raise
