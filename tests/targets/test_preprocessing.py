import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from timm.data.transforms_factory import transforms_imagenet_eval
from torchvision.transforms import CenterCrop, ColorJitter, Compose, Resize, ToTensor
from torchvision.transforms._presets import ImageClassification

from labeler.errors import TargetError
from labeler.targets.preprocessing import read_transform
from labeler.testing import toy_target


def smooth_picture(width, height):
    x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    channels = [x, y, (np.sin(9 * x) * np.cos(7 * y) + 1) / 2]
    return Image.fromarray((np.stack(channels, -1) * 255).astype(np.uint8))


TRANSFORMS = {
    "torchvision": ImageClassification(crop_size=56, resize_size=64),
    "timm center": transforms_imagenet_eval(56, crop_pct=0.875, interpolation="bicubic"),
    "timm squash": transforms_imagenet_eval(56, crop_pct=0.9, crop_mode="squash"),
    "timm wide": transforms_imagenet_eval((40, 64), crop_pct=0.9),
    "timm border": transforms_imagenet_eval(56, crop_pct=1.0, crop_mode="border"),
}


@pytest.mark.parametrize("name", TRANSFORMS)
@settings(max_examples=15, deadline=None)
@given(width=st.integers(60, 400), height=st.integers(60, 400))
def test_view_box_is_what_the_transform_keeps(name, width, height):
    transform = TRANSFORMS[name]
    preprocessing = read_transform(transform, name)
    picture = smooth_picture(width, height)
    prepared = transform(picture)  # (3, h, w)
    box = preprocessing.view_box(width, height)
    size = tuple(reversed(prepared.shape[1:]))
    seen = picture.transform(size, Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (preprocessing.mean, preprocessing.std))
    shown = prepared * std + mean
    inside = np.asarray(picture.transform(size, Image.Transform.EXTENT, box, fillcolor=None)).any(-1)
    difference = (shown - ToTensor()(seen)).abs().mean(0)[torch.from_numpy(inside.copy())]
    assert difference.mean() < 0.02


def test_view_box_of_a_centre_crop_in_numbers():
    preprocessing = read_transform(Compose([Resize(64), CenterCrop(32), ToTensor()]), "n")
    assert preprocessing.view_box(256, 128) == (96, 32, 160, 96)


def test_step_that_moves_or_changes_pixels_unknown_to_us_is_refused():
    with pytest.raises(TargetError, match="ColorJitter"):
        read_transform(Compose([Resize(8), ColorJitter(), CenterCrop(8), ToTensor()]), "n")
    with pytest.raises(TargetError, match="one size"):
        read_transform(Compose([Resize(8), ToTensor()]), "n")


def test_normalise_agrees_with_prepare_and_takes_any_size():
    target = toy_target()
    picture = smooth_picture(32, 32)
    torch.testing.assert_close(target.normalise(ToTensor()(picture)[None])[0], target.prepare(picture))
    assert target.normalise(torch.zeros(2, 3, 5, 7)).shape == (2, 3, 5, 7)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_prepare_takes_pictures_of_any_mode(mode):
    prepared = toy_target().prepare(smooth_picture(50, 40).convert(mode))
    assert prepared.shape == (3, 32, 32)
    assert prepared.dtype == torch.float32
