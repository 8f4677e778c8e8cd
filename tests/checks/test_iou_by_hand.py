"""Dissection of a few cells, worked out on paper."""

from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.checks import iou
from labeler.checks.data import LayerData
from labeler.checks.iou import Dissection, best, check_iou, standard_error

# Three images of 2 × 2 cells; concept 0 is an object, concept 1 a colour. Maps are as large as the masks.
MAPS = torch.tensor([[[1, 1], [0, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 1]]])[:, None].float()  # (3, 1, 2, 2)
MASKS = torch.tensor(
    [
        [[[1, 0], [1, 0]], [[1, 1], [0, 0]]],
        [[[0, 0], [0, 0]], [[1, 1], [1, 1]]],
        [[[0, 0], [0, 1]], [[0, 0], [1, 1]]],
    ]
).bool()  # (3, 2, 2, 2)
ANNOTATED = [frozenset({"object", "colour"}), frozenset({"object"}), frozenset({"colour"})]
# Object: images 0 and 1; the unit has 2 + 1 cells, the concept 2, and they share 1: 1 / (3 + 2 - 1).
# Colour: images 0 and 2; the unit has 2 + 1 cells, the concept 2 + 2, and they share 2 + 1: 3 / (3 + 4 - 3).
BY_HAND = [[1 / 4, 3 / 4]]


def dissected(min_images=1, threshold=0.5, unit=5, annotated=ANNOTATED, maps=MAPS, masks=MASKS):
    found = Dissection(
        np.array([unit]), np.array([threshold], np.float32), ("object", "colour"), [unit], min_images
    )
    found.add(maps, masks, annotated)
    return found


def test_only_images_annotated_with_the_category_count():
    found = dissected()
    np.testing.assert_allclose(found.iou(), BY_HAND, rtol=1e-12)
    assert [found.concept_images(concept) for concept in (0, 1)] == [1, 2]
    assert found.images == 3


def test_a_unit_fires_above_its_threshold_and_not_at_it():
    assert dissected(threshold=1.0).iou().tolist() == [[0.0, 0.0]]
    np.testing.assert_allclose(dissected(threshold=0.999).iou(), BY_HAND)
    negative = dissected(threshold=-1.5, maps=MAPS - 2)
    np.testing.assert_allclose(negative.iou(), BY_HAND)


def test_a_concept_counts_from_the_least_number_of_images_on():
    assert np.isnan(dissected(min_images=2).iou()).tolist() == [[True, False]]
    assert np.isnan(dissected(min_images=3).iou()).all()
    nine = Dissection(np.array([0]), np.array([0.5], np.float32), ("object",), [0])
    for image in range(10):
        assert bool(np.isfinite(nine.iou()).all()) is (image >= 9)  # Network Dissection's number of samples
        nine.add(MAPS[:1], MASKS[:1, :1], ANNOTATED[:1])


def test_nothing_at_all_has_no_overlap():
    empty = dissected(masks=torch.zeros_like(MASKS), maps=torch.zeros_like(MAPS), min_images=0)
    assert empty.iou().tolist() == [[0.0, 0.0]]
    null, noise, low, images = empty.significance(5, 0)
    assert ((null.z, null.p), noise, low, images) == ((0.0, 1.0), 0.0, 0.0, 2)
    ratio, influence = empty.influence(5, 0)
    assert (ratio, influence.tolist()) == (0.0, [0.0, 0.0, 0.0])


def test_each_image_has_its_influence():
    """Object: 1, 0, 0 shared of 3, 1, 0 in the union; colour: 2, 0, 1 shared of 2, 0, 2."""
    ratio, influence = dissected().influence(5, 0)
    assert ratio == 1 / 4
    np.testing.assert_allclose(influence, [(1 - 3 / 4) / 4, (0 - 1 / 4) / 4, 0.0])
    ratio, influence = dissected().influence(5, 1)
    assert ratio == 3 / 4
    np.testing.assert_allclose(influence, [(2 - 6 / 4) / 4, 0.0, (1 - 6 / 4) / 4])


