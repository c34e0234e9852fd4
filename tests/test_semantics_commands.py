"""`sgdd blend`, `interpolate`, `vary`, `words`, `read --mean-by` and `sample --save-vector`, with `mini`."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from test_cli import call
from test_vectors_read import MINI, write_parquet

from sgdd_cli.commands.blend import parse_term
from sgdd_engine.errors import ConfigError, DataError, GenerationError, SgddError, VectorSourceError
from sgdd_engine.generation import SGDD
from sgdd_engine.mini import SENTENCES

pytestmark = pytest.mark.offline_encoder
TEXTS = SENTENCES.read_text(encoding="utf-8").splitlines()[:9]
A, B, C = TEXTS[:3]


def rows_of(*arguments: object, **more) -> list[dict]:
    return [json.loads(line) for line in call(*arguments, "--json", **more)[0].splitlines()]


# --- blend ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "text", "weight"),
    [
        ("A", "A", 1),
        ("A:0.7", "A", 0.7),
        ("A : 2", "A", 2),
        ("A:-.5", "A", -0.5),
        ("A:1e-1", "A", 0.1),
        ("-A", "A", -1),
        ("-A:0.2", "A", -0.2),
        ("-A:-0.2", "A", 0.2),
        ("At 10:30", "At 10", 30),
        ("At 10:30:1", "At 10:30", 1),
        ("He said: no", "He said: no", 1),
        ("He said:", "He said:", 1),
        ("A:٣", "A:٣", 1),
        ("A:nan", "A:nan", 1),
    ],
)
def test_a_term_is_a_text_and_its_weight(given, text, weight):
    assert parse_term(given) == (text, weight)


@pytest.mark.parametrize("given", ["-", ":0.5", "-:1", "A:1e999"])
def test_a_term_without_a_text_or_a_weight_is_refused(given):
    with pytest.raises(DataError):
        parse_term(given)


@pytest.mark.slow
def test_blend_of_one_text_is_sample():
    expected, _ = call("sample", A, *MINI, "--search", 0)
    assert call("blend", f"{A}:1", *MINI)[0] == expected
    assert call("blend", A, *MINI)[0] == expected
    assert call("blend", "-", *MINI, stdin=f"{A}:0.5\n".encode())[0] == expected
    assert call("blend", f"{A}:1", f"{B}:0", *MINI)[0] == expected


@pytest.mark.slow
def test_blend_subtracts_in_four_spellings():
    expected, _ = call("blend", f"{A}:0.7", f"{B}:-0.3", *MINI)
    assert expected.strip()
    assert call("blend", f"{A}:0.7", f"-{B}:0.3", *MINI)[0] == expected
    assert call("blend", *MINI, "--", f"{A}:0.7", f"-{B}:0.3")[0] == expected
    assert call("blend", "-", *MINI, stdin=f"{A}:0.7\n-{B}:0.3\n".encode())[0] == expected
    assert call("blend", f"{A}:0.7", f"{B}:0.3", *MINI)[0] != expected


def test_blend_as_json_has_cosines_to_the_sum_and_to_its_terms():
    first, second = rows_of("blend", f"{A}:0.9", f"{B}:-0.1", *MINI, "-n", 2, "--temperature", 0.5)
    assert [first["seed"], second["seed"]] == [0, 1]
    assert [(term["text"], term["weight"]) for term in first["terms"]] == [(A, 0.9), (B, -0.1)]
    assert first["terms"][0]["cosine"] > first["terms"][1]["cosine"]
    assert first["cosine"] > 0.3


@pytest.mark.slow
def test_a_weighted_term_is_no_option_though_it_begins_like_one():
    """`-n` and `-q` are options, and the first term holds the letters of both."""
    terms = [
        (term["text"], term["weight"]) for term in rows_of("blend", A, "-n quiet cats:0.2", *MINI)[0]["terms"]
    ]
    assert terms == [(A, 1), ("n quiet cats", -0.2)]
    assert len(rows_of("blend", A, *MINI, "-n", 2, "--set", "sample.temperature=0.5")) == 2


@pytest.mark.parametrize("term", ["-A cat.", "-5 degrees"])
def test_a_term_that_begins_with_a_dash_is_told_about_the_double_dash(term):
    _, err = call("blend", A, term, code=2)
    assert "is written after `--`" in err


@pytest.mark.parametrize(
    ("arguments", "stdin", "error", "words"),
    [
        ((A, f"{A}:-1"), None, GenerationError, "cancel each other out"),
        ((f"{A}:0",), None, GenerationError, "All weights are 0"),
        ((A, "  "), None, DataError, "holds nothing to encode"),
        (("-",), b"\n\n", DataError, "holds no text to blend"),
        (("-",), b":0.5\n", DataError, "has no text to blend"),
    ],
)
def test_bad_terms_get_one_sentence(arguments, stdin, error, words):
    with pytest.raises(error, match=words) as caught:
        call("blend", *arguments, *MINI, stdin=stdin)
    assert caught.value.hint


# --- interpolate ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_ends_are_what_sample_writes():
    lines = call("interpolate", A, B, "--points", 3, *MINI)[0].splitlines()
    shares, texts = zip(*(line.split("\t") for line in lines), strict=True)
    assert shares == ("0.00", "0.50", "1.00")
    assert [texts[0], texts[-1]] == call("sample", A, B, *MINI, "--search", 0)[0].splitlines()
    rows = rows_of("interpolate", A, B, "--points", 3, *MINI)
    assert tuple(row["text"] for row in rows) == texts
    assert [row["share"] for row in rows] == [0, 0.5, 1]
    assert rows[0]["cosine"] == pytest.approx(rows[0]["cosine_to_start"], abs=1e-6)
    assert rows[-1]["cosine"] == pytest.approx(rows[-1]["cosine_to_end"], abs=1e-6)
    assert rows[0]["cosine_to_start"] > rows[-1]["cosine_to_start"]


def test_an_interpolation_needs_two_texts_and_two_points():
    assert "greater than or equal to 2" in call("interpolate", A, B, "--points", 1, code=2)[1]
    call("interpolate", A, code=2)
    with pytest.raises(DataError, match="holds nothing"):
        call("interpolate", A, " ", *MINI)


# --- vary -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_variations_with_their_diversity_and_faithfulness():
    out, err = call("vary", A, *MINI, "-n", 3, "--seed", 5)
    assert len(set(out.splitlines())) == 3
    assert "Diversity: self-BLEU" in err
    assert "Faithfulness: cosine" in err
    (row,) = rows_of("vary", A, *MINI, "-n", 3, "--seed", 5)
    assert [item["text"] for item in row["variations"]] == out.splitlines()
    assert row["source"] == A
    assert row["cosine"] == pytest.approx(np.mean([item["cosine"] for item in row["variations"]]))
    assert 0 <= row["self_bleu"] < 100
    assert 0 < row["distinct_1"] <= row["distinct_2"] <= 1


@pytest.mark.slow
def test_there_are_five_variations_by_default_and_lines_are_varied_in_turn():
    piped = call("vary", "-", *MINI, stdin=f"{A}\n{B}\n".encode())[0].splitlines()
    assert len(piped) == 10
    assert piped[5:] == call("vary", B, *MINI)[0].splitlines()


@pytest.mark.slow
def test_no_strength_repeats_the_text_with_a_warning():
    out, err = call("vary", A, *MINI, "-n", 2, "--strength", 0)
    assert out == call("sample", A, *MINI, "--search", 0)[0] * 2
    assert "Only 1 of 2 texts differ" in err
    call("vary", A, "--strength", -1, code=2)


# --- words ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_words_of_texts_and_of_vectors_are_the_same(tmp_path):
    model = ("--checkpoint", "mini", "--device", "cpu")
    out, _ = call("words", *TEXTS[:3], *model, "--count", 4)
    lines = out.splitlines()
    assert [len(line.split(", ")) for line in lines] == [4, 4, 4]
    assert call("words", "-", *model, "--count", 4, stdin="\n".join(TEXTS[:3]).encode())[0] == out
    call("sample", *TEXTS[:3], *MINI, "--search", 0, "--save-vector", tmp_path / "v.npy")
    assert call("words", "--vector", tmp_path / "v.npy", *model, "--count", 4)[0] == out
    rows = rows_of("words", "--vector", tmp_path / "v.npy", *model, "--count", 4)
    assert [row["id"] for row in rows] == ["0", "1", "2"]
    assert [", ".join(word["word"] for word in row["words"]) for row in rows] == lines
    assert rows_of("words", A, *model)[0]["source"] == A


def test_words_of_others_vectors_are_refused_and_what_the_hint_says_is_an_option(vectors, tmp_path):
    path = write_parquet(tmp_path / "v.parquet", vectors[:, ::-1], TEXTS)
    source = ("words", "--vector", path, "--checkpoint", "mini", "--device", "cpu")
    with pytest.raises(VectorSourceError, match="those of another encoder") as caught:
        call(*source)
    for option in ("--column", "--text-column", "--map", "--assume-same"):
        assert option in caught.value.hint
    assert len(call(*source, "--assume-same")[0].splitlines()) == len(TEXTS)


def test_words_are_of_texts_or_of_vectors():
    assert "Give texts, or vectors" in call("words", code=2)[1]
    assert "not both" in call("words", A, "--vector", "x.npy", code=2)[1]
    with pytest.raises(ConfigError, match="rows of a store only: --map, --assume-same; texts were named"):
        call("words", A, "--map", "map.safetensors", "--assume-same")
    with pytest.raises(VectorSourceError):
        call("words", "--vector", "gone.npy", "--checkpoint", "mini", "--device", "cpu")


# --- read --mean-by -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> SGDD:
    return SGDD.from_pretrained("mini", "cpu")


@pytest.fixture(scope="module")
def vectors(model) -> np.ndarray:
    return model.encode(TEXTS).numpy()


TOPICS = ["sea", "home", "sea", "war", "sea", "home", "home", "home", "sea"]


@pytest.fixture
def grouped(tmp_path, vectors) -> Path:
    return write_parquet(tmp_path / "v.parquet", vectors, TEXTS, TOPICS)  # the groups in its column `key`


@pytest.mark.slow
def test_groups_have_a_name_their_words_and_their_nearest_row(grouped, vectors, model):
    rows = rows_of("read", grouped, "--mean-by", "key", *MINI)
    assert [(row["group"], row["size"]) for row in rows] == [("sea", 4), ("home", 4), ("war", 1)]
    for row in rows:
        own = [i for i, topic in enumerate(TOPICS) if topic == row["group"]]
        mean = vectors[own].mean(axis=0)
        nearest = own[int((vectors[own] @ mean).argmax())]
        assert row["nearest"]["id"] == str(nearest)
        assert row["nearest"]["text"] == TEXTS[nearest]
        assert row["nearest"]["cosine"] == pytest.approx(
            float(vectors[nearest] @ mean / np.linalg.norm(mean)), abs=1e-5
        )
        (text,) = row["texts"]
        assert 0 < text["cosine"] < 1
        assert len(row["words"]) == 10
    # A group of one is what its row alone says.
    assert rows[2]["texts"][0]["text"] == call("sample", TEXTS[3], *MINI, "--search", 0)[0].strip()
    assert [word["word"] for word in rows[2]["words"]] == [w for w, _ in model.words(TEXTS[3])[0]]


@pytest.mark.slow
def test_groups_as_a_table_and_of_some_rows(grouped):
    out, err = call("read", grouped, "--mean-by", "key", *MINI, "--limit", 5)
    assert all(head in out for head in ("group", "rows", "text", "words", "nearest row", "sea", "war"))
    assert "averaging: 5 vectors." in err
    assert "comparing: 5 vectors." in err
    sampled = rows_of("read", grouped, "--mean-by", "key", *MINI, "--sample", 4, "--seed", 2)
    assert sum(row["size"] for row in sampled) == 4
    assert all(row["nearest"] for row in sampled)


def test_a_group_without_a_mean_is_named(tmp_path, vectors):
    rows = [{"emb": v.tolist(), "key": key} for v, key in zip((vectors[0], -vectors[0]), "aa", strict=True)]
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out, err = call("read", tmp_path / "v.jsonl", "--mean-by", "key", "--assume-same", *MINI)
    assert out == ""
    assert "Warning: Left out: 1 group whose vectors cancel each other out, and so have no mean: a" in err


def write_jsonl(path: Path, vectors) -> bytes:
    rows = [{"emb": v.tolist(), "topic": topic} for v, topic in zip(vectors, TOPICS, strict=True)]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path.read_bytes()


@pytest.mark.slow
def test_what_can_be_read_only_once_has_no_nearest_row(tmp_path, vectors):
    piped = write_jsonl(tmp_path / "v.jsonl", vectors)
    expected = rows_of("read", tmp_path / "v.jsonl", "--mean-by", "topic", *MINI)
    assert [row["nearest"]["text"] for row in expected] == [None] * 3
    out, err = call("read", "-", "--mean-by", "topic", *MINI, "--json", stdin=piped)
    found = [json.loads(line) for line in out.splitlines()]
    assert "can be read only once" in err
    assert found == [{**row, "nearest": None} for row in expected]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
def test_a_named_pipe_can_be_read_only_once(tmp_path):
    from sgdd_engine.vectors import open_vectors

    class Opened:
        """A kind of source that reads nothing: a pipe would wait for its writer."""

    os.mkfifo(tmp_path / "v.jsonl")
    from sgdd_engine.vectors.reading import _opened
    from sgdd_engine.vectors.source import OpenSource, ReadOptions

    Opened.open = staticmethod(lambda where, options: OpenSource(where, None, (), iter(())))
    assert not _opened(Opened, str(tmp_path / "v.jsonl"), ReadOptions()).repeatable
    (tmp_path / "w.jsonl").write_text("[1, 2]\n")
    assert open_vectors(str(tmp_path / "w.jsonl")).repeatable


@pytest.mark.slow
def test_means_of_bad_columns_and_rows(grouped, tmp_path, vectors):
    with pytest.raises(VectorSourceError, match="`nope` is not there"):
        call("read", grouped, "--mean-by", "nope", *MINI)
    np.save(tmp_path / "v.npy", vectors)
    with pytest.raises(VectorSourceError, match="--mean-by was given"):
        call("read", tmp_path / "v.npy", "--mean-by", "key", *MINI)
    bad = np.array(vectors)
    bad[3] = np.nan
    path = write_parquet(tmp_path / "bad.parquet", bad, TEXTS, TOPICS)
    out, err = call("read", path, "--mean-by", "key", *MINI, "--json", code=1)
    assert [json.loads(line)["group"] for line in out.splitlines()] == ["sea", "home"]
    assert err.count("is left out: 3.") == 1


# --- sample --save-vector -------------------------------------------------------------------------------


@pytest.mark.slow
def test_saved_vectors_are_those_of_the_texts_and_read_back_the_same(tmp_path, vectors):
    path = tmp_path / "new" / "v.npy"
    out, _ = call("sample", "-", *MINI, "--save-vector", path, stdin="\n".join(TEXTS * 8).encode())
    saved = np.load(path)
    assert saved.dtype == np.float32
    np.testing.assert_allclose(saved, np.tile(vectors, (8, 1)), atol=1e-6)
    assert call("read", path, *MINI)[0] == out
    assert list(path.parent.iterdir()) == [path]


def test_vectors_before_a_fault_are_kept(tmp_path, vectors):
    path = tmp_path / "v.npy"
    with pytest.raises(SgddError, match="1 line of standard input could not be used"):
        call(
            "sample",
            "-",
            *MINI,
            "--save-vector",
            path,
            stdin=f"{A}\n".encode() + b"\xff\n" + f"{B}\n".encode(),
        )
    np.testing.assert_allclose(np.load(path), vectors[:2], atol=1e-6)


def test_a_file_that_cannot_be_written_is_said_before_anything_is_decoded(tmp_path):
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(SgddError, match="is a folder"):
        call("sample", A, *MINI, "--save-vector", tmp_path / "folder.npy")
    assert "must end in .npy" in call("sample", A, *MINI, "--save-vector", tmp_path / "v.txt", code=2)[1]
