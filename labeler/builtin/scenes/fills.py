"""Choosing colours, textures and materials for a region, and the words for them."""

from __future__ import annotations

from typing import Final

import numpy as np

from .canvas import PALETTE, Canvas, Floats, Paint, plain, sample_rgb
from .concepts import CONCEPTS, INDEX, names
from .materials import PHOTOGRAPHS, material
from .textures import TEXTURES

COLOURS: Final = names("colour")
_MATERIAL_COLOURS: Final = {"water": "blue", "wood": "brown", "metal": "gray", "sand": "yellow"} | {
    name: colours[0] for name, colours in PHOTOGRAPHS.items()
}


def choose(options: tuple[str, ...], rng: np.random.Generator) -> str:
    """One of the options, each as likely."""
    return options[int(rng.integers(len(options)))]


def word(name: str, rng: np.random.Generator) -> str:
    """One of a concept's words."""
    return choose(CONCEPTS[INDEX[name]].words, rng)


def _contrasting(first: str, avoid: frozenset[str], rng: np.random.Generator) -> str:
    """A second colour, far enough from the first for the texture to be seen."""
    middle = {name: np.mean(ends, axis=0) for name, ends in PALETTE.items()}
    far = [c for c in COLOURS if np.linalg.norm(middle[c] - middle[first]) > 145 and c != first]
    free = tuple(c for c in far if c not in avoid)
    return choose(free or tuple(far), rng)


def two_coloured(
    name: str,
    y: Floats,
    x: Floats,
    centre: tuple[float, float],
    fine: bool,
    pixel: float,
    avoid: frozenset[str],
    rng: np.random.Generator,
) -> Paint:
    """A texture's paint over a window; `fine` takes the lower half of its periods, for small figures."""
    texture = TEXTURES[name]
    low, high = texture.period
    period = np.float32(rng.uniform(low, (low + high) / 2 if fine else high))
    angle = rng.uniform(-texture.turn, texture.turn)
    cos, sin = np.float32(np.cos(angle)) / period, np.float32(np.sin(angle)) / period
    dy, dx = y - np.float32(centre[0]), x - np.float32(centre[1])
    mix, shade = texture.draw(dx * -sin + dy * cos, dx * cos + dy * sin, pixel / float(period), rng)
    dull = {"black"} if name in ("scaly", "woven") else set()
    first = choose(tuple(c for c in COLOURS if c not in avoid | dull), rng)
    # Black shows neither the gloss of a bubble nor the shadow of a scale.
    second = _contrasting(first, avoid | {"black"} if name in ("bubbly", "scaly", "woven") else avoid, rng)
    rgb = (sample_rgb(first, rng), sample_rgb(second, rng))
    return Paint((first, second), rgb, mix, shade, frozenset({name}))


def fill(
    canvas: Canvas,
    y: Floats,
    x: Floats,
    centre: tuple[float, float],
    avoid: frozenset[str],
    odds: tuple[float, float],
    rng: np.random.Generator,
) -> Paint:
    """A figure's paint: a texture or a material with the given odds, else one colour."""
    draw = rng.random()
    if draw < odds[0]:
        name = choose(tuple(TEXTURES), rng)
        return two_coloured(name, y, x, centre, True, canvas.pixel, avoid, rng)
    free = tuple(name for name in names("material") if _MATERIAL_COLOURS[name] not in avoid)
    if draw < sum(odds) and free:
        return material(choose(free, rng), y, x, canvas.pixel, rng, avoid)
    return plain(choose(tuple(c for c in COLOURS if c not in avoid), rng), rng)
