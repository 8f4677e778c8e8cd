import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from labeler.probes import PartialAnnotation, annotation_on_grid, concept_areas
from labeler.seams import Annotation


def one_mask(mask_hw, concept=0):
    return Annotation(np.array([concept]), mask_hw[None], frozenset({"object"}))


@st.composite
def scenes(draw):
    height, width = draw(st.integers(40, 200)), draw(st.integers(40, 200))
    top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    bottom, right = draw(st.integers(top + 1, height)), draw(st.integers(left + 1, width))
    side = draw(st.floats(20, min(height, width)))
    crop_top, crop_left = draw(st.floats(0, height - side)), draw(st.floats(0, width - side))
    return (
        (height, width),
        (left, top, right, bottom),
        (crop_left, crop_top, crop_left + side, crop_top + side),
    )


@given(scenes(), st.integers(7, 64))
def test_a_rectangle_covers_its_share_of_the_view(scene, grid):
    (height, width), (left, top, right, bottom), box = scene
    mask_hw = np.zeros((height, width), dtype=bool)
    mask_hw[top:bottom, left:right] = True
    side = box[2] - box[0]
    across = max(0.0, min(right, box[2]) - max(left, box[0])) / side
    down = max(0.0, min(bottom, box[3]) - max(top, box[1])) / side
    (area,) = concept_areas(one_mask(mask_hw), box, 1, ["object"], grid)
    # Each side of the rectangle is off by less than one cell in all.
    assert abs(area - across * down) <= (across + down) / grid + 1 / grid**2 + 1e-6
    assert np.isclose(area, annotation_on_grid(one_mask(mask_hw), box, grid).mean())


@given(st.integers(1, 40), st.integers(1, 6))
def test_cells_that_are_pixels_give_the_mask_itself(grid, scale):
    mask_hw = np.random.default_rng(grid).random((grid, grid)) > 0.5
    large_hw = mask_hw.repeat(scale, axis=0).repeat(scale, axis=1)
    sampled = annotation_on_grid(one_mask(large_hw), (0, 0, grid * scale, grid * scale), grid)
    assert np.array_equal(sampled[0], mask_hw)


@given(st.integers(4, 30), st.sampled_from([3, 5, 7]), st.integers(0, 5))
def test_the_centre_of_a_cell_is_what_is_sampled(grid, scale, left):
    mask_hw = np.random.default_rng(grid).random((grid * scale, grid * scale + left)) > 0.5
    sampled = annotation_on_grid(one_mask(mask_hw), (left, 0, left + grid * scale, grid * scale), grid)
    middle = scale // 2
    assert np.array_equal(sampled[0], mask_hw[middle::scale, left + middle :: scale])


def test_cells_outside_of_the_image_are_empty():
    sampled = annotation_on_grid(one_mask(np.ones((10, 20), dtype=bool)), (0, -5, 20, 15), 20)
    assert sampled[0, 5:15].all()
    assert not sampled[0, :5].any()
    assert not sampled[0, 15:].any()


def test_unknown_is_nan_and_absent_is_zero():
    mask_hw = np.zeros((8, 8), dtype=bool)
    mask_hw[:4] = True
    categories = ["object", "object", "material", "object"]
    box = (0, 0, 8, 8)
    areas = concept_areas(one_mask(mask_hw, concept=1), box, 4, categories, 8)
    assert np.array_equal(areas, np.array([0, 0.5, np.nan, 0], dtype=np.float32), equal_nan=True)
    assert areas.dtype == np.float32
    assert np.isnan(concept_areas(None, box, 4, categories, 8)).all()
    partial = PartialAnnotation(np.array([1]), mask_hw[None], frozenset({"object"}), unknown=np.array([2, 3]))
    areas = concept_areas(partial, box, 4, categories, 8)
    assert np.array_equal(areas, np.array([0, 0.5, np.nan, np.nan], dtype=np.float32), equal_nan=True)


def test_no_concept_present():
    empty = Annotation(np.zeros(0, dtype=np.int64), np.zeros((0, 8, 8), dtype=bool), frozenset({"object"}))
    assert concept_areas(empty, (0, 0, 8, 8), 2, ["object", "object"], 4).tolist() == [0, 0]
