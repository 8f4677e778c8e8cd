"""Materials: scikit-image's photographs of brick, grass and gravel; drawn wood, metal, water and sand."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np

from labeler.errors import MissingExtraError

from .canvas import Floats, Paint, sample_rgb
from .textures import value_noise

PHOTOGRAPHS: Final = {
    "brick": ("red", "brown", "gray", "orange"),
    "grass": ("green", "green", "green", "yellow"),
    "gravel": ("gray", "gray", "brown", "white"),
}
"""Photographic materials and the colours in which they come."""


@cache
def _pyramid(name: str) -> tuple[Floats, ...]:
    """The photograph's luminance over its mean, at 512, 256, 128 and 64 px."""
    try:
        from skimage import data
    except ImportError as error:
        raise MissingExtraError("builtin:scenes needs scikit-image's photographs", "demo") from error
    level = np.asarray(getattr(data, name)(), dtype=np.float32)
    levels = [level / level.mean()]
    while levels[-1].shape[0] > 64:
        h, w = levels[-1].shape
        levels.append(levels[-1].reshape(h // 2, 2, w // 2, 2).mean(axis=(1, 3)))
    return tuple(levels)


def _photograph(name: str, y: Floats, x: Floats, pixel: float, rng: np.random.Generator) -> Floats:
    """Shading (h, w) from a random part of the photograph, at the level nearest the asked resolution."""
    span = rng.uniform(0.55, 0.9) if name != "gravel" else rng.uniform(0.4, 0.7)
    level = _pyramid(name)[int(np.clip(np.round(np.log2(512 * span * pixel)), 0, 3))]
    side = level.shape[0]
    rows = ((y[:, 0] + rng.random()) * span % 1.0 * side).astype(np.int32)
    columns = ((x[0] + rng.random()) * span % 1.0 * side).astype(np.int32)
    shade = level[np.ix_(np.minimum(rows, side - 1), np.minimum(columns, side - 1))]
    contrast = np.float32(1.1 if name == "brick" else 0.75)
    return np.asarray(np.maximum(1 + contrast * (shade - 1), 0.1), dtype=np.float32)


def _wood(y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    if rng.random() < 0.5:
        y, x = x, y
    board = y * 6 + np.float32(rng.random())
    plank = np.floor(board)
    key = plank.astype(np.int32) & 63
    shift, tone = (
        rng.uniform(0, 30, 64).astype(np.float32)[key],
        rng.uniform(0.86, 1.12, 64).astype(np.float32)[key],
    )
    grain = value_noise(x * 3 + shift, y * 40 + shift, rng)
    ring = np.sin(y * 60 + 6 * value_noise(x * 2.2 + shift, y * 7 + shift, rng))
    shade = tone * (1 + 0.14 * grain + 0.13 * ring)
    return np.where(board - plank < 0.07, np.float32(0.45), shade).astype(np.float32)


def _metal(y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    streak = value_noise(x * 2.5, y * 70, rng) + 0.7 * value_noise(x * 5 + 9, y * 31, rng)
    sheen = np.cos((x + np.float32(0.4) * y - np.float32(rng.random())) * np.float32(2 * np.pi * 1.3))
    return np.asarray(1.0 + 0.13 * streak + 0.26 * sheen, dtype=np.float32)


def _water(y: Floats, x: Floats, rng: np.random.Generator) -> tuple[Floats, Floats]:
    warp = value_noise(x * 5, y * 9, rng)
    wave = np.sin(y * 75 + 4 * warp + 3 * value_noise(x * 9, y * 16, rng))
    glint = np.clip((wave - 0.6) * 2.2, 0, 1) * (0.35 + 0.35 * value_noise(x * 7, y * 14, rng))
    return np.asarray(0.9 + 0.16 * wave, dtype=np.float32), np.asarray(
        np.clip(glint, 0, 0.49), dtype=np.float32
    )


def _sand(y: Floats, x: Floats, rng: np.random.Generator) -> Floats:
    dune = np.sin(y * 38 + x * 6 + 3.5 * value_noise(x * 2.5, y * 4, rng))
    grains = rng.standard_normal(np.broadcast(y, x).shape, dtype=np.float32)
    return np.asarray(0.97 + 0.05 * dune + 0.09 * grains, dtype=np.float32)


def material(
    name: str,
    y: Floats,
    x: Floats,
    pixel: float,
    rng: np.random.Generator,
    avoid: frozenset[str] = frozenset(),
) -> Paint:
    """The paint of a material over a window with coordinates y (h, 1), x (1, w) in image widths.

    A material that comes in several colours takes one that is not in `avoid`, if it can.
    """
    concepts = frozenset({name})
    if name in PHOTOGRAPHS:
        choices = tuple(c for c in PHOTOGRAPHS[name] if c not in avoid) or PHOTOGRAPHS[name]
        colour = choices[int(rng.integers(len(choices)))]
        return Paint(
            (colour,), (sample_rgb(colour, rng),), None, _photograph(name, y, x, pixel, rng), concepts
        )
    if name == "water":
        shade, glint = _water(y, x, rng)
        rgb = np.asarray([34, 98, 190], dtype=np.float32) + rng.uniform(-12, 12, 3).astype(np.float32)
        return Paint(("blue",), (rgb, np.asarray([235, 245, 255], np.float32)), glint, shade, concepts)
    if name == "wood":
        return Paint(
            ("brown",), (sample_rgb("brown", rng) * np.float32(1.15),), None, _wood(y, x, rng), concepts
        )
    if name == "metal":
        return Paint(
            ("gray",), (sample_rgb("gray", rng) * np.float32(1.15),), None, _metal(y, x, rng), concepts
        )
    rgb = np.asarray([228, 198, 122], dtype=np.float32)
    return Paint(("yellow",), (rgb,), None, _sand(y, x, rng), concepts)
