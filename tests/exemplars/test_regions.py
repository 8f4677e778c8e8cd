import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from labeler.errors import ActivationError
from labeler.exemplars.regions import activating_region, crop_region, draw_tile, view


def test_the_box_holds_the_peak_and_not_the_other_blob():
    map_hw = np.zeros((7, 7), dtype=np.float32)
    map_hw[1, 1], map_hw[5, 5] = 5.0, 4.0
    region = activating_region(map_hw, 1.0)
    assert region.mask[12, 12]
    assert region.mask[44, 44]
    left, top, right, bottom = region.box
    assert left < 1.5 / 7 < right < 0.5
    assert top < 1.5 / 7 < bottom < 0.5


def test_a_threshold_above_everything_leaves_the_peak():
    map_hw = np.arange(9, dtype=np.float32).reshape(3, 3)
    region = activating_region(map_hw, 100.0)
    assert region.mask.sum() == 1
    left, top, _, _ = region.box
    assert min(left, top) > 2 / 3


def test_a_flat_unit_has_no_region_and_a_broken_map_is_an_error():
    assert activating_region(np.ones((1, 1), np.float32), 0.0) is None
    with pytest.raises(ActivationError):
        activating_region(np.array([[1, np.nan]], np.float32), 0.0)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 15), st.integers(2, 80))
def test_the_box_lies_in_the_image_around_the_peak(seed, height, width):
    map_hw = np.random.default_rng(seed).standard_normal((height, width)).astype(np.float32)
    region = activating_region(map_hw, 1.0)
    left, top, right, bottom = region.box
    assert 0 <= left < right <= 1
    assert 0 <= top < bottom <= 1
    inside = region.mask[round(top * 56) : round(bottom * 56), round(left * 56) : round(right * 56)]
    assert inside.any()


def test_components_are_those_of_scikit_image():
    measure = pytest.importorskip("skimage.measure")
    for seed in range(10):
        map_hw = np.random.default_rng(seed).standard_normal((9, 9)).astype(np.float32)
        region = activating_region(map_hw, 0.3)
        labels = measure.label(region.mask, connectivity=2)
        boxes = []
        for component in measure.regionprops(labels):
            top, left, bottom, right = component.bbox
            edges = np.array([left - 2, top - 2, right + 2, bottom + 2]) / 56
            boxes.append(tuple(np.clip(edges, 0, 1).round(6)))
        assert tuple(np.round(region.box, 6)) in boxes


def test_a_tile_outlines_the_region_and_dims_the_rest():
    mask = np.zeros((56, 56), dtype=bool)
    mask[20:36, 20:36] = True
    pixels = np.asarray(draw_tile(Image.new("RGB", (224, 224), (100, 100, 100)), mask, 112, (255, 0, 0)))
    assert pixels.shape == (112, 112, 3)
    assert pixels[56, 56].tolist() == [100, 100, 100]
    assert pixels[5, 5].tolist() == [55, 55, 55]
    assert pixels[56, 40].tolist() == [255, 0, 0]
    assert pixels[56, 39].tolist() == [0, 0, 0]


def test_a_tile_without_region_is_the_picture_and_a_single_cell_survives_in_a_small_one():
    picture = Image.new("RGB", (50, 50), (9, 80, 200))
    assert (np.asarray(draw_tile(picture, None, 32)) == (9, 80, 200)).all()
    mask = np.zeros((56, 56), dtype=bool)
    mask[28, 28] = True
    assert (np.asarray(draw_tile(picture, mask, 56)) == 255).all(axis=2).any()


@given(st.integers(4, 300), st.integers(4, 300), st.lists(st.floats(0, 1), min_size=4, max_size=4))
def test_a_crop_holds_its_box_and_has_context(width, height, edges):
    (left, right), (top, bottom) = sorted(edges[:2]), sorted(edges[2:])
    crop = crop_region(Image.new("RGB", (width, height)), (left, top, right, bottom))
    assert 0.3 * min(width, height) - 1 <= min(crop.size)
    assert crop.width >= min(width, (right - left) * width) - 1
    assert crop.height >= min(height, (bottom - top) * height) - 1
    longer = 1.2 * max((right - left) * width, (bottom - top) * height)
    if max(longer, 0.3 * min(width, height)) < min(width, height):
        assert abs(crop.width - crop.height) <= 1


def test_the_view_is_the_part_that_the_target_sees():
    image = Image.new("L", (40, 20), 0)
    image.paste(255, (10, 0, 30, 20))
    seen = view(image, (10.0, 0.0, 30.0, 20.0), 16)
    assert (seen.size, seen.mode) == ((16, 16), "RGB")
    assert np.asarray(seen).min() > 240  # resampling may blend the border
