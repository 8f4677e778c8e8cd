import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labeler.suites import suite_module

bootstrap = suite_module("bootstrap")


def test_the_interval_is_that_of_the_mean():
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    mean = bootstrap.bootstrap_mean(values)
    assert mean.value == pytest.approx(values.mean())
    low, high = mean.ends
    half = 1.96 * values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_too_few_values_have_no_interval():
    assert bootstrap.bootstrap_mean([]) == bootstrap.Mean(None, None, 0)
    assert bootstrap.bootstrap_mean([0.25]) == bootstrap.Mean(0.25, None, 1)
    assert bootstrap.bootstrap_mean([0.5] * 9).ends == (0.5, 0.5)


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=40), st.integers(0, 9))
def test_it_is_seeded_and_stays_among_the_values(values, seed):
    mean = bootstrap.bootstrap_mean(values, seed=seed, draws=200)
    assert mean == bootstrap.bootstrap_mean(values, seed=seed, draws=200)
    low, high = mean.ends
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9


def test_many_draws_of_many_values_are_made_in_parts():
    values = np.random.default_rng(1).random(3000)
    assert bootstrap.bootstrap_mean(values, draws=4000).ends[0] < values.mean()


def test_figures_leave_out_what_has_no_interval():
    means = {"a": bootstrap.Mean(0.5, (0.4, 0.6), 9), "b": bootstrap.Mean(None, None, 0)}
    assert bootstrap.figures_of(means) == ({"a": 0.5, "b": None}, {"a": (0.4, 0.6)})
