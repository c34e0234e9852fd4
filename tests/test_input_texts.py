"""Texts as arguments and as lines of standard input: what is read, what is refused, and what is said about it."""

import io
import json
import os
import sys
import tracemalloc
from pathlib import Path

import pytest
from tiny_sgdd import build
from typer.testing import CliRunner

from sgdd_cli.input_texts import batches, read_texts
from sgdd_cli.main import app
from sgdd_engine.errors import ConfigError, DataError

SENTENCE = "Tom sold a letter."


@pytest.fixture(scope="module")
def saved(tiny_encoder, sentences, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    model = build(tiny_encoder, sentences[:20])
    model.save_pretrained(folder)
    # What is shared tells no folder of this machine, so a command says where the encoder is.
    (folder.parent / "encoder").write_text(model.encoder_reference.name, encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def stdin(monkeypatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def sample(saved: Path, *arguments: str, content: bytes | None = None):
    common = ["sample", "--checkpoint", str(saved), "--device", "cpu", "--steps", "1", "--cfg", "1"]
    common += ["--search", "0"]
    common += ["--encoder", (saved.parent / "encoder").read_text(encoding="utf-8")]
    return CliRunner().invoke(app, [*common, *arguments], input=content)


# --- arguments ------------------------------------------------------------------------------------------


def test_texts_keep_their_order_around_standard_input(monkeypatch):
    stdin(monkeypatch, b"two\n\n  \nthree\n")
    assert list(read_texts(["one", "-", "four"], "sample")) == ["one", "two", "three", "four"]


def test_the_name_of_a_file_is_no_sentence(here):
    (here / "tales.txt").write_text("Tom sold a letter.\n")
    with pytest.raises(DataError, match=r"`tales.txt` is a file") as caught:
        read_texts(["A text.", "tales.txt"], "sample")
    assert "sgdd sample - < tales.txt" in caught.value.hint
    assert "echo tales.txt | sgdd sample -" in caught.value.hint
    (here / "house").mkdir()
    # A word that is also a folder, a long text, and a text with a slash in it are texts.
    for text in ("house", "word " * 2_000, "either/or"):
        assert list(read_texts([text], "sample")) == [text]


@pytest.mark.skipif(os.name == "nt", reason="Windows hands arguments over as text")
def test_an_argument_that_is_not_utf8_is_refused_and_shown():
    with pytest.raises(DataError, match=r"Text 2 is not UTF-8: `caf\\udce9`"):
        read_texts(["fine", os.fsdecode(b"caf\xe9")], "sample")


def test_an_argument_without_anything_to_encode_is_refused_before_the_others_are_written():
    with pytest.raises(DataError, match="Text 2 holds nothing to encode"):
        read_texts(["fine", " \u200b "], "sample")


@pytest.mark.parametrize("text", ["-5 degrees", "-not good", "--a dash", "-7"])
def test_a_text_that_begins_with_a_dash_is_told_about_the_double_dash(saved, text):
    done = sample(saved, text)
    assert done.exit_code == 2
    assert "is written after `--`" in done.stderr
    assert f"-- {text}" in done.stderr.replace("'", "")
    assert len(sample(saved, "--", text).stdout.splitlines()) == 1


def test_other_wrong_usage_says_nothing_of_dashes(saved):
    for wrong in (["text", "--stps", "3"], ["text", "--cfg=a b"]):
        done = sample(saved, *wrong)
        assert done.exit_code == 2
        assert "after `--`" not in done.stderr


# --- standard input -------------------------------------------------------------------------------------


def test_a_line_of_invisible_characters_is_left_out_and_named_by_its_number(saved):
    content = f"{SENTENCE}\n\u200b\u2060\n\n{SENTENCE}\n".encode()
    done = sample(saved, "-", content=content)
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) == 2
    assert "Warning: Line 2 of standard input holds no visible character; it is left out." in done.stderr
    assert "Line 3" not in done.stderr


def test_bad_lines_are_left_out_with_their_numbers_and_all_others_are_written(saved):
    good = ["Tom sold a letter.", "Anna found a blue cup.", "The baker carried some bread."]
    bad = [b"caf\xe9", b"nul\x00nul", b"\xff"]
    content = b"\n".join([good[0].encode(), bad[0], good[1].encode(), bad[1], bad[2], good[2].encode()])
    done = sample(saved, "-", SENTENCE, "--json", content=content)
    assert [json.loads(line)["source"] for line in done.stdout.splitlines()] == [*good, SENTENCE]
    for number in (2, 4, 5):
        assert f"line {number} has" in done.stderr
    assert done.stderr.count("iconv") == 1, "what mends one line mends the others"
    assert isinstance(done.exception, DataError)
    assert str(done.exception) == "3 lines of standard input could not be used; all other texts were."
    alone = sample(saved, *good, SENTENCE, "--json")
    assert (alone.exit_code, alone.stdout) == (0, done.stdout)


def test_what_a_command_asks_of_a_text_is_said_with_the_line(monkeypatch, capsys):
    def check(text):
        if "no" in text:
            raise DataError(f"{text} is not wanted.", "Write yes.")

    with pytest.raises(DataError, match="no, thanks is not wanted"):
        read_texts(["yes", "no, thanks"], "sample", check)
    stdin(monkeypatch, b"yes\nno\nyes, yes\n")
    texts = read_texts(["-", "yes"], "sample", check)
    assert [next(texts), next(texts), next(texts)] == ["yes", "yes, yes", "yes"]
    with pytest.raises(DataError, match="1 line of standard input could not be used"):
        next(texts)
    said = capsys.readouterr().err
    assert "Line 2 of standard input: no is not wanted." in said
    assert "Write yes." in said


class Lines(io.RawIOBase):
    """So many lines, each made when it is read; every hundredth one is not UTF-8."""

    def __init__(self, count: int) -> None:
        self._lines = (
            b"caf\xe9\n" if n % 100 == 99 else b"Line %d of a long story.\n" % n for n in range(count)
        )
        self._rest = b""

    def readable(self):
        return True

    def readinto(self, buffer):
        while len(self._rest) < len(buffer) and (line := next(self._lines, b"")):
            self._rest += line
        part, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


def test_a_long_stream_is_read_in_order_and_in_constant_memory(monkeypatch):
    def peak(count: int) -> int:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Lines(count))))
        monkeypatch.setattr(sys, "stderr", open(os.devnull, "w"))  # noqa: SIM115, PTH123 - where it may grow
        tracemalloc.start()
        last = -1

        def read() -> None:
            nonlocal last
            for batch in batches(read_texts(["-"], "sample"), 32):
                numbers = [last, *(int(text.split()[1]) for text in batch)]
                assert numbers == sorted(set(numbers))
                last = numbers[-1]

        with sys.stderr, pytest.raises(DataError, match="lines of standard input could not be used"):
            read()
        assert last == count - 2
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(500)  # what is loaded on first use
    assert peak(8_000) < peak(800) + 50_000, "ten times the lines take no more"


