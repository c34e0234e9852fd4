"""How sure a model was of what it wrote: pieces with their probabilities, and the canvases of each step in a file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from sgdd_cli.console import command_line, say, say_command, stdout
from sgdd_engine.errors import SgddError
from sgdd_engine.events import CanvasChanged, Event, Listener, StageProgress, StageStarted

if TYPE_CHECKING:
    from sgdd_cli.decoding_options import Writing
    from sgdd_engine.generation import Generation

_INDENT = "  "
# Where a model goes that is not changed itself.
_COPY = "my-copy"
# From the first of these probabilities on a piece may be trusted, from the second doubted; below both it is a guess.
SURE, FAIR = 0.9, 0.5
_STYLES = ((SURE, "green"), (FAIR, "yellow"), (0.0, "red"))


def show_certainty(item: "Generation") -> None:
    """Print pieces and their probabilities on one line of stdout, coloured on a terminal, and below the confidence."""
    from rich.text import Text  # noqa: PLC0415 - `sgdd --help` need not load it

    console = stdout()
    # A pipe gets one line; on a terminal a piece and its probability stay together.
    width = console.width if console.is_terminal else None
    lines = [Text(_INDENT)]
    for token in item.details:
        style = next(style for bound, style in _STYLES if token.probability >= bound)
        piece = token.piece.replace("\u2581", " ").strip() or "\u2423"
        pair = Text.assemble((piece, style), (f" {token.probability:.2f}", "dim"))
        if width is not None and lines[-1].cell_len + pair.cell_len > width and lines[-1].plain != _INDENT:
            lines.append(Text(_INDENT))
        lines[-1].append_text(pair).append("  ")
    if item.confidence is not None:
        lines.append(
            Text(f"{_INDENT}close to the source with probability {item.confidence:.2f}", style="dim")
        )
    for line in lines:
        line.rstrip()
        console.print(line, soft_wrap=True)


def say_of_confidence(writing: "Writing", *, encoded: bool = True) -> None:
    """Say how the confidence is recorded where the checkpoint has none, and where it was fitted on other sampling.

    Args:
        writing: The model, and how it writes.
        encoded: Whether what is written is encoded in any case.
    """
    from sgdd_cli.models import checkpoint_name, may_change  # noqa: PLC0415 - as above
    from sgdd_engine.generation.confidence import recorded_fits, way_of  # noqa: PLC0415 - loaded with the model

    config = writing.config
    feedback = config.candidates > 1 or config.refine > 0 or (config.shortlist or 1) > 1
    if config.search:
        say("No confidence is shown: it is only known for texts written without a search. For it: --search 0")
        return
    fits = recorded_fits(writing.model.info)
    fit = fits.get(way_of(feedback=feedback, encoded=encoded or feedback) or "")
    if fit is None:
        asked = {
            "--candidates": config.candidates,
            "--refine": config.refine,
            "--shortlist": config.shortlist,
        }
        options = [(flag, str(value)) for flag, value in asked.items() if feedback and value is not None]
        name, commands = checkpoint_name(writing.folder), []
        if not may_change(writing.folder):
            commands = [command_line("export", name, _COPY)]
            name = _COPY
        commands.append(command_line("eval", name, "--data", "FILE", "--calibrate-score", 2000, *options))
        say(
            f"This checkpoint records no confidence of {'refined' if feedback else 'its'} texts; to record it:"
        )
        for command in commands:
            say_command(command)
        return
    then, now = fit.facts.get("sampling") or {}, asdict(writing.sampling)
    changed = [f"{name} {then[name]}" for name in then if name in now and then[name] != now[name]]
    if feedback:
        asked = {"candidates": config.candidates, "refine": config.refine}
        changed += [
            f"{name} {fit.facts.get(name)}" for name, value in asked.items() if fit.facts.get(name) != value
        ]
    if changed:
        say(f"The confidence was fitted with {', '.join(changed)}; here it is an approximation.")


class Trace:
    """Writes the canvas after each denoising step as one JSON line: `text`, `round`, `step`, `steps`, `canvas`.

    Texts are numbered from 1. Round 0 writes the first drafts, round k the proposals of the k-th round of refining. A
    text of which several are written (candidates, samples, shortlists) has as many lines for a step. `text` is null for
    proposals of a kind that does not tell what they are for.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._round = path, 0
        self._file: TextIO | None = None

    def listener(self, before: int, also: Listener) -> Listener:
        """A listener that writes canvases, and tells another one of everything.

        Args:
            before: Texts of earlier batches.
            also: The other listener.
        """
        self._round = 0

        def listen(event: Event) -> None:
            also(event)
            match event:
                case StageStarted(stage="refining"):
                    self._round = 1
                case StageProgress(stage="refining", done=done):
                    self._round = done + 1
            if isinstance(event, CanvasChanged):
                numbers: Sequence[int | None] = [before + row + 1 for row in event.rows] or [None] * len(
                    event.texts
                )
                for number, canvas in zip(numbers, event.texts, strict=True):
                    line = {
                        "text": number,
                        "round": self._round,
                        "step": event.step,
                        "steps": event.num_steps,
                        "canvas": canvas,
                    }
                    self._write(line)

        return listen

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _write(self, line: Mapping[str, object]) -> None:
        try:
            # Opened for the first line: an error before it leaves an older file as it is.
            if self._file is None:
                self._file = self._path.open("w", encoding="utf-8")
            self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise SgddError(f"The trace {self._path} cannot be written: {error.strerror}.") from error