def test_the_standard_error_is_that_of_a_ratio():
    assert standard_error(np.array([3.0, 0.0, -4.0]), 4) == pytest.approx(np.sqrt(4 / 3) * 5)
    assert standard_error(np.array([2.0]), 1) == 2.0


def test_noise_and_bound_follow_from_the_permutations_of_the_images():
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(5, 1, 3, 3, generator=generator)
    masks = torch.rand(5, 1, 3, 3, generator=generator) > 0.4
    found = Dissection(np.array([2]), np.array([0.4], np.float32), ("object",), [2], 1)
    found.add(maps, masks, [frozenset({"object"})] * 5)
    fires, shown = (maps > 0.4).flatten(1).double(), masks.flatten(1).double()
    table = (fires @ shown.T).numpy()
    sums = np.array([table[range(5), list(order)].sum() for order in permutations(range(5))])
    shared, union = np.trace(table), float(fires.sum() + shown.sum() - np.trace(table))
    null, noise, low, count = found.significance(2, 0)
    assert null.z == pytest.approx((shared - sums.mean()) / sums.std())
    assert noise == pytest.approx(sums.std() * (union + shared) / union**2)
    overlap_i = np.diag(table)
    union_i = (fires.sum(1) + shown.sum(1)).numpy() - overlap_i
    error = np.sqrt(5 / 4 * (((overlap_i - shared / union * union_i) / union) ** 2).sum())
    assert low == pytest.approx(shared / union - 1.6448536 * error)
    assert count == 5
    assert low > 0


def test_a_bound_is_never_below_zero():
    """One image of ten speaks for an IoU of a tenth, give or take a tenth."""
    maps, masks = torch.zeros(10, 1, 2, 2), torch.zeros(10, 2, 2, 2, dtype=torch.bool)
    maps[:, 0, 0, 0] = 1.0
    masks[0, 0, 0, 0] = True
    found = dissected(maps=maps, masks=masks, annotated=[ANNOTATED[0]] * 10)
    assert found.influence(5, 0)[0] == 1 / 10
    assert found.significance(5, 0)[2] == 0.0


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 9), st.integers(0, 2**31), st.sampled_from([1, 3, 8, 256]))
def test_how_many_maps_are_upsampled_together_changes_nothing(most, seed, batch):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(8, 4, 2, 2, generator=generator) * (torch.rand(8, 4, 1, 1, generator=generator) > 0.5)
    masks = torch.rand(8, 2, 6, 6, generator=generator) > 0.5
    annotated = [ANNOTATED[image % 3] for image in range(8)]

    def table(together, batch):
        found = Dissection(np.arange(4), np.full(4, 0.5, np.float32), ("object", "colour"), [1, 3], 1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(iou, "_MAPS", together)
            for first in range(0, 8, batch):
                rows = slice(first, first + batch)
                found.add(maps[rows], masks[rows], annotated[rows])
        pairs = [found.significance(unit, concept) for unit in (1, 3) for concept in (0, 1)]
        return found.iou(), pairs, found.influence(3, 1)[1]

    for ours, plain in zip(table(most, batch), table(256, 8), strict=True):
        np.testing.assert_equal(ours, plain)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=8), st.integers(1, 9))
def test_neighbouring_images_share_a_call_up_to_a_number_of_maps(counts, most):
    ends = [0, *np.cumsum(counts).tolist()]
    runs = list(iou._runs(ends, most))
    assert [image for start, stop in runs for image in range(start, stop)] == list(range(len(counts)))
    for start, stop in runs:
        assert stop == start + 1 or ends[stop] - ends[start] <= most
    for (start, _), (_, stop) in pairwise(runs):
        assert ends[stop] - ends[start] > most  # no two of them could be one


def test_units_that_are_not_under_test_or_not_live_are_left_out_of_the_masks():
    both = Dissection(np.array([3, 8]), np.array([0.5, 0.5], np.float32), ("object", "colour"), [8, 11], 1)
    both.add(torch.cat([MAPS * 0, MAPS], dim=1), MASKS, ANNOTATED)
    np.testing.assert_allclose(both.iou(), [[0, 0], BY_HAND[0]])
    assert both.influence(8, 1)[0] == 3 / 4
    with pytest.raises(KeyError):
        both.significance(3, 0)


