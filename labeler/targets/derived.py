"""Layers that the network does not have as modules: SAE latents, directions, and negative sides.

`DerivedTarget` gives them beside the layers that they are taken from, so that nothing after it has to tell
one kind of unit from another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from PIL.Image import Image

from labeler.errors import UnknownNameError
from labeler.seams import Target
from labeler.storage import fingerprint


class Reading(Protocol):
    """What makes a derived layer's maps ``(b, d, h, w)`` from those of its source ``(b, u, h, w)``."""

    def __call__(self, maps_buhw: torch.Tensor, /) -> torch.Tensor:
        """Differentiable; a position depends on the same position alone."""
        ...


@dataclass(frozen=True)
class Derived:
    """One derived layer. `source` is a layer of the base, or a derived one that was given before it.

    `fingerprint` is over all that `read` depends on, its names included.
    """

    name: str
    source: str
    units: int
    fingerprint: str
    read: Reading


def negative_side(layer: str, units: int) -> Derived:
    """The layer ``LAYER-``: minus the maps of `layer`, so that its unit 3 is the unit ``LAYER:3-``.

    All of them are there, not only those asked for: the specificity null of a negative unit is the layer's
    other negative units.
    """
    return Derived(f"{layer}-", layer, units, "negative", _negated)


class DerivedTarget:
    """A target with derived layers; see `labeler.seams.Target`.

    Args:
        base: the network. It may have layers that are here only as sources.
        layers: those of `base` that are layers here too.
        derived: the derived layers, sources before what is derived from them. In `layers` they come, in this
            order, right after the layer of `base` that they are taken from.
    """

    def __init__(self, base: Target, layers: Sequence[str], derived: Sequence[Derived]) -> None:
        self.name = base.name
        self.input_size = base.input_size
        self.device = base.device
        self._base = base
        self._earlier: set[str] = set()
        self._derived = {item.name: item for item in derived}
        order = list(base.layers)
        for item in reversed(derived):
            order.insert(order.index(self._root(item.name)) + 1, item.name)
        self.layers = tuple(layer for layer in order if layer in layers or layer in self._derived)
        self.fingerprint = fingerprint(
            "derived", base.fingerprint, self.layers, [[item.name, item.fingerprint] for item in derived]
        )

    def unit_count(self, layer: str) -> int:
        """The number of units of `layer`.

        Raises:
            UnknownNameError: when `layer` is not one of `layers`.
        """
        self._known(layer)
        return self._derived[layer].units if layer in self._derived else self._base.unit_count(layer)

    def prepare(self, image: Image) -> torch.Tensor:
        """The model's own preprocessing of an image: float32 ``(3, h, w)``, normalised, on the CPU."""
        return self._base.prepare(image)

    def normalise(self, images_bchw: torch.Tensor) -> torch.Tensor:
        """Pictures in [0, 1] of any size to the model's input range, differentiable: ``(b, 3, h, w)``."""
        return self._base.normalise(images_bchw)

    def view_box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """The part (left, top, right, bottom), in pixels, of a width × height image that `prepare` keeps."""
        return self._base.view_box(width, height)

    def earlier(self, layer: str, count: int) -> tuple[str, ...]:
        """See `labeler.seams.Target.earlier`; those before the layer that `layer` comes from.

        Raises:
            UnknownNameError: when `layer` is not one of `layers`.
        """
        self._known(layer)
        found = self._base.earlier(self._root(layer), count)
        self._earlier.update(found)
        return found

    def maps(self, images_bchw: torch.Tensor, layers: Sequence[str]) -> dict[str, torch.Tensor]:
        """Activation maps ``(b, u, h, w)``, float32, of `layers`, in one pass that stops after the last.

        Raises:
            UnknownNameError: when a layer is not one of `layers`.
            TargetError: when images of this size give no maps.
        """
        for layer in layers:
            self._known(layer)
        found = self._base.maps(images_bchw, list(dict.fromkeys(self._root(layer) for layer in layers)))

        def read(layer: str) -> torch.Tensor:
            if layer not in found:
                found[layer] = self._derived[layer].read(read(self._derived[layer].source))
            return found[layer]

        return {layer: read(layer) for layer in layers}

    def _root(self, layer: str) -> str:
        """The layer of the base that `layer` comes from in the end."""
        while layer in self._derived:
            layer = self._derived[layer].source
        return layer

    def _known(self, layer: str) -> None:
        if layer not in self.layers and layer not in self._earlier:
            raise UnknownNameError("layer", layer, self.layers)


def _negated(maps_buhw: torch.Tensor) -> torch.Tensor:
    return 0.0 - maps_buhw  # not -maps, whose zeros would print as -0
