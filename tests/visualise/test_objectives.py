import pytest
import torch

from labeler.errors import TargetError
from labeler.visualise.objectives import Direction, channel, likeness, logit, neuron

MAPS = torch.arange(2 * 3 * 3 * 3, dtype=torch.float32).view(2, 3, 3, 3)
UNITS = torch.tensor([2, 0])


def _maps(count=4, units=6, seed=0):
    return torch.rand(count, units, 5, 5, generator=torch.Generator().manual_seed(seed))


def test_channel_is_the_mean_of_each_pictures_own_unit():
    assert channel(MAPS, UNITS).tolist() == [MAPS[0, 2].mean(), MAPS[1, 0].mean()]


def test_neuron_is_the_centre():
    assert neuron(MAPS, UNITS).tolist() == [MAPS[0, 2, 1, 1], MAPS[1, 0, 1, 1]]


def test_logit_is_for_flat_layers_only():
    flat = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])[:, :, None, None]
    assert logit(flat, UNITS).tolist() == [3.0, 4.0]
    with pytest.raises(TargetError, match="flat"):
        logit(MAPS, UNITS)


def test_a_one_hot_direction_is_the_channel():
    torch.testing.assert_close(Direction(torch.eye(3))(MAPS, UNITS), channel(MAPS, UNITS))


def test_likeness_is_the_mean_cosine_of_gram_matrices():
    maps = _maps(3)
    grams = [torch.einsum("up,vp->uv", m.flatten(1), m.flatten(1)).flatten() for m in maps]
    cosine = torch.nn.functional.cosine_similarity
    expected = [
        (cosine(grams[i], grams[(i + 1) % 3], dim=0) + cosine(grams[i], grams[(i + 2) % 3], dim=0)) / 2
        for i in range(3)
    ]
    torch.testing.assert_close(likeness(maps, [[0, 1, 2]]), torch.stack(expected))


def test_likeness_does_not_care_where_things_are():
    maps = _maps(1)
    both = torch.cat([maps, maps.roll((1, 2), dims=(2, 3))])
    torch.testing.assert_close(likeness(both, [[0, 1]]), torch.ones(2))


def test_likeness_is_within_a_group_only():
    maps = _maps(5)
    together = likeness(maps, [[0, 3], [1, 2]])
    assert torch.equal(together[[0, 3]], likeness(maps[[0, 3]], [[0, 1]]))
    assert together[4] == 0


def test_a_picture_without_finite_maps_is_left_out_of_the_comparison():
    maps = _maps(3)
    maps[1] = torch.nan
    found = likeness(maps.requires_grad_(), [[0, 1, 2]])
    assert torch.equal(found[[0, 2]], likeness(maps[[0, 2]], [[0, 1]]))
    assert found[1] == 0
    (gradient,) = torch.autograd.grad(found.sum(), maps)
    assert torch.isfinite(gradient).all()


def test_likeness_of_wide_layers_compares_some_of_the_channels():
    maps = _maps(2, units=1000)
    other = maps.clone()
    other[:, 1::4] = 0  # every fourth channel is compared
    torch.testing.assert_close(likeness(maps, [[0, 1]]), likeness(other, [[0, 1]]))