def test_the_best_concept_is_the_first_of_the_highest_over_all_and_by_category():
    table = np.array([[0.2, 0.5, 0.5, np.nan], [np.nan] * 4, [0.0, np.nan, np.nan, np.nan]])
    found = best(table, ("object", "colour", "object", "scene"))
    assert {name: values.tolist() for name, values in found.items()} == {
        "": [1, -1, 0],
        "object": [2, -1, 0],
        "colour": [1, -1, -1],
        "scene": [-1, -1, -1],
    }
    assert {name: values.dtype for name, values in found.items()} == dict.fromkeys(found, np.dtype(np.int64))
    assert list(best(table)) == [""]
    assert best(np.zeros((2, 0)))[""].tolist() == [-1, -1]


def test_a_result_is_specific_against_the_units_that_are_not_the_same():
    generator = torch.Generator().manual_seed(1)
    images, units = 30, 6
    masks = torch.rand(images, 2, 4, 4, generator=generator) > 0.6
    maps = torch.rand(images, units, 4, 4, generator=generator)
    maps[:, 2] += masks[:, 0]
    maps[:, 4] = maps[:, 2]  # a twin
    live = np.array([1, 2, 5, 7, 8, 9])
    found = Dissection(live, np.full(units, 0.9, np.float32), ("object", "colour"), [5, 8], 1)
    found.add(maps, masks, [frozenset({"object", "colour"})] * 20 + [frozenset({"colour"})] * 10)
    pooled = torch.rand(images, units, generator=generator)
    pooled[:, 4] = pooled[:, 2]
    data = LayerData("block", live, pooled.numpy(), np.arange(images), np.ones(images), np.ones(units), {})
    (result,) = check_iou(data, found, np.array([2]), [0], 4)
    table = found.iou()
    assert (result.status, result.value, result.n) == ("ok", table[2, 0], 20)
    assert result.judge == "annotations"
    others = table[[0, 1, 3, 5], 0]
    middle = np.median(others)
    spread = max(1.4826 * np.median(np.abs(others - middle)), found.significance(5, 0)[1])
    assert result.specificity.units == 4
    assert result.specificity.z == pytest.approx((table[2, 0] - middle) / spread, rel=1e-3)
    assert result.low == found.significance(5, 0)[2]
    assert check_iou(data, found, np.array([2]), [0], 5)[0].specificity.z is None


def test_what_cannot_be_dissected_says_why():
    data = LayerData("block", np.array([5]), np.ones((3, 1)), np.arange(3), np.ones(3), np.ones(1), {})
    unnamed, rare = check_iou(data, dissected(min_images=2), np.array([0, 0]), [None, 0], 1)
    assert [(item.status, item.value, item.judge) for item in (unnamed, rare)] == [
        ("not_applicable", None, "annotations")
    ] * 2
    assert rare.why == "the concept is in only 1 dissected images; 2 are needed"
    with pytest.raises(ValueError, match="zip"):
        check_iou(data, dissected(), np.array([0, 0]), [0], 1)


def test_one_cell_is_enough():
    cell = torch.tensor([[True, False], [False, False]])
    masks = torch.stack([cell, torch.zeros(2, 2, dtype=torch.bool)])[None].repeat(2, 1, 1, 1)
    masks[1] = False
    maps = masks[:, :1].float()
    found = dissected(maps=maps, masks=masks, annotated=[ANNOTATED[0]] * 2)
    assert found.iou()[0, 0] == 1.0
    assert found.influence(5, 0)[0] == 1.0
    null, noise, low, images = found.significance(5, 0)
    assert noise == pytest.approx(0.5 * (1 + 1) / 1)  # one image or the other: 1 or 0 cells shared
    assert (null.z, low, images) == (pytest.approx(1.0), 1.0, 2)


def test_every_image_says_in_what_it_is_annotated():
    for annotated in (ANNOTATED[:2], [*ANNOTATED, ANNOTATED[0]]):
        with pytest.raises(ValueError, match="zip"):
            dissected(annotated=annotated)
