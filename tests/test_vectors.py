import numpy as np
import pytest
import torch

from sgdd_engine.data.vectors import (
    StoredVectors,
    convert_stored,
    cosine_loss,
    is_finer,
    quantize,
    store,
    vector_bytes,
)


@pytest.fixture
def vectors() -> torch.Tensor:
    """500 unit vectors of 64 dimensions, and a zero vector at the end."""
    rows = torch.nn.functional.normalize(
        torch.randn(500, 64, generator=torch.Generator().manual_seed(0)), dim=1
    )
    return torch.cat([rows, torch.zeros(1, 64)])


def as_stored(vectors: torch.Tensor, dtype) -> StoredVectors:
    return store(vectors, dtype)[0]


def test_int8_is_off_by_half_a_unit_at_most(vectors):
    kept = as_stored(vectors, "int8")
    assert (kept.values.dtype, kept.scale.dtype) == (np.int8, np.float32)
    assert (np.abs(kept.values[:-1]).max(axis=1) == 127).all()
    error = np.abs(kept.dequantize(slice(None)) - vectors.numpy())
    assert (error <= kept.scale[:, None] * 0.5001).all()


def test_storing_is_symmetric_and_knows_no_length(vectors):
    kept, negated = as_stored(vectors, "int8"), as_stored(-vectors, "int8")
    assert (kept.values == -negated.values).all()
    # A power of two changes no digit.
    longer = as_stored(1024 * vectors, "int8")
    assert (kept.values == longer.values).all()
    assert (1024 * kept.scale == longer.scale).all()


def test_a_zero_vector_stays_one(vectors):
    for dtype in ("int8", "fp16", "fp32"):
        assert (as_stored(vectors, dtype).dequantize(np.array([500])) == 0).all()


@pytest.mark.parametrize(("dtype", "least"), [("int8", 1e-6), ("fp16", 1e-9), ("fp32", 0)])
def test_the_lost_cosine_is_that_of_exact_arithmetic(vectors, dtype, least):
    values, scale = quantize(vectors, dtype)
    lost = cosine_loss(vectors, values, scale)
    back = values.double() if scale is None else values.double() * scale.double()[:, None]
    exact = 1 - torch.cosine_similarity(vectors.double(), back, dim=1, eps=1e-30)
    torch.testing.assert_close(lost[:-1].double(), exact[:-1], rtol=1e-3, atol=1e-12)
    assert lost[-1] == 0
    assert lost[:-1].min() >= least
    assert lost.max() < 1e-4


def test_what_cannot_be_stored_is_seen_in_the_cosine(vectors):
    large = vectors[:3] * torch.tensor([[1.0], [1e6], [torch.inf]])
    values, scale = quantize(large, "fp16")
    assert torch.isfinite(cosine_loss(large, values, scale)).tolist() == [True, False, False]
    tiny = vectors[:1] * 1e-12  # fp16 makes it zero, int8 keeps its direction
    assert cosine_loss(tiny, *quantize(tiny, "fp16")).tolist() == [1]
    assert cosine_loss(tiny, *quantize(tiny, "int8")) < 1e-4


def test_the_bytes_of_a_vector():
    assert [vector_bytes(1024, dtype) for dtype in ("int8", "fp16", "fp32")] == [1028, 2048, 4096]


@pytest.mark.parametrize("dtype", ["int8", "fp16", "fp32"])
def test_stored_again_in_the_same_type_no_bit_changes(vectors, dtype):
    kept = as_stored(vectors, dtype)
    again, lost = convert_stored(kept, dtype)
    assert (again.values == kept.values).all()
    assert again.scale is None or (again.scale == kept.scale).all()
    assert again.dtype == dtype
    assert (lost == 0).all()


@pytest.mark.parametrize(("fine", "coarse"), [("fp32", "fp16"), ("fp32", "int8"), ("fp16", "int8")])
def test_stored_again_in_a_coarser_type_is_stored_from_what_is_read(vectors, fine, coarse):
    assert is_finer(fine, coarse)
    assert not is_finer(coarse, fine)
    assert not is_finer(fine, fine)
    kept = as_stored(vectors, fine)
    again, lost = convert_stored(kept, coarse)
    read = torch.from_numpy(kept.dequantize(slice(None))).float()
    expected = as_stored(read, coarse)
    assert (again.values == expected.values).all()
    assert (again.dequantize(slice(None)) == expected.dequantize(slice(None))).all()
    torch.testing.assert_close(lost, cosine_loss(read, *quantize(read, coarse)))
    assert lost[:-1].min() > 0
