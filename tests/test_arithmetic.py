"""Arithmetic on vectors: sums, great circles and means of groups, as identities."""

import numpy as np
import pytest

from sgdd_engine.errors import GenerationError
from sgdd_engine.vectors.arithmetic import GroupMeans, spherical_interpolation, weighted_sum

D = 24


def vectors(rows: int, seed: int = 0, *, unit: bool = True) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(rows, D)).astype(np.float32)
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32) if unit else found


def cosine(a, b) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_a_lone_vector_comes_back_bit_for_bit_whatever_its_weight():
    e = vectors(3, unit=False)
    for weights in ([0, 1, 0], [0, 0.3, 0], [0.0, 7.0, -0.0]):
        np.testing.assert_array_equal(weighted_sum(e, weights), e[1])


def test_a_sum_has_the_direction_of_the_weighted_sum_and_the_mean_length():
    for unit in (True, False):
        e, w = vectors(3, unit=unit), [0.7, 0.3, -0.2]
        found = weighted_sum(e, w)
        assert cosine(found, np.array(w) @ e) == pytest.approx(1)
        lengths = np.linalg.norm(e, axis=1)
        assert np.linalg.norm(found) == pytest.approx(np.abs(w) @ lengths / 1.2, rel=1e-6)


def test_weights_count_relative_to_each_other_and_a_negative_one_subtracts():
    e = vectors(2)
    np.testing.assert_allclose(weighted_sum(e, [0.2, 0.6]), weighted_sum(e, [1, 3]), atol=1e-7)
    np.testing.assert_allclose(weighted_sum(e, [0, -2]), -e[1], atol=1e-7)
    assert cosine(weighted_sum(e, [1, -0.5]), e[1]) < cosine(e[0], e[1])
    for scale in (1e160, 1e-200, 5e-324):
        np.testing.assert_allclose(weighted_sum(e, [scale, 2 * scale]), weighted_sum(e, [1, 2]), atol=1e-7)


@pytest.mark.parametrize("weights", [[0, 0], [1, -1]])
def test_a_sum_without_a_direction_is_refused(weights):
    e = vectors(1)
    with pytest.raises(GenerationError):
        weighted_sum(np.concatenate([e, e]), weights)


SHARES = [0.0, 0.25, 0.5, 0.75, 1.0]


def test_the_ends_of_an_interpolation_are_the_vectors_bit_for_bit():
    a, b = vectors(2, unit=False)
    points = spherical_interpolation(a, b, SHARES)
    np.testing.assert_array_equal(points[0], a)
    np.testing.assert_array_equal(points[-1], b)


def test_points_lie_at_equal_angles_and_keep_the_length():
    a, b = vectors(2)
    points = spherical_interpolation(a, b, SHARES)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-6)
    angle = np.arccos(cosine(a, b))
    for share, point in zip(SHARES, points, strict=True):
        assert np.arccos(np.clip(cosine(a, point), -1, 1)) == pytest.approx(share * angle, abs=1e-3)
    # Backwards it is the same way.
    np.testing.assert_allclose(spherical_interpolation(b, a, SHARES), points[::-1], atol=1e-6)
    # The middle is the middle of the chord.
    np.testing.assert_allclose(points[2], weighted_sum(np.stack([a, b]), [1, 1]), atol=1e-6)


def test_the_length_of_unequal_vectors_goes_evenly():
    a, b = vectors(2)
    lengths = np.linalg.norm(spherical_interpolation(a, 3 * b, SHARES), axis=1)
    np.testing.assert_allclose(lengths, [1, 1.5, 2, 2.5, 3], rtol=1e-6)


def test_equal_and_nearly_equal_vectors_stay_where_they_are():
    a = vectors(1)[0]
    for b in (a, a * np.float32(1 + 1e-6), a + 1e-7 * vectors(1, 1)[0]):
        points = spherical_interpolation(a, b, SHARES)
        np.testing.assert_allclose(points, np.tile(a, (5, 1)), atol=1e-6)


def test_opposite_vectors_are_joined_by_a_great_circle():
    for a in (vectors(1)[0], np.eye(D, dtype=np.float32)[0]):
        points = spherical_interpolation(a, -a, SHARES)
        np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, atol=1e-6)
        cosines = [cosine(a, point) for point in points]
        np.testing.assert_allclose(cosines, np.cos(np.pi * np.array(SHARES)), atol=1e-6)


def test_zero_has_no_direction():
    with pytest.raises(GenerationError, match="zeros"):
        spherical_interpolation(np.zeros(D, np.float32), vectors(1)[0], SHARES)


def means_of(groups, e, rows: int) -> dict[str, np.ndarray]:
    means = GroupMeans()
    for start in range(0, len(e), rows):
        means.add(groups[start : start + rows], e[start : start + rows])
    assert means.sizes == {name: groups.count(name) for name in dict.fromkeys(groups)}
    return dict(means.means())


def test_group_means_are_sums_of_equal_weights_and_do_not_depend_on_batches():
    e, groups = vectors(50, unit=False), [f"group {i * i % 3}" for i in range(50)]
    found = means_of(groups, e, 50)
    assert list(found) == ["group 0", "group 1"]
    for name, mean in found.items():
        own = e[[i for i, group in enumerate(groups) if group == name]]
        np.testing.assert_allclose(mean, weighted_sum(own, [1.0] * len(own)), rtol=1e-5)
        for rows in (1, 3, 64):
            np.testing.assert_array_equal(means_of(groups, e, rows)[name], mean)


def test_a_group_of_one_is_its_vector_and_one_that_cancels_out_has_no_mean():
    a, b = vectors(2)
    found = means_of(["one", "two", "two"], np.stack([a, b, -b]), 2)
    assert list(found) == ["one"]
    np.testing.assert_allclose(found["one"], a, atol=1e-7)
    means = GroupMeans()
    means.add(["two", "two"], np.stack([b, -b]))
    assert (list(means.means()), means.vanished) == ([], ["two"])
