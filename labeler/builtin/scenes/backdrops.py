"""Scene backgrounds: sky, beach, field, night, city, mountain, each clear enough to be called by its name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .canvas import Canvas, Floats, Paint, coverage, pixel_grid, plain, sample_rgb
from .materials import material
from .textures import value_noise

Window = tuple[slice, slice]


def _rows(canvas: Canvas, top: float, bottom: float) -> tuple[Window, Floats, Floats]:
    window = (slice(int(top * canvas.size), int(np.ceil(bottom * canvas.size))), slice(0, canvas.size))
    y, x = pixel_grid(canvas.size)
    return window, y[window[0]], x


def _day_sky(canvas: Canvas, bottom: float, rng: np.random.Generator, concepts: frozenset[str]) -> None:
    window, y, x = _rows(canvas, 0.0, bottom)
    cloud = value_noise(x * 4 + 3, y * 8 + 5, rng) + np.float32(0.5) * value_noise(x * 9, y * 17, rng)
    cover = np.clip((cloud - np.float32(0.12)) * np.float32(2.4), 0, 1) * np.float32(0.95)
    blue = np.asarray([70, 140, 226], dtype=np.float32) + rng.uniform(-12, 12, 3).astype(np.float32)
    white = np.asarray([248, 250, 252], dtype=np.float32)
    shade = np.broadcast_to(1 + np.float32(0.14) * (y / np.float32(bottom) - np.float32(0.5)), cover.shape)
    canvas.paint(window, None, Paint(("blue", "white"), (blue, white), cover, shade), concepts | {"sky"})


def _sky(canvas: Canvas, rng: np.random.Generator) -> None:
    _day_sky(canvas, 1.0, rng, frozenset())


def _beach(canvas: Canvas, rng: np.random.Generator) -> None:
    horizon = float(rng.uniform(0.22, 0.34))
    _day_sky(canvas, horizon, rng, frozenset())
    window, y, x = _rows(canvas, horizon, 1.0)
    canvas.paint(window, None, material("water", y, x, canvas.pixel, rng), frozenset({"beach"}))
    shore = np.float32(horizon + rng.uniform(0.18, 0.26)) + np.float32(0.03) * np.sin(
        x * 9 + np.float32(rng.random() * 6)
    )
    foam = coverage(shore - np.float32(0.022) - y, canvas.pixel)
    canvas.paint(window, foam, plain("white", rng), frozenset({"beach"}))
    beach_sand = material("sand", y, x, canvas.pixel, rng)
    canvas.paint(window, coverage(shore - y, canvas.pixel), beach_sand, frozenset({"beach"}))


def _field(canvas: Canvas, rng: np.random.Generator) -> None:
    horizon = float(rng.uniform(0.3, 0.42))
    _day_sky(canvas, horizon + 0.08, rng, frozenset())
    window, y, x = _rows(canvas, horizon - 0.06, 1.0)
    for step, drop in enumerate((0.0, 0.1)):
        crest = np.float32(horizon + drop) + np.float32(0.035) * np.sin(
            x * (4 + 2 * step) + np.float32(rng.random() * 6)
        )
        depth = np.maximum(y - crest, 0) + np.float32(0.12)
        vanish = np.float32(rng.uniform(0.2, 0.8))
        furrow = np.sin((x - vanish) / depth * np.float32(7)) * np.minimum(depth * 3, 1)
        shade = np.asarray(1 - 0.12 * step + 0.2 * furrow, dtype=np.float32)
        ground = Paint(("green",), (sample_rgb("green", rng),), shade=shade)
        canvas.paint(window, coverage(crest - y, canvas.pixel), ground, frozenset({"field"}))


def _night(canvas: Canvas, rng: np.random.Generator) -> None:
    window, y, x = _rows(canvas, 0.0, 1.0)
    dark = np.asarray([12, 12, 26], dtype=np.float32)
    canvas.paint(window, None, Paint(("black",), (dark,)), frozenset({"night"}))
    column, row = np.floor(x * 11), np.floor(y * 11)
    key = (row.astype(np.int32) & 15) * 16 + (column.astype(np.int32) & 15)
    dy = y * 11 - row - rng.uniform(0.2, 0.8, 256).astype(np.float32)[key]
    dx = x * 11 - column - rng.uniform(0.2, 0.8, 256).astype(np.float32)[key]
    star = coverage(
        np.hypot(dy, dx) - rng.uniform(0.03, 0.13, 256).astype(np.float32)[key], canvas.pixel * 11
    )
    canvas.paint(window, star, plain("white", rng), frozenset({"night"}))
    cy, cx = float(rng.uniform(0.12, 0.3)), float(rng.uniform(0.15, 0.85))
    moon = coverage(np.hypot(y - np.float32(cy), x - np.float32(cx)) - np.float32(0.09), canvas.pixel)
    canvas.paint(window, moon, plain("white" if rng.random() < 0.5 else "yellow", rng), frozenset({"night"}))


def _city(canvas: Canvas, rng: np.random.Generator) -> None:
    _day_sky(canvas, 0.75, rng, frozenset())
    left = -0.02
    while left < 1.0:
        wide = float(rng.uniform(0.13, 0.22))
        top = float(rng.uniform(0.1, 0.48))
        window = canvas.window(top, max(left, 0.0), 1.0, min(left + wide, 1.0))
        y, x = pixel_grid(canvas.size)
        y, x = y[window[0]], x[:, window[1]]
        edge = np.maximum(np.maximum(np.float32(top) - y, np.float32(left) - x), x - np.float32(left + wide))
        colour = ("gray", "gray", "brown", "black")[int(rng.integers(4))]
        canvas.paint(window, coverage(edge, canvas.pixel), plain(colour, rng), frozenset({"city"}))
        column, row = (x - np.float32(left)) / np.float32(wide) * 3, (y - np.float32(top)) * 18
        pane = np.maximum(
            np.abs(column - np.floor(column) - 0.5) - 0.28, np.abs(row - np.floor(row) - 0.5) - 0.28
        )
        pane = np.maximum(pane * np.float32(1 / 18), edge + np.float32(0.012))
        lit = plain("yellow" if rng.random() < 0.6 else "white", rng)
        canvas.paint(window, coverage(pane, canvas.pixel), lit, frozenset({"city", "window"}))
        left += wide + float(rng.uniform(0.0, 0.025))


def _mountain(canvas: Canvas, rng: np.random.Generator) -> None:
    _day_sky(canvas, 1.0, rng, frozenset())
    window, y, x = _rows(canvas, 0.0, 1.0)
    count = int(rng.integers(2, 4))
    colour = ("gray", "brown", "purple")[int(rng.integers(3))]
    for step in range(count):
        peak = np.float32((step + rng.uniform(0.25, 0.75)) / count)
        top, slope = np.float32(rng.uniform(0.12, 0.4)), np.float32(rng.uniform(1.0, 1.5))
        rough = np.float32(0.06) * value_noise(x * 9 + 11 * step, np.zeros_like(x), rng)
        rock = top + np.abs(x - peak) * slope + rough
        light = np.where(x < peak + (y - top) * np.float32(0.15) + rough, np.float32(1.12), np.float32(0.86))
        stone = Paint((colour,), (sample_rgb(colour, rng),), shade=light.astype(np.float32))
        canvas.paint(window, coverage(rock - y, canvas.pixel), stone, frozenset({"mountain"}))
        snow = np.maximum(rock - y, y - top - np.float32(0.15) - 2 * rough * np.sign(np.sin(x * 70)))
        cap = Paint(("white",), (sample_rgb("white", rng),), shade=np.minimum(light, 1).astype(np.float32))
        canvas.paint(window, coverage(snow, canvas.pixel), cap, frozenset({"mountain"}))


BACKDROPS: dict[str, Callable[[Canvas, np.random.Generator], None]] = {
    "sky": _sky,
    "beach": _beach,
    "field": _field,
    "night": _night,
    "city": _city,
    "mountain": _mountain,
}
"""Painters of whole-image scenes, by concept name."""

BACKDROP_COLOURS: dict[str, tuple[str, ...]] = {
    "sky": ("blue", "white"),
    "beach": ("blue", "yellow", "white"),
    "field": ("green", "blue", "white"),
    "night": ("black",),
    "city": ("gray", "brown", "blue", "yellow"),
    "mountain": ("gray", "brown", "blue", "white"),
}
"""The colours that a figure in front of each scene does not take, so that it stands out."""
