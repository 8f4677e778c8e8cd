"""What a picture is made to maximise: one number per picture, from the activation maps of its layer.

Every objective is a function of the maps and of each picture's unit, so that one batch serves many units.
SAE latents, named directions and negative sides are layers of the target (`labeler.targets.derived`), so that
these objectives serve them too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch.nn.functional import normalize

from labeler.errors import TargetError

COMPARED = 256
"""Channels, evenly taken from the layer's, whose Gram matrix diversity compares: a matrix of the 1,152 of
EfficientNet-Lite0's late layers has 1.3 million entries, and 16 of them would not fit a cache."""


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


OBJECTIVES: Final[dict[str, Objective]] = {"channel": channel, "neuron": neuron}
"""By the name that the config gives them."""


def likeness(maps_buhw: torch.Tensor, groups: Sequence[Sequence[int]]) -> torch.Tensor:
    """Mean cosine of each picture's channel Gram matrix with those of the rest of its group.

    Source: Olah et al. 2017, "Diversity". Only pictures with finite maps are compared, so that one that
    overflows does not take the others with it.

    Args:
        maps_buhw: activation maps.
        groups: the rows of the pictures that are compared with each other.

    Returns:
        ``(b,)`` in [-1, 1]; 0 for a picture with nothing to be compared with.
    """
    step = -(-maps_buhw.shape[1] // COMPARED)
    finite_b = torch.isfinite(maps_buhw).flatten(1).all(dim=1).tolist()
    found_b = list(maps_buhw.new_zeros(len(maps_buhw)))
    for group in groups:
        rows = [row for row in group if finite_b[row]]
        if len(rows) < 2:
            continue
        features_gup = maps_buhw[rows, ::step].flatten(2)
        gram_gv = normalize((features_gup @ features_gup.transpose(1, 2)).flatten(1), dim=1)
        cosine_gg = gram_gv @ gram_gv.T
        mean_g = (cosine_gg.sum(dim=1) - cosine_gg.diagonal()) / (len(rows) - 1)
        for row, mean in zip(rows, mean_g, strict=True):
            found_b[row] = mean
    return torch.stack(found_b)
