"""Signed distances (negative inside) of plain figures, in coordinates where the figure fills about -1..1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .canvas import Floats

Distance = Callable[[Floats, Floats], Floats]


def disc(cy: float, cx: float, ry: float, rx: float | None = None) -> Distance:
    """An ellipse about (cy, cx) with half axes ry, rx (a circle where rx is left out)."""
    wide = ry if rx is None else rx

    def distance(y: Floats, x: Floats) -> Floats:
        return np.asarray((np.hypot((y - cy) / ry, (x - cx) / wide) - 1) * min(ry, wide), dtype=np.float32)

    return distance


def box(y0: float, x0: float, y1: float, x1: float) -> Distance:
    """An upright rectangle."""

    def distance(y: Floats, x: Floats) -> Floats:
        outside: Floats = np.maximum(np.maximum(y0 - y, y - y1), np.maximum(x0 - x, x - x1))
        return outside

    return distance


def polygon(points_yx: Sequence[tuple[float, float]]) -> Distance:
    """A simple polygon from its corners in order (even-odd rule)."""

    def distance(y: Floats, x: Floats) -> Floats:
        shape = np.broadcast(y, x).shape
        nearest = np.full(shape, 99.0, dtype=np.float32)
        inside = np.zeros(shape, dtype=bool)
        for (y0, x0), (y1, x1) in zip(points_yx, [*points_yx[1:], points_yx[0]], strict=True):
            ey, ex = y1 - y0, x1 - x0
            dy, dx = y - np.float32(y0), x - np.float32(x0)
            along = np.clip((dy * ey + dx * ex) / (ey * ey + ex * ex), 0, 1)
            np.minimum(nearest, (dy - along * ey) ** 2 + (dx - along * ex) ** 2, out=nearest)
            if ey != 0:
                inside ^= ((y0 <= y) != (y1 <= y)) & (x < x0 + (y - y0) * (ex / ey))
        return np.asarray(np.where(inside, -1, 1) * np.sqrt(nearest), dtype=np.float32)

    return distance


def minus(outer: Distance, inner: Distance) -> Distance:
    """The outer figure without the inner one."""
    return lambda y, x: np.maximum(outer(y, x), -inner(y, x))


def both(one: Distance, other: Distance) -> Distance:
    """The union."""
    return lambda y, x: np.minimum(one(y, x), other(y, x))


def band(y0: float, x0: float, y1: float, x1: float, width: float) -> Distance:
    """A straight stroke with round ends."""

    def distance(y: Floats, x: Floats) -> Floats:
        ey, ex = y1 - y0, x1 - x0
        along = np.clip(((y - y0) * ey + (x - x0) * ex) / (ey * ey + ex * ex), 0, 1)
        return np.asarray(np.hypot(y - y0 - along * ey, x - x0 - along * ex) - width / 2, dtype=np.float32)

    return distance


def regular(corners: int, first: float = 0.0, radius: float = 1.0) -> list[tuple[float, float]]:
    """Corners (y, x) of a regular polygon; `first` turns it, in radians from straight up."""
    angles = first + 2 * np.pi * np.arange(corners) / corners
    return [(float(-radius * np.cos(a)), float(radius * np.sin(a))) for a in angles]


def _star() -> list[tuple[float, float]]:
    outer, inner = regular(5), regular(5, np.pi / 5, 0.42)
    return [point for pair in zip(outer, inner, strict=True) for point in pair]


def _heart(y: Floats, x: Floats) -> Floats:
    side, up = np.abs(x), -y
    lobe = np.hypot(side - np.float32(0.45), up - np.float32(0.3)) - np.float32(0.52)
    # The straight flank from the tip (0, -0.95) touches the lobe; below that point it takes over.
    flank = np.maximum((side - (up + 0.95) * np.float32(0.853)) * np.float32(0.761), up - np.float32(0.3))
    flank = np.maximum(flank, side - np.float32(0.84))
    return np.asarray(np.minimum(lobe, flank), dtype=np.float32)


_CROSS = [(-1, -0.34), (-1, 0.34), (-0.34, 0.34), (-0.34, 1), (0.34, 1), (0.34, 0.34), (1, 0.34), (1, -0.34)]
_CROSS += [(0.34, -0.34), (0.34, -1), (-0.34, -1), (-0.34, -0.34)]
_ARROW = [(-0.3, -1), (-0.3, 0.1), (-0.8, 0.1), (0, 1), (0.8, 0.1), (0.3, 0.1), (0.3, -1)]

SHAPES: dict[str, tuple[Distance, float]] = {
    "circle": (disc(0, 0, 0.92), 0.0),
    "square": (box(-0.82, -0.82, 0.82, 0.82), 0.15),
    "triangle": (polygon([(-0.95, 0.0), (0.8, -1.0), (0.8, 1.0)]), 0.5),
    "star": (polygon(_star()), np.pi),
    "ring": (minus(disc(0, 0, 1.0), disc(0, 0, 0.56)), 0.0),
    "cross": (polygon(_CROSS), 0.3),
    "crescent": (minus(disc(0, 0, 1.0), disc(-0.1, 0.48, 0.86)), 0.8),
    "heart": (_heart, 0.3),
    "hexagon": (polygon(regular(6)), np.pi),
    "diamond": (polygon([(-1.1, 0), (0, 0.72), (1.1, 0), (0, -0.72)]), 0.12),
    "arrow": (polygon(_ARROW), 0.6),
}
"""Each shape's distance function and how far it may turn from upright (radians, both ways)."""
