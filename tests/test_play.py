"""`sgdd play`: a prompt that remembers what was set, and survives what cannot be answered."""

import os
import select
import subprocess
import sys

import pytest
from test_cli import call

pytestmark = pytest.mark.offline_encoder

TEXT = "The old man opened the door."
MINI = ("--checkpoint", "mini", "--device", "cpu")


def play(*lines: str) -> tuple[list[str], str]:
    out, err = call("play", *MINI, stdin=("\n".join(lines) + "\n").encode())
    return out.splitlines(), err


def sample(*arguments: object) -> list[str]:
    return call("sample", *arguments, *MINI, "--search", 0)[0].splitlines()


@pytest.fixture(scope="module")
def written() -> list[str]:
    return sample(TEXT)


def test_a_line_is_written_as_sample_writes_it_under_what_was_set():
    out, _ = play(TEXT, ":cfg 1", TEXT, ":length 3-4", TEXT, ":cfg 2.5", TEXT)
    assert out == [
        *sample(TEXT),
        *sample(TEXT, "--cfg", 1),
        *sample(TEXT, "--cfg", 1, "--length", "3-4"),
        *sample(TEXT, "--cfg", 2.5, "--length", "3-4"),
    ]


def test_old_names_work_and_tokens_may_be_masked_again():
    out, err = play(":order margin", TEXT, ":remask 0.1", TEXT, ":remask 0", TEXT)
    assert "Error" not in err
    assert out[0] == sample(TEXT, "--set", "sample.position_rule=margin")[0]
    both = ("--set", "sample.position_rule=margin", "--set", "sample.remask=0.1")
    assert out[1] == sample(TEXT, *both)[0]
    assert out[2] == out[0]


def test_meanings_are_blended_blanks_filled_and_words_named():
    out, err = play(
        f':blend "{TEXT}:1"',
        ':fill "The old man [MASK:1] the door." "The old man opened the door."',
        f":words {TEXT}",
    )
    assert out[0] == sample(TEXT)[0]
    assert out[1].startswith("The old man ")
    assert out[1].endswith(" the door.")
    assert "door" in out[2].split(", ")
    assert "Error" not in err


def test_why_explains_the_last_text():
    out, _ = play(TEXT, ":why")
    assert out == call("sample", TEXT, *MINI, "--explain")[0].splitlines()


def test_why_explains_the_text_that_was_shown_whatever_was_set_since():
    shown, explained = play(TEXT, ":cfg 1", ":steps 2", ":why")[0], play(TEXT, ":why")[0]
    assert shown == explained
    assert play(f':blend "{TEXT}"', ":cfg 1", ":why")[0] == explained


def test_several_samples_are_drawn_and_one_is_as_it_was():
    out, _ = play(TEXT, ":num_samples 3", TEXT, ":settings", ":num_samples 1", TEXT, ":settings")
    assert out[0] == out[6]
    assert len(set(out[1:4])) == 3
    assert ["temperature 0.7" in out[5], "temperature 0," in out[8]] == [True, True]


def test_a_temperature_that_was_given_holds_for_several_samples():
    given = call("play", *MINI, "--temperature", 0, stdin=f":num_samples 2\n{TEXT}\n".encode())[0]
    out, _ = play(":num_samples 2", ":temperature 0", TEXT)
    assert given.splitlines() == out == sample(TEXT) * 2


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (":nonsense", "There is no command `:nonsense`."),
        (":stps 4", "sample.steps"),
        (":steps", "`:steps` has no value."),
        (":steps 0", "sample.steps is 0"),
        (":blend", "This command needs texts."),
        (':blend "one', "no closing quotation"),
        (':fill "No blank."', "blank"),
        (":why", "no text that could be explained"),
        (":words", "needs a text"),
    ],
)
def test_what_cannot_be_answered_is_said_and_the_next_line_is(line, message, written):
    out, err = play(line, TEXT)
    assert message in err
    assert out == written


def test_the_canvas_is_shown_when_asked():
    out, err = call("play", *MINI, "--watch", stdin=f"{TEXT}\n:quit\n".encode())
    assert out.splitlines() == sample(TEXT)
    assert "1/8  " in err  # as many steps as `mini` records


def test_it_tells_what_was_asked_and_set_and_ends_at_quit():
    out, _ = play(":cfg 1", "", ":settings", ":history", ":quit", TEXT)
    assert out[0] == ":cfg 1.0"
    assert [line.split() for line in out[2:]] == [["1", ":cfg", "1"], ["2", ":settings"]]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_an_interrupt_gives_up_the_line_and_not_the_prompt(loaded_python):
    terminal, end = os.openpty()
    process = subprocess.Popen(
        [loaded_python, "-m", "sgdd_cli", "play", *MINI],
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
    )
    os.close(end)
    shown = b""

    def until(text: bytes) -> None:
        nonlocal shown
        while text not in shown:
            shown += os.read(terminal, 4096)
        shown = shown.partition(text)[2]

    try:
        until(b"or :help.")
        until(b"> ")
        os.write(terminal, b"half a li")
        until(b"half a li")
        # A signal that comes while readline handles a key is seen at the next key or signal only.
        while b"Ctrl-D." not in shown:
            os.kill(process.pid, 2)
            if select.select([terminal], [], [], 1.0)[0]:
                shown += os.read(terminal, 4096)
        os.write(terminal, TEXT.encode() + b"\n")
        until(b"\n")
        until(sample(TEXT)[0].encode())
        os.write(terminal, b":quit\n")
        assert process.wait() == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
