"""Composes a scene: a background, one to four figures over it, light and noise, masks and a caption."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .backdrops import BACKDROP_COLOURS, BACKDROPS
from .canvas import PALETTE, Canvas, Floats, Paint, coverage, pixel_grid, plain, sample_rgb
from .concepts import CONCEPTS, INDEX, names
from .materials import PHOTOGRAPHS, material
from .objects import ANY, OBJECTS
from .shapes import SHAPES
from .textures import TEXTURES

MINIMUM_AREA: Final = 0.004
"""A concept counts as present from this share of the image's pixels on; what is smaller is not annotated."""

_RADII: Final = {1: (0.26, 0.4), 2: (0.22, 0.3), 3: (0.2, 0.26), 4: (0.19, 0.23)}
_COUNT_ODDS: Final = (0.3, 0.38, 0.22, 0.1)
_MATERIAL_COLOURS: Final = {"water": "blue", "wood": "brown", "metal": "gray", "sand": "yellow"} | {
    name: colours[0] for name, colours in PHOTOGRAPHS.items()
}
_DECORATED: Final = frozenset({"wall", "body", "wing", "canopy", "sail", "hull"})
_COLOURS: Final = names("colour")


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
    caption = _caption(_figures(canvas, avoid, rng), behind, rng)
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


