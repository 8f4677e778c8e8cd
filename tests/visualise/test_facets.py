import numpy as np
import pytest
import torch

from labeler.visualise.facets import Crop, FacetCrops, anchor, window

CPU = torch.device("cpu")


def _photograph(height=20, width=30):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.zeros_like(rows)], axis=2).astype(np.uint8)


def _maps(pictures_bchw):
    """Three units: the pictures' colours."""
    return pictures_bchw


@pytest.mark.parametrize(
    ("centre", "top", "left"), [((0.5, 0.5), 6, 11), ((0.0, 0.0), 0, 0), ((1.0, 1.0), 12, 22)]
)
def test_the_window_lies_around_the_centre_and_within_the_photograph(centre, top, left):
    found = window(Crop(_photograph(), centre), (8, 8)) * 255
    assert found.shape == (3, 8, 8)
    assert found[0, 0, 0].item() == pytest.approx(top)
    assert found[1, 0, 0].item() == pytest.approx(left)


@pytest.mark.parametrize("size", [(33, 33), (64, 20), (97, 131)])
def test_a_photograph_that_is_too_small_is_enlarged(size):
    assert window(Crop(_photograph()), size).shape == (3, *size)


def _plain(colour):
    return Crop(np.broadcast_to(np.array(colour, np.uint8), (10, 10, 3)).copy())


def test_the_anchor_starts_at_the_mean_and_pulls_away_from_the_other_facets():
    crops = FacetCrops([_plain((255, 0, 0)), _plain((51, 0, 0))], [_plain((0, 255, 0))])
    found = anchor(crops, (4, 4), _maps, 2, CPU)
    torch.testing.assert_close(found.start_chw[:, 0, 0], torch.tensor([0.6, 0.0, 0.0]))
    torch.testing.assert_close(found.centre_u, torch.tensor([0.3, 0.5, 0.0]))
    red, green = (torch.zeros(3, 4, 4) for _ in range(2))
    red[0], green[1] = 1, 1
    assert found.likeness(red) > 0.9
    assert found.likeness(green) < -0.9


def test_a_facet_that_is_alone_pulls_to_its_mean_activation():
    found = anchor(FacetCrops([_plain((0, 0, 255))]), (4, 4), _maps, 2, CPU)
    torch.testing.assert_close(found.pull_u, torch.tensor([0.0, 0.0, 1.0]))


def test_passes_have_one_size_whatever_the_number_of_crops():
    sizes = []

    def maps(pictures_bchw):
        sizes.append(len(pictures_bchw))
        return pictures_bchw

    crops = [_plain((step, 0, 0)) for step in range(5)]
    found = anchor(FacetCrops(crops), (4, 4), maps, 2, CPU)
    assert sizes == [2, 2, 2]
    torch.testing.assert_close(found.start_chw[0, 0, 0], torch.tensor(2 / 255))
