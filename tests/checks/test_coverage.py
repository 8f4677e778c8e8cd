"""How much of a unit's activation its labels explain, and where a graded score means presence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labeler.checks import coverage, presence_threshold

GRADED = hnp.arrays(np.int64, st.integers(2, 40), elements=st.integers(-100, 100))


def test_a_unit_that_rises_only_where_the_label_holds_is_covered():
    present_n = np.arange(200) % 10 == 0
    activations_n = np.where(present_n, 5.0, 0.0)
    assert coverage(activations_n, present_n) == 1
    assert coverage(activations_n, ~present_n) == 0
    assert coverage(np.full(200, 3.0), present_n) is None
    half_n = present_n & (np.arange(200) < 100)
    assert coverage(activations_n, half_n) == pytest.approx(0.5)


@given(GRADED, st.integers(0, 2**32))
def test_coverage_is_a_share_that_grows_with_labels_and_ignores_scale(activations_n, seed):
    generator = np.random.default_rng(seed)
    first_n, second_n = generator.random((2, len(activations_n))) < 0.3
    one, both = coverage(activations_n, first_n), coverage(activations_n, first_n | second_n)
    if one is None:
        assert both is None
        return
    assert 0 <= one <= both <= 1 + 1e-12
    assert coverage(2 * activations_n + 1, first_n) == pytest.approx(one)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_two_groups_of_scores_are_parted_between_them(share):
    generator = np.random.default_rng(0)
    present_n = np.arange(600) < share * 600
    scores_n = generator.normal(size=600) + 6.0 * present_n
    threshold = presence_threshold(np.append(scores_n, np.nan))
    assert ((scores_n >= threshold) == present_n).mean() > 0.99


def test_one_group_of_scores_is_not_parted():
    generator = np.random.default_rng(0)
    assert presence_threshold(np.full(100, 2.0)) is None
    assert presence_threshold(np.full(100, np.nan)) is None
    assert presence_threshold(np.array([0.0, 1.0])) is None
    assert presence_threshold(generator.uniform(size=1000)) is None
    assert [presence_threshold(generator.normal(size=500)) for _ in range(40)].count(None) >= 36


def test_a_threshold_moves_with_the_scores():
    generator = np.random.default_rng(1)
    scores_n = generator.normal(size=300) + 5.0 * (np.arange(300) < 40)
    threshold = presence_threshold(scores_n)
    assert presence_threshold(3 * scores_n + 7) == pytest.approx(3 * threshold + 7)
