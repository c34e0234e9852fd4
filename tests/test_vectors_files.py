"""Vectors from files: what is written with the libraries that people use is read back, in any kind of batch."""

import numpy as np
import pytest

from sgdd_engine.errors import VectorSourceError
from sgdd_engine.vectors import open_vectors, read_vectors

VECTORS = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)


def read(source, **options) -> tuple[list[str], np.ndarray]:
    """All ids and vectors of a source."""
    batches = list(read_vectors(str(source), **options))
    return [i for batch in batches for i in batch.ids], np.concatenate([batch.vectors for batch in batches])


@pytest.mark.parametrize("rows", [1, 3, 64])
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "f16"])
def test_an_npy_array_of_any_number_type_and_order_is_read(tmp_path, dtype, rows):
    stored = np.asfortranarray(VECTORS.astype(dtype))
    np.save(tmp_path / "a.NPY", stored)
    source = tmp_path / "a.NPY.npy"
    ids, vectors = read(source, batch_rows=rows)
    assert ids == [str(number) for number in range(7)]
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, stored.astype(np.float32))
    assert open_vectors(str(source)).rows == 7


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
