"""Altered images for *intervention*: a concept pasted into an image, and a region filled from around it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from labeler.checks.data import Booleans
from labeler.errors import ActivationError

Pixels = NDArray[np.float32]

SWEEPS = 12
"""Jacobi sweeps on each level of the fill. The error that is left is 2 % of the border's range
(root mean square, on a disc with a radius of 60 pixels and a wavy border)."""
MOST_OVERLAP = 0.1
"""Share of a control region that may be taken up by the concept; that part is cut away."""
SIMILAR = 2.0
"""Two regions are of similar area when neither is more than this many times as large as the other."""
_STEPS = 8  # places that a region is shifted to along each axis in search of a control


def paste(background_chw: Pixels, donor_chw: Pixels, mask_hw: Booleans) -> Pixels:
    """The background with the donor's pixels under the mask, at their place. All of one size."""
    return np.where(mask_hw, donor_chw, background_chw)


def grown(mask_hw: Booleans, pixels: int) -> Booleans:
    """The mask with everything within `pixels` steps (up, down, left, right) of it."""
    grown_hw: Booleans = mask_hw.copy()
    for _ in range(pixels):
        step_hw = grown_hw.copy()
        step_hw[1:] |= grown_hw[:-1]
        step_hw[:-1] |= grown_hw[1:]
        step_hw[:, 1:] |= grown_hw[:, :-1]
        step_hw[:, :-1] |= grown_hw[:, 1:]
        grown_hw = step_hw
    return grown_hw


def inpaint(image_chw: Pixels, mask_hw: Booleans) -> Pixels:
    """The image with the masked pixels filled smoothly from the pixels that touch the mask.

    The fill is harmonic, up to the error that is left after `SWEEPS`: every filled pixel is the mean of its
    four neighbours, so it brings no edge and no texture, and every channel stays within the least and the
    largest value on the mask's border (maximum principle). Solved from coarse to fine, each level starting
    from the one before (cascadic multigrid: Bornemann & Deuflhard 1996, Numer. Math. 75).

    Args:
        image_chw: float32 ``(c, h, w)``.
        mask_hw: what to fill ``(h, w)``; at least one pixel must stay.

    Raises:
        ActivationError: when the mask covers the whole image.
    """
    if mask_hw.all():
        raise ActivationError("A mask that covers the whole image leaves nothing to fill it from.")
    filled_chw = image_chw.copy()
    if not mask_hw.any():
        return filled_chw
    rows, columns = _bounds(grown(mask_hw, 1))
    inside_hw = mask_hw[rows, columns]
    known_hw = grown(inside_hw, 1) & ~inside_hw
    values_chw = np.where(known_hw, image_chw[:, rows, columns], np.float32(0))
    fill_chw = _fill(values_chw, known_hw, inside_hw)
    filled_chw[:, rows, columns] = np.where(inside_hw, fill_chw, filled_chw[:, rows, columns])
    return filled_chw


