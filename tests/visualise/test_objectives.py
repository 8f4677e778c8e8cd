import pytest
import torch

from labeler.errors import TargetError
from labeler.visualise.objectives import Direction, channel, logit, neuron

MAPS = torch.arange(2 * 3 * 3 * 3, dtype=torch.float32).view(2, 3, 3, 3)
UNITS = torch.tensor([2, 0])


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
