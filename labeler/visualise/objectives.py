"""What a picture is made to maximise: one number per picture, from the activation maps of its layer.

Every objective is a function of the maps and of each picture's unit, so that one batch serves many units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from labeler.errors import TargetError


class Objective(Protocol):
    """Scores each picture of a batch for the unit that it is meant for."""

    def __call__(self, maps_buhw: torch.Tensor, units_b: torch.Tensor) -> torch.Tensor:
        """The scores ``(b,)``, differentiable in the maps; a picture's score depends on its own map alone."""
        ...


def of_units(maps_buhw: torch.Tensor, units_b: torch.Tensor) -> torch.Tensor:
    """Each picture's map of its own unit, ``(b, h, w)``."""
    return maps_buhw[torch.arange(len(units_b), device=maps_buhw.device), units_b]


def channel(maps_buhw: torch.Tensor, units_b: torch.Tensor) -> torch.Tensor:
    """Mean over all positions: draws the pattern everywhere (Olah et al. 2017)."""
    return of_units(maps_buhw, units_b).mean(dim=(1, 2))


def neuron(maps_buhw: torch.Tensor, units_b: torch.Tensor) -> torch.Tensor:
    """The central position alone: draws the pattern once, within the receptive field."""
    own_bhw = of_units(maps_buhw, units_b)
    return own_bhw[:, own_bhw.shape[1] // 2, own_bhw.shape[2] // 2]


def logit(maps_buhw: torch.Tensor, units_b: torch.Tensor) -> torch.Tensor:
    """The value of a flat output.

    Raises:
        TargetError: when the layer has more than one position.
    """
    if maps_buhw.shape[2:] != (1, 1):
        raise TargetError("The logit objective needs a flat layer; use the channel objective for maps.")
    return of_units(maps_buhw, units_b)[:, 0, 0]


@dataclass(frozen=True, eq=False)
class Direction:
    """Mean over positions of the projection on a direction; a request's `unit` is the row of its direction.

    Attributes:
        weights_du: directions in the space of the layer's units, one a row.
    """

    weights_du: torch.Tensor

    def __call__(self, maps_buhw: torch.Tensor, units_b: torch.Tensor) -> torch.Tensor:
        """The scores ``(b,)``."""
        weights_bu = self.weights_du.to(maps_buhw)[units_b]
        return (maps_buhw.mean(dim=(2, 3)) * weights_bu).sum(dim=1)
