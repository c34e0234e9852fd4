"""The `sgdd` command: its global options, and the only place where an exception becomes a sentence and an exit code."""

import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from sgdd_cli.command_registry import SgddGroup
from sgdd_cli.console import (
    CliExit,
    emit,
    open_standard_streams,
    output_options,
    say,
    show_error,
    writing_output,
)
from sgdd_cli.error_messages import describe_error
from sgdd_engine import __version__
from sgdd_engine.errors import ConfigError
from sgdd_engine.stop_signals import handle_stop_signals, is_hangup
from sgdd_engine.verified_files import remember_in
from sgdd_engine.visible_text import visible

_SIGNAL_MESSAGES = {129: "The terminal was closed.", 130: "Interrupted.", 143: "Terminated."}

app = typer.Typer(
    name="sgdd",
    cls=SgddGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    # Plain text: Typer's panels take longer to load than all of `sgdd --help`, with Markdown and highlighters.
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        emit(f"sgdd {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[  # noqa: ARG001 - it acts in its callback
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    hints: Annotated[bool, typer.Option("--hints/--no-hints", hidden=True)] = True,
) -> None:
    """A sentence becomes one vector, and the vector becomes a sentence again.

    New here? `sgdd sample "Some text."` tries the model that comes with it; `sgdd demo` prepares, trains, evaluates
    and samples on any machine, in a few minutes.
    """
    output_options.quiet, output_options.debug = quiet, debug or "SGDD_DEBUG" in os.environ
    output_options.hints = hints
    remember_in(_cache_folder())


def _cache_folder() -> Path | None:
    """Where this user's programs keep what they can do without; None where there is no such place."""
    named, local = os.environ.get("XDG_CACHE_HOME", ""), os.environ.get("LOCALAPPDATA", "")
    if Path(named).is_absolute():
        return Path(named) / "sgdd"
    if sys.platform == "win32":
        return Path(local) / "sgdd" / "Cache" if local else None
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "sgdd"


FOR_PYTORCH = {
    # On Linux large tensors then come in large pages, and far less time goes into fetching them.
    "THP_MEM_ALLOC_ENABLE": "1",
    # On a CPU each shape of a matrix product has a kernel made for it, and batches of every length have more shapes
    # than the 1,024 that are kept: a third of a training step went into making them again.
    "ONEDNN_PRIMITIVE_CACHE_CAPACITY": "16384",
    # Threads of a CPU wait for each other awake only so long (in turns of a loop). Longer, where something else runs
    # beside them, they keep the processor from the very thread they wait for: one text took 85 seconds instead of 15.
    "GOMP_SPINCOUNT": "20000",
}
"""Read by PyTorch as it is loaded; set unless the user has set them."""


def main() -> NoReturn:
    """Run `sgdd` with this process's arguments and exit with its code.

    0: done. 1: a known failure, or a bug. 2: wrong usage or settings. 129: the terminal was closed.
    130: interrupted. 143: terminated.
    """
    for name, value in FOR_PYTORCH.items():
        os.environ.setdefault(name, value)
    if "_SGDD_COMPLETE" in os.environ:
        from sgdd_cli.completion import join_words_of_bash  # noqa: PLC0415 - a command needs it not

        join_words_of_bash(os.environ)
    handle_stop_signals(_exit_on_signal)
    sys.exit(_run())


def _exit_on_signal(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
    # Nothing is written here: the stream may be in the middle of a write.
    if is_hangup(number):  # another one would end the clearing up
        signal.signal(number, signal.SIG_IGN)
    raise CliExit(128 + number)


def _run() -> int:
    """Run the app; whatever it raises becomes an exit code and a sentence."""
    try:
        open_standard_streams()
        code = 0
        try:
            typer.main.get_command(app)()
        except SystemExit as end:
            code = _exit_code(end)
        with writing_output():
            return code  # flushes what Typer wrote itself, such as help
    except SystemExit as end:
        return _exit_code(end)
    except BaseException as error:
        if output_options.debug:
            sys.stderr.write(visible("".join(traceback.format_exception(error)), keep="\n"))
        show_error(*describe_error(error))
        return 2 if isinstance(error, ConfigError) else 1


def _exit_code(end: SystemExit) -> int:
    if isinstance(end, CliExit) and end.code in _SIGNAL_MESSAGES:
        say(_SIGNAL_MESSAGES[end.code])
    if isinstance(end.code, str):  # sys.exit("a sentence"), as a plugin may do
        show_error(end.code)
        return 1
    return end.code or 0
