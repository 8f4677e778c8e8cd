"""Where in an exemplar a unit fires, and how that is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageFilter

from labeler.errors import ActivationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Box = tuple[float, float, float, float]

GRID = 56
"""Cells per side of a region's mask, the annotation grid of dissect (Bau et al. 2020)."""
_PADDING = 2 / GRID  # two cells: bilinear upsampling rounds the region's corners off
_CONTEXT = 1.2  # a crop is this much wider than its box, so that an embedding sees the outline
_DIM = 0.55  # brightness outside the region: context stays legible (NetDissect shows it, MILAN hides it)


@dataclass(frozen=True)
class Region:
    """The cells of one image above the unit's threshold, and the box around those that hold the peak.

    `mask` is ``(56, 56)``; `box` is (left, top, right, bottom) in [0, 1] of the prepared image, padded.
    """

    mask: NDArray[np.bool_]
    box: Box


def activating_region(map_hw: NDArray[np.float32], threshold: float) -> Region | None:
    """The activating region of one activation map, or None where a flat unit has no map (1 × 1).

    The map is upsampled bilinearly to 56 × 56 cells and cut above `threshold` (Network Dissection's T_u, Bau
    et al. 2017, sec. 2.2). The peak cell always belongs to the region, also below the threshold. The box is
    that of the peak's connected component (edges or corners touching).

    Raises:
        ActivationError: when the map is not finite.
    """
    if map_hw.size == 1:
        return None
    if not np.isfinite(map_hw).all():
        raise ActivationError("An activation map has values that are not finite; run the target in float32.")
    maps_11hw = torch.from_numpy(np.ascontiguousarray(map_hw, dtype=np.float32))[None, None]
    up_hw = torch.nn.functional.interpolate(
        maps_11hw, size=(GRID, GRID), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    peak = np.unravel_index(int(up_hw.argmax()), up_hw.shape)
    mask_hw = up_hw > threshold
    mask_hw[peak] = True
    return Region(mask_hw, _box(_component(mask_hw, peak)))


def _component(mask_hw: NDArray[np.bool_], seed: tuple[np.intp, ...]) -> NDArray[np.bool_]:
    """The 8-connected component of `mask_hw` that holds `seed`."""
    found_hw = np.zeros_like(mask_hw)
    found_hw[seed] = True
    while True:
        grown_hw = _dilate(found_hw) & mask_hw
        if (grown_hw == found_hw).all():
            return found_hw
        found_hw = grown_hw


def _dilate(mask_hw: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.pad(mask_hw, 1)
    rows = padded[:-2] | padded[1:-1] | padded[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]


def _box(mask_hw: NDArray[np.bool_]) -> Box:
    rows, columns = np.flatnonzero(mask_hw.any(axis=1)), np.flatnonzero(mask_hw.any(axis=0))
    left, top = columns[0] / GRID - _PADDING, rows[0] / GRID - _PADDING
    right, bottom = (columns[-1] + 1) / GRID + _PADDING, (rows[-1] + 1) / GRID + _PADDING
    return (max(0.0, float(left)), max(0.0, float(top)), min(1.0, float(right)), min(1.0, float(bottom)))


def view(image: Image.Image, box: Box, size: int) -> Image.Image:
    """The part of `image` that the target sees (`Target.view_box`, in pixels), as size × size RGB."""
    left, top, right, bottom = box
    inside = (max(0.0, left), max(0.0, top), min(float(image.width), right), min(float(image.height), bottom))
    return image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC, box=inside)


def draw_tile(
    view: Image.Image,
    mask_hw: NDArray[np.bool_] | None,
    size: int = 112,
    outline: tuple[int, int, int] = (255, 255, 255),
) -> Image.Image:
    """A size × size tile with the region outlined and the rest dimmed; without a mask the plain tile.

    The line is double, `outline` inside and black outside, so that it shows on any photograph.
    """
    tile = view.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    if mask_hw is None:
        return tile
    smooth = Image.fromarray(mask_hw.astype(np.uint8) * 255).resize((size, size), Image.Resampling.BICUBIC)
    inside_hw = np.asarray(smooth) > 127
    if not inside_hw.any():  # a single cell can vanish in a small tile
        nearest = Image.fromarray(mask_hw).resize((size, size), Image.Resampling.NEAREST)
        inside_hw = np.asarray(nearest)
    width = max(1, round(size / 112))
    pixels = np.asarray(tile).astype(np.float32)
    pixels[~inside_hw] *= _DIM
    pixels[_grow(inside_hw, width) & ~inside_hw] = 0
    pixels[inside_hw & _grow(~inside_hw, width)] = outline
    return Image.fromarray(pixels.round().astype(np.uint8))


def _grow(mask_hw: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    grown = Image.fromarray(mask_hw.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(2 * pixels + 1))
    return np.asarray(grown) > 0


def crop_region(view: Image.Image, box: Box, min_share: float = 0.3) -> Image.Image:
    """A square crop around a region's box with some context, for embedding.

    Its side is 1.2 times the longer side of the box, at least `min_share` of the view (a crop of a few pixels
    means nothing to an encoder) and at most the whole of it; it is moved, not cut, at the borders.
    """
    width, height = view.size
    left, top, right, bottom = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    side = max(_CONTEXT * max(right - left, bottom - top), min_share * min(width, height), 1.0)
    across, down = min(side, width), min(side, height)
    x = min(max((left + right - across) / 2, 0.0), width - across)
    y = min(max((top + bottom - down) / 2, 0.0), height - down)
    return view.crop((round(x), round(y), round(x + across), round(y + down)))
