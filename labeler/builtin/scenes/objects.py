"""Simple objects: pieces drawn one over the other, each with the part that it is and its possible colours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .shapes import Distance, band, both, box, disc, minus, polygon

ANY = ("blue", "brown", "gray", "green", "orange", "pink", "purple", "red", "white", "yellow")
GLASS = ("white", "yellow", "blue")
Random = np.random.Generator


@dataclass(frozen=True)
class Piece:
    """One region of an object: its figure, the colours it may have, the part it is (if any)."""

    distance: Distance
    colours: tuple[str, ...]
    part: str | None = None
    ink: str | None = None  # pieces with the same ink share one colour


def _house(rng: Random) -> list[Piece]:
    pieces = [Piece(box(-0.2, -0.8, 0.95, 0.8), ANY, None, "wall")]
    pieces.append(Piece(polygon([(-0.15, -1.0), (-0.95, 0.0), (-0.15, 1.0)]), ANY, "roof", "roof"))
    side = -1 if rng.random() < 0.5 else 1
    if rng.random() < 0.75:
        pieces.append(Piece(box(0.25, side * 0.4 - 0.22, 0.95, side * 0.4 + 0.22), ANY, "door", "door"))
    if rng.random() < 0.75:
        frame = box(0.05, -side * 0.38 - 0.33, 0.66, -side * 0.38 + 0.33)
        pieces.append(Piece(frame, GLASS, "window", "glass"))
        middle = -side * 0.38
        bars = both(
            box(0.32, middle - 0.33, 0.38, middle + 0.33), box(0.05, middle - 0.03, 0.66, middle + 0.03)
        )
        pieces.append(Piece(bars, ("black",), "window", "bar"))
    return pieces


def _car(rng: Random) -> list[Piece]:
    body = both(
        box(-0.05, -1.0, 0.45, 1.0), polygon([(0.0, -0.75), (-0.55, -0.45), (-0.55, 0.4), (0.0, 0.7)])
    )
    pieces = [Piece(body, ANY, None, "body")]
    if rng.random() < 0.75:
        left = polygon([(-0.06, -0.6), (-0.45, -0.4), (-0.45, -0.06), (-0.06, -0.06)])
        right = polygon([(-0.06, 0.04), (-0.45, 0.04), (-0.45, 0.36), (-0.06, 0.56)])
        pieces.append(Piece(both(left, right), GLASS, "window", "glass"))
    for x in (-0.55, 0.55):
        pieces.append(Piece(disc(0.45, x, 0.3), ("black",), "wheel", "tyre"))
        pieces.append(Piece(disc(0.45, x, 0.13), ("gray", "white"), "wheel", "hub"))
    return pieces


def _tree(rng: Random) -> list[Piece]:
    pieces = [Piece(box(0.0, -0.15, 1.0, 0.15), ("brown",), "trunk", "bark")]
    if rng.random() < 0.5:
        crown = both(both(disc(-0.1, -0.4, 0.42), disc(-0.1, 0.4, 0.42)), disc(-0.5, 0.0, 0.48))
    else:
        crown = both(
            polygon([(-1, 0), (-0.1, -0.62), (-0.1, 0.62)]), polygon([(-0.6, 0), (0.4, -0.8), (0.4, 0.8)])
        )
    pieces.append(Piece(crown, ("green", "green", "green", "orange", "pink"), "leaves", "leaf"))
    return pieces


def _face(rng: Random) -> list[Piece]:
    pieces = [Piece(disc(0, 0, 0.98), ("yellow", "pink", "orange", "white", "brown"), None, "skin")]
    for x in (-0.38, 0.38):
        pieces.append(Piece(disc(-0.25, x, 0.25, 0.21), ("white",), "eye", "eye"))
        pieces.append(Piece(disc(-0.22, x, 0.13), ("black", "blue", "green", "brown"), "eye", "pupil"))
    if rng.random() < 0.8:
        smile = minus(disc(0.12, 0, 0.62), disc(-0.12, 0, 0.62))
        grin = minus(disc(0.2, 0, 0.5), box(-1, -1, 0.24, 1))
        pieces.append(Piece(smile if rng.random() < 0.5 else grin, ("red", "black"), "mouth", "lip"))
    return pieces


def _flower(rng: Random) -> list[Piece]:
    count = int(rng.integers(5, 8))
    turn = float(rng.random())
    angles = [2 * np.pi * (turn + i / count) for i in range(count)]
    stem = band(0.2, 0.0, 1.0, 0.05, 0.13)
    pieces = [Piece(stem, ("green",), None, "stem")]
    leaf = disc(0.72, 0.28, 0.12, 0.28)
    pieces.append(Piece(leaf, ("green",), "leaves", "stem"))
    petals = disc(-0.25 - 0.42 * np.cos(angles[0]), 0.42 * np.sin(angles[0]), 0.27)
    for angle in angles[1:]:
        petals = both(petals, disc(-0.25 - 0.42 * np.cos(angle), 0.42 * np.sin(angle), 0.27))
    colours = ("blue", "orange", "pink", "purple", "red", "white", "yellow")
    pieces.append(Piece(petals, colours, "petal", "petal"))
    pieces.append(Piece(disc(-0.25, 0.0, 0.24), ("yellow", "brown", "orange", "black"), None, "heart"))
    return pieces


def _boat(rng: Random) -> list[Piece]:
    pieces = [Piece(polygon([(0.42, -0.95), (0.9, -0.6), (0.9, 0.6), (0.42, 0.95)]), ANY, None, "hull")]
    pieces.append(Piece(box(-0.98, -0.07, 0.42, 0.05), ("brown", "black"), None, "mast"))
    if rng.random() < 0.85:
        pieces.append(Piece(polygon([(-0.9, 0.08), (0.3, 0.08), (0.3, 0.85)]), ANY, "sail", "sail"))
        pieces.append(Piece(polygon([(-0.75, -0.1), (0.3, -0.1), (0.3, -0.68)]), ANY, "sail", "sail"))
    return pieces


def _fish(rng: Random) -> list[Piece]:
    pieces = [Piece(polygon([(0.0, 0.42), (-0.5, 1.0), (-0.1, 0.86), (0.5, 1.0)]), ANY, "tail", "tail")]
    pieces.append(Piece(disc(0.0, -0.2, 0.48, 0.8), ANY, None, "body"))
    pieces.append(Piece(polygon([(-0.05, -0.1), (0.22, 0.3), (0.02, 0.36)]), ANY, None, "tail"))
    pieces.append(Piece(disc(-0.1, -0.62, 0.17), ("white",), "eye", "eye"))
    pieces.append(Piece(disc(-0.1, -0.64, 0.09), ("black",), "eye", "pupil"))
    return pieces


def _clock(rng: Random) -> list[Piece]:
    pieces = [
        Piece(disc(0, 0, 0.98), ANY, None, "rim"),
        Piece(disc(0, 0, 0.8), ("white", "yellow"), None, "dial"),
    ]
    marks = band(-0.72, 0, -0.58, 0, 0.1)
    for step in range(1, 12):
        sin, cos = np.sin(step * np.pi / 6), np.cos(step * np.pi / 6)
        marks = both(
            marks, band(-0.72 * cos, 0.72 * sin, -0.6 * cos, 0.6 * sin, 0.1 if step % 3 == 0 else 0.06)
        )
    hour, minute = rng.uniform(0, 2 * np.pi, 2)
    hands = both(
        band(0, 0, -0.36 * np.cos(hour), 0.36 * np.sin(hour), 0.13),
        band(0, 0, -0.54 * np.cos(minute), 0.54 * np.sin(minute), 0.09),
    )
    pieces.append(Piece(both(marks, hands), ("black",), None, "ink"))
    return pieces


def _ladder(rng: Random) -> list[Piece]:
    rails = both(box(-1, -0.52, 1, -0.34), box(-1, 0.34, 1, 0.52))
    for y in (-0.78, -0.39, 0.0, 0.39, 0.78):
        rails = both(rails, box(y - 0.075, -0.4, y + 0.075, 0.4))
    return [Piece(rails, ANY, None, "rail")]


def _butterfly(rng: Random) -> list[Piece]:
    wings = both(disc(-0.35, -0.52, 0.5, 0.44), disc(-0.35, 0.52, 0.5, 0.44))
    wings = both(wings, both(disc(0.45, -0.42, 0.38, 0.34), disc(0.45, 0.42, 0.38, 0.34)))
    spots = both(disc(-0.35, -0.58, 0.2), disc(-0.35, 0.58, 0.2))
    feelers = both(band(-0.6, 0, -0.95, -0.25, 0.06), band(-0.6, 0, -0.95, 0.25, 0.06))
    return [
        Piece(wings, ("blue", "orange", "pink", "purple", "red", "white", "yellow"), "wing", "wing"),
        Piece(spots, ANY, "wing", "spot"),
        Piece(both(disc(0.05, 0, 0.75, 0.11), feelers), ("black", "brown"), None, "body"),
    ]


def _cup(rng: Random) -> list[Piece]:
    handle = minus(disc(0.05, 0.55, 0.42), disc(0.05, 0.55, 0.24))
    body = polygon([(-0.65, -0.8), (-0.65, 0.5), (0.85, 0.36), (0.85, -0.66)])
    return [
        Piece(handle, ANY, "handle", "handle"),
        Piece(body, ANY, None, "body"),
        Piece(disc(-0.65, -0.15, 0.15, 0.65), ("white", "brown", "black"), None, "drink"),
    ]


def _umbrella(rng: Random) -> list[Piece]:
    hook = minus(minus(disc(0.72, 0.17, 0.26), disc(0.72, 0.17, 0.1)), box(-1, -1, 0.72, 1))
    stick = both(box(-0.2, -0.09, 0.74, 0.07), hook)
    canopy = minus(disc(0.05, 0, 1.0), box(0.05, -1.1, 1.2, 1.1))
    for x in (-0.67, 0.0, 0.67):
        canopy = minus(canopy, disc(0.08, x, 0.17, 0.31))
    stripe = minus(minus(disc(0.05, 0, 0.98, 0.36), box(0.05, -1.1, 1.2, 1.1)), disc(0.08, 0, 0.17, 0.31))
    return [
        Piece(stick, ("black", "brown"), "handle", "stick"),
        Piece(canopy, ANY, None, "canopy"),
        Piece(stripe, ANY, None, "stripe"),
    ]


OBJECTS: dict[str, Callable[[Random], list[Piece]]] = {
    "house": _house,
    "car": _car,
    "tree": _tree,
    "face": _face,
    "flower": _flower,
    "boat": _boat,
    "fish": _fish,
    "clock": _clock,
    "ladder": _ladder,
    "butterfly": _butterfly,
    "cup": _cup,
    "umbrella": _umbrella,
}
"""Each object's pieces, back to front, in coordinates -1..1 with y down."""
