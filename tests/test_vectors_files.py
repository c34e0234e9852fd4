"""Vectors from files: what is written with the libraries that people use is read back, in any kind of batch."""

import bz2
import csv
import gzip
import io
import json
import re
import socket
import sys
import tomllib
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from sgdd_cli.plugin_check import installed_plugins
from sgdd_engine.data.config import DataConfig
from sgdd_engine.data.sources import open_source
from sgdd_engine.errors import DataError, SgddError, VectorSourceError
from sgdd_engine.vectors import ReadOptions, open_vectors, read_vectors, vector_kinds
from sgdd_engine.vectors.json_lines import open_lines
from sgdd_engine.vectors.selection import first_rows, join, rebatched, sample_rows

ROOT = Path(__file__).parents[1]
WIDTH = 5
VECTORS = np.random.default_rng(0).normal(size=(7, WIDTH)).astype(np.float32)
IDS = [f"k{number}" for number in range(7)]
TEXTS = [f"Text {number}, with a comma." for number in range(7)]
YEARS = [2000 + number for number in range(7)]


def everything(source, **options):
    """All rows of a source as one batch."""
    return join(list(read_vectors(str(source), **options)))


def arrow_table(vectors=None, **more):
    import pyarrow as pa

    vectors = pa.array(list(VECTORS), pa.list_(pa.float32())) if vectors is None else vectors
    return pa.table({"id": IDS, "text": TEXTS, "emb": vectors, "year": YEARS, **more})


def write_npy(folder: Path) -> str:
    np.save(folder / "v.npy", VECTORS)
    return str(folder / "v.npy")


def write_npz(folder: Path) -> str:
    np.savez(folder / "v.npz", emb=VECTORS, id=np.array(IDS), text=np.array(TEXTS))
    return str(folder / "v.npz")


def write_small_npz(folder: Path) -> str:
    np.savez_compressed(
        folder / "s.npz", emb=np.asfortranarray(VECTORS), id=np.array(IDS), text=np.array(TEXTS)
    )
    return str(folder / "s.npz")


def write_safetensors(folder: Path) -> str:
    from safetensors.torch import save_file

    save_file({"emb": torch.from_numpy(VECTORS), "mean": torch.zeros(WIDTH)}, folder / "v.safetensors")
    return str(folder / "v.safetensors")


def write_parquet(folder: Path) -> str:
    import pyarrow.parquet as pq

    pq.write_table(arrow_table(), folder / "v.parquet", row_group_size=4)
    return str(folder / "v.parquet")


def write_parquet_folder(folder: Path) -> str:
    import pyarrow.parquet as pq

    (folder / "parts").mkdir()
    for number, start in enumerate((0, 4)):
        pq.write_table(arrow_table().slice(start, 4), folder / "parts" / f"part-{number}.parquet")
    return str(folder / "parts")


def write_feather(folder: Path) -> str:
    import pyarrow.feather as feather

    feather.write_feather(arrow_table(), folder / "v.feather", chunksize=4)
    return str(folder / "v.feather")


