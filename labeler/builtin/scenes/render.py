"""Composes a scene: a background, one to four figures over it, light and noise, masks and a caption."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .backdrops import BACKDROP_COLOURS, BACKDROPS
from .canvas import Canvas, Floats, pixel_grid, plain
from .concepts import CONCEPTS, INDEX, names
from .figures import paint_figures
from .fills import COLOURS, choose, two_coloured, word
from .materials import material
from .textures import TEXTURES

MINIMUM_AREA: Final = 0.004
"""A concept counts as present from this share of the image's pixels on; what is smaller is not annotated."""


@dataclass(frozen=True)
class Scene:
    """A rendered image with its annotations.

    Attributes:
        image: (h, w, 3) uint8, sRGB.
        masks: (c, h, w) bool, the visible pixels of each concept present.
        concepts: (c,) int64, ascending indices into `CONCEPTS`; each covers at least `MINIMUM_AREA`.
        caption: one sentence about the background and the figures.
    """

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    concepts: NDArray[np.int64]
    caption: str


@dataclass(frozen=True)
class LayeredScene:
    """A scene before its annotations are unfolded: compact enough to keep tens of thousands of them.

    Attributes:
        image: (h, w, 3) uint8, sRGB.
        layer_hw: (h, w) uint8, the painted layer of each pixel.
        member: (concepts, layers) bool, which layers show a concept; small ones included.
        caption: one sentence.
    """

    image: NDArray[np.uint8]
    layer_hw: NDArray[np.uint8]
    member: NDArray[np.bool_]
    caption: str


def render_layers(seed: int, index: int, size: int = 224) -> LayeredScene:
    """The scene that `render_scene` gives for the same three numbers, with layers in place of masks."""
    rng = np.random.default_rng([seed, index])
    canvas = Canvas(size)
    avoid, behind = _background(canvas, rng)
    caption = _caption(paint_figures(canvas, avoid, rng), behind, rng)
    member = np.zeros((len(CONCEPTS), len(canvas.layers)), dtype=bool)
    for layer, labels in enumerate(canvas.layers):
        member[[INDEX[name] for name in labels], layer] = True
    return LayeredScene(_lit(canvas.image_hwc, rng), canvas.layer_hw, member, caption)


def render_scene(seed: int, index: int, size: int = 224) -> Scene:
    """The scene number `index` of the endless series `seed`, `size` x `size` pixels.

    The same three numbers give the same scene; another size gives the same composition, finer or coarser.

    Raises:
        MissingExtraError: scikit-image, whose photographs are the brick, grass and gravel, is not installed.
    """
    scene = render_layers(seed, index, size)
    area_l = np.bincount(scene.layer_hw.ravel(), minlength=scene.member.shape[1])
    present = np.flatnonzero(scene.member @ area_l >= MINIMUM_AREA * scene.layer_hw.size)
    masks = np.take(scene.member[present], scene.layer_hw.astype(np.intp), axis=1)
    return Scene(scene.image, masks, present.astype(np.int64), scene.caption)


def _background(canvas: Canvas, rng: np.random.Generator) -> tuple[frozenset[str], str]:
    """Paints the background; returns the colours that figures should avoid, and words for the caption."""
    kind = rng.choice(5, p=(0.28, 0.1, 0.26, 0.14, 0.22))
    everything = (slice(0, canvas.size), slice(0, canvas.size))
    y, x = pixel_grid(canvas.size)
    nothing: frozenset[str] = frozenset()
    if kind <= 1:
        colour = choose(COLOURS, rng)
        slope = rng.uniform(-0.5, 0.5, 2).astype(np.float32) * np.float32(kind)
        shade = 1 + slope[0] * (x - np.float32(0.5)) + slope[1] * (y - np.float32(0.5))
        canvas.paint(everything, None, plain(colour, rng, np.asarray(shade, np.float32)), nothing)
        return frozenset({colour}), f"a {word(colour, rng)} background"
    if kind == 4:
        name = choose(tuple(BACKDROPS), rng)
        BACKDROPS[name](canvas, rng)
        return frozenset(BACKDROP_COLOURS[name]), f"a {word(name, rng)}"
    if kind == 3:
        name = choose(names("material"), rng)
        paint = material(name, y, x, canvas.pixel, rng)
    else:
        name = choose(tuple(TEXTURES), rng)
        centre = (float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.3, 0.7)))
        paint = two_coloured(name, y, x, centre, False, canvas.pixel, nothing, rng)
    canvas.paint(everything, None, paint, nothing)
    colours = " and ".join(word(c, rng) for c in paint.colours)
    return frozenset(paint.colours), f"a {colours} {word(name, rng)} background"


def _caption(described: list[str], behind: str, rng: np.random.Generator) -> str:
    opening = choose(("", "a photo of ", "a picture of "), rng)
    figures = described[0] if len(described) == 1 else ", ".join(described[:-1]) + " and " + described[-1]
    return f"{opening}{figures} on {behind}"


def _lit(image_hwc: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A mild slope of light, brightness and grain."""
    h, w = image_hwc.shape[:2]
    y, x = pixel_grid(h)
    slope_y, slope_x = rng.uniform(-0.14, 0.14, 2).astype(np.float32)
    light = (
        np.float32(rng.uniform(0.93, 1.05))
        + slope_y * (y - np.float32(0.5))
        + slope_x * (x - np.float32(0.5))
    )
    grain = rng.standard_normal((h, w), dtype=np.float32) * np.float32(rng.uniform(1.5, 6.0))
    lit = image_hwc * light[..., None]
    lit += grain[..., None]
    return np.asarray(np.clip(lit, 0, 255, out=lit), dtype=np.uint8)
