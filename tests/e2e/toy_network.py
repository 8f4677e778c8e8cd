"""A network small enough to be labelled in seconds, some of whose units have a known meaning.

``colours`` (16 units at full resolution) looks at one pixel at a time: units 0 to 5 prefer red, green, blue,
yellow, white and black, `DEAD` gives 0 everywhere, `NEGATIVE` is below zero everywhere, the rest are drawn.
``edges`` (16 units at half resolution) is drawn from a fixed seed.
"""

from __future__ import annotations

import torch
from torch import nn
from torchvision.transforms._presets import ImageClassification

SIDE = 64
DEAD = 6
NEGATIVE = 7
PREFERENCES = {
    "red": ((1.0, -0.9, -0.9), 0.0),
    "green": ((-0.9, 1.0, -0.9), 0.0),
    "blue": ((-0.9, -0.9, 1.0), 0.0),
    "yellow": ((0.5, 0.5, -1.2), 0.0),
    "white": ((0.4, 0.4, 0.4), 0.0),
    "black": ((-0.4, -0.4, -0.4), 0.0),
}


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.colours = nn.Conv2d(3, 16, 1)
        self.edges = nn.Conv2d(16, 16, 5, stride=2, padding=2)
        self.head = nn.Linear(16, 4)
        with torch.no_grad():
            for layer in (self.colours, self.edges, self.head):
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) / 4)
                layer.bias.zero_()
            for unit, (weights, bias) in enumerate(PREFERENCES.values()):
                self.colours.weight[unit, :, 0, 0] = torch.tensor(weights)
                self.colours.bias[unit] = bias
            self.colours.weight[DEAD] = 0
            self.colours.weight[NEGATIVE] = 0.05
            self.colours.bias[NEGATIVE] = -3

    def forward(self, images_bchw: torch.Tensor) -> torch.Tensor:
        maps_buhw = torch.relu(self.edges(torch.relu(self.colours(images_bchw))))
        return self.head(maps_buhw.mean(dim=(2, 3)))  # (b, 4)


def build() -> tuple[nn.Module, ImageClassification]:
    return Toy().eval(), ImageClassification(crop_size=SIDE, resize_size=SIDE)