def write_arrow_stream(folder: Path) -> str:
    import pyarrow as pa

    table = arrow_table(pa.FixedSizeListArray.from_arrays(pa.array(VECTORS.ravel()), WIDTH))
    with pa.ipc.new_stream(str(folder / "v.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    return str(folder / "v.arrow")


def write_saved_dataset(folder: Path) -> str:
    import datasets

    datasets.disable_progress_bars()
    datasets.DatasetDict({"train": datasets.Dataset(arrow_table())}).save_to_disk(folder / "saved")
    return str(folder / "saved")


def write_hub_folder(folder: Path) -> str:
    return f"hf:{write_parquet_folder(folder)}"


def write_jsonl(folder: Path) -> str:
    rows = [
        {"id": i, "text": text, "meta": {"emb": vector.tolist()}}
        for i, text, vector in zip(IDS, TEXTS, VECTORS, strict=True)
    ]
    path = folder / "v.ndjson.gz"
    path.write_bytes(gzip.compress("\n\n".join(map(json.dumps, rows)).encode()))
    return str(path)


def write_csv(folder: Path) -> str:
    with (folder / "v.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "emb"])
        writer.writerows([i, t, str(v.tolist())] for i, t, v in zip(IDS, TEXTS, VECTORS, strict=True))
    return str(folder / "v.csv")


def write_wide_tsv(folder: Path) -> str:
    rows = [["id", "text", *(f"emb_{i}" for i in range(WIDTH))]]
    rows += [[i, t, *map(str, v.tolist())] for i, t, v in zip(IDS, TEXTS, VECTORS, strict=True)]
    path = folder / "v.tsv.bz2"
    path.write_bytes(bz2.compress("\n".join("\t".join(row) for row in rows).encode()))
    return str(path)


def write_savetxt(folder: Path) -> str:
    np.savetxt(folder / "n.csv", VECTORS)
    return str(folder / "n.csv")


WITH_TEXTS = (
    write_npz,
    write_small_npz,
    write_parquet,
    write_parquet_folder,
    write_feather,
    write_arrow_stream,
    write_saved_dataset,
    write_hub_folder,
    write_jsonl,
    write_csv,
    write_wide_tsv,
)
ALONE = (write_npy, write_safetensors, write_savetxt)


@pytest.fixture
def no_cache(tmp_path, monkeypatch):
    """`datasets` keeps nothing outside of the test's folder."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize("write", [*WITH_TEXTS, *ALONE])
def test_every_kind_gives_the_same_rows_in_any_batch(tmp_path, no_cache, write, rows):
    source = write(tmp_path)
    batches = list(read_vectors(source, batch_rows=rows, width=WIDTH))
    assert all(1 <= len(batch.ids) <= rows for batch in batches)
    found = join(batches)
    assert found.vectors.dtype == np.float32
    np.testing.assert_array_equal(found.vectors, VECTORS)
    assert found.ids == (IDS if write in WITH_TEXTS else [str(number) for number in range(7)])
    assert found.texts == (TEXTS if write in WITH_TEXTS else None)
    assert open_vectors(source, ReadOptions(width=WIDTH)).rows in (7, None)


# --- arrays ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "f16", "i1"])
@pytest.mark.parametrize("order", [np.asarray, np.asfortranarray])
def test_an_array_of_any_number_type_and_order_is_read(tmp_path, dtype, order):
    stored = order((VECTORS * 20).astype(dtype))
    np.save(tmp_path / "a.npy", stored)
    np.savez(tmp_path / "a.npz", stored)
    for name in ("a.npy", "a.npz"):
        np.testing.assert_array_equal(
            everything(tmp_path / name, batch_rows=3).vectors, stored.astype(np.float32)
        )


@pytest.mark.parametrize(
    ("texts", "vectors", "said"),
    [
        (np.zeros(2, "<U300000"), VECTORS[:2], "array text has rows of 1,200,000 bytes"),
        (
            None,
            np.zeros((2, 300_000), np.float32),
            "array emb has rows of 1,200,000 bytes",
        ),
        (None, np.asfortranarray(np.zeros((600_000, 32), np.float32)), "would take 76,800,000 bytes at once"),
    ],
)
def test_a_small_archive_does_not_become_gigabytes(tmp_path, texts, vectors, said):
    arrays = {"emb": vectors} if texts is None else {"emb": vectors, "text": texts}
    np.savez_compressed(tmp_path / "a.npz", **arrays)
    assert (tmp_path / "a.npz").stat().st_size < 1 << 20
    with pytest.raises(VectorSourceError, match=said):
        everything(tmp_path / "a.npz")


def test_a_single_vector_is_one_row(tmp_path):
    np.save(tmp_path / "a.npy", VECTORS[0])
    np.testing.assert_array_equal(everything(tmp_path / "a.npy").vectors, VECTORS[:1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_tensors_are_read(tmp_path, dtype):
    from safetensors.torch import save_file

    stored = torch.from_numpy(VECTORS).to(dtype)
    save_file({"a": stored}, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(everything(tmp_path / "a.safetensors").vectors, stored.float().numpy())


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros(3, [("vec", "f4", 5), ("id", "i4")]), "records with the fields vec, id"),
        (np.array([[1, "a"]], object), "Python objects"),
        (np.zeros((2, 3, 4)), r"shape \[2, 3, 4\]"),
        (np.zeros((2, 3), complex), "complex128"),
        (np.array(["text"]), "no real numbers"),
    ],
)
def test_an_npy_file_of_something_else_is_refused_in_a_sentence(tmp_path, array, said):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(VectorSourceError, match=said):
        open_vectors(str(tmp_path / "a.npy"))


def test_ids_and_texts_may_be_stored_as_bytes(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids, texts = ["ä", "b", "\\xff"], ["Grüße.", "Zwei.", "Drei."]
    stored = [b"\xc3\xa4", b"b", b"\xff"], [text.encode() for text in texts]
    np.savez(tmp_path / "v.npz", emb=VECTORS[:3], id=np.array(stored[0]), text=np.array(stored[1]))
    binary = [pa.array(values, pa.binary()) for values in stored]
    table = pa.table([pa.array(list(VECTORS[:3])), *binary], names=["emb", "id", "text"])
    pq.write_table(table, tmp_path / "v.parquet")
    for name, group in (("v.npz", "text"), ("v.parquet", "text")):
        found = everything(tmp_path / name, group_column=group)
        assert (found.ids, found.groups) == (ids, texts)
    assert everything(tmp_path / "v.npz").texts == texts


def test_arrays_of_objects_beside_the_vectors_are_not_read(tmp_path):
    objects = np.array(["a", "b", 3, None], dtype=object)
    np.savez(tmp_path / "v.npz", emb=VECTORS[:4], id=objects, text=objects, rows=objects[:, None])
    opened = open_vectors(str(tmp_path / "v.npz"))
    assert [re.findall(r"array `(\w+)` is not read", note) for note in opened.notes] == [["text"], ["id"]]
    found = join(list(opened.batches))
    assert (found.ids, found.texts) == (["0", "1", "2", "3"], None)
    for options in ({"id_column": "id"}, {"text_column": "text"}, {"column": "rows"}, {"group_column": "id"}):
        with pytest.raises(VectorSourceError, match="holds Python objects") as caught:
            open_vectors(str(tmp_path / "v.npz"), ReadOptions(**options))
        assert "dtype=str" in (caught.value.hint or "")


def test_dates_may_be_ids_and_a_missing_one_has_the_number_of_its_row(tmp_path):
    days = np.array(["2020-01-01", "NaT", "2020-01-03"], "datetime64[D]")
    np.savez(tmp_path / "v.npz", emb=VECTORS[:3], day=days)
    assert everything(tmp_path / "v.npz", id_column="day", batch_rows=1).ids == [
        "2020-01-01",
        "1",
        "2020-01-03",
    ]


def damaged_archives(folder: Path):
    """Archives whose entries cannot be read: damaged, encrypted, compressed in a way that zipfile does not know."""
    np.savez_compressed(folder / "whole.npz", emb=VECTORS)
    whole = (folder / "whole.npz").read_bytes()
    with zipfile.ZipFile(folder / "whole.npz") as archive:
        entry = archive.getinfo("emb.npy")
    data = entry.header_offset + 30 + int.from_bytes(whole[28:30], "little") + len(entry.filename)
    directory = whole.index(b"PK\x01\x02")

    def changed(*places: tuple[int, bytes]) -> bytes:
        made = bytearray(whole)
        for place, value in places:
            made[place : place + len(value)] = value
        return bytes(made)

    yield "damaged at its beginning", changed((data, b"\xff" * 8))
    yield "damaged at its end", changed((data + entry.compress_size - 8, b"\xff" * 8))
    yield "encrypted", changed((6, b"\x01\x00"), (directory + 8, b"\x01\x00"))
    yield "compressed by another method", changed((8, b"\x63\x00"), (directory + 10, b"\x63\x00"))


@pytest.mark.parametrize("number", range(4))
def test_an_archive_whose_entries_cannot_be_read_is_one_sentence(tmp_path, number):
    why, content = list(damaged_archives(tmp_path))[number]
    (tmp_path / "v.npz").write_bytes(content)
    with pytest.raises(VectorSourceError, match=r"v\.npz`.* cannot be read: .*\S\.$") as caught:
        list(read_vectors(str(tmp_path / "v.npz")))
    assert "\n" not in caught.value.message, why


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, r"holds an archive of arrays"),
        (b"PK\x03\x04 and no more of it", "holds an archive of arrays"),
        (b"\x93NUMPY\x01\x00\x10\x00{'descr': '<f4',", "cannot be read: "),
        (b"\x93NUMPY\x01\x00\x10\x00{{}: 1}        \n", "cannot be read: "),
        (b"\x93NUMPY\x01\x00\x10\x00\n  a\n b         ", "cannot be read: "),
    ],
)
def test_a_file_that_is_named_like_an_array_and_is_none_is_one_sentence(tmp_path, content, said):
    np.savez(tmp_path / "v.npz", emb=VECTORS)
    path = tmp_path / "v.npy"
    path.write_bytes((tmp_path / "v.npz").read_bytes() if content is None else content)
    with pytest.raises(VectorSourceError, match=said) as caught:
        open_vectors(str(path))
    assert "\n" not in caught.value.message
    if content is None:
        assert everything(f"npz:{path}").ids == [str(number) for number in range(7)]


# --- which column ---------------------------------------------------------------------------------------


def test_the_column_is_found_by_its_width_among_several(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = arrow_table(
        title=pa.array([[1.0, 2.0]] * 7),
        tags=pa.array([[1] * number for number in range(7)]),
        other=pa.array(list(VECTORS + 1)),
    )
    path = str(tmp_path / "v.parquet")
    pq.write_table(table.drop(["other"]), path)
    np.testing.assert_array_equal(everything(path, width=WIDTH).vectors, VECTORS)
    with pytest.raises(
        VectorSourceError, match=r"2 columns of vectors: emb \(5 numbers\), title \(2 numbers\)"
    ):
        open_vectors(path)  # the width that is wanted is not known here
    pq.write_table(table, path)
    with pytest.raises(
        VectorSourceError, match=r"2 columns of vectors: emb \(5 numbers\), other \(5 numbers\)"
    ):
        open_vectors(path, ReadOptions(width=WIDTH))
    np.testing.assert_array_equal(everything(path, column="other").vectors, VECTORS + 1)


@pytest.mark.parametrize("missing", ["null", "None", "[]", "{}"])
def test_a_cell_without_a_vector_is_a_row_without_one(tmp_path, missing):
    path = tmp_path / "v.csv"
    path.write_text(f'id,emb\na,"[1, 2]"\nb,{missing}\nc,"[nan, 1]"\nd,"[-inf, 2]"\n')
    (batch,) = open_vectors(str(path)).batches
    # Rows without a vector are named apart.
    assert list(batch.ids) == ["a", "c", "d"]
    assert np.isfinite(batch.vectors).all(axis=1).tolist() == [True, False, False]


@pytest.mark.parametrize(
    "write", [write_npz, write_parquet, write_feather, write_jsonl, write_csv, write_wide_tsv]
)
def test_a_wrong_name_is_answered_with_the_names_that_are_there(tmp_path, write):
    source = write(tmp_path)
    for option, value in (("column", "vektor"), ("text_column", "satz"), ("id_column", "nummer")):
        with pytest.raises(VectorSourceError, match=rf"`{value}` is not there; there are .*emb.*text"):
            open_vectors(source, ReadOptions(**{option: value}))
    with pytest.raises(VectorSourceError, match="`text` holds no vectors"):
        open_vectors(source, ReadOptions(column="text"))


def test_a_line_of_numbers_may_begin_with_nan(tmp_path):
    (tmp_path / "v.jsonl").write_text("nan 1 2\nnull\n3 4 5\n")
    found = everything(tmp_path / "v.jsonl")
    np.testing.assert_array_equal(found.vectors, np.array([[np.nan, 1, 2], [3, 4, 5]], dtype=np.float32))
    assert list(found.left_out) == ["1"]


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_keys_that_the_first_row_lacks_are_found(tmp_path, rows):
    lines = [
        {"emb": [1, 2], "text": None, "content": None, "title": 7, "meta": None},
        {"emb": None, "id": "b"},
        {"emb": [3, 4], "text": "Two.", "title": "A title.", "meta": {"source": "a.pdf"}},
        {"emb": [5, 6], "id": 3, "content": "Three."},
    ]
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = everything(tmp_path / "v.jsonl", batch_rows=rows)
    assert (found.ids, found.left_out, found.texts) == (["0", "2", "3"], ("b",), [None, "Two.", None])
    assert everything(tmp_path / "v.jsonl", text_column="title").texts == [None, "A title.", None]
    assert everything(tmp_path / "v.jsonl", group_column="meta.source").groups == ["", "a.pdf", ""]
    with pytest.raises(VectorSourceError, match=r"`nope` is not there; there are emb \(2 numbers\), text"):
        open_vectors(str(tmp_path / "v.jsonl"), ReadOptions(text_column="nope"))


def test_a_text_that_no_row_has_so_far_may_be_named(tmp_path):
    import pyarrow as pa
    import pyarrow.feather as feather

    texts = [""] * 200 + ["The first text."]
    (tmp_path / "v.csv").write_text("emb,text\n" + "".join(f'"[1, 2]",{text}\n' for text in texts))
    lines = [{"emb": [1, 2], "text": text or None} for text in texts]
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, lines)))
    for name in ("v.csv", "v.jsonl"):
        for options in ({}, {"text_column": "text"}):
            assert everything(tmp_path / name, **options).texts == [None] * 200 + ["The first text."]
    feather.write_feather(pa.table({"emb": [[1.0, 2.0]], "text": pa.nulls(1)}), tmp_path / "v.feather")
    assert everything(tmp_path / "v.feather", text_column="text").texts == [None]
    # One that has texts is preferred.
    (tmp_path / "w.csv").write_text('emb,text,content\n"[1, 2]",,One.\n')
    assert everything(tmp_path / "w.csv").texts == ["One."]


def test_no_more_rows_are_held_than_their_keys_need():
    taken = []

    def lines(text):
        for number in range(1, 1000):
            taken.append(number)
            yield number, json.dumps({"emb": [1, 2], "text": text})

    for text, most in (("short", 100), ("long" * 300_000, 4)):
        taken.clear()
        opened = open_lines("Lines", lines(text), ReadOptions(batch_rows=3), sampled=100)
        assert len(taken) == most
        assert next(opened.batches).texts[:3] == [text] * 3


def test_the_texts_of_langchain_are_found(tmp_path):
    (tmp_path / "v.jsonl").write_text('{"embedding": [1, 2], "page_content": "A text.", "source": "a.pdf"}\n')
    assert everything(tmp_path / "v.jsonl").texts == ["A text."]


def test_columns_of_numbers_are_told_from_other_numbers(tmp_path):
    rows = [["id", "year", *(f"a{i}" for i in range(3)), *(f"b{i}" for i in range(WIDTH))]]
    rows += [[i, 2000 + i, 7, 8, 9, *v.tolist()] for i, v in enumerate(VECTORS)]
    path = tmp_path / "v.csv"
    path.write_text("\n".join(",".join(map(str, row)) for row in rows))
    np.testing.assert_array_equal(everything(path, width=WIDTH).vectors, VECTORS)
    assert everything(path, column="a").vectors.tolist() == [[7, 8, 9]] * 7


@pytest.mark.parametrize("form", ["e{}", "dim_{:03}", "{}", "3d-{}"])
def test_columns_of_numbers_are_put_in_the_order_of_their_numbers(tmp_path, form):
    names = [form.format(number) for number in range(12)]
    order = np.random.default_rng(0).permutation(12)
    text = ",".join(["text", *(names[i] for i in order)])
    (tmp_path / "v.csv").write_text(text + "\n" + ",".join(["One.", *map(str, order)]) + "\n")
    assert everything(tmp_path / "v.csv").vectors.tolist() == [list(range(12))]


def test_columns_of_one_number_stay_as_they_stand(tmp_path):
    (tmp_path / "v.csv").write_text("e2,e1,e01\n7,8,9\n")
    assert everything(tmp_path / "v.csv").vectors.tolist() == [[7, 8, 9]]


def test_quotes_and_commas_of_a_table_are_read_as_they_are_meant(tmp_path):
    (tmp_path / "v.tsv").write_text('text\temb\n"No," she said.\t[1, 2]\nYes.\t[3, 4]\n')
    found = everything(tmp_path / "v.tsv")
    assert found.texts == ['"No," she said.', "Yes."]
    assert found.vectors.tolist() == [[1, 2], [3, 4]]
    (tmp_path / "v.csv").write_text("emb\n[1, 2]\n[3, 4]\n")  # one column, its commas not in quotes
    assert everything(tmp_path / "v.csv").vectors.tolist() == [[1, 2], [3, 4]]
    (tmp_path / "w.csv").write_text('"[1, 2]",first\n"[3, 4]",second\n')  # no header
    assert everything(tmp_path / "w.csv", text_column="2").texts == ["first", "second"]
    (tmp_path / "w.csv").write_text("")
    with pytest.raises(VectorSourceError, match="has no column of vectors; there are none"):
        open_vectors(str(tmp_path / "w.csv"))


def test_options_that_a_file_has_no_use_for_are_refused(tmp_path):
    for write, option in (
        (write_npy, "column"),
        (write_safetensors, "text_column"),
        (write_npz, "where"),
        (write_jsonl, "where"),
        (write_csv, "where"),
        (write_npy, "table"),
        (write_parquet, "table"),
        (write_jsonl, "table"),
    ):
        with pytest.raises(VectorSourceError, match="was given"):
            open_vectors(write(tmp_path), ReadOptions(**{option: "x"}))


@pytest.mark.parametrize("write", [write_parquet, write_feather, write_saved_dataset])
def test_rows_are_chosen_by_conditions_and_keep_their_ids(tmp_path, no_cache, write):
    source = write(tmp_path)
    assert everything(source, where="year >= 2002 and id != 'k4'", batch_rows=2).ids == [
        "k2",
        "k3",
        "k5",
        "k6",
    ]
    assert everything(source, where="year<2001", id_column="year").ids == ["2000"]
    for where, said in (
        ("year > soon", "not a value of the column `year`"),
        ("month = 3", "no column `month`"),
        ("year", "cannot be read"),
    ):
        with pytest.raises(VectorSourceError, match=said):
            open_vectors(source, ReadOptions(where=where))


def arrow_layouts():
    """The same five rows, the third one null, in every way that Arrow keeps lists."""
    import pyarrow as pa

    rows = [[1.0, 2.0], [3.0, 4.0], None, [5.0, 6.0], [7.0, 8.0]]
    for kind in (
        pa.list_(pa.float64()),
        pa.large_list(pa.float16()),
        pa.list_(pa.int32(), 2),
        pa.list_(pa.float32(), 2),
    ):
        yield (
            pa.array(rows, pa.list_(pa.float64())).cast(kind)
            if kind != pa.large_list(pa.float16())
            else pa.array([None if row is None else list(map(np.float16, row)) for row in rows], kind)
        )
    fixed = pa.array(rows, pa.list_(pa.float32(), 2))
    yield pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.float32(), [2]), fixed)
    yield pa.StructArray.from_arrays([fixed], ["inner"])


@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("rows", [1, 3, 64])
def test_every_layout_of_lists_is_read(tmp_path, number, rows):
    import pyarrow as pa
    import pyarrow.feather as feather

    array = list(arrow_layouts())[number]
    feather.write_feather(pa.table({"emb": array}), tmp_path / "v.feather")
    found = everything(tmp_path / "v.feather", batch_rows=rows)
    assert found.vectors.tolist() == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert (found.ids, found.left_out) == (["0", "1", "3", "4"], ("2",))


def test_a_row_without_an_id_has_its_number(tmp_path):
    import pyarrow as pa
    import pyarrow.feather as feather

    keys = ["a", None, "c", None, ""]
    table = pa.table(
        {
            "emb": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], None, [7.0, 8.0]],
            "id": keys,
            "meta": [{"key": "a"}, {"key": None}, None, None, {"key": ""}],
            "n": [4, None, 6, 7, 8],
        }
    )
    feather.write_feather(table, tmp_path / "v.feather")
    rows = [
        {"emb": row["emb"]} | {key: row[key] for key in ("id", "n") if row[key] is not None}
        for row in table.to_pylist()
    ]
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for name in ("v.feather", "v.jsonl"):
        for rows_at_once in (1, 3, 64):
            found = everything(tmp_path / name, batch_rows=rows_at_once)
            assert (found.ids, found.left_out) == (["a", "1", "c", ""], ("3",))
        assert everything(tmp_path / name, id_column="n").ids == ["4", "1", "6", "8"]
    assert everything(tmp_path / "v.feather", id_column="meta.key").ids == ["a", "1", "2", ""]
    assert everything(tmp_path / "v.feather", where="n > 4").ids == ["c", ""]
    lines = "".join(f"{key or ''},1 2\n" for key in keys)
    (tmp_path / "v.csv").write_text(f"id,emb\n{lines}".replace("1 2", "[1 2]"))
    assert everything(tmp_path / "v.csv").ids == ["a", "1", "c", "3", "4"]


def test_groups_are_read_as_text(tmp_path):
    assert everything(write_parquet(tmp_path), group_column="year").groups == [str(year) for year in YEARS]
    assert everything(write_csv(tmp_path), group_column="text").groups == TEXTS


# --- folders of Parquet files ---------------------------------------------------------------------------


def write_part(path: Path, start: int, stop: int, without=(), **more) -> None:
    """Some of the rows as one file; the folders above it are made."""
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    table = arrow_table().slice(start, stop - start).drop(list(without))
    for name, values in more.items():
        table = table.append_column(name, [values])
    pq.write_table(table, path)


@pytest.mark.parametrize("name", ["all.parquet", "all"])
def test_a_folder_of_partitions_is_read_in_the_order_of_its_names(tmp_path, name):
    folder = tmp_path / name
    write_part(folder / "year=2021" / "month=1" / "p.parquet", 4, 7)
    write_part(folder / "year=2020" / "month=2" / "p-1.parquet", 2, 4)
    write_part(folder / "year=2020" / "month=2" / "p-0.parquet", 0, 2)
    for hidden in ("_SUCCESS", "_metadata.parquet", "year=2020/.p.parquet.crc", "year=2020/.p.parquet"):
        (folder / hidden).write_bytes(b"not Parquet")
    write_part(folder / "_temporary" / "p.parquet", 0, 7)
    found = everything(folder)
    assert (found.ids, found.texts) == (IDS, TEXTS)
    np.testing.assert_array_equal(found.vectors, VECTORS)
    assert open_vectors(str(folder)).rows == 7
    for pattern in ("all*", "all*/**/[ym]*"):  # a folder, and several of which some lie in others
        assert everything(f"parquet:{tmp_path / pattern}").ids == IDS


@pytest.mark.parametrize(
    ("kind", "log"),
    [
        ("Delta", "_delta_log/00000000000000000000.json"),
        ("Hudi", ".hoodie/hoodie.properties"),
        ("Iceberg", "metadata/v1.metadata.json"),
    ],
)
def test_a_table_whose_log_says_which_files_count_is_not_read_file_by_file(tmp_path, kind, log):
    table = tmp_path / "table.parquet"
    write_part(table / "data" / "p.parquet", 0, 7)
    assert everything(table).ids == IDS
    (table / log).parent.mkdir()
    (table / log).write_text("{}")
    with pytest.raises(VectorSourceError, match=f"is a table of {kind}, whose log") as caught:
        open_vectors(str(table))
    assert "Write its rows to a Parquet file" in caught.value.hint
    # Hidden folders, which are not read, and files of others beside a text say nothing.
    texts = tmp_path / "texts"
    for name in (f".old/{log}", "metadata/book.metadata.json", "a.txt"):
        (texts / name).parent.mkdir(parents=True, exist_ok=True)
        (texts / name).write_text('["A line of text."]')
    assert list(open_source(str(texts), DataConfig()).lines())
    for folder in (table, tmp_path):  # which prepare-data looks through
        with pytest.raises(DataError, match=f"table.parquet` is a table of {kind}, whose log"):
            open_source(str(folder), DataConfig())


def test_a_folder_without_parquet_files_is_one_sentence(tmp_path):
    folder = tmp_path / "v.parquet"
    folder.mkdir()
    with pytest.raises(VectorSourceError, match=r"The folder `.*v\.parquet` holds no Parquet files\."):
        open_vectors(str(folder))
    write_part(tmp_path / "deep" / "other" / "p.parquet", 0, 7)
    with pytest.raises(VectorSourceError, match="not a source of vectors that sgdd knows"):
        open_vectors(str(tmp_path / "deep"))  # only partitions are looked into for what a folder is
    assert everything(f"parquet:{tmp_path / 'deep'}").ids == IDS


def test_a_column_that_one_file_lacks_is_told_before_a_row_is_read(tmp_path):
    write_part(tmp_path / "a.parquet", 0, 4)
    write_part(tmp_path / "b.parquet", 4, 7, without=["text", "year"], year=["soon"] * 3)
    for options in ({"text_column": "text"}, {"id_column": "text"}, {"group_column": "text"}):
        with pytest.raises(VectorSourceError, match=r"`.*b\.parquet` has no column `text`, which .*a\.parq"):
            open_vectors(str(tmp_path), ReadOptions(**options))
    for options in ({"where": "year > 2001"}, {"id_column": "year"}):
        with pytest.raises(
            VectorSourceError, match=r"`year` is of type string in .*b\.parquet`, and int64 in .*a\.parquet`"
        ):
            open_vectors(str(tmp_path), ReadOptions(**options))
    opened = open_vectors(str(tmp_path))
    assert re.search(r"The column `text` is not read: .*b\.parquet` has no", opened.notes[0])
    found = join(list(opened.batches))
    assert (found.ids, found.texts) == (IDS, None)


def test_a_column_that_the_first_file_lacks_is_told_too(tmp_path):
    write_part(tmp_path / "a.parquet", 0, 4, without=["id", "text"])
    write_part(tmp_path / "b.parquet", 4, 7)
    with pytest.raises(VectorSourceError, match=r"`.*a\.parquet` has no column `text`, which .*b\.parquet"):
        open_vectors(str(tmp_path), ReadOptions(text_column="text"))
    opened = open_vectors(str(tmp_path))
    assert [re.findall(r"column `(\w+)` is not read", note) for note in opened.notes] == [["text"], ["id"]]
    assert join(list(opened.batches)).ids == [str(number) for number in range(7)]


def test_vectors_that_one_file_lacks_are_told_before_a_row_is_read(tmp_path):
    write_part(tmp_path / "a.parquet", 0, 4)
    write_part(tmp_path / "b.parquet", 4, 7, without=["emb"], emb=["[0.1, 0.2]"] * 3)
    for options in ({}, {"column": "emb"}):
        with pytest.raises(VectorSourceError, match=r"`emb` is of type string in .* and list"):
            open_vectors(str(tmp_path), ReadOptions(**options))
    write_part(tmp_path / "b.parquet", 4, 7, title=[[1.0, 2.0]] * 3)
    with pytest.raises(VectorSourceError, match=r"2 columns of vectors: emb \(5 numbers\), title"):
        open_vectors(str(tmp_path))
    with pytest.raises(VectorSourceError, match=r"`.*a\.parquet` has no column `title`"):
        open_vectors(str(tmp_path), ReadOptions(column="title"))
    assert everything(tmp_path, column="emb").ids == IDS
    write_part(tmp_path / "b.parquet", 4, 7, without=["emb", "id"])
    with pytest.raises(VectorSourceError, match=r"`.*b\.parquet` has no column `emb`"):
        open_vectors(str(tmp_path))


def test_files_of_one_folder_may_keep_a_column_in_different_ways(tmp_path):
    import pyarrow as pa

    write_part(tmp_path / "a.parquet", 0, 2, without=["text"], text=pa.nulls(2))  # none of them has a text
    write_part(tmp_path / "b.parquet", 2, 4, without=["text"], text=pa.array(TEXTS[2:4]).dictionary_encode())
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(VECTORS[4:6].astype(np.float64).ravel()), WIDTH)
    write_part(tmp_path / "c.parquet", 4, 6, without=["emb", "year"], emb=fixed, year=[2004.0, 2005.0])
    write_part(tmp_path / "d.parquet", 6, 7, without=["emb", "year"], emb=pa.nulls(1), year=pa.nulls(1))
    found = everything(tmp_path)
    assert (found.ids, found.left_out) == (IDS[:6], ("k6",))
    assert found.texts == [None, None, *TEXTS[2:6]]
    np.testing.assert_array_equal(found.vectors, VECTORS[:6])
    assert everything(tmp_path, where="year >= 2003").ids == IDS[3:6]


# --- rows that cannot be read ---------------------------------------------------------------------------


def faulty_sources(folder: Path, rows: list[list[float | None] | None]) -> list[str]:
    """The rows as Parquet, JSON Lines and CSV."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"emb": pa.array(rows, pa.list_(pa.float32()))}), folder / "f.parquet")
    (folder / "f.jsonl").write_text("\n".join(json.dumps({"emb": row}) for row in rows))
    cells = ["" if row is None else json.dumps(row) for row in rows]
    (folder / "f.csv").write_text("emb;n\n" + "".join(f"{cell};{n}\n" for n, cell in enumerate(cells)))
    return [str(folder / name) for name in ("f.parquet", "f.jsonl", "f.csv")]


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_null_rows_are_left_out_and_named(tmp_path, rows):
    for source in faulty_sources(tmp_path, [None, [1, 2], None, [3, 4], [5, 6], None]):
        found = everything(source, batch_rows=rows)
        assert found.vectors.tolist() == [[1, 2], [3, 4], [5, 6]], source
        assert found.ids == ["1", "3", "4"]
        assert found.left_out == ("0", "2", "5")


@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize(
    ("bad", "said"),
    [([7, 8, 9], "mixes widths.* 3 numbers, and those before it 2"), ([7, None], "lacks|no vector")],
)
def test_rows_before_a_fault_are_given_before_it_is_raised(tmp_path, rows, bad, said):
    for source in faulty_sources(tmp_path, [[1, 2], None, [3, 4], bad, [5, 6]]):
        batches = read_vectors(source, batch_rows=rows)
        given = []
        with pytest.raises(VectorSourceError, match=said) as caught:
            given.extend(batches)
        assert join(given).vectors.tolist() == [[1, 2], [3, 4]], source
        assert re.search("row 3|line 4|line 5", caught.value.message), caught.value.message


@pytest.mark.parametrize(
    "name", ["a.npy", "a.npz", "a.safetensors", "a.parquet", "a.feather", "a.jsonl", "a.csv"]
)
def test_what_is_not_there_or_damaged_is_one_sentence(tmp_path, name):
    with pytest.raises(VectorSourceError, match=f"There is no file `.*{name}`"):
        open_vectors(str(tmp_path / name))
    (tmp_path / name).write_bytes(b"\x93NUMPY\x01\x00v\x00{ garbage \x00 and more of it")
    with pytest.raises(SgddError) as caught:
        list(read_vectors(str(tmp_path / name)))
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("write", [write_npy, write_npz, write_parquet, write_feather, write_arrow_stream])
def test_a_file_that_was_cut_is_one_sentence(tmp_path, write):
    path = Path(write(tmp_path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(VectorSourceError, match=r"read|damaged|Parquet"):
        list(read_vectors(str(path), batch_rows=1))


def test_a_vector_that_was_printed_short_is_refused(tmp_path):
    (tmp_path / "v.csv").write_text("emb\n[0.1 0.2 ... 0.3]\n")
    with pytest.raises(VectorSourceError, match="without its middle"):
        list(read_vectors(str(tmp_path / "v.csv")))


def test_the_hub_without_a_network_is_one_sentence(monkeypatch):
    def refused(*arguments, **options):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    with pytest.raises(VectorSourceError, match=r"`nobody/nothing` cannot be reached") as caught:
        open_vectors("hf:nobody/nothing")
    assert "folder" in (caught.value.hint or "")


# --- standard input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        lambda v: json.dumps(v.tolist()),
        lambda v: " ".join(map(str, v)),
        lambda v: ", ".join(map(str, v)),
        lambda v: str(v).replace("\n", " "),  # as numpy prints it
        lambda v: json.dumps({"data": {"vec": v.tolist()}, "n": 1}),
    ],
)
def test_standard_input_is_numbers_lists_or_objects(monkeypatch, line):
    text = "\n\n".join(line(v.astype(np.float64).round(4)) for v in VECTORS) + "\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    found = everything("-")
    np.testing.assert_allclose(found.vectors, VECTORS, atol=1e-4)
    assert found.ids == [str(number) for number in range(7)]


def test_a_bad_line_of_standard_input_is_named(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"1 2\n3 4\nfive six\n")))
    batches = read_vectors("-")
    assert next(batches).vectors.tolist() == [[1, 2], [3, 4]]
    with pytest.raises(VectorSourceError, match="Standard input has no vector in line 3: 'five six'"):
        next(batches)


def test_binary_standard_input_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\x93NUMPY\x00\x01")))
    with pytest.raises(DataError):
        open_vectors("-")


@pytest.mark.parametrize("rows", [1, 5, 32])
def test_rows_of_a_pipe_are_given_while_it_is_still_open(monkeypatch, rows):
    class Pipe(io.RawIOBase):
        """Gives a line at a time; more lines than those that are asked for never come."""

        given = 0

        def readable(self):
            return True

        def readinto(self, buffer):
            assert self.given < rows, "waits for a line that does not come"
            self.given += 1
            line = json.dumps({"emb": [self.given, 0], "text": "One." if self.given > 1 else None}) + "\n"
            buffer[: len(line)] = line.encode()
            return len(line)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(Pipe())))
    found = next(read_vectors("-", batch_rows=rows))
    assert found.vectors[:, 0].tolist() == list(range(1, rows + 1))
    assert found.texts == [None] + ["One."] * (rows - 1)


