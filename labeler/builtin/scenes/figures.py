"""One to four figures, shapes or objects, placed over the background so that each is mostly visible."""

from __future__ import annotations

from typing import Final

import numpy as np

from .canvas import Canvas, Floats, Paint, coverage, pixel_grid, plain
from .fills import COLOURS, choose, fill, word
from .objects import ANY, OBJECTS, Piece
from .shapes import SHAPES

_RADII: Final = {1: (0.26, 0.4), 2: (0.22, 0.3), 3: (0.2, 0.26), 4: (0.19, 0.23)}
"""Half the figures' extent in image widths, by their number."""

_COUNT_ODDS: Final = (0.3, 0.38, 0.22, 0.1)
_DECORATED: Final = frozenset({"wall", "body", "wing", "canopy", "sail", "hull"})


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


def paint_figures(canvas: Canvas, avoid: frozenset[str], rng: np.random.Generator) -> list[str]:
    """Paints the figures from back to front and returns their descriptions."""
    count = 1 + int(rng.choice(4, p=_COUNT_ODDS))
    # Few colours in a scene, so that each is absent from most scenes.
    free = np.asarray([colour for colour in COLOURS if colour not in avoid])
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
        sentence, main = draw(canvas, centre, radius, frozenset(COLOURS) - (palette - worn), rng)
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


def _shape(
    canvas: Canvas,
    centre: tuple[float, float],
    radius: float,
    avoid: frozenset[str],
    rng: np.random.Generator,
) -> tuple[str, str]:
    name = choose(tuple(SHAPES), rng)
    distance, turn = SHAPES[name]
    window, y, x, v, u = _local(
        canvas, centre, radius, float(rng.uniform(-turn, turn)), bool(rng.random() < 0.5)
    )
    paint = fill(canvas, y, x, centre, avoid, (0.3, 0.1), rng)
    canvas.paint(window, coverage(distance(v, u), canvas.pixel / radius), paint, frozenset({name}))
    words = [
        " and ".join(word(c, rng) for c in paint.colours),
        *(word(c, rng) for c in sorted(paint.concepts)),
    ]
    return f"a {' '.join(words)} {word(name, rng)}", paint.colours[0]


def _object(
    canvas: Canvas,
    centre: tuple[float, float],
    radius: float,
    avoid: frozenset[str],
    rng: np.random.Generator,
) -> tuple[str, str]:
    name = choose(tuple(OBJECTS), rng)
    window, y, x, v, u = _local(
        canvas, centre, radius * 1.08, float(rng.uniform(-0.12, 0.12)), bool(rng.random() < 0.5)
    )
    inks: dict[str, Paint] = {}
    parts: dict[str, str] = {}
    for piece in OBJECTS[name](rng):
        ink = piece.ink or ""
        if ink not in inks:
            decorated = ink in _DECORATED and piece.colours == ANY and rng.random() < 0.3
            if decorated:
                inks[ink] = fill(canvas, y, x, centre, avoid, (0.7, 0.3), rng)
            else:
                inks[ink] = plain(_piece_colour(piece, inks, avoid, rng), rng)
        concepts = frozenset({name}) if piece.part is None else frozenset({name, piece.part})
        canvas.paint(window, coverage(piece.distance(v, u), canvas.pixel / radius), inks[ink], concepts)
        if piece.part is not None:
            parts[piece.part] = inks[ink].colours[0]
    main = next(iter(inks.values())).colours[0]
    if not parts or rng.random() < 0.4:
        return f"a {word(name, rng)}", main
    part = choose(tuple(parts), rng)
    return f"a {word(name, rng)} with a {word(parts[part], rng)} {word(part, rng)}", main


def _piece_colour(
    piece: Piece, inks: dict[str, Paint], avoid: frozenset[str], rng: np.random.Generator
) -> str:
    """A colour that the object does not have yet, else one that its body, its first piece, does not have."""
    worn = {colour for paint in inks.values() for colour in paint.colours}
    body = next(iter(inks.values())).colours if inks else ()
    welcome = tuple(c for c in piece.colours if c not in avoid)
    fresh = tuple(c for c in welcome if c not in worn)
    other = tuple(c for c in welcome or piece.colours if c not in body)
    return choose(fresh or other or piece.colours, rng)