def _choose(options: tuple[str, ...], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _word(name: str, rng: np.random.Generator) -> str:
    return _choose(CONCEPTS[INDEX[name]].words, rng)


def _contrasting(first: str, avoid: frozenset[str], rng: np.random.Generator) -> str:
    """A second colour, far enough from the first for the texture to be seen."""
    middle = {name: np.mean(ends, axis=0) for name, ends in PALETTE.items()}
    far = [c for c in _COLOURS if np.linalg.norm(middle[c] - middle[first]) > 145 and c != first]
    free = tuple(c for c in far if c not in avoid)
    return _choose(free or tuple(far), rng)


def _two_coloured(
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
    first = _choose(tuple(c for c in _COLOURS if c not in avoid | dull), rng)
    # Black shows neither the gloss of a bubble nor the shadow of a scale.
    second = _contrasting(first, avoid | {"black"} if name in ("bubbly", "scaly", "woven") else avoid, rng)
    rgb = (sample_rgb(first, rng), sample_rgb(second, rng))
    return Paint((first, second), rgb, mix, shade, frozenset({name}))


def _background(canvas: Canvas, rng: np.random.Generator) -> tuple[frozenset[str], str]:
    """Paints the background; returns the colours that figures should avoid, and words for the caption."""
    kind = rng.choice(5, p=(0.28, 0.1, 0.26, 0.14, 0.22))
    everything = (slice(0, canvas.size), slice(0, canvas.size))
    y, x = pixel_grid(canvas.size)
    nothing: frozenset[str] = frozenset()
    if kind <= 1:
        colour = _choose(_COLOURS, rng)
        slope = rng.uniform(-0.5, 0.5, 2).astype(np.float32) * np.float32(kind)
        shade = 1 + slope[0] * (x - np.float32(0.5)) + slope[1] * (y - np.float32(0.5))
        canvas.paint(everything, None, plain(colour, rng, np.asarray(shade, np.float32)), nothing)
        return frozenset({colour}), f"a {_word(colour, rng)} background"
    if kind == 4:
        name = _choose(tuple(BACKDROPS), rng)
        BACKDROPS[name](canvas, rng)
        return frozenset(BACKDROP_COLOURS[name]), f"a {_word(name, rng)}"
    if kind == 3:
        name = _choose(names("material"), rng)
        paint = material(name, y, x, canvas.pixel, rng)
    else:
        name = _choose(tuple(TEXTURES), rng)
        centre = (float(rng.uniform(0.3, 0.7)), float(rng.uniform(0.3, 0.7)))
        paint = _two_coloured(name, y, x, centre, False, canvas.pixel, nothing, rng)
    canvas.paint(everything, None, paint, nothing)
    colours = " and ".join(_word(c, rng) for c in paint.colours)
    return frozenset(paint.colours), f"a {colours} {_word(name, rng)} background"


def _place(
    taken: list[tuple[float, float, float]], radius: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Of sixteen random places, the first free one, else the one that overlaps least."""
    best, most = (0.5, 0.5), -9.0
    for y, x in rng.uniform(0.92 * radius, 1 - 0.92 * radius, (16, 2)):
        room = min((np.hypot(y - cy, x - cx) / (radius + r) for cy, cx, r in taken), default=9.0)
        if room > most:
            best, most = (float(y), float(x)), float(room)
        if most > 1.0:
            break
    return best


def _figures(canvas: Canvas, avoid: frozenset[str], rng: np.random.Generator) -> list[str]:
    """Paints the figures from back to front and returns their descriptions."""
    count = 1 + int(rng.choice(4, p=_COUNT_ODDS))
    # Few colours in a scene, so that each is absent from most scenes.
    free = np.asarray([colour for colour in _COLOURS if colour not in avoid])
    palette = frozenset(str(colour) for colour in rng.permutation(free)[:4])
    worn: frozenset[str] = frozenset()
    taken: list[tuple[float, float, float]] = []
    described = []
    for _ in range(count):
        radius = float(rng.uniform(*_RADII[count]))
        centre = _place(taken, radius, rng)
        taken.append((*centre, radius))
        draw = _shape if rng.random() < 0.55 else _object
        if len(palette - worn) < 2:
            worn = frozenset()
        sentence, main = draw(canvas, centre, radius, frozenset(_COLOURS) - (palette - worn), rng)
        worn = worn | {main}  # neighbours differ, or their outlines would be lost
        described.append(sentence)
    return described


def _local(
    canvas: Canvas, centre: tuple[float, float], radius: float, angle: float, flip: bool
) -> tuple[tuple[slice, slice], Floats, Floats, Floats, Floats]:
    """The window about a figure, its y and x in image widths, and its turned coordinates in -1..1."""
    reach = radius * 1.12 * (abs(np.cos(angle)) + abs(np.sin(angle)))
    window = canvas.window(centre[0] - reach, centre[1] - reach, centre[0] + reach, centre[1] + reach)
    y, x = pixel_grid(canvas.size)
    y, x = y[window[0]], x[:, window[1]]
    cos, sin = np.float32(np.cos(angle) / radius), np.float32(np.sin(angle) / radius)
    dy, dx = y - np.float32(centre[0]), x - np.float32(centre[1])
    across = dx * cos + dy * sin
    return window, y, x, dy * cos - dx * sin, -across if flip else across


def _fill(
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
        name = _choose(tuple(TEXTURES), rng)
        return _two_coloured(name, y, x, centre, True, canvas.pixel, avoid, rng)
    free = tuple(name for name in names("material") if _MATERIAL_COLOURS[name] not in avoid)
    if draw < sum(odds) and free:
        return material(_choose(free, rng), y, x, canvas.pixel, rng, avoid)
    return plain(_choose(tuple(c for c in _COLOURS if c not in avoid), rng), rng)


def _shape(
    canvas: Canvas,
    centre: tuple[float, float],
    radius: float,
    avoid: frozenset[str],
    rng: np.random.Generator,
) -> tuple[str, str]:
    name = _choose(tuple(SHAPES), rng)
    distance, turn = SHAPES[name]
    window, y, x, v, u = _local(
        canvas, centre, radius, float(rng.uniform(-turn, turn)), bool(rng.random() < 0.5)
    )
    paint = _fill(canvas, y, x, centre, avoid, (0.3, 0.1), rng)
    canvas.paint(window, coverage(distance(v, u), canvas.pixel / radius), paint, frozenset({name}))
    words = [
        " and ".join(_word(c, rng) for c in paint.colours),
        *(_word(c, rng) for c in sorted(paint.concepts)),
    ]
    return f"a {' '.join(words)} {_word(name, rng)}", paint.colours[0]


def _object(
    canvas: Canvas,
    centre: tuple[float, float],
    radius: float,
    avoid: frozenset[str],
    rng: np.random.Generator,
) -> tuple[str, str]:
    name = _choose(tuple(OBJECTS), rng)
    window, y, x, v, u = _local(
        canvas, centre, radius * 1.08, float(rng.uniform(-0.12, 0.12)), bool(rng.random() < 0.5)
    )
    inks: dict[str, Paint] = {}
    used = avoid
    parts: dict[str, str] = {}
    for piece in OBJECTS[name](rng):
        ink = piece.ink or ""
        if ink not in inks:
            if ink in _DECORATED and piece.colours == ANY and rng.random() < 0.3:
                inks[ink] = _fill(canvas, y, x, centre, avoid, (0.7, 0.3), rng)
            else:
                welcome = tuple(c for c in piece.colours if c not in avoid)
                fresh = tuple(c for c in welcome if c not in used)
                inks[ink] = plain(_choose(fresh or welcome or piece.colours, rng), rng)
            used = used | frozenset(inks[ink].colours)
        concepts = frozenset({name}) if piece.part is None else frozenset({name, piece.part})
        canvas.paint(window, coverage(piece.distance(v, u), canvas.pixel / radius), inks[ink], concepts)
        if piece.part is not None:
            parts[piece.part] = inks[ink].colours[0]
    main = next(iter(inks.values())).colours[0]
    if not parts or rng.random() < 0.4:
        return f"a {_word(name, rng)}", main
    part = _choose(tuple(parts), rng)
    return f"a {_word(name, rng)} with a {_word(parts[part], rng)} {_word(part, rng)}", main


def _caption(described: list[str], behind: str, rng: np.random.Generator) -> str:
    opening = _choose(("", "a photo of ", "a picture of "), rng)
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
