"""*location*: the concept that lies where the unit fires leads; what shares its images does not."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.checks.data import LayerData
from labeler.checks.iou import Dissection
from labeler.checks.location import MIN_RIVALS, check_location

CONCEPTS = MIN_RIVALS + 4
NAMES = tuple(f"concept{c:02d}" for c in range(CONCEPTS))
GRID, IMAGES = 14, 80
WHOLE, PART, TWIN = 0, 1, 2
"""The part lies inside the whole, the twin where the whole lies; all are in the same images."""


def dissected(seed=0, count=CONCEPTS):
    """Unit 0 fires on the part, unit 1 on the whole; the other concepts are spots here and there."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(IMAGES, count, GRID, GRID, dtype=torch.bool)
    for image in range(0, IMAGES, 2):
        row, column = torch.randint(0, GRID - 8, (2,), generator=generator).tolist()
        masks[image, WHOLE, row : row + 8, column : column + 8] = True
        masks[image, PART, row : row + 3, column : column + 3] = True
    masks[:, TWIN] = masks[:, WHOLE]
    masks[:, 3:] = torch.rand(IMAGES, count - 3, GRID, GRID, generator=generator) < 0.05
    maps = torch.randn(IMAGES, 2, GRID, GRID, generator=generator)
    maps[:, 0] += 6 * masks[:, PART]
    maps[:, 1] += 6 * masks[:, WHOLE]
    found = Dissection(np.arange(2), np.full(2, 3.0, np.float32), ["object"] * count, [0, 1])
    found.add(maps, masks, [frozenset({"object"})] * IMAGES)
    pooled = maps.amax(dim=(2, 3)).numpy()
    data = LayerData(
        "layer",
        np.arange(2),
        pooled,
        np.arange(IMAGES),
        np.ones(IMAGES),
        np.quantile(pooled, 0.99, axis=0),
        {},
    )
    return data, found


def lead(unit, concept, exempt=(), count=CONCEPTS, seed=0):
    data, found = dissected(seed, count)
    return check_location(data, found, np.array([unit]), [concept], [set(exempt)], NAMES)[0]


def test_a_part_leads_its_whole_where_it_is_what_fires_and_only_there():
    part, whole = lead(0, PART), lead(0, WHOLE)
    assert part.value > 0.3
    assert part.low > 0
    assert part.significance.p < 1e-6
    assert whole.value < -0.3
    assert whole.significance.p > 0.99
    assert "concept01" in whole.why  # the part lies there best
    assert lead(1, PART).value < 0 < lead(1, WHOLE, exempt=[TWIN]).low


def test_two_concepts_of_the_same_masks_are_a_tie_that_counts_against_both():
    tie = lead(1, WHOLE)
    assert tie.value == 0
    assert tie.significance.p == 1
    assert tie.significance.z is None


def test_what_means_the_same_is_no_rival():
    assert lead(1, WHOLE, exempt=[TWIN]).value > 0.3
    assert lead(0, WHOLE, exempt=[PART, TWIN]).value > 0


def test_it_does_not_apply_without_a_concept_or_enough_to_compare_with():
    assert lead(0, None).status == "not_applicable"
    few = lead(0, PART, count=MIN_RIVALS)
    assert few.status == "not_applicable"
    assert f"only {MIN_RIVALS - 1} other concepts" in few.why


@given(st.integers(0, 50), st.integers(0, 1), st.integers(0, CONCEPTS - 1))
@settings(max_examples=25, deadline=None)
def test_the_lead_is_that_of_the_table_of_iou_and_its_bound_is_below_it(seed, unit, concept):
    data, found = dissected(seed)
    iou_c = found.iou()[unit]
    result = check_location(data, found, np.array([unit]), [concept], [set()], NAMES)[0]
    other = np.delete(iou_c, concept).max()
    assert np.isclose(result.value, (iou_c[concept] - other) / max(iou_c[concept], other))
    assert result.low <= result.value
