"""Small random moves of each picture, so that what is drawn survives being shifted, scaled and turned."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

_GREY = 0.5


@dataclass(frozen=True)
class Moves:
    """Ranges of the random moves.

    Attributes:
        shift: how far the view may leave the picture, to each side, as a share of the picture's side.
        scale: least and greatest factor by which the picture is enlarged, drawn log-uniformly.
        degrees: largest turn to each side.
    """

    shift: float = 0.06
    scale: tuple[float, float] = (0.9, 1.1)
    degrees: float = 10.0

    def draw(self, steps: int, generator: torch.Generator) -> torch.Tensor:
        """The moves of one picture for every step, each drawn by itself.

        Args:
            steps: how many.
            generator: a CPU generator.

        Returns:
            Affine matrices ``(steps, 2, 3)`` from view to picture positions, as `affine_grid` takes them.
        """
        unit_s4 = torch.rand(steps, 4, generator=generator)
        angle_s = (2 * unit_s4[:, 0] - 1) * math.radians(self.degrees)
        low, high = (math.log(factor) for factor in self.scale)
        zoom_s = torch.exp(-(low + (high - low) * unit_s4[:, 1]))
        shift_s2 = (2 * unit_s4[:, 2:] - 1) * 2 * self.shift  # in the grid's units the picture's side is 2
        cos_s, sin_s = torch.cos(angle_s) * zoom_s, torch.sin(angle_s) * zoom_s
        rotation_s22 = torch.stack([torch.stack([cos_s, -sin_s], 1), torch.stack([sin_s, cos_s], 1)], 1)
        return torch.cat([rotation_s22, shift_s2[:, :, None]], 2)


def move(images_bchw: torch.Tensor, affine_b23: torch.Tensor) -> torch.Tensor:
    """Apply one affine move to each picture in one sampling; what lies outside is grey.

    Args:
        images_bchw: pictures in [0, 1].
        affine_b23: one matrix for each picture.

    Returns:
        ``(b, 3, h, w)``, differentiable.
    """
    grid_bhw2 = functional.affine_grid(affine_b23, list(images_bchw.shape), align_corners=False)
    return functional.grid_sample(images_bchw - _GREY, grid_bhw2, align_corners=False) + _GREY