def test_batches_hold_so_many_texts_and_lose_none():
    def texts(count, failing=False):
        yield from (str(number) for number in range(count))
        if failing:
            raise DataError("no more")

    assert list(batches(texts(0), 2)) == []
    assert list(batches(texts(5), 2)) == [["0", "1"], ["2", "3"], ["4"]]
    found = batches(texts(4, failing=True), 3)
    assert [next(found), next(found)] == [["0", "1", "2"], ["3"]]
    with pytest.raises(DataError, match="no more"):
        next(found)


# --- the model's limits ---------------------------------------------------------------------------------


def test_a_text_of_more_tokens_than_the_model_writes_is_said(saved):
    long = " ".join([SENTENCE] * 6)
    done = sample(saved, long, SENTENCE)
    assert "1 text has 30 tokens, and this model writes at most 24: 17% of all tokens are lost" in done.stderr
    assert "2 texts have up to 30 tokens" in sample(saved, long, long).stderr
    assert "tokens" not in sample(saved, SENTENCE).stderr


def test_a_text_that_looks_like_the_name_of_a_file_is_named(capsys):
    assert list(read_texts(["tales.txt", "He read tales.txt today."], "sample")) == [
        "tales.txt",
        "He read tales.txt today.",
    ]
    assert capsys.readouterr().err.splitlines() == [
        "Warning: `tales.txt` looks like the name of a file, and there is none here; it is taken as a text."
    ]


def test_a_length_for_several_candidates_is_wrong_usage(saved):
    done = sample(saved, SENTENCE, "--length", "5", "--candidates", "2")
    assert isinstance(done.exception, ConfigError)
    assert "sample.length comes from --length." in done.exception.hint
    assert "a range such as 6-9" in done.exception.hint


def test_of_a_range_of_lengths_candidates_may_differ(saved):
    done = sample(saved, SENTENCE, "--length", "5-6", "--candidates", "2", "--json")
    assert done.exit_code == 0
    assert json.loads(done.stdout)["encoder_calls"] in (1, 2)
    assert isinstance(sample(saved, SENTENCE, "--length", "6-5").exception, ConfigError)
