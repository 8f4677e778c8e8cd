import numpy as np
import torch

from labeler.baselines import network_dissection
from labeler.checks.iou import Dissection


def test_each_unit_gets_the_concept_that_it_covers_best_in_each_category():
    generator = torch.Generator().manual_seed(0)
    masks_bcgg = torch.zeros(12, 4, 16, 16, dtype=torch.bool)
    for image in range(12):
        for concept in range(3):
            row, column = torch.randint(0, 10, (2,), generator=generator).tolist()
            masks_bcgg[image, concept, row : row + 6, column : column + 6] = True
    maps_buhw = torch.stack(
        [masks_bcgg[:, 1], masks_bcgg[:, 2], torch.zeros(12, 16, 16, dtype=torch.bool)], dim=1
    ).float()
    maps_buhw[:, 2, 0, 0] = 1.0  # one cell in a corner
    dissection = Dissection(
        np.arange(3), np.full(3, 0.5, np.float32), ("object", "object", "colour", "colour"), ()
    )
    dissection.add(maps_buhw, masks_bcgg, [frozenset({"object", "colour"})] * 12)
    found = network_dissection(dissection)
    assert set(found) == {"", "object", "colour"}
    assert found[""].concepts_u[:2].tolist() == [1, 2]
    np.testing.assert_allclose(found[""].iou_u[:2], 1.0)
    assert found[""].detector_u.tolist() == [True, True, False]
    assert found["colour"].concepts_u.tolist() == [2, 2, 2]  # the fourth concept is in no image


def test_no_concept_in_enough_images_is_no_label():
    dissection = Dissection(np.arange(2), np.zeros(2, np.float32), ("object",), ())
    dissection.add(
        torch.rand(3, 2, 4, 4), torch.ones(3, 1, 8, 8, dtype=torch.bool), [frozenset({"object"})] * 3
    )
    found = network_dissection(dissection)[""]
    assert found.concepts_u.tolist() == [-1, -1]
    assert np.isnan(found.iou_u).all()
    assert not found.detector_u.any()
