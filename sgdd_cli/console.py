"""What goes to which stream: data to stdout, everything else to stderr, in one voice.

Rich is loaded by the first line that is drawn with it: help and usage errors need none.
"""

import json
import os
import sys
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from sgdd_cli.process_end import CliExit, discard

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

# A table that goes to a file or a pipe has no window to fit into; this holds every table without folding.
_WIDE = 200


@dataclass
class OutputOptions:
    """How the running command speaks; the global options set it.

    Attributes:
        quiet: Only data, errors and warnings.
        debug: Tracebacks for errors.
    """

    quiet: bool = False
    debug: bool = False


output_options = OutputOptions()


def stdout() -> "Console":
    """A console for data. Off a terminal it is wide enough that no cell is folded."""
    wide = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else _WIDE
    return _console(sys.stdout, width=wide)


def stderr() -> "Console":
    """A console for notes, progress and errors."""
    return _console(sys.stderr)


def _console(file: IO[str], width: int | None = None) -> "Console":
    from sgdd_cli.rich_console import PipeAwareConsole  # noqa: PLC0415 - loads rich

    # Rich's own no_color keeps bold and dim; without a colour system no style is written at all.
    system: Any = None if os.environ.get("NO_COLOR") else "auto"
    return PipeAwareConsole(file=file, color_system=system, width=width, highlight=False, markup=False)


def emit(text: str) -> None:
    """Write one line of data to stdout, at once, so that pipes stream."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # `sgdd … | head`: the reader has seen enough, which is no failure.
        discard(sys.stdout)
        raise CliExit(0) from None


def emit_json(value: Any, *, indent: int | None = None) -> None:  # noqa: ANN401 - any JSON value
    """Write a JSON value to stdout; escaped where the stream's encoding cannot hold all text."""
    unicode = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    emit(json.dumps(value, ensure_ascii=not unicode, indent=indent, allow_nan=False))


def emit_table(table: "Table") -> None:
    """Draw a table on stdout."""
    stdout().print(table)


def new_table(*columns: str, numbers: tuple[str, ...] = ()) -> "Table":
    """An empty table in the house style; the columns named in `numbers` are set flush right."""
    from rich import box  # noqa: PLC0415 - as above
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return table


def say(message: str) -> None:
    """A note for people, on stderr; not with --quiet."""
    if not output_options.quiet:
        _line(message)


def warn(message: str) -> None:
    """Something that may change a result, on stderr, also with --quiet."""
    _line(warning_text(message))


def warning_text(message: str) -> "Text":
    """A warning as it is drawn."""
    from rich.text import Text  # noqa: PLC0415 - as above

    return Text.assemble(("Warning: ", "yellow"), message)


def show_error(message: str, hint: str | None = None) -> None:
    """One sentence in red, and below it what to do."""
    from rich.text import Text  # noqa: PLC0415 - as above

    _line(Text.assemble(("Error: ", "bold red"), (message, "red")))
    for line in (hint or "").splitlines():
        _line(f"  {line}")


def _line(text: "Text | str") -> None:
    console = stderr()
    # Off a terminal a sentence stays on one line, so that it can be searched for.
    console.print(text, soft_wrap=not console.is_terminal)
