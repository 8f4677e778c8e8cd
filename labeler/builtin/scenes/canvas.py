"""Painting with bookkeeping: every pixel belongs to one layer, every layer carries the names of its concepts.

Coordinates are in image widths: x to the right, y down, the image is the unit square. Distances are signed
(negative inside), so an edge can be drawn one pixel soft and cut exactly in the middle for the mask.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Numbers = NDArray[np.floating[Any]]

PALETTE: Final[dict[str, tuple[tuple[int, int, int], ...]]] = {
    "black": ((14, 14, 16), (28, 26, 26)),
    "blue": ((24, 60, 200), (44, 110, 225)),
    "brown": ((110, 64, 28), (134, 82, 42)),
    "gray": ((118, 118, 120), (146, 146, 144)),
    "green": ((24, 130, 44), (60, 175, 62)),
    "orange": ((245, 128, 10), (252, 146, 34)),
    "pink": ((250, 132, 182), (252, 164, 200)),
    "purple": ((104, 28, 148), (138, 54, 178)),
    "red": ((196, 14, 24), (226, 36, 36)),
    "white": ((240, 240, 240), (252, 252, 250)),
    "yellow": ((240, 214, 24), (252, 230, 66)),
}
"""Two ends of the range from which a paint of each basic colour is drawn (sRGB, 0-255)."""


@dataclass(frozen=True)
class Paint:
    """How a region is coloured: one or two colours mixed by `mix`, multiplied by `shade`."""

    colours: tuple[str, ...]
    rgb: tuple[Floats, ...]
    mix: Floats | None = None  # (h, w) in 0..1; the second colour's share
    shade: Floats | None = None  # (h, w) multiplies all channels, about 1
    concepts: frozenset[str] = frozenset()


def sample_rgb(colour: str, rng: np.random.Generator) -> Floats:
    """A paint of the named basic colour."""
    low, high = np.asarray(PALETTE[colour], dtype=np.float32)
    share = np.float32(rng.random())
    return np.asarray(low + share * (high - low), dtype=np.float32)


def plain(colour: str, rng: np.random.Generator, shade: Floats | None = None) -> Paint:
    """One flat colour."""
    return Paint((colour,), (sample_rgb(colour, rng),), shade=shade)


def pixel_grid(size: int) -> tuple[Floats, Floats]:
    """y (h, 1) and x (1, w) of the pixel centres."""
    centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    return centres[:, None], centres[None, :]


def coverage(distance: Numbers, pixel: float) -> Floats:
    """Share of a pixel inside the region, from the signed distance of its centre; a pixel is `pixel` wide."""
    share = np.clip(np.float32(0.5) - distance * np.float32(1.0 / pixel), 0.0, 1.0)
    return np.asarray(share, dtype=np.float32)


class Canvas:
    """An image under construction; `layer_hw` names the topmost layer of each pixel."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.pixel = 1.0 / size
        self.image_hwc: Floats = np.zeros((size, size, 3), dtype=np.float32)
        self.layer_hw: NDArray[np.uint8] = np.zeros((size, size), dtype=np.uint8)
        self.layers: list[frozenset[str]] = [frozenset()]

    def window(self, y0: float, x0: float, y1: float, x1: float) -> tuple[slice, slice]:
        """Pixel slices that cover a box, one pixel wider on each side, cut at the border."""
        size = self.size
        rows = slice(max(0, int(y0 * size) - 1), min(size, int(y1 * size) + 2))
        columns = slice(max(0, int(x0 * size) - 1), min(size, int(x1 * size) + 2))
        return rows, columns

    def paint(
        self, window: tuple[slice, slice], cover: Floats | None, paint: Paint, concepts: frozenset[str]
    ) -> None:
        """Paints a window where `cover` (h, w) is positive; half covered pixels change their layer."""
        if cover is not None:
            inner = _bounds(cover)
            cover, paint = cover[inner], _cut(paint, inner)
            window = (_within(window[0], inner[0]), _within(window[1], inner[1]))
        target = self.image_hwc[window]
        colour = _mixed(paint)
        if cover is None:
            target[...] = colour
        else:
            target += cover[..., None] * (colour - target)
        inside = True if cover is None else cover >= 0.5
        for side, name in enumerate(paint.colours):
            self.layers.append(concepts | paint.concepts | {name})
            here = inside
            if len(paint.colours) == 2 and paint.mix is not None:
                second = paint.mix >= 0.5
                here = inside & (second if side else ~second)
            np.copyto(self.layer_hw[window], np.uint8(len(self.layers) - 1), where=here)


def _bounds(cover: Floats) -> tuple[slice, slice]:
    """The smallest window that holds everything covered."""
    rows, columns = np.flatnonzero(cover.any(axis=1)), np.flatnonzero(cover.any(axis=0))
    if rows.size == 0:
        return slice(0, 0), slice(0, 0)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _within(outer: slice, inner: slice) -> slice:
    return slice(outer.start + inner.start, outer.start + inner.stop)


def _cut(paint: Paint, window: tuple[slice, slice]) -> Paint:
    """The paint of a part of its window."""
    mix, shade = (field if field is None else field[window] for field in (paint.mix, paint.shade))
    return replace(paint, mix=mix, shade=shade)


def _mixed(paint: Paint) -> Floats:
    if len(paint.rgb) == 1 or paint.mix is None:
        colour = paint.rgb[0]
    else:
        colour = paint.rgb[0] + paint.mix[..., None] * (paint.rgb[1] - paint.rgb[0])
    return colour if paint.shade is None else colour * paint.shade[..., None]
