"""Scenes as the planted networks are trained on them: small images, each concept's share of every cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from labeler.builtin.planted import INPUT
from labeler.builtin.scenes import CONCEPTS
from labeler.builtin.scenes.render import render_layers

CELLS = INPUT // 8
"""Cells per side: those of the networks' maps."""
RENDERED = 224
"""Side at which the probe renders; smaller scenes lose the finest textures otherwise than resized ones."""


@dataclass(frozen=True)
class Scenes:
    """The first scenes of one series.

    Attributes:
        images: (n, 3, INPUT, INPUT) uint8.
        cells: (n, concepts, CELLS, CELLS) uint8, the share of each cell that a concept covers, of 255.
        areas: (n, concepts) float32, the share of the image that it covers.
    """

    images: Tensor
    cells: Tensor
    areas: NDArray[np.float32]


def render(seed: int, count: int) -> Scenes:
    """Render and reduce the first `count` scenes of the series `seed`."""
    images = torch.empty(count, 3, INPUT, INPUT, dtype=torch.uint8)
    cells = torch.empty(count, len(CONCEPTS), CELLS, CELLS, dtype=torch.uint8)
    areas = np.empty((count, len(CONCEPTS)), dtype=np.float32)
    side = RENDERED // CELLS
    for index in range(count):
        scene = render_layers(seed, index, RENDERED)
        image = torch.from_numpy(scene.image).permute(2, 0, 1)[None]
        images[index] = interpolate(image, (INPUT, INPUT), mode="bilinear", antialias=True)[0]
        layers = scene.member.shape[1]
        blocks = scene.layer_hw.reshape(CELLS, side, CELLS, side).transpose(0, 2, 1, 3).reshape(CELLS**2, -1)
        place = blocks.astype(np.int64) + np.arange(CELLS**2)[:, None] * layers
        counts = np.bincount(place.ravel(), minlength=CELLS**2 * layers).reshape(CELLS**2, layers)
        share = counts @ scene.member.T / side**2  # (cells, concepts)
        cells[index] = torch.from_numpy(np.round(share.T * 255).astype(np.uint8)).reshape(-1, CELLS, CELLS)
        areas[index] = share.mean(axis=0)
    return Scenes(images, cells, areas)


def normalised(images: Tensor) -> Tensor:
    """uint8 images as the networks take them: float32 in [-1, 1], channels_last. (b, 3, INPUT, INPUT)."""
    return images.float().div_(127.5).sub_(1).contiguous(memory_format=torch.channels_last)
