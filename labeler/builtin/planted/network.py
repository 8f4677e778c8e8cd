"""The planted networks: a small convolutional trunk, its context, and one layer of units."""

from __future__ import annotations

import torch
from torch import Tensor, nn

UNITS = 96
"""Units of the layer ``units``: enough others for every specificity null."""
HIDDEN = 256
"""Channels between the trunk and the units."""
WIDTH = 128
"""Channels of the trunk's last map."""


class PlantedNetwork(nn.Module):
    """Units over a trunk, each seeing its own place and, through the context, the whole image.

    A unit of ``A and B`` fires at A only where B is somewhere in the image, so the features of every place
    come with their maximum and mean over all places. The units are rectified, as most in practice are, and
    saturate softly: twice the evidence for one half of ``A or B`` is not twice the activation.
    """

    def __init__(self, trunk: nn.Module) -> None:
        super().__init__()
        self.trunk = trunk
        self.hidden = nn.Sequential(nn.Conv2d(3 * WIDTH, HIDDEN, 1), nn.ReLU())
        self.units = nn.Sequential(nn.Conv2d(HIDDEN, UNITS, 1), nn.ReLU(), nn.Tanh())

    def forward(self, images_bchw: Tensor) -> Tensor:
        """Activations of the units, (b, UNITS, h / 8, w / 8)."""
        units: Tensor = self.units(self.hidden(with_context(self.trunk(images_bchw))))
        return units


def with_context(features_bkhw: Tensor) -> Tensor:
    """The features of every place beside their maximum and mean over all places, (b, 3k, h, w)."""
    maxima_bk11 = features_bkhw.amax(dim=(2, 3), keepdim=True)
    means_bk11 = features_bkhw.mean(dim=(2, 3), keepdim=True)
    h, w = features_bkhw.shape[2:]
    spread = [context.expand(-1, -1, h, w) for context in (maxima_bk11, means_bk11)]
    return torch.cat([features_bkhw, *spread], dim=1)


def plain_trunk() -> nn.Module:
    """3 × 3 convolutions, batch norm and ReLU: ``plain``."""

    def block(inside: int, outside: int, stride: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
        ]

    return nn.Sequential(
        *block(3, 32, 2), *block(32, 64, 2), *block(64, 64, 1), *block(64, 96, 2), *block(96, 96, 1),
        *block(96, WIDTH, 1),
    )  # fmt: skip


class _Mixer(nn.Module):
    """A depthwise 7 × 7 convolution and two pointwise ones around a shortcut (ConvNeXt, Liu et al. 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 7, 1, 3, groups=width, bias=False),
            nn.BatchNorm2d(width),
            nn.Conv2d(width, 3 * width, 1),
            nn.GELU(),
            nn.Conv2d(3 * width, width, 1),
        )

    def forward(self, features_bkhw: Tensor) -> Tensor:
        mixed: Tensor = features_bkhw + self.body(features_bkhw)
        return mixed


def mixer_trunk() -> nn.Module:
    """Patches, wide depthwise kernels, GELU and shortcuts: ``mixer``, which nothing is fitted on."""
    return nn.Sequential(
        nn.Conv2d(3, 48, 4, 4, bias=False), nn.BatchNorm2d(48), _Mixer(48), _Mixer(48),
        nn.Conv2d(48, WIDTH, 2, 2, bias=False), nn.BatchNorm2d(WIDTH), _Mixer(WIDTH), _Mixer(WIDTH),
        nn.BatchNorm2d(WIDTH),
    )  # fmt: skip


TRUNKS = {"plain": plain_trunk, "mixer": mixer_trunk}
"""By name of the architecture."""
