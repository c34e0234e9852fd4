"""From an exception to what the user reads: a sentence and what to do about it."""

import errno
from collections.abc import Callable

from sgdd_cli.console import output_options
from sgdd_engine.errors import SgddError

Message = tuple[str, str | None]


def describe_error(error: BaseException) -> Message:
    """The sentence for an exception and what to do about it; whatever the table does not know is called a bug."""
    return next(message(error) for known, message in _KNOWN if known(error))


def _known_failure(error: BaseException) -> Message:
    assert isinstance(error, SgddError)
    return error.message, error.hint


def _system_failure(error: BaseException) -> Message:
    assert isinstance(error, OSError)
    place = f": {error.filename}" if error.filename else ""
    hint = "Free some space and run the command again." if error.errno == errno.ENOSPC else None
    return f"{error.strerror}{place}.", hint


def _memory(error: BaseException) -> Message:
    return (
        f"There is not enough memory. {_one_line(error)}".strip(),
        "Compute a step in more pieces, such as --set train.micro_batches=4 (or lower encoder.batch_tokens while "
        "preparing).",
    )


def _bug(error: BaseException) -> Message:
    name, text = type(error).__name__, _one_line(error)
    hint = None if output_options.debug else "Run it again with --debug for the traceback, and report both."
    return f"This is a bug in sgdd: {name}{f': {text}' if text else ''}", hint


def _is_out_of_memory(error: BaseException) -> bool:
    # torch's own class is not imported for the sake of one message.
    kind = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return kind or "DefaultCPUAllocator" in str(error)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


# The first that fits counts.
_KNOWN: tuple[tuple[Callable[[BaseException], bool], Callable[[BaseException], Message]], ...] = (
    (lambda error: isinstance(error, SgddError), _known_failure),
    (lambda error: isinstance(error, OSError) and bool(error.strerror), _system_failure),
    (_is_out_of_memory, _memory),
    (lambda _: True, _bug),
)
