"""Streams and exit codes: data to stdout, everything else to stderr; closed streams and closed pipes.

Rich is loaded by the first line that is drawn with it: help and usage errors need none.
"""

import contextlib
import functools
import io
import json
import os
import shlex
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from sgdd_engine.errors import DataError, SgddError
from sgdd_engine.paths_and_shells import shell_line
from sgdd_engine.visible_text import visible, visible_json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

# A table that goes to a file or a pipe has no window to fit into; this holds every table without folding.
_WIDE = 200
# Columns between the texts of two columns of a table, usually and where room is short.
_WIDE_GAP, _GAP = 3, 2


class CliExit(SystemExit):
    """Ends the command with an exit code; no `except Exception` on the way catches it."""


@dataclass
class OutputOptions:
    """What the running command writes to stderr; the global options set it.

    Attributes:
        quiet: Errors and warnings only.
        debug: Tracebacks of errors too.
        hints: What may be done next.
    """

    quiet: bool = False
    debug: bool = False
    hints: bool = True


output_options = OutputOptions()


def open_standard_streams() -> None:
    """Prepare the standard streams, which may have been closed by whoever started this process.

    Reading from a closed stdin is an error. What stderr cannot take is dropped, whether it is closed, a pipe that
    nobody reads, a file on a full disk or a terminal that is gone: no work is lost for a message.

    Raises:
        SgddError: stdout is closed.
    """
    # Python has None for a stream that was closed. A file that is opened later must not get its descriptor.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(_ClosedInput()))
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - open until the process ends
    if sys.stdout is None:
        raise SgddError(
            "Standard output is closed; the result would be lost.", "Redirect it: sgdd ... > FILE"
        )
    # A console that lacks a character shows its code instead of failing on it.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr = io.TextIOWrapper(
            io.BufferedWriter(_Dropping(sys.stderr)),
            sys.stderr.encoding,
            errors="backslashreplace",
            line_buffering=True,
        )


class _Dropping(io.RawIOBase):
    """Passes on what is written as long as the stream takes it."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        # Without its buffer, which would keep what could not be written and fail on it once more.
        self._stream: Any = getattr(stream.buffer, "raw", stream.buffer)
        self._text = stream  # which closes the others when nobody holds it

    def writable(self) -> bool:
        """Nothing is read from it."""
        return True

    def fileno(self) -> int:
        """The descriptor of the stream."""
        return int(self._stream.fileno())

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return bool(self._stream.isatty())

    def write(self, data: Any, /) -> int:  # noqa: ANN401 - any buffer
        """Write, or drop all of it."""
        size = memoryview(data).nbytes
        try:
            written: int | None = self._stream.write(data)
        except OSError:
            return size
        return written or size


class _ClosedInput(io.RawIOBase):
    """In the place of a closed standard input."""

    def readable(self) -> bool:
        """It is opened for reading, so that a reader gets as far as the error below."""
        return True

    def readinto(self, _: Any, /) -> int:  # noqa: ANN401 - any buffer
        """Fail with a sentence.

        Raises:
            DataError: always.
        """
        raise DataError("Standard input is closed.", "Pipe text into it, or redirect it: sgdd ... < FILE")


def discard(stream: IO[str]) -> None:
    """Send everything that is still written to a stream to the null device; Python flushes it once more at the end."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())


@contextlib.contextmanager
def writing_output() -> Iterator[None]:
    """While data is written to stdout; leaving flushes it.

    Raises:
        CliExit: the reader of the pipe has closed it, as `head` does; that is no failure.
        SgddError: the data cannot be written.
    """
    try:
        yield
        sys.stdout.flush()
    except OSError as error:
        # Python would fail on the same data once more as the process ends.
        discard(sys.stdout)
        if isinstance(error, BrokenPipeError):
            raise CliExit(0) from None
        raise SgddError(f"Standard output cannot be written: {error.strerror}.") from error


def stdout() -> "Console":
    """A console for data. Off a terminal it is wide enough that no cell is folded."""
    wide = None if sys.stdout.isatty() or os.environ.get("COLUMNS") else _WIDE
    return _console(sys.stdout, width=wide)


def stderr() -> "Console":
    """A console for notes, progress and errors."""
    return _console(sys.stderr)


def _console(file: IO[str], width: int | None = None) -> "Console":
    # Rich's own no_color keeps bold and dim; without a colour system no style is written at all.
    system: Any = None if os.environ.get("NO_COLOR") else "auto"
    return _console_class()(
        file=file, color_system=system, width=width, highlight=False, markup=False, emoji=False
    )


