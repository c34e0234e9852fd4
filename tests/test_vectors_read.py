"""`sgdd read`: vectors of real files become text; the model's own vectors are told from others."""

import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_cli import call
from tiny_sgdd import build

from sgdd_engine.errors import EncoderError, VectorSourceError
from sgdd_engine.events import Notice
from sgdd_engine.generation import SGDD, CheckedVectors, write_texts
from sgdd_engine.mini import SENTENCES
from sgdd_engine.vectors import ReadOptions, open_vectors
from sgdd_engine.vectors.selection import join

pytestmark = pytest.mark.offline_encoder

ROOT = Path(__file__).parents[1]
TEXTS = SENTENCES.read_text(encoding="utf-8").splitlines()[:40]
MINI = ("--checkpoint", "mini", "--device", "cpu", "--steps", 2)


@pytest.fixture(scope="module")
def model() -> SGDD:
    return SGDD.from_pretrained("mini", "cpu")


@pytest.fixture(scope="module")
def vectors(model) -> np.ndarray:
    return model.encode(TEXTS).numpy()


@pytest.fixture
def npy(tmp_path, vectors) -> Path:
    np.save(tmp_path / "v.npy", vectors)
    return tmp_path / "v.npy"


def write_parquet(path: Path, vectors, texts=None, ids=None) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"emb": pa.array([None if v is None else list(map(float, v)) for v in vectors])}
    if texts is not None:
        columns["text"] = pa.array(texts)
    if ids is not None:
        columns["key"] = pa.array(ids)
    pq.write_table(pa.table(columns), path)
    return path


def checked(model, path, **options) -> tuple[np.ndarray, list[str]]:
    """The vectors as the model reads them, and what was said about them."""
    said: list[str] = []

    def listen(event) -> None:
        if isinstance(event, Notice):
            said.append(event.message)

    batches = list(CheckedVectors(model, open_vectors(str(path)), on_event=listen, **options))
    return join(batches).vectors, said


# --- are they this model's? -----------------------------------------------------------------------------


def test_the_models_own_vectors_pass_without_a_word(model, vectors, npy, tmp_path):
    np.testing.assert_array_equal(checked(model, npy)[0], vectors)
    assert checked(model, npy)[1] == []
    assert checked(model, write_parquet(tmp_path / "v.parquet", vectors, TEXTS))[1] == []


@pytest.mark.parametrize("stored", ["times ten", "int8", "bfloat16"])
def test_stored_numbers_of_another_scale_are_scaled_with_a_note(model, vectors, tmp_path, stored):
    scale = 127 / np.abs(vectors).max(axis=1, keepdims=True)
    array = {
        "times ten": vectors * 10,
        "int8": (vectors * scale).round().astype(np.int8),
        "bfloat16": torch.from_numpy(vectors).bfloat16().float().numpy(),
    }[stored]
    np.save(tmp_path / "v.npy", array)
    found, said = checked(model, tmp_path / "v.npy")
    cosines = (found * vectors).sum(axis=1)
    assert cosines.min() > 0.9995
    if stored != "bfloat16":  # whose lengths differ by rounding only
        assert ["are scaled to it" in message for message in said] == [True]
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    else:
        assert said == []


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_zeros_nans_and_nulls_are_left_out_and_named(model, vectors, tmp_path, rows):
    bad = list(vectors)
    bad[2], bad[5], bad[7], bad[8] = None, np.zeros(384), np.full(384, np.inf), vectors[8] * np.nan
    path = write_parquet(tmp_path / "v.parquet", bad, TEXTS)
    said: list[str] = []
    source = open_vectors(str(path), ReadOptions(batch_rows=rows))
    reader = CheckedVectors(model, source, on_event=lambda event: said.append(event.message))
    found = join(list(reader))
    assert found.ids == [str(i) for i in range(40) if i not in (2, 5, 7, 8)]
    assert found.texts == [TEXTS[int(i)] for i in found.ids]
    assert reader.faulty == 3
    assert sorted(said) == [
        "1 row has no vector and is left out: 2.",
        "1 row has zeros only and is left out: 5.",
        "2 rows have NaN or infinite numbers and are left out: 7, 8.",
    ]


def rotated(vectors: np.ndarray) -> np.ndarray:
    """Vectors with the same lengths and angles in other coordinates, as another encoder might give them."""
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(384, 384)))
    return vectors @ rotation


def random_unit(vectors: np.ndarray) -> np.ndarray:
    found = np.random.default_rng(1).normal(size=vectors.shape)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("change", [rotated, random_unit, lambda v: v[:, ::-1], np.abs])
