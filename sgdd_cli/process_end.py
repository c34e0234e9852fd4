"""How a command ends: by an exit code past every handler, and with streams that nobody reads any more."""

import os
from typing import IO


class CliExit(SystemExit):
    """Ends the command with an exit code, past every `except Exception` on the way."""


def discard(stream: IO[str]) -> None:
    """Let everything that is still written to a stream go nowhere; Python flushes it once more at the end."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, stream.fileno())
