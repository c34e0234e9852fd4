"""How sure a model was of what it wrote: pieces with their probabilities, and the canvases of each step in a file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sgdd_cli.console import stdout
from sgdd_engine.errors import SgddError
from sgdd_engine.events import CanvasChanged, Event, Listener

if TYPE_CHECKING:
    from sgdd_engine.generation import WrittenToken

# Colours of a piece by its probability; the bounds divide what a reader may trust, doubt and distrust.
_STYLES = ((0.9, "green"), (0.5, "yellow"), (0.0, "red"))


def show_certainty(tokens: Sequence["WrittenToken"]) -> None:
    """Print pieces and their probabilities on one line of stdout, coloured on a terminal."""
    from rich.text import Text  # noqa: PLC0415 - `sgdd --help` need not load it

    line = Text("  ")
    for token in tokens:
        style = next(style for bound, style in _STYLES if token.probability >= bound)
        line.append(token.piece.replace("\u2581", " ").strip() or "\u2423", style=style)
        line.append(f" {token.probability:.2f}  ", style="dim")
    line.rstrip()
    stdout().print(line, soft_wrap=True)


class Trace:
    """Writes the canvas after each denoising step as one JSON line: `text` (its number), `step`, `steps`, `canvas`.

    Numbers begin at 1. Canvases of the rounds of refining have no number.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("w", encoding="utf-8")
        except OSError as error:
            raise SgddError(f"The trace {path} cannot be written: {error.strerror}.") from error

    def listener(self, before: int, also: Listener) -> Listener:
        """A listener that writes canvases, and tells another one of everything.

        Args:
            before: Texts of earlier batches.
            also: The other listener.
        """

        def listen(event: Event) -> None:
            also(event)
            if isinstance(event, CanvasChanged):
                numbers: Sequence[int | None] = [before + row + 1 for row in event.rows] or [None] * len(
                    event.texts
                )
                for number, canvas in zip(numbers, event.texts, strict=True):
                    line = {"text": number, "step": event.step, "steps": event.num_steps, "canvas": canvas}
                    self._write(line)

        return listen

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: Mapping[str, object]) -> None:
        try:
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise SgddError(f"The trace {self._path} cannot be written: {error.strerror}.") from error
