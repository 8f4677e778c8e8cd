"""Altered images: what is pasted, filled and left alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.checks.composites import SIMILAR, control_region, grown, inpaint, paste
from labeler.errors import ActivationError


@st.composite
def masked_images(draw):
    height, width = draw(st.integers(2, 24)), draw(st.integers(2, 24))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    mask_hw = generator.random((height, width)) < draw(st.sampled_from([0.05, 0.4, 0.9]))
    if draw(st.booleans()):  # a compact region
        mask_hw[height // 4 : height, : width - width // 3] = True
    mask_hw.flat[draw(st.integers(0, height * width - 1))] = False
    return generator.normal(size=(3, height, width)).astype(np.float32), mask_hw


@settings(max_examples=60, deadline=None)
@given(masked_images())
def test_a_fill_stays_between_the_values_that_touch_the_mask_and_changes_nothing_else(given):
    image_chw, mask_hw = given
    filled_chw = inpaint(image_chw, mask_hw)
    assert np.array_equal(filled_chw[:, ~mask_hw], image_chw[:, ~mask_hw])
    border_hw = grown(mask_hw, 1) & ~mask_hw
    for channel, filled_hw in zip(image_chw, filled_chw, strict=True):
        if mask_hw.any():
            assert filled_hw[mask_hw].min() >= channel[border_hw].min() - 1e-5
            assert filled_hw[mask_hw].max() <= channel[border_hw].max() + 1e-5


def test_a_linear_ramp_comes_back_as_it_is_the_harmonic_function_of_its_border():
    y_hw, x_hw = np.mgrid[:64, :64] / 64
    ramp_chw = np.stack([x_hw, y_hw, x_hw + y_hw]).astype(np.float32)
    mask_hw = (y_hw - 0.5) ** 2 + (x_hw - 0.45) ** 2 < 0.3**2
    assert np.abs(inpaint(ramp_chw, mask_hw) - ramp_chw).max() < 0.02


def test_texture_goes_and_a_mask_of_everything_is_refused():
    generator = np.random.default_rng(0)
    image_chw = generator.normal(size=(3, 40, 40)).astype(np.float32)
    mask_hw = np.zeros((40, 40), dtype=bool)
    mask_hw[10:30, 10:30] = True
    assert inpaint(image_chw, mask_hw)[:, 15:25, 15:25].std() < 0.2 * image_chw.std()
    assert np.array_equal(inpaint(image_chw, np.zeros_like(mask_hw)), image_chw)
    with pytest.raises(ActivationError, match="whole image"):
        inpaint(image_chw, np.ones_like(mask_hw))


def test_paste_takes_the_donor_under_the_mask_only():
    background_chw, donor_chw = np.zeros((3, 4, 4), np.float32), np.ones((3, 4, 4), np.float32)
    mask_hw = np.eye(4, dtype=bool)
    assert np.array_equal(paste(background_chw, donor_chw, mask_hw), np.stack([np.eye(4)] * 3))


@settings(max_examples=60, deadline=None)
@given(masked_images(), st.integers(0, 3))
def test_a_control_region_never_shows_the_concept_and_is_of_similar_area(given, others):
    _, mask_hw = given
    if not mask_hw.any():
        return
    generator = np.random.default_rng(others)
    group = [generator.random(mask_hw.shape) < 0.3 for _ in range(others)]
    control_hw = control_region(mask_hw, [group])
    if control_hw is not None:
        assert not (control_hw & mask_hw).any()
        assert 0.9 / SIMILAR <= control_hw.sum() / mask_hw.sum() <= SIMILAR


def test_the_control_is_a_region_of_the_first_group_that_has_one_of_similar_area():
    def block(top, left, side):
        mask_hw = np.zeros((32, 32), dtype=bool)
        mask_hw[top : top + side, left : left + side] = True
        return mask_hw

    concept_hw, near_hw, far_hw, large_hw = block(0, 0, 8), block(0, 16, 7), block(16, 0, 6), block(8, 8, 24)
    assert np.array_equal(control_region(concept_hw, [[far_hw, near_hw], [block(20, 20, 8)]]), near_hw)
    assert np.array_equal(control_region(concept_hw, [[large_hw], [far_hw]]), far_hw)
    overlapping_hw = block(0, 4, 8)
    shifted_hw = control_region(concept_hw, [[overlapping_hw], []])
    assert shifted_hw.sum() == concept_hw.sum()
    assert not (shifted_hw & concept_hw).any()
    assert control_region(np.ones((8, 8), dtype=bool), [[], []]) is None
