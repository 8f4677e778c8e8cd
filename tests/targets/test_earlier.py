import pytest
import timm
import torch
from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor

from labeler.errors import UnknownNameError
from labeler.targets import ModuleTarget
from labeler.targets.derived import DerivedTarget, negative_side
from labeler.testing import toy_target

from .test_hooks import hook_count, net_target


def test_it_names_what_runs_before_a_layer_but_not_what_computes_it():
    target = net_target("late")
    assert target.earlier("late", 5) == ("first",)
    maps = target.maps(torch.rand(2, 3, 8, 8), ["first", "late"])
    assert maps["first"].shape == (2, 4, 8, 8)
    assert target.layers == ("late",)


def test_a_convolution_that_is_itself_the_layer_is_left_out():
    target = toy_target()
    assert target.earlier("conv2", 3) == ("conv1",)
    assert target.earlier("conv1", 3) == ()


def test_only_as_many_as_asked_for_and_the_last_ones():
    transform = Compose([Resize(64), CenterCrop(64), ToTensor()])
    network = timm.create_model("resnet18", pretrained=False)
    target = ModuleTarget("net", "net", network, transform, ("layer2",), torch.device("cpu"))
    assert target.earlier("layer2", 2) == target.earlier("layer2", 6)[-2:]


def test_tokens_of_a_vision_transformer_lie_on_their_grid():
    transform = Compose([Resize(32), CenterCrop(32), ToTensor()])
    network = timm.create_model("vit_tiny_patch16_224", pretrained=False, img_size=32)
    target = ModuleTarget("vit", "vit", network, transform, ("blocks.3",), torch.device("cpu"))
    found = target.earlier("blocks.3", 4)
    assert len(found) == 4
    maps = target.maps(torch.rand(2, 3, 32, 32), [*found, "blocks.3"])
    assert {tuple(maps[path].shape[2:]) for path in found} == {(2, 2)}


def test_derived_layers_have_those_of_the_layer_they_come_from():
    base = toy_target()
    target = DerivedTarget(base, ("conv2",), [negative_side("conv2", 6)])
    assert target.earlier("conv2-", 3) == ("conv1",)
    images = torch.rand(2, 3, 32, 32)
    maps = target.maps(images, ["conv1", "conv2-"])
    assert torch.equal(maps["conv1"], base.maps(images, ["conv1"])["conv1"])


def test_hooks_are_gone_and_a_strange_layer_is_refused():
    target = net_target("late")
    before = hook_count(target)
    target.earlier("late", 5)
    with pytest.raises(UnknownNameError):
        target.earlier("nowhere", 5)
    assert hook_count(target) == before
