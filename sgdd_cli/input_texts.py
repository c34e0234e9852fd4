"""Texts that a command is given: as arguments, or as lines of standard input in the place of `-`."""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sgdd_cli.console import command_line, show_error, warn
from sgdd_engine.counted import counted
from sgdd_engine.errors import DataError, SgddError
from sgdd_engine.paths_and_shells import shell_line

STDIN = "-"
# One word that ends as files of texts or vectors do.
_FILE_NAME = re.compile(r"\S+\.(txt|text|md|csv|tsv|json|jsonl|parquet|arrow|npy|npz|gz)", re.IGNORECASE)


def read_texts(
    arguments: Sequence[str], command: str, check: Callable[[str], object] | None = None
) -> Iterator[str]:
    """The texts in their order, those of standard input as they arrive.

    Arguments are checked at once. A line of standard input that cannot be used is reported with its number and left
    out; when all texts were given, the lines that were left out are an error. Blank lines are passed over, so that
    paragraphs may be piped in; one that only looks blank is named.

    Args:
        arguments: Of the command line.
        command: The command's name, for hints.
        check: What the command asks of a text; raises an `SgddError`.

    Raises:
        DataError: an argument is blank, not UTF-8 or the name of a file; lines of standard input were left out; it is
            closed.
    """
    check_arguments(arguments, command, STDIN)
    if check is not None:
        for text in arguments:
            if text != STDIN:
                check(text)
    return _texts(arguments, check)


def check_arguments(arguments: Sequence[str], command: str, *besides: str) -> None:
    """Check texts of the command line; one that is an item of `besides` is not a text.

    Raises:
        DataError: one is blank, not UTF-8 or the name of a file.
    """
    for number, text in enumerate(arguments, start=1):
        if text not in besides:
            _check_argument(text, number, command)


def batches(texts: Iterator[str], size: int) -> Iterator[list[str]]:
    """The texts in lists of `size`. What was read before a failure comes before the failure is raised."""
    batch: list[str] = []
    failure: SgddError | None = None
    while failure is None:
        try:
            text = next(texts, None)
        except SgddError as error:
            text, failure = None, error
        if text is not None:
            batch.append(text)
        if batch and (text is None or len(batch) == size):
            yield batch
            batch = []
        if text is None:
            break
    if failure is not None:
        raise failure


def _check_argument(text: str, number: int, command: str) -> None:
    from sgdd_engine.data.cleaning import clean  # noqa: PLC0415 - for quick help

    # Python keeps the bytes of an argument that are not UTF-8 as lone surrogates.
    shown = text.encode("utf-8", errors="backslashreplace").decode()
    if shown != text:
        raise DataError(
            f"Text {number} is not UTF-8: `{shown}`.",
            f"For texts in another encoding: iconv -f latin1 -t utf-8 FILE | {command_line(command, STDIN)}",
        )
    if not clean(text):
        raise DataError(f"Text {number} holds nothing to encode: {text!r}.", "Give a sentence.")
    try:
        is_file = Path(text).is_file()
    except OSError:  # too long for a name
        return
    if not is_file and _FILE_NAME.fullmatch(text):
        warn(f"`{text}` looks like the name of a file, and there is none here; it is taken as a text.")
    if is_file:
        raise DataError(
            f"`{text}` is a file, and `{command_line(command)}` takes texts.",
            f"For the lines of the file: {command_line(command, STDIN)} < {shell_line([text])}\n"
            f"For the name itself as a text: echo {shell_line([text])} | {command_line(command, STDIN)}",
        )


def _texts(arguments: Sequence[str], check: Callable[[str], object] | None) -> Iterator[str]:
    left_out = 0

    def leave_out(error: SgddError) -> None:
        nonlocal left_out
        left_out += 1
        # What mends one line mends the others.
        show_error(error.message, error.hint if left_out == 1 else None)

    for text in arguments:
        if text == STDIN:
            yield from _lines_of_stdin(check, leave_out)
        else:
            yield text
    if left_out:
        raise DataError(
            f"{counted(left_out, 'line')} of standard input could not be used; all other texts were."
        )


def _lines_of_stdin(
    check: Callable[[str], object] | None, leave_out: Callable[[SgddError], None]
) -> Iterator[str]:
    from sgdd_engine.data.cleaning import clean  # noqa: PLC0415 - for quick help
    from sgdd_engine.data.lines import decode_lines  # noqa: PLC0415

    for number, line in decode_lines(sys.stdin.buffer, "standard input", on_fault=leave_out):
        if not clean(line):
            if line.strip():
                warn(f"Line {number:,} of standard input holds no visible character; it is left out.")
            continue
        try:
            if check is not None:
                check(line)
        except SgddError as error:
            leave_out(SgddError(f"Line {number:,} of standard input: {error.message}", error.hint))
        else:
            yield line
