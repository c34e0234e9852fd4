"""From an exception to what the user reads: a sentence and what to do about it."""

import errno
import sys

from sgdd_cli.console import output_options
from sgdd_engine.errors import SgddError

# A full disk, a full share of one (EDQUOT), and a limit on the size of files.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What lowers the memory that a command takes; its encoder's batches are smaller by the last one.
_LOWER_MEMORY = {
    "train": "Compute a step in more pieces: --set train.micro_batches=4, and more of them if need be",
    "eval": "Score fewer sentences: --limit 100, or let the encoder read fewer at once",
    "prepare-data": "Let the encoder read less text at once",
}
_LOWER_MEMORY_ELSEWHERE = "Give fewer texts or vectors at once, or let the encoder read fewer"


def _lower_memory() -> str:
    command = next((word for word in sys.argv[1:] if word in _LOWER_MEMORY), None)
    what = _LOWER_MEMORY.get(command or "", _LOWER_MEMORY_ELSEWHERE)
    return f"{what}: --set encoder.batch_tokens=1024" if command != "train" else f"{what}."


def describe_error(error: BaseException) -> tuple[str, str | None]:
    """The sentence for an exception and what to do about it; an exception that is not known here is called a bug."""
    if isinstance(error, SgddError):
        return error.message, error.hint
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        hint = "Free some space and run the command again." if error.errno in _FULL else None
        return f"{error.strerror}{f': {error.filename}' if error.filename else ''}.", hint
    # torch's own class of this name is not imported for the sake of one message.
    out_of_memory = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in text
    if isinstance(error, MemoryError) or out_of_memory:
        return f"There is not enough memory. {text}".strip(), _lower_memory()
    shown = f"{type(error).__name__}: {text}" if text else type(error).__name__
    hint = None if output_options.debug else "Run it again with --debug for the traceback, and report both."
    return f"This is a bug in sgdd: {shown}", hint