def test_a_key_that_the_first_rows_of_a_pipe_lack_may_be_named(monkeypatch):
    def pipe(*lines):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))

    named = ReadOptions(text_column="note")
    pipe(*['{"emb": [1, 2]}'] * 32, '{"emb": [3, 4], "note": "One."}')
    opened = open_vectors("-", named)
    assert opened.warnings == ("None of the first 32 rows of Standard input has `note`.",)
    assert join(list(opened.batches)).texts == [None] * 32 + ["One."]
    pipe(*['{"emb": [1, 2]}'] * 31)  # all that there is
    with pytest.raises(VectorSourceError, match="the key `note` is not there; there are emb"):
        open_vectors("-", named)


# --- kinds of sources -----------------------------------------------------------------------------------


def test_every_kind_that_is_declared_is_installed_and_works():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    installed = {kind.name: kind for kind in vector_kinds() if kind.package == "sgdd"}
    assert installed.keys() == declared["sgdd.vectors"].keys(), "after a change there, install sgdd again"
    for name, kind in installed.items():
        assert kind.entry_point.value == declared["sgdd.vectors"][name]
        assert not kind.load().matches("no such thing")


def test_a_kind_may_be_chosen_by_name(tmp_path):
    path = tmp_path / "export.txt"
    path.write_text("[1, 2]\n[3, 4]\n")
    assert everything(f"jsonl:{path}").vectors.tolist() == [[1, 2], [3, 4]]
    with pytest.raises(VectorSourceError, match="not a source of vectors that sgdd knows") as caught:
        open_vectors(str(path))
    assert "jsonl" in (caught.value.hint or "")
    with pytest.raises(VectorSourceError) as caught:
        open_vectors(f"json:{path}")
    assert "Did you mean jsonl:" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("name", "hint"), [("v.pkl", "pickle"), ("V.JSON", "JSON Lines"), ("v.h5", "Parquet")]
)
def test_files_that_are_not_read_are_answered_with_what_to_do(tmp_path, name, hint):
    (tmp_path / name).touch()
    with pytest.raises(VectorSourceError) as caught:
        open_vectors(str(tmp_path / name))
    assert hint in (caught.value.hint or "")


