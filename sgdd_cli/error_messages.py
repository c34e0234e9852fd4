"""From an exception to what the user reads: a sentence and what to do about it."""

import errno

from sgdd_cli.console import output_options
from sgdd_engine.errors import SgddError

# A full disk, a full share of one (EDQUOT), and a limit on the size of files.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
        return (
            f"There is not enough memory. {text}".strip(),
            "Compute a step in more pieces, such as --set train.micro_batches=4 (or lower encoder.batch_tokens while "
            "preparing).",
        )
    shown = f"{type(error).__name__}: {text}" if text else type(error).__name__
    hint = None if output_options.debug else "Run it again with --debug for the traceback, and report both."
    return f"This is a bug in sgdd: {shown}", hint