@functools.cache
def _console_class() -> type["Console"]:
    from rich.console import Console, ConsoleOptions, RenderableType  # noqa: PLC0415 - see the module's first lines
    from rich.segment import Segment  # noqa: PLC0415

    class CarefulConsole(Console):
        """Rich's console, except that only Rich itself drives the terminal, never what a text holds.

        A closed pipe ends the command only if it was the one for data.
        """

        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterable[Segment]:
            """What Rich draws, with the texts as `visible` shows them."""
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else visible(text, keep="\n"), style, control)

        def on_broken_pipe(self) -> None:
            discard(self.file)
            if self.file is sys.stdout:
                raise CliExit(0)

    return CarefulConsole


def emit(text: str) -> None:
    """Write one line of data to stdout and flush it, so that a pipe gets each line at once.

    It stays one line, on a terminal and in a pipe: a line end in a text is written as `\\n`, and what drives a terminal
    as `visible` shows it. Tabs, which divide columns, stay. The text itself is in the JSON that every command can give.
    """
    with writing_output():
        sys.stdout.write(visible(text, keep="\t") + "\n")


def emit_lines(lines: Iterable[str]) -> None:
    """Write lines of data, each as `emit` does."""
    for line in lines:
        emit(line)


def emit_text(text: str, first: str = "", later: str = "") -> None:
    """Write prose to stdout; in a window its lines end between words, elsewhere each stays one line.

    Args:
        text: Lines.
        first: What each of them begins with.
        later: What its further lines begin with in a window.
    """
    width = _window()
    for line in visible(text, keep="\n").splitlines() or [""]:
        emit_lines([first + line] if width is None else _filled(line, width, first, later) or [""])


def emit_command(command: str, indent: str = "") -> None:
    """Write a command to stdout; in a window that is too narrow its lines end in a backslash, as a shell reads them."""
    emit_lines(command_lines(command, _window(), indent, f"{indent}  "))


def command_lines(command: str, width: int | None, first: str, later: str) -> list[str]:
    """A command in lines that fit into a window and that a shell reads as one."""
    words = [command] if os.name == "nt" else list(map(shlex.quote, shlex.split(command)))
    parts: list[str] = []
    for word in words:
        # An option and its value stay together, where a line has room for both.
        together = f"{parts[-1]} {word}" if parts and parts[-1].startswith("-") else ""
        if (
            together
            and " " not in parts[-1]
            and not word.startswith("-")
            and len(later) + len(together) + 2 <= (width or 0)
        ):
            parts[-1] = together
        else:
            parts.append(word)
    lines = [first]
    for number, part in enumerate(parts):
        # The backslash and the space before it.
        if width is not None and number and len(lines[-1]) + len(part) + 2 > width:
            lines.append(later)
        lines[-1] += f"{part} "
    return [*(f"{line.rstrip()} \\" for line in lines[:-1]), lines[-1].rstrip()]


def _window() -> int | None:
    """The columns that data is shown in; None where nobody looks."""
    return stdout().width if sys.stdout.isatty() or os.environ.get("COLUMNS") else None


def _filled(line: str, width: int, first: str, later: str) -> list[str]:
    return textwrap.wrap(
        line,
        max(width, len(first) + 1),
        initial_indent=first,
        subsequent_indent=later,
        break_long_words=False,
        break_on_hyphens=False,
    )


def emit_json(value: Any, *, indent: int | None = None) -> None:  # noqa: ANN401 - any JSON value
    """Write a JSON value to stdout; escaped where the stream's encoding cannot hold all text."""
    unicode = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    text = json.dumps(value, ensure_ascii=not unicode, indent=indent, allow_nan=False)
    with writing_output():
        sys.stdout.write(visible_json(text) + "\n")


def emit_table(table: "Table") -> None:
    """Draw a table on stdout; in a window that cannot hold its words and numbers whole, each row as lines."""
    heads = [str(column.header) for column in table.columns]
    console = stdout()
    least = fit_table(table, console.width)
    if least > console.width and _window() is not None:
        _emit_records(heads, zip(*(column.cells for column in table.columns), strict=True))
        return
    with writing_output():
        console.width = max(console.width, least)
        console.print(table)


