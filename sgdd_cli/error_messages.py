"""What the user reads of an exception."""

from sgdd_cli.console import output_options
from sgdd_engine.errors import SgddError


def describe_error(error: BaseException) -> tuple[str, str | None]:
    """The sentence for an exception and what to do about it."""
    if isinstance(error, SgddError):
        return error.message, error.hint
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename or 'no file was named'}.", None
    # torch's own class of this name is not imported for the sake of one message.
    out_of_memory = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in text
    if isinstance(error, MemoryError) or out_of_memory:
        return (
            f"There is not enough memory. {text}".strip(),
            "Compute a step in more pieces, such as --set train.micro_batches=4 (or lower encoder.batch_tokens while "
            "preparing).",
        )
    shown = f"{type(error).__name__}: {text}" if text else type(error).__name__
    where = "" if output_options.debug else "Run it again with --debug for the traceback, and report both."
    return f"This is a bug in sgdd: {shown}", where or None