def test_vectors_of_another_encoder_are_refused_without_texts(model, vectors, tmp_path, change):
    np.save(tmp_path / "v.npy", change(vectors))
    with pytest.raises(VectorSourceError, match="far from those the model was trained on") as caught:
        checked(model, tmp_path / "v.npy")
    assert "--assume-same" in (caught.value.hint or "")
    assert len(checked(model, tmp_path / "v.npy", assume_same=True)[0]) == 40
    np.save(tmp_path / "v.npy", change(vectors)[:2])  # too few to be sure
    assert any("far from" in message for message in checked(model, tmp_path / "v.npy")[1])


@pytest.mark.slow
def test_stored_texts_tell_what_differs(model, vectors, tmp_path):
    path = tmp_path / "v.parquet"
    with pytest.raises(VectorSourceError, match="another encoder than `minilm`, or other texts"):
        checked(model, write_parquet(path, rotated(vectors), TEXTS))
    with pytest.raises(VectorSourceError, match="or other texts"):
        checked(model, write_parquet(path, vectors, TEXTS[1:] + TEXTS[:1]))
    changed = [text if i % 2 else " ".join(text.split()[:-2]) for i, text in enumerate(TEXTS)]
    (said,) = checked(model, write_parquet(path, vectors, changed))[1]
    assert "; 16 reach 0.99: some texts are not what was encoded" in said
    prompted = model.encode([f"passage: {text}" for text in TEXTS]).numpy()
    (said,) = checked(model, write_parquet(path, prompted, TEXTS))[1]
    assert "; 0 reach 0.99: they were encoded with another pooling, prompt" in said


def test_an_encoder_that_is_not_here_is_a_note_and_the_statistics_decide(vectors, tmp_path):
    class Absent(SGDD):
        @property
        def encoder(self):
            raise EncoderError("The encoder is not here.")

    model = Absent.from_pretrained("mini", "cpu")
    (said,) = checked(model, write_parquet(tmp_path / "v.parquet", vectors, TEXTS))[1]
    assert said == "The stored texts cannot be compared. The encoder is not here."
    with pytest.raises(VectorSourceError, match="far from"):
        checked(model, write_parquet(tmp_path / "v.parquet", rotated(vectors), TEXTS))


@pytest.mark.parametrize("kind", ["none", "vib", "whitening"])
def test_every_bottleneck_takes_its_own_vectors(tiny_encoder, sentences, tmp_path, kind):
    model = build(tiny_encoder, sentences, kind=kind)
    np.save(tmp_path / "v.npy", model.encode(sentences[:60]).numpy())
    assert checked(model, tmp_path / "v.npy")[1] == []
    # Vectors that all share a direction which these have not.
    shifted = model.encode(sentences[:60]).numpy()
    shifted = shifted - 2 * shifted.mean(axis=0)
    np.save(tmp_path / "v.npy", shifted / np.linalg.norm(shifted, axis=1, keepdims=True))
    with pytest.raises(VectorSourceError, match="far from"):
        checked(model, tmp_path / "v.npy")


def test_rows_before_a_fault_are_checked_and_given_first(model, vectors, tmp_path):
    (tmp_path / "v.jsonl").write_text(
        "\n".join(json.dumps(v.tolist()) for v in [*vectors[:3], vectors[3][:9]])
    )
    given = []
    with pytest.raises(VectorSourceError, match="mixes widths"):
        given.extend(CheckedVectors(model, open_vectors(str(tmp_path / "v.jsonl"))))
    assert join(given).ids == ["0", "1", "2"]


# --- text -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_texts_depend_neither_on_the_batch_nor_on_the_file(model, vectors, tmp_path):
    few, options = vectors[:7], {"sampling": replace(model.recommended_sampling, steps=4)}
    expected = [item.text for item in model.generate(few, **options)]
    np.save(tmp_path / "v.npy", few)
    np.savetxt(tmp_path / "v.csv", few, delimiter=",", fmt="%.9g")
    write_parquet(tmp_path / "v.parquet", few, TEXTS[:7])
    for name, rows in (("v.npy", 1), ("v.npy", 64), ("v.parquet", 3), ("v.csv", 3)):
        source = open_vectors(str(tmp_path / name), ReadOptions(batch_rows=rows))
        written = write_texts(model, CheckedVectors(model, source), rows_at_once=rows, **options)
        assert [row.written.text for batch in written for row in batch] == expected, (name, rows)


