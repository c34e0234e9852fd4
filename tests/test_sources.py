import gzip
import io
import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, IterableDataset

from sgdd_engine import registry
from sgdd_engine.data.cleaning import Rejection, clean, rejection
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.hub import HubSource, explain, text_rows
from sgdd_engine.data.source_registry import SOURCES, Source
from sgdd_engine.data.sources import StreamSource, open_source
from sgdd_engine.errors import DataError

ROWS = ["The cat sat.", 'A dog, and a "bird".', "Ünïcode – naïve café."]


def read(spec, **config):
    return list(open_source(str(spec), DataConfig(**config)).lines())


def test_folders_and_patterns_are_read_in_order_of_name(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.txt", "a.txt", "sub/c.txt", ".hidden.txt", "picture.png"):
        (tmp_path / name).write_text(f"This is {name}.\n")
    assert read(tmp_path) == ["This is a.txt.", "This is b.txt.", "This is sub/c.txt."]
    assert read(tmp_path / "*.txt") == ["This is a.txt.", "This is b.txt."]
    assert read(tmp_path / "**" / "c.txt") == ["This is sub/c.txt."]


def test_what_is_not_there_gets_a_sentence(tmp_path):
    with pytest.raises(DataError, match=r"no file or folder `.*missing\.txt`"):
        open_source(str(tmp_path / "missing.txt"), DataConfig())
    with pytest.raises(DataError, match=r"No file matches"):
        open_source(str(tmp_path / "*.txt"), DataConfig())
    with pytest.raises(DataError, match="holds no file that sgdd reads"):
        open_source(str(tmp_path), DataConfig())
    with pytest.raises(DataError) as caught:
        open_source("owner/name", DataConfig())
    assert "hf:owner/name" in caught.value.hint


def test_a_description_notices_changed_content(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("One.\n")
    before = open_source(str(path), DataConfig()).describe()
    path.write_text("Two.\n")
    after = open_source(str(path), DataConfig()).describe()
    assert before["files"][0]["bytes"] == after["files"][0]["bytes"]
    assert before != after


def test_standard_input_is_kept_so_that_it_can_be_read_again(tmp_path):
    source = StreamSource("standard input", io.BytesIO(b"One line.\nTwo.\n"), DataConfig())
    source.spool(tmp_path)
    assert list(source.lines()) == list(source.lines()) == ["One line.", "Two."]
    assert source.describe()["bytes"] == 15
    with pytest.raises(DataError, match="standard input is a binary file"):
        list(StreamSource("standard input", io.BytesIO(b"\x00"), DataConfig()).lines())


def test_files_of_a_folder_that_are_not_read_are_counted_and_named(tmp_path):
    for name in ("A.TXT", "b.csv", "c.md", "d.pdf", "e", "sub/f.png", ".hidden.md", ".git/g.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text\nA line of text.\n")
    source = open_source(str(tmp_path), DataConfig())
    assert list(source.lines()) == ["text", "A line of text.", "A line of text."]
    (notice,) = source.notices()
    assert "4 files (c.md, d.pdf, e, f.png)" in notice
    assert str(tmp_path) in notice
    for name in ("A.TXT", "b.csv"):
        (tmp_path / name).unlink()
    with pytest.raises(DataError, match=r"no file that sgdd reads, but 4 files \(c.md") as caught:
        open_source(str(tmp_path), DataConfig())
    assert ".csv" in caught.value.hint
    assert open_source(str(tmp_path / "*.md"), DataConfig()).notices() == []


def test_every_skipped_file_is_counted_and_the_first_are_named(tmp_path):
    (tmp_path / "a.txt").write_text("A line of text.\n")
    for number in range(12):
        (tmp_path / f"{number:02}.png").touch()
    (notice,) = open_source(str(tmp_path), DataConfig()).notices()
    assert "12 files (00.png, 01.png, 02.png, 03.png, 04.png and 7 more)" in notice


def test_a_prepared_corpus_is_no_source_of_text(tiny_corpus_folder):
    with pytest.raises(DataError, match="is a prepared corpus") as caught:
        open_source(str(tiny_corpus_folder), DataConfig())
    assert f"sgdd train {tiny_corpus_folder}" in caught.value.hint


def test_a_registered_name_or_prefix_opens_its_source(monkeypatch):
    monkeypatch.setattr(SOURCES, "_entries", dict(SOURCES._entries))  # both are taken out again

    @SOURCES.register("once")
    @SOURCES.register("say:")
    class Said(Source):
        def __init__(self, name, config):
            self.name = name

        def describe(self, recorded=None, /):
            return {"kind": "said", "text": self.name}

        def lines(self):
            return iter([self.name])

    assert read("once") == ["once"]
    assert read("say:some text") == ["say:some text"]
    said = open_source("say:x", DataConfig())
    assert (said.notices(), said.estimated_lines()) == ([], None)


def test_many_files_of_unknown_endings_search_the_installed_packages_once(tmp_path, monkeypatch):
    searches = []
    monkeypatch.setattr(registry, "entry_points", lambda group: searches.append(group) or [])
    monkeypatch.syspath_prepend(tmp_path)
    for number in range(50):
        (tmp_path / f"a.{number:03}").write_text("One.\n")
    assert read(tmp_path / "a.*") == ["One."] * 50
    with pytest.raises(DataError, match="holds no file that sgdd reads"):
        open_source(str(tmp_path), DataConfig())
    assert len(searches) == 1


def test_a_broken_extension_is_named_where_it_may_be_the_one_that_is_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_films.py").write_text("raise RuntimeError('half installed')\n")
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint("films", "broken_films", registry.EXTENSIONS)]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    broken = "The extension `films` (broken_films) is broken: RuntimeError: half installed"
    film, tale = tmp_path / "a.srt", tmp_path / "a.txt"
    film.write_text("One.\n")
    tale.write_text("One.\n")
    assert open_source(str(film), DataConfig()).notices() == [broken]
    assert open_source(str(tale), DataConfig()).notices() == []
    with pytest.raises(DataError) as refused:
        open_source("film:a", DataConfig())
    assert broken in refused.value.hint


# --- data sets of `save_to_disk`


def test_a_saved_data_set_is_read_as_it_was_selected(tmp_path):
    rows = Dataset.from_dict({"text": [*ROWS, "Dropped."], "meta": [{"text": "x"}] * 4})
    rows.save_to_disk(tmp_path / "whole")
    rows.select([2, 0]).save_to_disk(tmp_path / "chosen")
    assert read(tmp_path / "whole") == [*ROWS, "Dropped."]
    assert read(tmp_path / "chosen") == [ROWS[2], ROWS[0]]
    assert read(tmp_path / "chosen", column="meta.text") == ["x", "x"]
    chosen = open_source(str(tmp_path / "chosen"), DataConfig())
    assert chosen.estimated_lines() == 2
    before = chosen.describe()
    (tmp_path / "chosen" / "state.json").write_text((tmp_path / "chosen" / "state.json").read_text() + " ")
    assert open_source(str(tmp_path / "chosen"), DataConfig()).describe() != before
    with pytest.raises(DataError, match=r"has no column `body`; it has text, meta\.text"):
        read(tmp_path / "whole", column="body")


def test_a_split_of_a_saved_data_set_is_chosen_by_name(tmp_path):
    parts = {"train": Dataset.from_dict({"text": ROWS}), "test": Dataset.from_dict({"text": ["Held out."]})}
    DatasetDict(parts).save_to_disk(tmp_path / "saved")
    assert read(tmp_path / "saved") == ROWS
    assert read(tmp_path / "saved", split="test") == ["Held out."]
    with pytest.raises(DataError, match="no split `dev`; it has test, train") as caught:
        read(tmp_path / "saved", split="dev")
    assert "--split" in caught.value.hint


def test_a_damaged_saved_data_set_gets_a_sentence(tmp_path):
    Dataset.from_dict({"text": ROWS}).save_to_disk(tmp_path / "saved")
    (shard,) = (tmp_path / "saved").glob("*.arrow")
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(DataError, match="saved` is a damaged data set"):
        read(tmp_path / "saved")


# --- text that can be read once


@contextmanager
def pipe(path, data):
    """A named pipe with a writer; skips where there are none."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes on this system")
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(data,), daemon=True)
    writer.start()
    yield path
    writer.join(20)
    assert not writer.is_alive()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("pipe", "\n".join(ROWS).encode()),
        ("pipe.jsonl", "\n".join(json.dumps({"text": row}) for row in ROWS).encode()),
        ("my.own.TXT.gz", gzip.compress("\n".join(ROWS).encode(), mtime=0)),
        ("pipe.parquet", None),
    ],
)
def test_a_pipe_is_kept_so_that_it_can_be_read_again(tmp_path, name, data):
    if data is None:
        pq.write_table(pa.table({"text": ROWS}), tmp_path / "file")
        data = (tmp_path / "file").read_bytes()
    (tmp_path / "input").mkdir()
    with pipe(tmp_path / name, data) as path:
        source = open_source(str(path), DataConfig())
        source.spool(tmp_path / "input")
    assert list(source.lines()) == list(source.lines()) == ROWS
    assert source.describe()["bytes"] == len(data)
    assert source.describe() == open_spooled(data, tmp_path).describe()


def open_spooled(data, folder):
    stream = StreamSource("standard input", io.BytesIO(data), DataConfig())
    stream.spool(folder)
    return stream


def test_a_pipe_can_be_looked_at_without_a_copy(tmp_path):
    with pipe(tmp_path / "pipe", "\n".join(ROWS).encode()) as path:
        assert read(path) == ROWS


def test_what_is_wrong_in_a_pipe_names_the_pipe(tmp_path):
    (tmp_path / "input").mkdir()
    with pipe(tmp_path / "pipe", b"Good.\nbad\0\n") as path:
        source = open_source(str(path), DataConfig())
        source.spool(tmp_path / "input")
    with pytest.raises(DataError, match=f"`{tmp_path / 'pipe'}` is a binary file: line 2"):
        list(source.lines())


def test_standard_input_under_its_own_path_is_a_pipe(tmp_path):
    """As with `generate | sgdd prepare-data /dev/stdin` and `sgdd prepare-data <(generate)`."""
    if not Path("/dev/stdin").exists():
        pytest.skip("no /dev/stdin on this system")
    code = (
        "import sys; from pathlib import Path; from sgdd_engine.data.sources import open_source\n"
        "from sgdd_engine.data.config import DataConfig\n"
        "source = open_source('/dev/stdin', DataConfig()); source.spool(Path(sys.argv[1]))\n"
        "print(source.describe()['bytes'], list(source.lines()) == list(source.lines()) == ['One.', 'Two.'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], input=b"One.\nTwo.\n", capture_output=True, check=True
    )
    assert done.stdout.split() == [b"10", b"True"]


def test_closed_standard_input_gets_a_sentence(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match="Standard input is closed"):
        open_source("-", DataConfig())


@pytest.fixture
def offline(monkeypatch):
    """As with HF_HUB_OFFLINE=1, which the hub's client reads only once."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def waits():
    """Every look-up of a host, connection and sleep during a test, as the interpreter reports them."""
    seen, listening = [], True

    def listen(event, arguments):  # once added it cannot be removed
        if listening and event in ("socket.getaddrinfo", "socket.connect", "time.sleep"):
            seen.append((event, arguments))

    sys.addaudithook(listen)
    yield seen
    listening = False


def test_an_unreachable_hub_is_said_at_once_with_what_works_instead(offline, waits):
    with pytest.raises(DataError, match="`rojagtap/bookcorpus` cannot be reached") as caught:
        open_source("bookcorpus", DataConfig()).describe()
    assert waits == []  # neither for an answer nor for another try
    assert "sgdd prepare-data builtin --encoder minilm" in caught.value.hint
    with pytest.raises(DataError, match="`owner/name` cannot be reached"):
        read("hf:owner/name")


def test_a_recorded_commit_is_used_again_without_asking_the_hub(offline):
    config = DataConfig(column="body")
    recorded = {
        "kind": "hub",
        "dataset": "owner/name",
        "subset": "en",
        "split": "train",
        "column": "body",
        "asked_revision": None,
        "revision": "abc",
    }
    assert open_source("hf:owner/name:en", config).describe(recorded) == recorded
    with pytest.raises(DataError):
        open_source("hf:owner/name:de", config).describe(recorded)


def test_failures_of_the_hub_are_explained():
    script = RuntimeError("Dataset scripts are no longer supported, but found x.py")
    assert "is a script" in explain(script, "a/b", None).message
    assert (
        "Bad split" in explain(ValueError("Bad split: x. Available splits: ['train']"), "a/b", None).message
    )
    assert "cannot be reached" in explain(ConnectionError("no"), "a/b", None).message
    bug = KeyError("x")
    assert explain(bug, "a/b", None) is None


def test_rows_of_a_streamed_data_set():
    rows = IterableDataset.from_generator(lambda: ({"text": row, "n": 1} for row in ROWS))
    assert list(text_rows(rows, "text", "x")) == ROWS
    with pytest.raises(DataError, match="`x` has no column `body`; it has text, n"):
        list(text_rows(rows, "body", "The data set `x`"))
    with pytest.raises(DataError, match="row 1 is of type int"):
        list(text_rows(rows, "n", "x"))
    assert isinstance(open_source("bookcorpus", DataConfig()), HubSource)


def test_the_builtin_corpus_is_seeded_and_says_that_it_is_synthetic():
    source = open_source("builtin", DataConfig(limit=50, seed=3))
    assert list(source.lines()) == list(source.lines())
    assert len(list(source.lines())) == 50
    assert source.describe()["synthetic"] is True
    assert source.describe() != open_source("builtin", DataConfig(seed=4)).describe()


def test_cleaning_keeps_text_and_drops_what_cannot_be_seen():
    assert clean("  A\tline\u00a0with\u2028breaks \n") == "A line with breaks"
    assert clean("cafe\u0301") == "caf\u00e9"
    assert clean("so\u00adft\u200b, \ufeffbad\ud800, \x07bell") == "soft, bad, bell"
    assert clean("\u06a9\u062a\u0627\u0628\u200c\u0647\u0627") == "\u06a9\u062a\u0627\u0628\u200c\u0647\u0627"
    # A vocabulary of SentencePiece would give it back as a space.
    assert clean("▁Once▁upon a ▁ time") == "Once upon a time"
    for text in ("  x  y ", "A\u0301\u200b b", "plain"):
        assert clean(clean(text)) == clean(text)


def test_every_reason_for_leaving_a_line_out():
    config = DataConfig(min_words=2, max_words=4)
    assert rejection("", config) is Rejection.EMPTY
    assert rejection("One", config) is Rejection.TOO_FEW_WORDS
    assert rejection("one two three four five", config) is Rejection.TOO_MANY_WORDS
    assert rejection("see " + "x" * 101, config) is Rejection.LONG_WORD
    assert rejection("12 - 34", config) is Rejection.NO_LETTERS
    assert rejection("Two words", config) is None


def test_scripts_without_spaces_are_counted_by_their_letters():
    config = DataConfig(min_words=3, max_words=5)
    assert rejection("你好。", config) is Rejection.TOO_FEW_WORDS
    assert rejection("ไป", config) is Rejection.TOO_FEW_WORDS
    for sentence in ("我喜欢喝茶。", "これは私の本です。", "ฉันรักภาษาไทย", "我" * 150, "हिन्दी में लिखो।"):
        assert rejection(sentence, config) is None
    assert rejection("看这里 https://" + "x" * 101, config) is Rejection.LONG_WORD
