import gzip
import io
import json
import sys
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import IterableDataset

from sgdd_engine.data.cleaning import Rejection, clean, rejection
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.dry_run import dry_run
from sgdd_engine.data.hub import HubSource, explain, text_rows
from sgdd_engine.data.lines import MAX_LINE_BYTES
from sgdd_engine.data.sources import StandardInput, open_source
from sgdd_engine.errors import DataError

ROWS = ["The cat sat.", 'A dog, and a "bird".', "Ünïcode – naïve café."]


def read(spec, **config):
    return list(open_source(str(spec), DataConfig(**config)).lines())


def write_rows(folder, kind):
    path = folder / f"rows{kind}"
    if kind.startswith(".txt"):
        data = "\n".join(ROWS).encode()
    elif kind.startswith(".jsonl"):
        data = "\n".join(json.dumps({"id": 1, "text": row}) for row in ROWS).encode()
    elif kind.startswith(".csv"):
        quoted = ['"' + row.replace('"', '""') + '"' for row in ROWS]
        data = "\r\n".join(["id,text", *(f"{index},{row}" for index, row in enumerate(quoted))]).encode()
    else:
        pq.write_table(pa.table({"id": [1, 2, 3], "text": ROWS}), path)
        return path
    path.write_bytes(gzip.compress(data) if kind.endswith(".gz") else data)
    return path


@pytest.mark.parametrize(
    "kind", [".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".csv", ".csv.gz", ".parquet", ".md"]
)
def test_every_kind_of_file_gives_its_rows(tmp_path, kind):
    path = write_rows(tmp_path, kind if kind != ".md" else ".txt")
    if kind == ".md":  # an unknown ending is plain text
        path = path.rename(path.with_suffix(".md"))
    assert read(path) == ROWS


def test_windows_line_ends_and_byte_order_mark_leave_no_trace(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfOne line.\r\nAnother.\r\n")
    assert read(tmp_path / "a.txt") == ["One line.", "Another."]


def test_quoted_csv_fields_may_hold_line_breaks(tmp_path):
    (tmp_path / "a.csv").write_text('text\n"one\ntwo"\nthree\n')
    assert read(tmp_path / "a.csv") == ["one\ntwo", "three"]


def test_folders_and_patterns_are_read_in_order_of_name(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.txt", "a.txt", "sub/c.txt", ".hidden.txt", "picture.png"):
        (tmp_path / name).write_text(f"This is {name}.\n")
    assert read(tmp_path) == ["This is a.txt.", "This is b.txt.", "This is sub/c.txt."]
    assert read(tmp_path / "*.txt") == ["This is a.txt.", "This is b.txt."]
    assert read(tmp_path / "**" / "c.txt") == ["This is sub/c.txt."]


BAD_FILES = {
    "binary.txt": (b"Good line.\nbad\x00line\n", "binary file: line 2 has a NUL byte at position 4"),
    "utf16.txt": ("Some text.\n".encode("utf-16"), "UTF-16"),
    "latin.txt": (
        "Good.\nCaf\xe9 au lait.\n".encode("latin-1"),
        "not UTF-8 text: line 2 has the byte 0xe9 at position 4",
    ),
    "long.txt": (b"Short.\n" + b"word " * 2_000_000 + b"\n", "a line above 1 MiB: line 2"),
    "half.txt.gz": (gzip.compress(b"A line of text.\n" * 99)[:-20], "not a complete gzip file"),
    "not.txt.gz": (b"plain", "not a complete gzip file"),
    "bad.jsonl": (b'{"text": "fine"}\n{"text": \n', "line 2 cannot be parsed"),
    "nokey.jsonl": (b'{"text": "fine"}\n{"body": "x"}\n', "no key `text` in line 2; it has body"),
    "list.jsonl": (b"[1, 2]\n", "no key `text` in line 1"),
    "number.jsonl": (b'{"text": 3}\n', "row 1 is of type int"),
    "nocolumn.csv": (b"id,body\n1,x\n", "no column `text`; it has id, body"),
    "short.csv": (b"id,text\n1\n", "no column `text` in line 2"),
    "quote.csv": (b'text\n"open', "not CSV: line 2"),
    "not.parquet": (b"plain", "not a Parquet file"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_gets_one_sentence_that_names_it(tmp_path, name):
    data, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as caught:
        read(tmp_path / name)
    assert message in caught.value.message
    assert str(tmp_path / name) in caught.value.message
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_bad_parquet_columns_are_named(tmp_path):
    pq.write_table(pa.table({"body": ["x"], "number": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no column `text`; it has body, number"):
        read(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="row 1 is of type int"):
        read(tmp_path / "a.parquet", column="number")
    assert read(tmp_path / "a.parquet", column="body") == ["x"]


def test_a_line_of_one_mebibyte_is_still_read(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x" * MAX_LINE_BYTES + b"\r\nnext\n")
    assert [len(line) for line in read(tmp_path / "a.txt")] == [MAX_LINE_BYTES, 4]


def test_what_is_not_there_gets_a_sentence(tmp_path):
    with pytest.raises(DataError, match=r"no file or folder `.*missing\.txt`"):
        open_source(str(tmp_path / "missing.txt"), DataConfig())
    with pytest.raises(DataError, match=r"No file matches"):
        open_source(str(tmp_path / "*.txt"), DataConfig())
    with pytest.raises(DataError, match="holds no text file"):
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
    source = StandardInput(io.BytesIO(b"One line.\nTwo.\n"))
    source.settle(tmp_path)
    assert list(source.lines()) == list(source.lines()) == ["One line.", "Two."]
    assert source.describe()["bytes"] == 15
    with pytest.raises(DataError, match="standard input is a binary file"):
        list(StandardInput(io.BytesIO(b"\x00")).lines())


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
        list(text_rows(rows, "body", "x"))
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


def test_a_dry_run_reads_a_sample_and_estimates_the_rest(tmp_path, sentences):
    path = tmp_path / "a.txt"
    path.write_text("".join(f"{text}\n" for text in [*sentences, *sentences, "No.", ""]), encoding="utf-8")
    config = DataConfig()
    whole = dry_run(open_source(str(path), config), config=config, embedding_dim=8)
    assert whole.complete
    assert whole.kept == whole.estimated_sentences == len(sentences)
    assert whole.left_out == {"duplicate": len(sentences), "too_few_words": 1, "empty": 1}
    assert whole.estimated_bytes > len(sentences) * 2 * 8
    part = dry_run(open_source(str(path), config), config=config, sample_lines=100)
    assert not part.complete
    assert part.kept == part.sampled_lines == 100
    assert part.estimated_lines == pytest.approx(802, rel=0.25)
    assert dry_run(open_source(str(path), config), config=DataConfig(limit=50)).complete
    assert [*islice(whole.examples, 1)] == [clean(sentences[0])]
    with pytest.raises(DataError, match="a corpus needs 20"):
        dry_run(StandardInput(io.BytesIO(b"Only one line.\n")), config=config)