def test_a_broken_package_is_a_note_and_the_others_work(tmp_path, monkeypatch):
    info = tmp_path / "aaa_broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: aaa-broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[sgdd.vectors]\nbroken = no_such_module\nwrong = json\nfailing = failing_source\n"
    )
    (tmp_path / "failing_source.py").write_text("matches = open = lambda *_: 1 / 0")
    monkeypatch.syspath_prepend(str(tmp_path))
    vector_kinds.cache_clear()
    try:
        assert everything(write_npy(tmp_path)).ids == [str(number) for number in range(7)]
        with pytest.raises(VectorSourceError) as caught:
            open_vectors("something.else")
        assert "`broken` of aaa-broken is broken: ModuleNotFoundError" in (caught.value.hint or "")
        assert "`failing` is broken: ZeroDivisionError" in (caught.value.hint or "")
        with pytest.raises(VectorSourceError, match="json lacks `matches` or `open`"):
            open_vectors("wrong:x")
    finally:
        monkeypatch.undo()
        vector_kinds.cache_clear()


def test_of_two_packages_with_one_name_the_one_that_is_not_used_is_named(tmp_path, monkeypatch):
    for package in ("aaa-first", "bbb-second"):
        info = tmp_path / f"{package.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[sgdd.vectors]\nvec = source_of_{package[:3]}\n")
    (tmp_path / "source_of_aaa.py").write_text(
        "from sgdd_engine.vectors.json_lines import open\n"
        "def matches(where):\n    return where.endswith('.vec')\n"
    )
    (tmp_path / "words.vec").write_text("[1, 2]\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    vector_kinds.cache_clear()
    try:
        for spelled in (tmp_path / "words.vec", f"vec:{tmp_path / 'words.vec'}"):
            assert open_vectors(str(spelled)).warnings == (
                "The vector source `vec` of bbb-second is not used: the name `vec` is taken by aaa-first.",
            )
        assert not open_vectors(str(write_npy(tmp_path))).warnings
        with pytest.raises(VectorSourceError) as caught:
            open_vectors("something.else")
        assert "`vec` of bbb-second is broken: the name `vec` is taken by aaa-first" in (
            caught.value.hint or ""
        )
        states = {one.package: one.conflict for one in installed_plugins() if one.kind == "vector_source"}
        assert states == {"aaa-first": None, "bbb-second": "the name `vec` is taken by aaa-first"}
    finally:
        monkeypatch.undo()
        vector_kinds.cache_clear()


# --- choosing rows, memory ------------------------------------------------------------------------------


def test_first_rows_read_no_more_than_they_need(tmp_path):
    np.save(tmp_path / "a.npy", VECTORS)
    batches = read_vectors(str(tmp_path / "a.npy"), batch_rows=2)
    assert join(list(first_rows(batches, 3))).ids == ["0", "1", "2"]
    assert next(batches).ids == ["4", "5"]


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_batches_of_another_size_hold_the_same_rows(tmp_path, rows):
    found = list(rebatched(read_vectors(write_parquet(tmp_path), batch_rows=2), rows))
    assert [len(batch.ids) for batch in found] == {1: [1] * 7, 3: [3, 3, 1], 64: [7]}[rows]
    assert (join(found).ids, join(found).texts) == (IDS, TEXTS)
    np.testing.assert_array_equal(join(found).vectors, VECTORS)
    given = []
    source = faulty_sources(tmp_path, [[1, 2], [3, 4], [5, 6], [7]])[0]
    with pytest.raises(VectorSourceError, match="mixes widths"):
        given.extend(rebatched(read_vectors(source), rows))
    assert join(given).vectors.tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.slow
def test_a_sample_is_even_in_order_and_the_same_for_any_batch(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(20, dtype=np.float32)[:, None])

    def drawn(seed, rows):
        batches = read_vectors(str(tmp_path / "a.npy"), batch_rows=rows)
        return sample_rows(batches, 5, torch.Generator().manual_seed(seed)).vectors[:, 0].tolist()

    assert drawn(1, 1) == drawn(1, 3) == drawn(1, 64)
    counts = np.zeros(20)
    for seed in range(600):
        rows = drawn(seed, 64)
        assert rows == sorted(set(rows))
        counts[[int(row) for row in rows]] += 1
    # 600 · 5 / 20 = 150 each, with a standard deviation of √(600 · ¼ · ¾) = 10.6.
    assert np.abs(counts - 150).max() < 4 * 10.6


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_rows(tmp_path):
    def peak(rows: int) -> int:
        vectors = np.zeros((rows, 64), np.float32)
        np.savez(tmp_path / "m.npz", emb=vectors)
        np.save(tmp_path / "m.npy", vectors)
        with (tmp_path / "m.jsonl").open("w") as file:
            file.writelines(f"{json.dumps([0.5] * 64)}\n" for _ in range(rows))
        del vectors
        highest = 0
        for name in ("m.npz", "m.npy", "m.jsonl"):
            tracemalloc.start()
            assert sum(len(batch.ids) for batch in read_vectors(str(tmp_path / name), batch_rows=100)) == rows
            highest = max(highest, tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        return highest

    peak(200)
    assert peak(8000) < 1.2 * peak(1000) + 100_000


@pytest.mark.slow
@pytest.mark.parametrize("row_group", [2000, 100_000])
def test_memory_does_not_grow_with_the_rows_of_a_parquet_file(tmp_path, row_group):
    import pyarrow as pa
    import pyarrow.parquet as pq

    lists = pa.FixedSizeListArray.from_arrays(pa.array(np.random.default_rng(0).normal(size=6_400_000)), 64)
    pq.write_table(pa.table({"emb": lists}), tmp_path / "m.parquet", row_group_size=row_group)
    del lists
    before, highest = pa.total_allocated_bytes(), 0
    for _ in read_vectors(str(tmp_path / "m.parquet"), batch_rows=500):
        highest = max(highest, pa.total_allocated_bytes() - before)
    assert highest < 8_000_000 < (tmp_path / "m.parquet").stat().st_size / 5
