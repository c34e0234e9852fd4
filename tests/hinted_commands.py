"""The commands that messages, hints and examples name: each is read by the real command line, which must take it."""

import contextlib
import json
import re
import shlex
from collections.abc import Iterator

from typer.core import TyperGroup
from typer.exceptions import TyperException

from sgdd_cli.command_registry import BUILT_IN, find_entry

_NAMES = "|".join(BUILT_IN)
# A command begins a line, or stands after a colon, a dollar or a pipe.
_COMMAND = re.compile(rf"(?:^|: |\$ |\| )\s*(sgdd (?:{_NAMES})\b[^`\n]*)", re.MULTILINE)
# One in backticks may be named without its arguments, as in "`sgdd eval` measures them".
_NAMED = re.compile(rf"`(sgdd (?:{_NAMES})\b[^`]*)`")


def check_hints(*texts: str | None) -> None:
    """Have the command line read each command that is named; nothing is run."""
    for text in texts:
        for part in _strings(text or ""):
            # What a shell reads as one line; a usage line is no command.
            whole = re.sub(r"^Usage: .*|(?<= )\\\n\s*", "", part, flags=re.MULTILINE)
            for found in _COMMAND.findall(whole):
                _read(re.split(r" [<>|] ", found)[0].rstrip(".;,"))
            for found in _NAMED.findall(whole):
                with contextlib.suppress(_IncompleteError):
                    _read(found)


class _IncompleteError(AssertionError):
    """The command lacks an argument."""


def _read(line: str) -> None:
    _, name, *arguments = shlex.split(line)
    entry = find_entry(name)
    assert entry is not None, name
    command = entry.command()
    try:
        context = command.make_context(name, arguments)
        if isinstance(command, TyperGroup) and (rest := [*context._protected_args, *context.args]):
            found_name, found, left = command.resolve_command(context, rest)
            found.make_context(found_name, left, parent=context)
    except TyperException as error:
        lacking = re.search("Missing|requires an argument|NoArgsIsHelp", f"{error} {type(error).__name__}")
        raise (_IncompleteError if lacking else AssertionError)(f"{line}: {error}") from error


def _strings(text: str) -> Iterator[str]:
    """The strings of a JSON value, or the text itself."""
    try:
        value = json.loads(text)
    except ValueError:
        yield text
        return
    left = [value]
    while left:
        match left.pop():
            case str() as found:
                yield found
            case list() as items:
                left += items
            case dict() as fields:
                left += fields.values()


def hints_of(error: BaseException | None) -> Iterator[str]:
    """The hints of an error and of what caused it."""
    while error is not None:
        if hint := getattr(error, "hint", None):
            yield hint
        error = error.__cause__
