import pytest
import torch
from torch import nn
from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor

from labeler.errors import TargetError, UnknownNameError
from labeler.targets import ModuleTarget
from labeler.testing import toy_target

TRANSFORM = Compose([Resize(8), CenterCrop(8), ToTensor()])


class Net(nn.Module):
    """Two convolutions, with everything that hooks get wrong: a shared module, in-place steps, dead ends."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.relu = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(4, 4, 1)
        self.unused = nn.Conv2d(4, 4, 1)
        self.ran_late = 0
        self.late = nn.Identity()
        self.late.register_forward_hook(lambda *_: setattr(self, "ran_late", self.ran_late + 1))

    def forward(self, images):
        if images.shape[0] == 13:
            raise RuntimeError("thirteen")
        hidden = self.relu(self.first(images))
        hidden = self.relu(self.second(hidden))
        return self.late(hidden)


def net_target(*layers):
    torch.manual_seed(0)
    return ModuleTarget("net", "net", Net(), TRANSFORM, layers, torch.device("cpu"))


def hook_count(target):
    return sum(len(module._forward_hooks) for module in target._network.modules())


def test_layers_come_in_forward_order_and_maps_in_the_order_asked_for():
    target = net_target("late", "second", "first")
    assert target.layers == ("first", "second", "late")
    assert list(target.maps(torch.zeros(1, 3, 8, 8), ["late", "first"])) == ["late", "first"]


def test_later_layers_do_not_run():
    target = net_target("first", "second")
    before = target._network.ran_late
    target.maps(torch.zeros(1, 3, 8, 8), ["second", "first"])
    assert target._network.ran_late == before


def test_shared_module_counts_with_its_last_output():
    target = net_target("relu", "second")
    images = torch.randn(2, 3, 8, 8)
    maps = target.maps(images, ["relu"])["relu"]
    assert torch.equal(maps, target._network(images))


def test_output_overwritten_in_place_later_is_still_the_layers_own():
    target = net_target("first", "second")
    images = torch.randn(2, 3, 8, 8)
    expected = target._network.first(images)
    assert expected.min() < 0
    torch.testing.assert_close(target.maps(images, ["first", "second"])["first"], expected)


def test_hooks_are_gone_after_success_and_after_an_exception():
    target = net_target("first", "second")
    before = hook_count(target)
    target.maps(torch.zeros(1, 3, 8, 8), ["first"])
    assert hook_count(target) == before
    with pytest.raises(RuntimeError, match="thirteen"):
        target.maps(torch.zeros(13, 3, 8, 8), ["first"])
    assert hook_count(target) == before


def test_gradients_reach_the_picture_and_not_the_parameters():
    target = toy_target()
    picture = torch.rand(1, 3, 32, 32, requires_grad=True)
    target.maps(target.normalise(picture), ["conv2"])["conv2"][:, 3].mean().backward()
    assert picture.grad[:, 0].max() < 0
    assert picture.grad[:, 1:].abs().max() == 0
    assert not any(parameter.requires_grad for parameter in target._network.parameters())


def test_unknown_layer_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean second"):
        net_target("secnd")
    with pytest.raises(UnknownNameError, match="conv1"):
        toy_target().maps(torch.zeros(1, 3, 32, 32), ["conv3"])


def test_layer_that_never_runs_is_refused():
    with pytest.raises(TargetError, match="unused never runs"):
        net_target("first", "unused")


def test_toy_target_is_what_it_says():
    target = toy_target()
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(3)) * 2 - 1
    maps = target.maps(images, target.layers)
    torch.testing.assert_close(maps["conv1"][:, :3], images)
    assert maps["conv1"][:, 3].abs().max() == 0
    assert maps["conv2"].shape == (8, 6, 16, 16)
    assert maps["conv2"][:, 3].max() < 0
    assert maps["conv2"][:, 4].abs().max() == 0
    assert target.fingerprint == toy_target().fingerprint != toy_target(seed=1).fingerprint
