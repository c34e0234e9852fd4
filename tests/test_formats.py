"""Files of every format: what is read, what is refused, and that memory does not grow."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.formats import FORMATS, reads, without_ending
from sgdd_engine.data.lines import MAX_LINE, decode_lines, likely_encodings
from sgdd_engine.data.sources import open_source
from sgdd_engine.data.table_layout import HEAD_LINES
from sgdd_engine.errors import DataError
from sgdd_engine.vectors import open_vectors

ROWS = ["The cat sat.", 'A dog, and a "bird".', "Ünïcode – naïve café."]
COLUMNS = {"id": [1, 2, 3], "text": ROWS, "meta": [{"text": f"{row}!", "n": {"t": row}} for row in ROWS]}


def read(path, **config):
    return list(open_source(str(path), DataConfig(**config)).lines())


def table(separator=",", rows=ROWS, header=("id", "text"), quoting=csv.QUOTE_MINIMAL):
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=separator, quoting=quoting)
    writer.writerows([*([header] if header else []), *enumerate(rows)])
    return stream.getvalue().encode()


def as_bytes(kind):
    records = [dict(zip(COLUMNS, values, strict=True)) for values in zip(*COLUMNS.values(), strict=True)]
    stream = io.BytesIO()
    if kind in (".txt", ".text", ".md", ""):
        return "\n".join(ROWS).encode()
    if kind in (".jsonl", ".ndjson"):
        return "\n".join(map(json.dumps, records)).encode()
    if kind == ".json":
        return json.dumps(records, indent=2).encode()
    if kind in (".csv", ".tsv", ".tab"):
        return table("," if kind == ".csv" else "\t")
    if kind in (".parquet", ".pq"):
        pq.write_table(pa.table(COLUMNS), stream)
    elif kind == ".feather":
        pyarrow.feather.write_feather(pa.table(COLUMNS), stream)
    else:
        new = pa.ipc.new_stream if kind == ".arrow" else pa.ipc.new_file  # `datasets` writes streams
        with new(stream, pa.table(COLUMNS).schema) as writer:
            writer.write_table(pa.table(COLUMNS), max_chunksize=2)
    return stream.getvalue()


@pytest.mark.parametrize("kind", [*FORMATS.names(), ".md", ""])
def test_every_format_gives_its_rows_whatever_the_case_of_its_ending(tmp_path, kind):
    for name in (f"tales{kind}", f"TALES{kind.upper()}"):
        (tmp_path / name).write_bytes(as_bytes(kind))
        assert read(tmp_path / name) == ROWS


@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".json", ".csv", ".tsv"])
def test_compressed_text_is_unpacked(tmp_path, kind):
    for ending, module in ((".gz", gzip), (".BZ2", bz2), (".xz", lzma)):
        (tmp_path / f"a{kind}{ending}").write_bytes(module.compress(as_bytes(kind)))
        assert read(tmp_path / f"a{kind}{ending}") == ROWS


@pytest.mark.parametrize("kind", [".jsonl", ".json", ".parquet", ".arrow", ".feather"])
def test_nested_keys_are_found(tmp_path, kind):
    (tmp_path / f"a{kind}").write_bytes(as_bytes(kind))
    assert read(tmp_path / f"a{kind}", column="meta.text") == [f"{row}!" for row in ROWS]
    assert read(tmp_path / f"a{kind}", column="meta.n.t") == ROWS
    for column in ("meta.body", "text.text", "meta.n.t.u"):
        with pytest.raises(DataError, match=r"no (key|column) `.*has id, text, meta.text, meta.n.t"):
            read(tmp_path / f"a{kind}", column=column)


def test_a_key_with_a_dot_comes_before_a_path(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a.b": "Whole.", "a": {"b": "Path."}}')
    assert read(tmp_path / "a.jsonl", column="a.b") == ["Whole."]
    pq.write_table(pa.table({"a.b": ["Whole."], "a": [{"b": "Path."}]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet", column="a.b") == ["Whole."]


def test_an_ending_that_is_registered_is_read_everywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(FORMATS, "_entries", dict(FORMATS._entries))  # taken out again afterwards

    @reads(".verse")
    def verses(file):
        yield from file.path.read_text().split(" / ")

    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.Verse").write_text("One line. / Another.")
    assert read(tmp_path / "folder") == ["One line.", "Another."]
    assert without_ending("a.Verse") == "a"


def test_endings_are_taken_off_names():
    names = ["tales.txt", "tales.CSV.gz", "tales.v2.jsonl.xz", "tales.v2", "tales"]
    assert [without_ending(name) for name in names] == ["tales", "tales", "tales.v2", "tales.v2", "tales"]


# --- line ends and encodings


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("kind", [".txt", ".csv", ".jsonl"])
def test_line_ends_and_byte_order_marks_leave_no_trace(tmp_path, end, encoding, kind):
    text = as_bytes(kind).decode().replace("\r\n", "\n").replace("\n", end)
    (tmp_path / f"a{kind}").write_bytes((text + end).encode(encoding))
    assert read(tmp_path / f"a{kind}") == ROWS


def test_utf16_without_an_ascii_letter_is_known_by_its_mark(tmp_path):
    for encoding in ("utf-16", "utf-32"):
        (tmp_path / "a.txt").write_bytes("這是一句話。\n還有一句。\n".encode(encoding))
        assert read(tmp_path / "a.txt") == ["這是一句話。", "還有一句。"]


@given(st.lists(st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]))), st.data())
def test_lines_come_back_as_they_were_written(rows, data):
    ends = [data.draw(st.sampled_from(["\n", "\r\n", "\r"])) for _ in rows]
    # An empty line after a lone \r would turn it into \r\n.
    ends = [end if end != "\r" or rows[n + 1 : n + 2] != [""] else "\n" for n, end in enumerate(ends)]
    text = "".join(row + end for row, end in zip(rows, ends, strict=True))
    if text.startswith("\ufeff"):
        text = "x" + text
        rows = ["x" + rows[0], *rows[1:]]
    found = list(decode_lines(io.BytesIO(text.encode()), "it"))
    assert found == list(enumerate(rows, 1))


def test_a_line_is_given_before_the_next_one_arrives():
    class Typed(io.RawIOBase):
        """Somebody who types a line only after the one before was answered."""

        def readable(self):
            return True

        def readinto(self, buffer):
            part = waiting.pop(0) if waiting else b""
            assert part or len(answered) == 2
            buffer[: len(part)] = part
            return len(part)

    waiting, answered = [b"Hi\n", b"Another.\r\n"], []
    for _, line in decode_lines(io.BufferedReader(Typed()), "it"):
        answered.append(line)
        assert len(waiting) == 2 - len(answered)
    assert answered == ["Hi", "Another."]


def test_with_somebody_to_tell_bad_lines_are_passed_over_and_the_others_follow():
    lines = [b"one", b"caf\xe9", b"nul\x00", b"x" * 41, b"four", b"y" * 20, b"z" * 21, b"\xff" * 300]
    content = b"\n".join(lines)
    faults: list[str] = []
    found = list(
        decode_lines(io.BytesIO(content), "it", 20, on_fault=lambda error: faults.append(error.message))
    )
    assert found == [(1, "one"), (5, "four"), (6, "y" * 20)]
    assert [fault.split(":")[-1].strip() for fault in faults] == [
        "line 2 has the byte 0xe9 at position 4.",
        "line 3 has a NUL byte at position 4.",
        "line 4.",
        "line 7.",
        "line 8 has the byte 0xff at position 1.",
    ]
    with pytest.raises(DataError, match="line 2"):
        list(decode_lines(io.BytesIO(content), "it", 20))


PROSE = {
    "windows-1252": "Él está aquí, señor: “Übermäßig naïf”, a-t-il dit à la fenêtre…",
    "windows-1250": "Zażółć gęślą jaźń, powiedział król.",
    "windows-1251": "Он вошёл в комнату и сел у окна.",
    "koi8-r": "Он вошёл в комнату и сел у окна.",
    "windows-1253": "Καλημέρα, τι κάνεις σήμερα;",
    "shift_jis": "今日はとても良い天気です。",
    "euc-jp": "今日はとても良い天気です。",
    "euc-kr": "오늘은 날씨가 아주 좋습니다.",
    "gb18030": "今天的天气很好，我们一起去公园吧。",
    "big5": "今天的天氣很好，我們一起去公園吧。",
}


@pytest.mark.parametrize("encoding", PROSE)
def test_likely_encodings_are_named_with_what_the_line_says_in_them(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes(b"Good.\n" + PROSE[encoding].encode(encoding) + b"\n")
    with pytest.raises(DataError, match="not UTF-8 text: line 2 has the byte 0x") as caught:
        read(tmp_path / "a.txt")
    assert f"iconv -f {encoding} -t utf-8" in caught.value.hint
    assert f'in {encoding} the line is "{PROSE[encoding][:30]}' in caught.value.hint
    assert likely_encodings(PROSE[encoding].encode(encoding))[0][0] == encoding


def test_bytes_of_no_encoding_get_no_guess():
    assert likely_encodings(bytes(range(128, 256))) == []


# --- what is refused

BAD_FILES = {
    "binary.txt": (b"Good line.\nbad\x00line\n", "binary file: line 2 has a NUL byte at position 4"),
    "half.txt": ("Some text.\n".encode("utf-16")[:-1], "not complete UTF-16 text"),
    "latin.txt": (
        "Good.\nCaf\xe9 au lait.\n".encode("latin-1"),
        "not UTF-8 text: line 2 has the byte 0xe9 at position 4",
    ),
    "long.txt": (b"Short.\n" + b"word " * 2_000_000 + b"\n", "a line above 1,048,576 characters: line 2"),
    "long.jsonl": (b'{"text": "' + b"x" * (1 << 24) + b'"}', "a line above 16,777,216 characters: line 1"),
    "half.txt.gz": (gzip.compress(b"A line of text.\n" * 99)[:-20], "not a complete .gz file"),
    "half.txt.bz2": (bz2.compress(b"A line of text.\n" * 99)[:-20], "not a complete .bz2 file"),
    "half.txt.xz": (lzma.compress(b"A line of text.\n" * 99)[:-20], "not a complete .xz file"),
    "not.txt.gz": (b"plain", "not a complete .gz file"),
    "not.txt.bz2": (b"plain", "not a complete .bz2 file"),
    "not.txt.xz": (b"plain", "not a complete .xz file"),
    "bad.jsonl": (b'{"text": "fine"}\n{"text": \n', "line 2 cannot be parsed"),
    "twice.jsonl": (b'{"text": "fine", "text": "x"}\n', "line 1 cannot be read: the key 'text' stands twice"),
    "values.jsonl": (
        b"[" + b"0," * 2_100_000 + b"0]\n",
        "line 1 cannot be read: it holds more than 2,097,152 values",
    ),
    "nokey.jsonl": (b'{"text": "fine"}\n{"body": "x"}\n', "no key `text` in line 2; it has body"),
    "list.jsonl": (b"[1, 2]\n", "no key `text` in line 1"),
    "number.jsonl": (b'{"text": 3}\n', "line 1 is of type int"),
    "latin.json": (b'[\n{"text": "fine"},\n{"text": "Caf\xe9"}]', "line 3 has the byte 0xe9 at position 14"),
    "bad.json": (b'[{"text": "fine"}, {"text": }]', "row 2 cannot be parsed"),
    "cut.json": (b'[{"text": "fine"}, {"text": "fi', "row 2 cannot be parsed"),
    "open.json": (b'[{"text": "fine"},', "row 2 cannot be parsed"),
    "two.json": (b'[{"text": "fine"}] [{"text": "lost"}]', "goes on after its array of 1 row"),
    "number.json": (b"[1, 2]", "no key `text` in row 1"),
    "object.json": (b'{"data": [{"text": "fine"}]}', "no key `text` in row 1; it has data"),
    "nocolumn.csv": (b"id,body\n1,x\n", "no column `text`; its first line has id, body"),
    "short.csv": (b"id,text\n1\n", "ends before field 2, which holds the text"),
    "quote.csv": (b'id,text\n1,"open', "not CSV: line 2"),
    "comma.csv": (b"id,text\n1,fine\n2,That nurse, and the man\n", "has 3 fields, and the table 2"),
    "not.parquet": (b"plain", "not a Parquet file"),
    "not.arrow": (b"plain", "not a complete Arrow file"),
    "half.arrow": (as_bytes(".arrow")[:-200], "not a complete Arrow file"),
    "old.feather": (b"FEA1" + bytes(60), "not a complete Arrow file"),
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


@pytest.mark.parametrize(
    "name", ["a.html", "a.XLSX", "a.pdf", "a.sqlite", "a.yaml", "a.tar.gz", "a.zst", "a.npy"]
)
def test_formats_that_are_not_read_are_refused_and_not_taken_for_text(tmp_path, name):
    (tmp_path / name).write_bytes(b"<p>Some text.</p>\n")
    with pytest.raises(DataError, match=r"is a \.\w+ file, which sgdd does not read") as caught:
        open_source(str(tmp_path / name), DataConfig())
    assert caught.value.hint


def test_utf16_without_a_mark_is_guessed_from_its_zeros(tmp_path):
    for encoding in ("utf-16le", "utf-16be"):
        (tmp_path / "a.txt").write_bytes("Some text.\n".encode(encoding))
        with pytest.raises(DataError, match="binary file") as caught:
            read(tmp_path / "a.txt")
        assert f"iconv -f {encoding} " in caught.value.hint


def test_bad_columns_of_arrow_tables_are_named(tmp_path):
    pq.write_table(pa.table({"body": ["x"], "number": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="no column `text`; it has body, number"):
        read(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="row 1 is of type int"):
        read(tmp_path / "a.parquet", column="number")
    assert read(tmp_path / "a.parquet", column="body") == ["x"]


# --- long rows


def test_commas_and_brackets_of_a_text_are_read(tmp_path):
    text = "[1," * 1_500_000
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "Short."}) + "\n" + json.dumps({"text": text}))
    assert read(tmp_path / "a.jsonl") == ["Short.", text]


def test_a_line_of_the_longest_length_is_still_read(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x" * MAX_LINE + b"\r\nnext\n")
    assert [len(line) for line in read(tmp_path / "a.txt")] == [MAX_LINE, 4]


@pytest.mark.parametrize("size", [140_000, 1_600_000])
@pytest.mark.parametrize("kind", [".csv", ".jsonl", ".json"])
def test_a_long_field_beside_the_text_or_a_long_text_is_no_trouble(tmp_path, kind, size):
    rows = [{"body": "x" * size, "text": "Short."}, {"body": "y", "text": "a " * (size // 2)}]
    if kind == ".csv":
        with (tmp_path / "a.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["body", "text"])
            writer.writeheader()
            writer.writerows(rows)
    else:
        text = json.dumps(rows) if kind == ".json" else "\n".join(map(json.dumps, rows))
        (tmp_path / f"a{kind}").write_text(text)
    assert read(tmp_path / f"a{kind}") == [row["text"] for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [".txt", "mac.txt", ".csv", ".jsonl", ".json", "line.json"])
def test_memory_does_not_grow_with_the_file(tmp_path, kind):
    path = tmp_path / f"a{kind}"
    row = "This is a sentence of a long file. " * 50
    with path.open("w", newline="") as stream:
        stream.write({".csv": "id,text\n", ".json": "[", "line.json": "["}.get(kind, ""))
        for number in range(8_000):
            end = "\r" if kind == "mac.txt" else "\n"
            stream.write(
                f"{number},{row}{end}"
                if kind == ".csv"
                else f"{row}{end}"
                if kind.endswith("txt")
                else json.dumps({"text": row}, indent=1 if kind == ".json" else None)
                + {".json": ",\n", "line.json": ","}.get(kind, "\n")
            )
        stream.write("{}]".replace("{}", '{"text": ""}') if kind.endswith(".json") else "")
    assert path.stat().st_size > 13e6
    tracemalloc.start()
    try:
        count = sum(1 for _ in open_source(str(path), DataConfig()).lines())
        assert tracemalloc.get_traced_memory()[1] < 6e6
    finally:
        tracemalloc.stop()
    assert count in (8_000, 8_001)


# --- tables


def test_quoted_fields_may_hold_line_breaks(tmp_path):
    (tmp_path / "a.csv").write_text('text\n"one\ntwo"\nthree\n')
    assert read(tmp_path / "a.csv") == ["one\ntwo", "three"]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_found_by_the_header(tmp_path, name, separator):
    rows = ["One; two, three | four.", "Five, six; seven.", 'She said "no".']
    (tmp_path / name).write_bytes(table(separator, rows, header=("a,b;c|d", "text")))
    assert read(tmp_path / name) == rows


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_without_a_header_the_column_has_a_number(tmp_path, separator):
    (tmp_path / "a.csv").write_bytes(table(separator, header=None))
    assert read(tmp_path / "a.csv", column="2") == ROWS
    with pytest.raises(DataError, match=r"no column `text`; its first line has 0, The cat sat\.") as caught:
        read(tmp_path / "a.csv")
    assert "without a header, its number: --set data.column=1" in caught.value.hint
    for column in ("0", "3"):
        with pytest.raises(DataError, match=f"no column {column}; its first line has 0, The cat sat"):
            read(tmp_path / "a.csv", column=column)


def test_a_number_is_a_place_also_where_a_field_of_the_first_line_is_that_number(tmp_path):
    (tmp_path / "a.csv").write_text("2,right\n3,again\n")
    assert read(tmp_path / "a.csv", column="2") == ["right", "again"]


def test_a_table_without_a_header_and_with_loose_commas_is_asked_about(tmp_path):
    (tmp_path / "a.csv").write_text("1,No comma.\n2,One, here.\n")
    with pytest.raises(DataError, match="different numbers of fields"):
        read(tmp_path / "a.csv", column="2")


def test_an_unquoted_comma_loses_nothing(tmp_path):
    sentence = "That nurse opened the window after dinner, and the old man slept."
    (tmp_path / "one.csv").write_text(f"text\n{sentence}\n\n{sentence}\n")
    assert read(tmp_path / "one.csv") == [sentence, sentence]
    (tmp_path / "two.csv").write_text(f"id,text\n1,{sentence}\n")
    with pytest.raises(DataError, match=r"Line 2 of .* has 3 fields, and the table 2") as caught:
        read(tmp_path / "two.csv")
    assert "double quotes" in caught.value.hint
    (tmp_path / "three.csv").write_text(
        "id,text\n1,Nothing is lost here.,,\n\n2,x\n"
    )  # as some programs end lines
    assert read(tmp_path / "three.csv") == ["Nothing is lost here.", "x"]


# As sentences of a novel are: a quote opens in one line and closes in another one.
DIALOGUE = ['"I can\'t," he said.', 'He said: "No."', '"Come here.', 'I need you."', '"Now."', "No quote."]


@pytest.mark.parametrize("rows", [DIALOGUE, DIALOGUE[2:4], DIALOGUE[4:]])
@pytest.mark.parametrize("header", [True, False])
def test_quotes_between_tabs_belong_to_the_text(tmp_path, rows, header):
    lines = ["id\ttext"] * header + [f"{number}\t{row}" for number, row in enumerate(rows)]
    (tmp_path / "a.tsv").write_text("\n".join(lines))
    assert read(tmp_path / "a.tsv", column="text" if header else "2") == rows


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
@pytest.mark.parametrize("more", [[], ["a\ttab"], ["two\nlines"]])
@pytest.mark.parametrize("header", [("id", "text"), None])
def test_quotes_between_tabs_may_enclose_the_text(tmp_path, quoting, more, header):
    rows = [*DIALOGUE, *more, *DIALOGUE]
    (tmp_path / "a.tsv").write_bytes(table("\t", rows, header, quoting))
    assert read(tmp_path / "a.tsv", column="text" if header else "2") == rows


def test_a_table_of_one_column_needs_no_quotes(tmp_path):
    rows = DIALOGUE[:2]
    (tmp_path / "raw.csv").write_text("text\n" + "".join(f"{row}\n" for row in rows))
    assert read(tmp_path / "raw.csv") == rows
    (tmp_path / "quoted.csv").write_text("text\n" + "".join(f'"{row}"\n' for row in ["a, b", "c\nd"]))
    assert read(tmp_path / "quoted.csv") == ["a, b", "c\nd"]


def test_a_quoted_field_may_cross_the_end_of_the_lines_that_are_judged(tmp_path):
    rows = [f"Row {number}." for number in range(HEAD_LINES - 2)] + ["one\ntwo\nthree", "last"]
    (tmp_path / "a.csv").write_bytes(table(",", rows))
    assert read(tmp_path / "a.csv") == rows
    (tmp_path / "one.csv").write_text("text\n" + "".join(f'"{row}"\n' for row in rows))
    assert read(tmp_path / "one.csv") == rows


# --- JSON


def test_json_is_an_array_or_values_one_after_another(tmp_path):
    objects = [{"text": row} for row in ROWS]
    for text in (
        json.dumps(objects),
        json.dumps(objects, indent=4),
        " \n" + json.dumps(ROWS),
        "\n".join(map(json.dumps, objects)),
        "\n".join(json.dumps(row, indent=1) for row in objects),
    ):
        (tmp_path / "a.json").write_text(text)
        assert read(tmp_path / "a.json") == ROWS
    for text in ("", " \n", "[]", "[\n]\n"):
        (tmp_path / "a.json").write_text(text)
        assert read(tmp_path / "a.json") == []


def test_a_line_of_json_may_be_a_string_and_a_missing_text_is_an_empty_line(tmp_path):
    (tmp_path / "a.jsonl").write_text('"A sentence."\n\n{"text": null}\n')
    assert read(tmp_path / "a.jsonl") == ["A sentence.", ""]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such names")
def test_a_name_with_a_colon_is_no_address(tmp_path, monkeypatch):
    """pyarrow takes it for one, in the current folder."""
    monkeypatch.chdir(tmp_path)
    with Path("notes:2020.parquet").open("wb") as file:
        pq.write_table(pa.table({"text": ["It rains."], "emb": [[1.0, 2.0]]}), file)
    assert read("notes:2020.parquet") == ["It rains."]
    assert open_vectors("notes:2020.parquet").rows == 1
