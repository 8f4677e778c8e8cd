"""Pictures of one facet: they start from the mean of its photographs and are pulled towards what those do.

Nguyen et al. 2016 (multifaceted feature visualisation) start from a facet's mean image; Goh et al. 2021
(multimodal neurons, "Faceted feature visualisation") add a pull along a direction in activation space.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate, normalize

Maps = Callable[[torch.Tensor], torch.Tensor]
"""Pictures in [0, 1], ``(b, 3, h, w)``, to the layer's maps ``(b, u, h, w)``."""


@dataclass(frozen=True)
class Crop:
    """A photograph as the target sees it, and the place in it at which the unit fires.

    Attributes:
        image: ``(h, w, 3)``.
        centre: from the left and from the top, in [0, 1].
    """

    image: NDArray[np.uint8]
    centre: tuple[float, float] = (0.5, 0.5)


@dataclass(frozen=True)
class FacetCrops:
    """The photographs of one facet of a unit, and those of its other facets."""

    own: Sequence[Crop]
    others: Sequence[Crop] = ()


@dataclass(frozen=True, eq=False)
class Anchor:
    """Where the pictures of a facet start and what they are pulled to.

    Attributes:
        start_chw: the mean of the facet's crops, in [0, 1].
        centre_u: mean activations over the crops of all facets.
        pull_u: unit vector from there to the mean activations of the facet's own.
    """

    start_chw: torch.Tensor
    centre_u: torch.Tensor
    pull_u: torch.Tensor

    def likeness(self, maps_uhw: torch.Tensor) -> torch.Tensor:
        """Cosine in [-1, 1] of the way from the centre to the picture with the way to the facet."""
        away_u = normalize(maps_uhw.mean(dim=(1, 2)) - self.centre_u, dim=0)
        return (away_u * self.pull_u).sum()


def anchor(crops: FacetCrops, size: tuple[int, int], maps: Maps, block: int, device: torch.device) -> Anchor:
    """The anchor of one facet.

    Args:
        crops: its photographs and those of the unit's other facets.
        size: (h, w) of the pictures in pixels.
        maps: gives the activations of the crops; called with `block` at a time, so that company changes
            nothing.
        block: crops in a pass.
        device: where the results go.
    """
    own_kchw = torch.stack([window(crop, size) for crop in crops.own]).to(device)
    own_u = _mean_activations(own_kchw, maps, block)
    facets_fu = [own_u]
    if crops.others:
        others_kchw = torch.stack([window(crop, size) for crop in crops.others]).to(device)
        facets_fu.append(_mean_activations(others_kchw, maps, block))
    centre_u = torch.stack(facets_fu).mean(dim=0) if crops.others else torch.zeros_like(own_u)
    return Anchor(own_kchw.mean(dim=0), centre_u, normalize(own_u - centre_u, dim=0))


def window(crop: Crop, size: tuple[int, int]) -> torch.Tensor:
    """The part of a photograph around its centre, at its own scale, in [0, 1]: ``(3, h, w)``.

    It is moved to lie within the photograph; a smaller photograph is enlarged.
    """
    image_chw = torch.from_numpy(crop.image).permute(2, 0, 1).float() / 255
    factor = max(want / have for want, have in zip(size, image_chw.shape[1:], strict=True))
    if factor > 1:
        larger = [math.ceil(side * factor) for side in image_chw.shape[1:]]
        image_chw = interpolate(image_chw[None], size=larger, mode="bilinear", align_corners=False)[0]
    middle = (crop.centre[1] * image_chw.shape[1], crop.centre[0] * image_chw.shape[2])
    top, left = (
        min(max(round(at - want / 2), 0), have - want)
        for at, want, have in zip(middle, size, image_chw.shape[1:], strict=True)
    )
    return image_chw[:, top : top + size[0], left : left + size[1]]


def _mean_activations(crops_kchw: torch.Tensor, maps: Maps, block: int) -> torch.Tensor:
    """Mean over crops and positions, ``(u,)``."""
    parts = []
    with torch.no_grad():
        for part_bchw in torch.split(crops_kchw, block):
            rows_b = torch.arange(block, device=part_bchw.device).clamp(
                max=len(part_bchw) - 1
            )  # the last repeats
            parts.append(maps(part_bchw[rows_b])[: len(part_bchw)].mean(dim=(2, 3)))
    return torch.cat(parts).mean(dim=0)
