"""`sgdd play`: a model that is loaded once and answers line by line, or in a browser."""

import contextlib
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sgdd_cli.certainty import show_certainty
from sgdd_cli.commands.blend import parse_term
from sgdd_cli.console import emit, emit_lines, say, show_error
from sgdd_cli.decoding_options import DecodingOptions, Writing, with_decoding_options
from sgdd_engine.errors import DataError, SgddError
from sgdd_engine.events import Listener, ignore

if TYPE_CHECKING:
    from sgdd_engine.generation import Generation

PROMPT = "> "
HELP = """\
A line of text is turned into its vector and written again from the vector alone.
  :cfg 3  :steps 8  :length 6-9  :candidates 4  :refine 6  :temperature 0.7  …  any setting of `sample`
  :settings                        what you have set here
  :blend "A text.:0.7" "B text.:0.3"   a weighted sum of meanings
  :fill "The [MASK] opened." "what the whole text should say"
  :words A text.                   the words that its vector makes more likely
  :why                             how probable each piece of the last text was
  :history                         what you have asked
  :help  :quit"""


@with_decoding_options
def play(
    decoding: DecodingOptions,
    *,
    web: Annotated[
        bool, typer.Option("--web", help="Serve a page and an HTTP API on this machine instead of a prompt.")
    ] = False,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            help="Address to serve at; an address that other machines can reach needs a token. Default: 127.0.0.1, "
            "for this machine only.",
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", min=0, max=65535, help="Port to serve at; 0 for any free one. Default: 8765."),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="SGDD_TOKEN",
            help="Password that requests must send. Other users of this machine can read the command line, and not the "
            "variable.",
        ),
    ] = None,
    open_page: Annotated[
        bool | None,
        typer.Option(
            "--open/--no-open", help="Open the page in a browser. Default: where there is a screen."
        ),
    ] = None,
) -> None:
    """Use a model at a prompt, or on a web page; it is loaded once, so that answers are quick.

    Each line is a text to write again, or a command such as `:cfg 3`; `:help` lists the commands. `:quit` or Ctrl-D
    ends. With --web: a page that shows how a text fills in, and an HTTP API, described at /docs.

    Example: sgdd play --web --checkpoint mini
    """
    if web:
        _serve(decoding, host or "127.0.0.1", 8765 if port is None else port, token, open_page)
        return
    for flag, value in (("--host", host), ("--port", port), ("--open", open_page)):
        if value is not None:
            raise typer.BadParameter(f"{flag} is for the page; give --web too.")
    writing = decoding.resolve()()
    # The encoder is loaded on first use; the first answer need not wait for it.
    writing.model.encode("A text.")
    say("Write a text, or :help.")
    prompt = Prompt(writing)
    if sys.stdin.isatty():
        # Ctrl-C gives up an answer or a line that is being typed; elsewhere it ends the process.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for line in _lines():
        prompt.history.append(line)
        if line in (":quit", ":q"):
            break
        try:
            prompt.answer(line)
        except SgddError as error:
            show_error(str(error), error.hint)
        except KeyboardInterrupt:
            say("Interrupted.")


def _serve(
    decoding: DecodingOptions, host: str, port: int, token: str | None, open_page: bool | None
) -> None:
    load = decoding.resolve()
    try:
        from sgdd_cli.web.serve import check_address, serve  # noqa: PLC0415 - its libraries are an extra
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("sgdd_"):
            raise
        raise SgddError(
            f"The page needs libraries that are not installed ({error}).", 'pip install "sgdd[web]"'
        ) from error
    check_address(host, token)
    writing = load()
    writing.model.encode("A text.")
    serve(writing, host, port, token, open_page)


def _lines() -> Iterator[str]:
    """Lines of standard input without blank ones; on a terminal with a prompt, and earlier lines on the arrow keys."""
    interactive = sys.stdin.isatty()
    if interactive:
        with contextlib.suppress(ImportError):  # Windows has none
            import readline  # noqa: F401, PLC0415 - importing it is what gives `input` its line editing
    while True:
        try:
            line = input(PROMPT if interactive else "")
        except EOFError:
            return
        except KeyboardInterrupt:
            say("\nEnd with :quit or Ctrl-D.")
            continue
        except UnicodeDecodeError as error:
            raise DataError(f"Standard input is not UTF-8: {error.reason}.") from error
        if line.strip():
            yield line.strip()


