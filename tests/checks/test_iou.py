from itertools import permutations

import numpy as np
import pytest
import torch

from labeler.checks.data import LayerData
from labeler.checks.iou import Dissection, best, check_iou, upsample

CATEGORIES = ("object", "object", "colour", "colour", "colour")


def batch(seed, images=6, units=7, size=5, grid=12):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(images, units, size, size, generator=generator)
    coarse = torch.rand(images, len(CATEGORIES), 3, 3, generator=generator) > 0.6
    masks = coarse.repeat_interleave(grid // 3, dim=2).repeat_interleave(grid // 3, dim=3)
    annotated = [
        frozenset(name for name in ("object", "colour") if torch.rand(1, generator=generator) > 0.3)
        for _ in range(images)
    ]
    return maps, masks, annotated


def loop_iou(batches, thresholds):
    """Network Dissection as it is written down: unit by unit, concept by concept, image by image."""
    units = len(thresholds)
    table = np.zeros((units, len(CATEGORIES)))
    for unit in range(units):
        for concept, category in enumerate(CATEGORIES):
            shared = activated = area = 0
            for maps, masks, annotated in batches:
                grid = masks.shape[-1]
                for image, categories in enumerate(annotated):
                    if category not in categories:
                        continue
                    up = torch.nn.functional.interpolate(
                        maps[image : image + 1, unit : unit + 1],
                        (grid, grid),
                        mode="bilinear",
                        align_corners=False,
                    )[0, 0]
                    fires = up > thresholds[unit]
                    shared += int((fires & masks[image, concept]).sum())
                    activated += int(fires.sum())
                    area += int(masks[image, concept].sum())
            union = activated + area - shared
            table[unit, concept] = shared / union if union else 0.0
    return table


def dissect(batches, thresholds, tested=(0, 1, 2), min_images=1):
    dissection = Dissection(
        np.arange(len(thresholds)), np.array(thresholds, np.float32), CATEGORIES, tested, min_images
    )
    for maps, masks, annotated in batches:
        dissection.add(maps, masks, annotated)
    return dissection


def test_iou_is_that_of_the_loop_over_units_and_concepts():
    batches = [batch(0), batch(1, images=3)]
    thresholds = [0.5, 1.0, -0.2, 0.8, 1.5, 99.0, 0.0]
    np.testing.assert_allclose(dissect(batches, thresholds).iou(), loop_iou(batches, thresholds), atol=1e-6)


def test_batching_and_the_order_of_images_change_nothing():
    maps, masks, annotated = batch(2, images=8)
    thresholds = [0.6] * 7
    whole = dissect([(maps, masks, annotated)], thresholds).iou()
    order = [5, 2, 7, 0, 1, 6, 3, 4]
    parts = [(maps[[i]], masks[[i]], [annotated[i]]) for i in order]
    np.testing.assert_array_equal(dissect(parts, thresholds).iou(), whole)


def test_a_concept_in_too_few_images_does_not_count():
    maps, masks, _ = batch(3, images=9)
    masks[:, 0] = False
    masks[:8, 0, :2] = True
    dissection = dissect([(maps, masks, [frozenset(CATEGORIES)] * 9)], [0.5] * 7, min_images=9)
    assert np.isnan(dissection.iou()[:, 0]).all()
    masks[8, 0, :2] = True
    dissection = dissect([(maps, masks, [frozenset(CATEGORIES)] * 9)], [0.5] * 7, min_images=9)
    assert np.isfinite(dissection.iou()[:, 0]).all()


def test_upsampling_keeps_a_cell_over_its_own_part_of_the_image():
    cell = torch.zeros(1, 4, 4)
    cell[0, 1, 2] = 1.0
    up = upsample(cell, 16)[0]
    mass = up / up.sum()
    centre = torch.arange(16) + 0.5
    assert float((mass.sum(1) * centre).sum()) == pytest.approx(1.5 * 4)
    assert float((mass.sum(0) * centre).sum()) == pytest.approx(2.5 * 4)
    skimage = pytest.importorskip("skimage.transform")
    expected = skimage.resize(cell[0].numpy(), (16, 16), order=1, mode="edge", anti_aliasing=False)
    np.testing.assert_allclose(up.numpy(), expected, atol=1e-6)


def test_significance_is_that_of_all_permutations_of_the_images():
    maps, masks, _ = batch(4, images=6)
    annotated = [frozenset({"object", "colour"})] * 5 + [frozenset({"object"})]
    dissection = dissect([(maps, masks, annotated)], [0.3] * 7)
    fires = (upsample(maps[:, 1], 12) > 0.3).flatten(1).float()
    for concept, count in ((0, 6), (3, 5)):
        overlap = (fires[:count] @ masks[:count, concept].flatten(1).float().T).numpy()
        sums = np.array([overlap[range(count), list(order)].sum() for order in permutations(range(count))])
        null, _, low, images = dissection.significance(1, concept)
        assert images == count
        assert null.z == pytest.approx((np.trace(overlap) - sums.mean()) / sums.std(), rel=1e-6)
        assert 0 <= low <= dissection.iou()[1, concept]


def simulated(images=120, units=60, grid=14, seed=5):
    """Unit 0 fires on concept 2, all units fire in the middle, where concept 0 always is."""
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(images, len(CATEGORIES), grid, grid, dtype=torch.bool)
    masks[:, 0, 4:10, 4:10] = True
    for image in range(0, images, 3):
        row = int(torch.randint(0, grid - 4, (1,), generator=generator))
        masks[image, 2, row : row + 4, 0:4] = True
    maps = torch.randn(images, units, grid, grid, generator=generator)
    maps[:, :, 4:10, 4:10] += 1.0
    maps[:, 0] += 4.0 * masks[:, 2]
    return maps, masks


def test_a_detector_is_found_and_a_common_place_is_not_specific():
    maps, masks = simulated()
    units = maps.shape[1]
    thresholds = torch.quantile(maps.permute(1, 0, 2, 3).flatten(1), 0.97, dim=1).numpy()
    dissection = Dissection(np.arange(units), thresholds, CATEGORIES, [0, 1])
    dissection.add(maps, masks, [frozenset({"object", "colour"})] * len(maps))
    pooled = maps.amax(dim=(2, 3)).numpy()
    data = LayerData("block", np.arange(units), pooled, np.arange(len(maps)), np.ones(len(maps)),
                     np.quantile(pooled, 0.99, axis=0), {})  # fmt: skip
    found, common, other, rare, unnamed = check_iou(
        data, dissection, np.array([0, 1, 1, 0, 0]), [2, 0, 2, 4, None], 32
    )
    assert found.value > 0.2
    assert 0.2 < found.low < found.value
    assert found.significance.p < 1e-6
    assert found.specificity.z > 5
    assert common.specificity.z < 3  # every unit likes the middle
    assert other.significance.p > 0.01
    assert (rare.status, rare.value) == ("not_applicable", None)
    assert "only 0 dissected images" in rare.why
    assert unnamed.why == "no annotated concept is named so"
    assert best(dissection.iou())[""][0] == 2
    assert best(dissection.iou(), CATEGORIES)["object"][1] == 0
    assert best(np.full((3, 2), np.nan))[""].tolist() == [-1, -1, -1]


def test_significance_of_chance_overlap_is_uniform():
    generator = torch.Generator().manual_seed(6)
    images, units, grid = 60, 40, 7
    present = torch.rand(images, len(CATEGORIES), 1, 1, generator=generator) < 0.3
    masks = present & (torch.rand(images, len(CATEGORIES), grid, grid, generator=generator) < 0.4)
    maps = torch.randn(images, units, grid, grid, generator=generator) * torch.rand(
        images, units, 1, 1, generator=generator
    )
    dissection = Dissection(np.arange(units), np.full(units, 1.2, np.float32), CATEGORIES, range(units))
    dissection.add(maps, masks, [frozenset({"object", "colour"})] * images)
    p = np.array([dissection.significance(u, c)[0].p for u in range(units) for c in range(len(CATEGORIES))])
    assert abs(p.mean() - 0.5) < 0.08
    assert 0.01 <= (p <= 0.05).mean() <= 0.1
