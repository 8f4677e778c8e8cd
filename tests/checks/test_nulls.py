from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.checks.nulls import (
    matrix_moments,
    permutation_null,
    product_moments,
    sampled_null,
    sign_flip_p,
    specificity,
    subset_draws,
    upper_tail,
)


def enumerated(matrix):
    rows = np.arange(len(matrix))
    return np.array([matrix[rows, list(order)].sum() for order in permutations(rows)])


def assert_moments(moments, sums):
    assert moments.mean[0] == pytest.approx(sums.mean(), abs=1e-9)
    assert moments.sd[0] == pytest.approx(sums.std(), abs=1e-9)
    third = ((sums - sums.mean()) ** 3).mean()
    assert moments.skewness[0] * moments.sd[0] ** 3 == pytest.approx(third, abs=1e-7)


@given(st.integers(3, 6), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_moments_of_a_product_are_those_of_all_permutations(count, seed):
    generator = np.random.default_rng(seed)
    x, y = generator.standard_normal((2, count)) + 1
    moments = product_moments(x[:, None], y[:, None], np.ones((count, 1), bool))
    assert_moments(moments, enumerated(np.outer(x, y)))


@given(st.integers(3, 6), st.integers(0, 6), st.integers(0, 6), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_moments_of_a_matrix_with_empty_rows_and_columns(count, rows, columns, seed):
    rows, columns = min(rows, count), min(columns, count)
    matrix = np.zeros((count, count))
    matrix[:rows, :columns] = np.random.default_rng(seed).integers(0, 9, (rows, columns))
    assert_moments(matrix_moments(matrix[:rows, :columns], count), enumerated(matrix))


def test_images_that_cannot_be_read_do_not_enter():
    generator = np.random.default_rng(1)
    x, y = generator.standard_normal((2, 7))
    usable = np.array([True, True, False, True, True, False, True])
    masked = np.where(usable, y, np.nan)
    moments = product_moments(x[:, None], masked[:, None], usable[:, None])
    assert_moments(moments, enumerated(np.outer(x[usable], y[usable])))


def test_a_statistic_that_no_permutation_changes_has_no_significance():
    ones = np.ones((8, 1))
    (null,) = permutation_null(np.array([8.0]), product_moments(ones, ones, np.ones((8, 1), bool)))
    assert null.z is None
    assert null.p is None


@pytest.mark.parametrize("skewness", [-1.5, -0.3, 0.0, 0.3, 1.5])
def test_the_tail_is_that_of_pearsons_third_type(skewness):
    stats = pytest.importorskip("scipy.stats")
    z = np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 4.0])
    expected = np.maximum(stats.pearson3.sf(z, skewness), 1e-12)
    np.testing.assert_allclose(upper_tail(z, np.full(6, skewness)), expected, rtol=1e-6)


def test_p_is_uniform_for_rare_labels_and_heavy_tails():
    generator = np.random.default_rng(3)
    count, trials = 600, 4000
    x = np.exp(generator.standard_normal((count, trials)))
    y = np.zeros((count, trials))
    for column in range(trials):
        y[generator.choice(count, 8, replace=False), column] = 1
    x -= x.mean(axis=0)
    nulls = permutation_null((x * y).sum(axis=0), product_moments(x, y, np.ones(x.shape, bool)))
    p = np.array([null.p for null in nulls])
    normal = upper_tail(np.array([null.z for null in nulls]), np.zeros(trials))
    for level in (0.2, 0.05, 0.01, 0.004):
        error = 3 * np.sqrt(level * (1 - level) / trials)
        assert (p <= level).mean() == pytest.approx(level, abs=error + 0.1 * level)
    assert (normal <= 0.004).mean() > 2 * 0.004  # the reason for the third moment


def test_sampled_p_is_never_zero_and_counts_ties_against_the_label():
    assert sampled_null(5.0, np.zeros(99) + 1e-3 * np.arange(99)).p == 0.01
    assert sampled_null(1.0, np.ones(99)).p == 1.0


@given(st.lists(st.floats(-5, 5), min_size=5, max_size=30), st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_specificity_is_the_robust_z_whatever_the_order_of_units(others, seed):
    values = np.array(others)
    shuffled = np.random.default_rng(seed).permutation(np.append(values, [np.nan] * 3))
    (null,) = specificity(np.array([2.0]), shuffled[None], np.array([0.01]), 5)
    scale = max(1.4826 * np.median(np.abs(values - np.median(values))), 0.01)
    assert null.units == len(values)
    assert null.z == pytest.approx((2.0 - np.median(values)) / scale)
    assert null.p == pytest.approx((1 + (values >= 2.0).sum()) / (1 + len(values)))


def test_specificity_does_not_apply_with_few_units_or_without_a_scale():
    values, noise = np.array([1.0]), np.array([0.1])
    (few,) = specificity(values, np.zeros((1, 31)), noise, 32)
    assert (few.z, few.p, few.units) == (None, None, 31)
    (flat,) = specificity(values, np.zeros((1, 40)), np.array([0.0]), 32)
    assert flat.z is None
    (guarded,) = specificity(values, np.zeros((1, 40)), noise, 32)  # MAD = 0: sampling error is the scale
    assert guarded.z == pytest.approx(10.0)


def test_sign_flips():
    assert sign_flip_p(np.zeros(20)) == 1.0
    assert sign_flip_p(np.full(20, 0.3)) < 0.001
    assert sign_flip_p(np.full(20, -0.3)) > 0.999


def test_subsets_are_uniform_repeatable_and_without_repeats():
    draw = subset_draws(2000, 5, seed=7)
    rows = draw(12)
    assert rows.shape == (2000, 5)
    assert all(len(set(row)) == 5 for row in rows)
    np.testing.assert_array_equal(rows, subset_draws(2000, 5, seed=7)(12))
    counts = np.bincount(rows[:, :2].ravel(), minlength=12)  # prefixes are subsets as well
    assert np.abs(counts - 2000 * 2 / 12).max() < 5 * np.sqrt(2000 * 2 / 12)
