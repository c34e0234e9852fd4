import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdd_engine.data.corpus import ExactLengthBatches
from sgdd_engine.errors import DataError


def epoch_of(batches, epoch=0):
    return [batches.batch(epoch * len(batches) + index) for index in range(len(batches))]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=300),
    batch_tokens=st.integers(1, 200),
    seed=st.integers(0, 5),
    epoch=st.integers(0, 3),
)
def test_every_row_comes_once_and_no_batch_mixes_lengths(lengths, batch_tokens, seed, epoch):
    lengths = np.array(lengths, np.int32)
    batches = epoch_of(ExactLengthBatches(lengths, batch_tokens=batch_tokens, seed=seed), epoch)
    assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
    for rows in batches:
        assert len(set(lengths[rows])) == 1
        assert len(rows) == 1 or lengths[rows].sum() <= batch_tokens


def test_order_is_a_function_of_seed_and_position_alone():
    lengths = np.random.default_rng(0).integers(3, 20, 500)
    first = ExactLengthBatches(lengths, batch_tokens=64, seed=7)
    straight = [first.batch(position) for position in range(3 * len(first))]
    resumed = ExactLengthBatches(lengths, batch_tokens=64, seed=7)
    for position in (2 * len(first) + 3, 5, len(first)):  # jumping about, as a resumed run does
        np.testing.assert_array_equal(resumed.batch(position), straight[position])
    other = ExactLengthBatches(lengths, batch_tokens=64, seed=8)
    assert any(not np.array_equal(other.batch(index), straight[index]) for index in range(len(other)))


def test_epochs_differ_in_rows_and_in_order():
    lengths = np.repeat([4, 5], 200)
    batches = ExactLengthBatches(lengths, batch_tokens=40, seed=0)
    first, second = epoch_of(batches, 0), epoch_of(batches, 1)
    assert {tuple(sorted(rows)) for rows in first} != {tuple(sorted(rows)) for rows in second}
    assert [int(lengths[rows[0]]) for rows in first] != [int(lengths[rows[0]]) for rows in second]


def test_rows_of_one_length_are_cut_evenly():
    batches = ExactLengthBatches(np.full(101, 10), batch_tokens=1000, seed=0)
    assert sorted(map(len, epoch_of(batches))) == [50, 51]


def test_no_rows_is_an_error_with_a_sentence():
    with pytest.raises(DataError, match="no sentences"):
        ExactLengthBatches(np.empty(0, np.int32), batch_tokens=100, seed=0)


def test_python_walks_over_batches_once_and_never_over_rows(python_steps):
    few = np.repeat(np.array([4, 8, 16, 32], np.int32), 200)
    many = np.tile(few, 1000)
    tokens = 256

    def steps_to_build(lengths, batch_tokens):
        return python_steps(lambda: ExactLengthBatches(lengths, batch_tokens=batch_tokens, seed=0))

    # A thousand times the rows in as many batches take as many steps,
    assert steps_to_build(few, tokens) == steps_to_build(many, 1000 * tokens)
    # and an epoch is shuffled in as many, whatever the rows and the batches.
    small, large = (ExactLengthBatches(lengths, batch_tokens=tokens, seed=0) for lengths in (few, many))
    assert len(large) > 900 * len(small)
    small.batch(0)  # what is done once, as numpy's first use of its random numbers
    assert python_steps(lambda: small.batch(len(small))) == python_steps(lambda: large.batch(len(large)))


def test_the_order_is_a_stable_sort_of_a_permutation():
    lengths = np.random.default_rng(1).integers(1, 40, 5000)
    random = np.random.default_rng([7, 3])
    rows = random.permutation(len(lengths))
    rows = rows[np.argsort(lengths[rows], kind="stable")]
    batches = ExactLengthBatches(lengths, batch_tokens=500, seed=7)
    found = [batches.batch(3 * len(batches) + number) for number in range(len(batches))]
    assert found[0].dtype == np.int64
    order = random.permutation(len(batches))
    assert np.array_equal(np.concatenate([found[place] for place in np.argsort(order)]), rows)


def test_the_next_epoch_takes_little_more_memory_than_its_order():
    lengths = np.random.default_rng(1).integers(1, 40, 300_000).astype(np.uint16)
    batches = ExactLengthBatches(lengths, batch_tokens=4096, seed=7)
    batches.batch(0)
    tracemalloc.start()
    try:
        batches.batch(len(batches))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 4 bytes a row for the order, twice while it is made, and its lengths; a sort took 32.
    assert peak / len(lengths) < 15
