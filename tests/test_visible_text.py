"""Text of others never drives the terminal: every door through which text leaves, and every kind of escape."""

import json
import re
import unicodedata
from dataclasses import replace

import pytest
from reports_for_tests import FULL
from tiny_sgdd import build

from sgdd_cli import console
from sgdd_cli.progress import ProgressDisplay
from sgdd_cli.settings import load_settings
from sgdd_engine.checkpoint import model_card
from sgdd_engine.errors import ConfigError
from sgdd_engine.evaluation.page.write import render
from sgdd_engine.events import Notice, StageFinished, StageProgress, StageStarted

pytestmark = pytest.mark.faults
HOSTILE = {
    "clears the screen": "\x1b[2J",
    "sets the title": "\x1b]0;owned\x07",
    "colours": "\x1b[31m",
    "a sequence of one byte": "\x9b2J",
    "writes over the line": "good\rbad",
    "goes back": "bad\b\b\bgood",
    "rings": "\x07",
    "a form feed": "\x0c",
    "a NUL": "\x00",
    "deletes": "\x7f",
    "overrides the direction": "\u202egnp.exe",
    "embeds a direction": "\u202b",
    "isolates": "\u2066 \u2069",
    "ends a line": "\u2028",
    "ends a paragraph": "\u2029",
    "a next line": "\x85",
}


def driving(text: str) -> set[str]:
    """The characters of a text that drive a terminal, but for the styles of Rich and the ends of lines."""
    left = re.sub(r"\x1b\[(0|1|2|3|33|1;31|31|3[0-7]|1;3[0-7])?m", "", text)
    return {
        character
        for character in left
        if (unicodedata.category(character) == "Cc" and character not in "\n\t")
        or character in "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    }


def draw_table(text: str) -> None:
    table = console.new_table("encoder", "n", numbers=("n",))
    table.add_row(text, "1")
    console.emit_table(table)


def draw_progress(text: str) -> None:
    with ProgressDisplay() as display:
        display(StageStarted(f"fetching {text}", 3, text))
        display(StageProgress(f"fetching {text}", 1, text))
        display(StageFinished(f"fetching {text}", text))
        display(Notice(text))
        display(Notice(text, warning=True))


def complain_of_a_setting(text: str) -> None:
    try:
        load_settings(assignments=[f"train.seed=x{text}"])
    except ConfigError as error:
        console.show_error(error.message, error.hint)


DOORS = {
    "a text": lambda text: console.emit(f"a {text} b"),
    "prose": lambda text: console.emit_text(f"a {text} b"),
    "a command": lambda text: console.emit_command(console.command_line("sample", text)),
    "a value of JSON": lambda text: console.emit_json({"text": text}),
    "a table": draw_table,
    "a note": lambda text: console.say(f"Checkpoint: {text}"),
    "what comes next": lambda text: console.say_next(console.command_line("sample", text)),
    "a warning": lambda text: console.warn(f"Checkpoint: {text}"),
    "an error": lambda text: console.show_error(f"There is no {text}.", f"Try {text}."),
    "progress": draw_progress,
    "a wrong setting": complain_of_a_setting,
}


@pytest.mark.parametrize("drawn", [False, True], ids=["pipe", "terminal"])
@pytest.mark.parametrize("door", DOORS)
def test_what_leaves_through_it_drives_nothing(door, drawn, capsys, faults, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    if drawn:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "100")
    for what, text in HOSTILE.items():
        DOORS[door](text)
        out, err = capsys.readouterr()
        shown = re.sub(r"\x1b\[(\?25[lh]|1A|2K)|\r", "", err) if door == "progress" and drawn else out + err
        faults.tell("silent" if driving(shown) else "found", f"{door}: {what}")
        if out.startswith("{"):
            assert json.loads(out) == {"text": text}


def test_a_text_is_one_line_of_a_stream(capsys):
    console.emit("two\nlines\r\nand\ttabs")
    assert capsys.readouterr().out == "two\\nlines\\r\\nand\ttabs\n"


def test_what_people_write_stays_as_it_is(capsys):
    for text in (
        "Ärger 你好 שלום مرحبا",
        "a\u200eb\u200fc\u061c",
        "👩\u200d👩\u200d👧 soft\u00adhyphen\u00a0space",
        "don't",
    ):
        console.emit(text)
        assert capsys.readouterr().out == f"{text}\n"


def test_the_page_of_an_evaluation_holds_no_escapes(faults):
    sample = FULL.samples[0]
    for what, text in HOSTILE.items():
        told = replace(FULL, samples=(replace(sample, text=f"a {text} b", source=text), *FULL.samples[1:]))
        page = render(told, f"runs/{text}", {f"loss {text}": [(1, 2.0)]})
        faults.tell("silent" if driving(page) else "found", what)


def test_a_card_holds_no_escapes(tiny_encoder, sentences, faults):
    info = build(tiny_encoder, sentences[:4], width=16).info
    for what, text in HOSTILE.items():
        named = replace(info, encoder=replace(info.encoder, name=f"someone/{text}", revision="0" * 40))
        faults.tell("silent" if driving(model_card(named)) else "found", what)