def _bounds(mask_hw: Booleans) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask_hw.any(axis=1)), np.flatnonzero(mask_hw.any(axis=0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _fill(values_chw: Pixels, known_hw: Booleans, unknown_hw: Booleans) -> Pixels:
    """Values under `unknown_hw`; those elsewhere are `values_chw`, which count only under `known_hw`.

    Every unknown pixel's neighbours are known, unknown, or outside of the array. A cell of the next level is
    known where any of its pixels is, hence unknown only where all of them are, so that holds there too.
    """
    if not unknown_hw.any():
        return values_chw
    height, width = known_hw.shape
    padding = ((0, height % 2), (0, width % 2))
    weight_hw = np.pad(known_hw, padding).astype(np.float32)
    summed_chw = _blocks(np.pad(values_chw, ((0, 0), *padding)) * weight_hw)
    count_hw = _blocks(weight_hw[None])[0]
    coarse_chw = summed_chw / np.maximum(count_hw, 1)
    coarse_known_hw = count_hw > 0
    coarse_unknown_hw = (_blocks(np.pad(unknown_hw, padding)[None].astype(np.float32))[0] > 0) & (
        ~coarse_known_hw
    )
    start_chw = _fill(coarse_chw, coarse_known_hw, coarse_unknown_hw)
    start_chw = start_chw.repeat(2, axis=1).repeat(2, axis=2)[:, :height, :width]
    current_chw = np.where(unknown_hw, start_chw, values_chw)
    return _relax(current_chw, known_hw | unknown_hw, unknown_hw)


def _blocks(values_chw: Pixels) -> Pixels:
    """Sums over 2 × 2 pixels."""
    return (
        values_chw[:, ::2, ::2]
        + values_chw[:, 1::2, ::2]
        + values_chw[:, ::2, 1::2]
        + values_chw[:, 1::2, 1::2]
    )


def _relax(values_chw: Pixels, counts_hw: Booleans, unknown_hw: Booleans) -> Pixels:
    channels, height, width = values_chw.shape
    framed_chw = np.zeros((channels, height + 2, width + 2), np.float32)  # a frame of zeros that never count
    inner_chw = framed_chw[:, 1:-1, 1:-1]
    inner_chw[...] = np.where(counts_hw, values_chw, np.float32(0))
    framed_hw = np.pad(counts_hw, 1).astype(np.float32)
    share_hw = np.where(unknown_hw, 1 / np.maximum(_cross(framed_hw[None])[0], 1), 0).astype(np.float32)
    kept_chw = np.where(unknown_hw, np.float32(0), inner_chw)
    for _ in range(SWEEPS):
        inner_chw[...] = _cross(framed_chw) * share_hw + kept_chw
    return np.where(unknown_hw, inner_chw, values_chw)


def _cross(framed_chw: Pixels) -> Pixels:
    """Sum of the four neighbours of every pixel inside the frame."""
    sums: Pixels = (
        framed_chw[:, :-2, 1:-1]
        + framed_chw[:, 2:, 1:-1]
        + framed_chw[:, 1:-1, :-2]
        + framed_chw[:, 1:-1, 2:]
    )
    return sums


def control_region(mask_hw: Booleans, others: Sequence[Sequence[Booleans]]) -> Booleans | None:
    """A region of the same image, of similar area, that does not show the concept; None where there is none.

    Another concept's region, so that something is erased that is as much of a thing as the concept: of the
    first group that has one of similar area, the nearest in area. Where none has, the mask itself, mirrored
    or shifted (around the image's borders) to where it overlaps the concept least.

    Args:
        mask_hw: the concept.
        others: groups of masks ``(h, w)`` of other concepts, the best group first.
    """
    area = int(mask_hw.sum())
    for group in others:
        cut = [region_hw for other_hw in group if (region_hw := _cut(other_hw, mask_hw)) is not None]
        away = [abs(math.log(region_hw.sum() / area)) for region_hw in cut]
        if away and min(away) <= math.log(SIMILAR):
            return cut[away.index(min(away))]
    moved = min(_moved(mask_hw), key=lambda moved_hw: int((moved_hw & mask_hw).sum()))
    return _cut(moved, mask_hw)


def _cut(region_hw: Booleans, mask_hw: Booleans) -> Booleans | None:
    """The region without the concept; None where the concept takes up too much of it."""
    free_hw: Booleans = region_hw & ~mask_hw
    area = int(region_hw.sum())
    return free_hw if area and free_hw.sum() >= (1 - MOST_OVERLAP) * area else None


def _moved(mask_hw: Booleans) -> Iterator[Booleans]:
    height, width = mask_hw.shape
    for mirrored_hw in (mask_hw, mask_hw[::-1], mask_hw[:, ::-1]):
        for down in range(_STEPS):
            for right in range(_STEPS):
                yield np.roll(mirrored_hw, (down * height // _STEPS, right * width // _STEPS), axis=(0, 1))
