import pytest
import torch
from torch import nn

from labeler.visualise.rectifier import OpenRectifiers


def _gradient(network, inputs):
    inputs = inputs.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(-network(inputs).sum(), inputs)
    return gradient


@pytest.mark.parametrize("rectifier", [nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6()])
def test_a_silent_picture_gets_a_gradient_and_the_others_keep_theirs(rectifier):
    network = nn.Sequential(nn.Identity(), nn.Conv2d(1, 1, 1, bias=False), rectifier)
    nn.init.ones_(network[1].weight)
    inputs = torch.tensor([[-1.0, -2.0], [-1.0, 2.0]]).view(2, 1, 1, 2)
    assert _gradient(network, inputs).flatten().tolist() == [0, 0, 0, -1]
    with OpenRectifiers():
        opened = _gradient(network, inputs)
    assert opened.flatten().tolist() == [-1, -1, 0, -1]


def test_nothing_is_pushed_further_into_silence():
    inputs = torch.tensor([[[[-1.0, -2.0]]]]).requires_grad_()
    with OpenRectifiers():
        (gradient,) = torch.autograd.grad(torch.relu(inputs).sum(), inputs)
    assert gradient.flatten().tolist() == [0, 0]