@pytest.mark.slow
def test_lines_and_json(model, vectors, tmp_path):
    keys = [f"key {i}" for i in range(40)]
    path = write_parquet(tmp_path / "v.parquet", vectors, TEXTS, keys)
    lines, err = call("read", path, *MINI, "--limit", 5)
    texts = lines.splitlines()
    assert len(texts) == 5
    assert "Parquet file" in err
    assert "column emb" in err
    out, _ = call("read", path, *MINI, "--limit", 5, "--json", "--ids", "key", "--quiet")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["text"] for row in rows] == texts
    assert [row["id"] for row in rows] == keys[:5]
    for row, text in zip(rows, TEXTS, strict=False):
        assert row["stored"]["text"] == text
        assert 0 < row["stored"]["token_f1"] <= 1
        assert row["cosine"] == pytest.approx(
            row["stored"]["cosine"], abs=1e-4
        )  # the stored text has that vector
        assert row["encoder_calls"] == 1
    assert np.mean([row["stored"]["token_f1"] for row in rows]) > 0.4


@pytest.mark.slow
def test_a_sample_is_seeded_and_in_order(npy):
    first, _ = call("read", npy, *MINI, "--sample", 6, "--seed", 3, "--json")
    again, _ = call("read", npy, *MINI, "--sample", 6, "--seed", 3, "--json")
    other, _ = call("read", npy, *MINI, "--sample", 6, "--seed", 4, "--json")
    assert first == again != other
    numbers = [int(json.loads(line)["id"]) for line in first.splitlines()]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 6
    within, _ = call("read", npy, *MINI, "--sample", 6, "--limit", 7, "--json")
    assert all(int(json.loads(line)["id"]) < 7 for line in within.splitlines())


def test_several_samples_of_each_vector(npy):
    out, err = call("read", npy, *MINI, "--limit", 3, "-n", 2, "--temperature", 0.8, "--json")
    assert [json.loads(line)["id"] for line in out.splitlines()] == ["0", "0", "1", "1", "2", "2"]
    assert "reading: 3 vectors read, 6 texts written." in err


def test_standard_input_is_read(vectors, npy):
    piped = "\n".join(" ".join(f"{x:.9g}" for x in v) for v in vectors[:4]).encode()
    assert call("read", "-", *MINI, stdin=piped)[0] == call("read", npy, *MINI, "--limit", 4)[0]


def test_an_empty_source_is_said(tmp_path):
    np.save(tmp_path / "v.npy", np.empty((0, 384)))
    for source, stdin in ((tmp_path / "v.npy", None), ("-", b"\n")):
        out, err = call("read", source, *MINI, stdin=stdin)
        assert out == ""
        assert "has no vectors that can be read; nothing was written." in err


def test_unreadable_rows_end_with_exit_code_1_and_the_others_written(vectors, tmp_path):
    bad = np.array(vectors[:10])
    bad[4] = np.nan
    np.save(tmp_path / "v.npy", bad)
    out, err = call("read", tmp_path / "v.npy", *MINI, code=1)
    assert len(out.splitlines()) == 9
    assert "1 row has NaN or infinite numbers and is left out: 4." in err


@pytest.mark.slow
def test_what_was_written_before_a_fault_stays(vectors, tmp_path, loaded_python):
    (tmp_path / "v.jsonl").write_text(
        "\n".join(json.dumps(v.tolist()) for v in [*vectors[:3], vectors[3][:9]])
    )
    command = ("read", tmp_path / "v.jsonl", *MINI)
    done = sgdd(loaded_python, *command)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr.splitlines()[-2].startswith("Error: JSON Lines file")
    assert "mixes widths: the vector in line 4 has 9 numbers, and those before it 384." in done.stderr


CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("SGDD_")}
ENVIRONMENT = {**CLEAN, "PYTHONPATH": str(ROOT), "NO_COLOR": "1", "PYTHONUTF8": "1"}


def sgdd(python: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", "sgdd_cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no POSIX signals to send")
@pytest.mark.parametrize("how", ["the reader leaves", "Ctrl-C"])
def test_it_stops_cleanly_in_the_middle(vectors, tmp_path, how, loaded_python):
    np.save(tmp_path / "v.npy", np.tile(vectors, (500, 1)))
    command = [loaded_python, "-m", "sgdd_cli", "read", str(tmp_path / "v.npy"), *map(str, MINI), "--quiet"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline(), process.stdout.readline()]
        if how == "Ctrl-C":
            process.send_signal(signal.SIGINT)
            rest = process.stdout.read()
            assert process.wait() == 130
            assert (lines[-1] + rest).endswith("\n")  # whole lines, up to the last, perhaps no further one
        else:
            process.stdout.close()
            assert process.wait() == 0
        assert process.stderr.read() == ""
    assert all(line.endswith("\n") and len(line) > 5 for line in lines)