def _emit_records(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Each row of a table as its first cell and, below it, a line for each other cell with its head."""
    for row in rows:
        first, *others = map(str, row)
        emit_text(f"{heads[0]}: {first}" if heads[0] else first, later="  ")
        for head, cell in zip(heads[1:], others, strict=True):
            if cell and head:
                # A value that fits into a line, as a mean with its interval, stays on one.
                apart = len(f"  {head}: {cell}") > (_window() or 0) >= len(f"    {cell}")
                emit_text(f"{head}:\n  {cell}" if apart else f"{head}: {cell}", "  ", "    ")
            elif cell:
                emit_text(cell, "  ", "    ")
        emit("")


def new_table(*columns: str, numbers: Sequence[str] = ()) -> "Table":
    """An empty table; the columns named in `numbers` are aligned to the right and never folded."""
    from rich import box  # noqa: PLC0415 - as above
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        number = column in numbers
        table.add_column(column, justify="right" if number else "left", overflow="fold", no_wrap=number)
    return table


def command_line(*words: object) -> str:
    """A command that a message names, quoted for a shell; options may be pairs of a flag and its value."""
    single = (part for word in words for part in (word if isinstance(word, tuple) else (word,)))
    return shell_line(["sgdd", *single])


def fit_table(table: "Table", width: int) -> int:
    """Draw the columns of a table of texts together where it is too wide, and fold the heads over numbers.

    Returns:
        The least width that breaks no number and no word.
    """
    from rich.cells import cell_len  # noqa: PLC0415 - as above

    def widest(texts: Iterable[Any]) -> int:
        return max((cell_len(line) for text in texts for line in str(text).splitlines()), default=0)

    def words(texts: Iterable[Any]) -> list[str]:
        return [word for text in texts for word in str(text).split()]

    columns = table.columns
    natural = [widest((column.header, *column.cells)) for column in columns]
    if sum(natural) + _WIDE_GAP * len(columns) <= width:
        return sum(natural) + _WIDE_GAP * len(columns)
    table.padding = (0, 1, 0, 0)
    least = []
    for column in columns:
        if column.no_wrap:
            head = str(column.header)
            room = max(widest(column.cells), widest(head.split()))
            column.header = textwrap.fill(head, room, break_long_words=False, break_on_hyphens=False)
            least.append(widest((column.header, *column.cells)))
        else:
            least.append(widest(words((column.header, *column.cells))))
    # Rich takes room from the widest columns, however long their words are; so the widths are chosen here, what is left
    # going to the columns that need the least.
    left = max(0, width - sum(least) - _GAP * len(columns))
    texts = [index for index, column in enumerate(columns) if not column.no_wrap]
    texts.sort(key=lambda index: natural[index] - least[index])
    for place, index in enumerate(texts):
        more = min(natural[index] - least[index], left // (len(texts) - place))
        columns[index].width, left = least[index] + more, left - more
    return sum(least) + _GAP * len(columns)


def say(message: str) -> None:
    """A note on stderr; not with --quiet."""
    if not output_options.quiet:
        _line(message)


def say_command(command: str, first: str = "  ", style: str | None = None) -> None:
    """A command on stderr, so that it can be copied; not with --quiet.

    Args:
        command: As `command_line` gives it.
        first: What stands before it.
        style: Of Rich.
    """
    if output_options.quiet:
        return
    console = stderr() if may_draw() else None
    width = console.width if console is not None and console.is_terminal else None
    for line in command_lines(command, width, first, " " * len(first) + "  "):
        if console is None:
            _plain_line(visible(line))
        else:
            console.print(line, style=style, soft_wrap=True)


def say_next(*commands: str) -> None:
    """What may be done after this command; not with --quiet, and not where a command runs others, as `demo` does."""
    if output_options.hints:
        for number, command in enumerate(commands):
            say_command(command, "      " if number else "Next: ")


def warn(message: str) -> None:
    """Something that may change a result, on stderr, also with --quiet."""
    _line(warning_text(message))


def warning_text(message: str) -> "Text":
    """A warning as it is drawn."""
    from rich.text import Text  # noqa: PLC0415 - as above

    return Text.assemble(("Warning: ", "yellow"), visible(message, keep="\n"))


def show_error(message: str, hint: str | None = None) -> None:
    """One sentence in red, and below it what to do."""
    from rich.text import Text  # noqa: PLC0415 - as above

    _line(Text.assemble(("Error: ", "bold red"), (visible(message, keep="\n"), "red")))
    for line in (hint or "").splitlines():
        _line(f"  {line}")


def _line(text: "Text | str") -> None:
    """Write a line to stderr; off a terminal a sentence stays on one line, so that it can be searched for."""
    if isinstance(text, str):
        text = visible(text, keep="\n")
        if not may_draw():
            _plain_line(text)
            return
    console = stderr()
    console.print(text, soft_wrap=not console.is_terminal)


def may_draw() -> bool:
    """Whether stderr may be a terminal; Rich has the last word, by these variables too."""
    return sys.stderr.isatty() or not os.environ.keys().isdisjoint({"FORCE_COLOR", "TTY_COMPATIBLE"})


def _plain_line(text: str) -> None:
    """What has no style needs no Rich, which takes longer to load than a short text to decode."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
