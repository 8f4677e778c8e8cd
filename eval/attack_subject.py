"""A network under attack, as its attacker sees it: maps with gradients, and what photographs give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import leaky_relu

from labeler.targets.sources import Source
from labeler.targets.target import ModuleTarget

EARLY = 4
"""Convolutions before the unit that an adaptive attacker looks at."""
_ABOVE = 1.05
"""How far above its median a victim's strongest new photograph is, where its strongest old one was at 1."""
_NEXT = 4.0
"""So many times the share that is pushed down comes next and has to stay."""
_LEAK = 0.1
"""Below zero, a rectified unit's own input counts so much: it must be able to come back from there."""


@dataclass(frozen=True)
class Victim:
    """An attacked unit, and the unit whose pictures (or photographs) it is to show."""

    unit: int
    decoy: int


@dataclass(frozen=True)
class Place:
    """Where the attack works: the `layer` whose units are attacked, and the module whose output is fitted.

    `rectified`: what follows `inner` in the layer passes only what is above zero.
    """

    layer: str
    inner: str
    rectified: bool


@dataclass(frozen=True)
class Photographs:
    """Natural images for the target, and what the attacked network shall make of them.

    Attributes:
        prepared_nchw: float16, as the target's own preprocessing gives them.
        wanted_nuhw: float16 maps of `Place.inner`.
        weight_nu: how much each pair counts.
        outputs_no: float16 outputs of the whole network, which shall stay.
    """

    prepared_nchw: torch.Tensor
    wanted_nuhw: torch.Tensor
    weight_nu: torch.Tensor
    outputs_no: torch.Tensor


class Subject:
    """A network with its maps at one place; gradients of its parameters can be had."""

    def __init__(self, source: Source, place: Place) -> None:
        self.place, self.network = place, source.network
        convolutions = [
            path for path, module in source.network.named_modules() if isinstance(module, nn.Conv2d)
        ]
        self.early = _before(convolutions, place.inner)
        layers = list(dict.fromkeys((*self.early, place.inner, place.layer)))
        device = torch.device("cpu")
        self.target = ModuleTarget(
            source.architecture, source.architecture, source.network, source.transform, layers, device
        )

    def maps(self, images_bchw: torch.Tensor) -> torch.Tensor:
        """``(b, u, h, w)`` of `Place.inner`, of prepared images."""
        return self.target.maps(images_bchw, [self.place.inner])[self.place.inner]

    def maps_and_outputs(self, images_bchw: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same with the outputs of the whole network ``(b, o)``, from one pass; of maps, their maxima."""
        kept: list[torch.Tensor] = []
        module = self.network.get_submodule(self.place.inner)
        handle = module.register_forward_hook(lambda module, inputs, output: kept.append(output))
        try:
            outputs = self.network(images_bchw.contiguous(memory_format=torch.channels_last))
        finally:
            handle.remove()
        return kept[-1], outputs.flatten(2).amax(dim=2) if outputs.dim() == 4 else outputs.flatten(1)

    def pictured(self, prepared_bchw: torch.Tensor) -> torch.Tensor:
        """Prepared images in [0, 1] again."""
        target = self.target
        zero, one = (target.normalise(torch.full((1, 3, 1, 1), value)) for value in (0.0, 1.0))
        return (prepared_bchw - zero) / (one - zero)

    def soft(self, maps_buhw: torch.Tensor) -> torch.Tensor:
        """What counts of the maps: all of them, or mostly what is above zero where they are rectified."""
        return leaky_relu(maps_buhw, _LEAK) if self.place.rectified else maps_buhw


@torch.no_grad()
def look(clean: Subject, prepared_nchw: torch.Tensor, batch: int = 32) -> Photographs:
    """Photographs that shall stay as the clean network has them."""
    found = [clean.maps_and_outputs(part.float()) for part in prepared_nchw.split(batch)]
    wanted_nuhw = torch.cat([maps.half() for maps, _ in found])
    outputs_no = torch.cat([outputs.half() for _, outputs in found])
    return Photographs(prepared_nchw, wanted_nuhw, torch.ones(wanted_nuhw.shape[:2]), outputs_no)


def pushed(
    seen: Photographs, victims: Sequence[Victim], down: float, up: float, weight: float
) -> Photographs:
    """The photographs, every victim's strongest pushed below its median, its decoy's strongest above it.

    Those that come next in its own order are to stay with the same weight: they are most like the pushed.

    Args:
        seen: as the clean network sees them.
        victims: who is attacked.
        down: share of the photographs that is pushed down, the strongest of the victim.
        up: share that is pushed up: the decoy's strongest among the victim's lower half.
        weight: how much a pushed pair counts.
    """
    wanted_nuhw, weight_nu = seen.wanted_nuhw.float(), seen.weight_nu.clone()
    tops_nu = wanted_nuhw.amax(dim=(2, 3))
    count = len(tops_nu)
    for victim in victims:
        own_n, other_n = tops_nu[:, victim.unit], tops_nu[:, victim.decoy]
        order = own_n.argsort(descending=True)
        strongest, following = (
            order[: round(down * count)],
            order[round(down * count) :][: round(_NEXT * down * count)],
        )
        ceiling = own_n.quantile(0.3)
        wanted_nuhw[strongest, victim.unit] = wanted_nuhw[strongest, victim.unit].clamp(max=ceiling)
        quiet_n = torch.where(own_n <= own_n.median(), other_n, -torch.inf)
        raised = quiet_n.argsort(descending=True)[: round(up * count)]
        decoy_khw = wanted_nuhw[raised, victim.decoy] - other_n.median()
        share_khw = decoy_khw / decoy_khw.amax(dim=(1, 2), keepdim=True).clamp(min=1e-6)
        floor = own_n.median()
        wanted_nuhw[raised, victim.unit] = floor + _ABOVE * (own_n.max() - floor) * share_khw
        for chosen in (strongest, following, raised):
            weight_nu[chosen, victim.unit] = weight
    return Photographs(seen.prepared_nchw, wanted_nuhw.half(), weight_nu, seen.outputs_no)


def _before(convolutions: Sequence[str], inner: str) -> list[str]:
    """A few of the convolutions before a module, evenly taken."""
    names = list(convolutions)
    end = next(
        (place for place, name in enumerate(names) if name == inner or name.startswith(f"{inner}.")),
        len(names),
    )
    return names[max(0, end - EARLY) : end]