class Prompt:
    """What one prompt remembers: how it writes, what was asked, and how to write the last text again.

    Args:
        writing: The model, and how it writes at first.
    """

    def __init__(self, writing: Writing) -> None:
        self.history: list[str] = []
        self._writing = writing
        self._changed: dict[str, object] = {}
        self._again: Callable[[], Sequence[Generation]] | None = None
        self._commands: dict[str, Callable[[str], None]] = {
            "help": lambda _: emit_lines(HELP.splitlines()),
            "settings": self._show_settings,
            "history": self._show_history,
            "blend": self._blend,
            "fill": self._fill,
            "words": self._words,
            "why": self._why,
        }

    def answer(self, line: str) -> None:
        """Answer one line.

        Raises:
            SgddError: it cannot be answered; what was set before still holds.
        """
        if not line.startswith(":"):
            self._write(line)
            return
        name, _, rest = line[1:].partition(" ")
        command = self._commands.get(name)
        if command is not None:
            command(rest.strip())
        else:
            self._set(name, rest.strip())

    def _write(self, text: str) -> None:
        vector = self._writing.model.encode(text)
        options = self._options()  # what is set later changes no text that was shown
        self._show(lambda **asked: self._writing.model.generate(vector, **{**options, **asked}))

    def _blend(self, rest: str) -> None:
        terms = [parse_term(part) for part in _parts(rest, ':blend "A text.:0.7" "B text.:0.3"')]
        vectors = self._writing.model.encode([term.text for term in terms])
        weights = [term.weight for term in terms]
        options = self._options()
        self._show(lambda **asked: self._writing.model.blend(vectors, weights, **{**options, **asked}))

    def _show(self, write: "Callable[..., Sequence[Generation]]") -> None:
        """Write and show; `:why` writes the same again."""
        with self._display() as on_event:
            written = write(on_event=on_event)
        for item in written:
            emit(item.text)
        self._again = lambda: write(explain=True, confidence=True)

    @contextlib.contextmanager
    def _display(self) -> Iterator[Listener]:
        """A listener that shows the canvas while it is entered, with --watch."""
        from sgdd_cli.progress import ProgressDisplay  # noqa: PLC0415 - `sgdd --help` need not load it

        if not self._writing.watch:
            yield ignore
            return
        with ProgressDisplay(watch=True) as display:
            yield display

    def _fill(self, rest: str) -> None:
        usage = ':fill "The [MASK] opened." "what the whole text should say"'
        text, *meanings = _parts(rest, usage)
        if len(meanings) > 1:
            raise DataError(":fill takes a text and a meaning.", usage)
        config = self._writing.config
        with self._display() as on_event:
            filled = self._writing.model.fill(
                text,
                meanings or None,
                sampling=self._writing.sampling,
                lengths=config.length,
                candidates=config.candidates,
                num_samples=config.num_samples,
                seed=config.seed,
                on_event=on_event,
            )
        for item in filled:
            emit(item.text)
        self._again = None

    def _words(self, rest: str) -> None:
        if not rest:
            raise DataError(":words needs a text.", ":words The old man opened the door.")
        (found,) = self._writing.model.words(rest)
        emit(", ".join(word for word, _ in found))

    def _why(self, _: str) -> None:
        if self._again is None:
            raise DataError(
                "There is no text that could be explained.",
                ":why explains what was written last, but not blanks.",
            )
        for item in self._again():
            show_certainty(item)

    def _set(self, name: str, value: str) -> None:
        from sgdd_cli.settings import OPTIONS, RENAMED, load_settings  # noqa: PLC0415 - `sgdd --help` need not load it

        key = RENAMED.get(f"sample.{name}", f"sample.{name}")
        if not value:
            hint = f"Give it one: :{name} VALUE" if key in OPTIONS else ":help lists the commands."
            raise DataError(
                f"`:{name}` has no value." if key in OPTIONS else f"There is no command `:{name}`.", hint
            )
        option_settings = load_settings([], [f"{key}={value}"]).settings
        option = OPTIONS[key]
        found = option.of(option_settings)
        if option.part == "sample":
            self._writing = self._writing.with_sampling(**{option.name: found})
        else:
            self._writing = replace(
                self._writing, config=replace(self._writing.config, **{option.name: found})
            )
        self._changed[name] = found

    def _options(self) -> dict[str, Any]:
        return self._writing.options(ignore)

    def _show_settings(self, _: str) -> None:
        emit_lines([f":{name} {value}" for name, value in self._changed.items()] or ["Nothing was set here."])
        sampling = self._writing.sampling
        emit(
            f"steps {sampling.steps}, cfg {sampling.cfg:g}, temperature {sampling.temperature:g}, "
            f"{sampling.position_rule}"
        )

    def _show_history(self, _: str) -> None:
        emit_lines(
            [f"{number:>3}  {line}" for number, line in enumerate(self.history[:-1], start=1)]
            or ["Nothing yet."]
        )


def _parts(text: str, usage: str) -> list[str]:
    """Quoted texts of a line.

    Raises:
        DataError: there is none, or a quote is not closed.
    """
    try:
        parts = shlex.split(text)
    except ValueError as error:
        raise DataError(f"The line cannot be read: {str(error).lower()}.", usage) from error
    if not parts:
        raise DataError("This command needs texts.", usage)
    return parts
