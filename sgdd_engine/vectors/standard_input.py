"""Vectors from standard input (`-`): one on each line, as a JSON object, a JSON list, or numbers."""

import sys
from dataclasses import replace

from sgdd_engine.data.formats import MAX_ROW
from sgdd_engine.data.lines import decode_lines
from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors.json_lines import open_lines
from sgdd_engine.vectors.source import OpenSource, ReadOptions

# Few enough that the first rows of a pipe are answered while it is still written.
_ROWS = 32


def matches(where: str) -> bool:
    """The name `-`."""
    return where == "-"


def open(where: str, options: ReadOptions) -> OpenSource:  # noqa: ARG001 - the signature of every source
    """The lines as they arrive.

    Raises:
        VectorSourceError: standard input is closed, or its first lines hold no vector.
    """
    if sys.stdin is None:
        raise VectorSourceError("Standard input is closed.", "Pipe vectors into it, or name a file.")
    options = replace(options, batch_rows=min(options.batch_rows, _ROWS))
    lines = decode_lines(sys.stdin.buffer, "Standard input", MAX_ROW)
    return replace(open_lines("Standard input", lines, options), repeatable=False)
