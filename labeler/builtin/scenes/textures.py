"""Two-colour textures with the names of the Describable Textures Dataset (Cimpoi et al. 2014).

Each takes coordinates in periods (`v` down, `u` right), the width of a pixel in periods and a generator, and
returns the second colour's share and a shading factor or None. Concentric is not one of the dataset's names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .canvas import Floats, Numbers, coverage

Pattern = tuple[Floats, Floats | None]
Draw = Callable[[Floats, Floats, float, np.random.Generator], Pattern]


@dataclass(frozen=True)
class Texture:
    """A pattern, the range of its period in image widths, and how far it may turn (radians, both ways)."""

    draw: Draw
    period: tuple[float, float]
    turn: float


def _saw(u: Numbers) -> Floats:
    """Signed offset from the nearest integer, -0.5..0.5."""
    return np.asarray(u - np.round(u), dtype=np.float32)


def _near(u: Numbers) -> Floats:
    """Distance from the nearest integer, 0..0.5."""
    return np.asarray(np.abs(u - np.round(u)), dtype=np.float32)


def value_noise(u: Floats, v: Floats, rng: np.random.Generator) -> Floats:
    """Smooth noise in about -1..1, features one unit wide (values on a repeating 32 x 32 lattice)."""
    lattice = rng.uniform(-1, 1, (33, 33)).astype(np.float32)
    lattice[32], lattice[:, 32] = lattice[0], lattice[:, 0]
    column, row = np.floor(u), np.floor(v)
    fu, fv = u - column, v - row
    fu, fv = fu * fu * (3 - 2 * fu), fv * fv * (3 - 2 * fv)
    corner = (row.astype(np.int32) & 31) * 33 + (column.astype(np.int32) & 31)
    flat = lattice.ravel()
    top = flat[corner] * (1 - fu) + flat[corner + 1] * fu
    bottom = flat[corner + 33] * (1 - fu) + flat[corner + 34] * fu
    return np.asarray(top * (1 - fv) + bottom * fv, dtype=np.float32)


def _cells(u: Floats, v: Floats, rng: np.random.Generator, jitter: float) -> tuple[Floats, Floats]:
    """Distances to the nearest and the second nearest of points jittered about the integers."""
    offset = rng.uniform(-jitter, jitter, (2, 64, 64)).astype(np.float32)
    column, row = np.round(u).astype(np.int32), np.round(v).astype(np.int32)
    flat_u, flat_v = offset[0].ravel(), offset[1].ravel()
    first = np.full(np.broadcast(u, v).shape, 9.0, dtype=np.float32)
    second = first.copy()
    du0, dv0 = u - column, v - row
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            key = ((row + down) & 63) * 64 + ((column + right) & 63)
            square = (du0 - right - flat_u[key]) ** 2 + (dv0 - down - flat_v[key]) ** 2
            np.minimum(second, np.maximum(first, square), out=second)
            np.minimum(first, square, out=first)
    return np.sqrt(first), np.sqrt(second)


def _striped(v: Floats, u: Floats, pixel: float, rng: np.random.Generator) -> Pattern:
    return coverage(_near(u) - 0.25, pixel), None


def _lined(v: Floats, u: Floats, pixel: float, rng: np.random.Generator) -> Pattern:
    return coverage(_near(u) - 0.08, pixel), None


def _dotted(v: Floats, u: Floats, pixel: float, rng: np.random.Generator) -> Pattern:
    if rng.random() < 0.5:
        u = u + np.float32(0.5) * (np.round(v).astype(np.int32) & 1)
    return coverage(np.hypot(_saw(u), _saw(v)) - np.float32(rng.uniform(0.26, 0.33)), pixel), None


def _checkered(v: Floats, u: Floats, pixel: float, rng: np.random.Generator) -> Pattern:
    across, down = coverage(_near(u / 2) * 2 - 0.5, pixel), coverage(_near(v / 2) * 2 - 0.5, pixel)
    return across + down - 2 * across * down, None


def _zigzagged(v: Floats, u: Floats, pixel: float, rng: np.random.Generator) -> Pattern:
    return coverage(_near(v + np.float32(1.7) * _near(u * 0.55)) - 0.25, pixel), None


def _cracked(v: Floats, u: Floats, pixel: float, rng: np.random.Generator) -> Pattern:
    wobble = value_noise(u * 3, v * 3, rng) * np.float32(0.12)
    first, second = _cells(u + wobble, v - wobble, rng, 0.45)
    width = np.float32(0.085) + np.float32(0.4) * wobble
    return coverage(second - first - width, 2 * pixel), None


def _marbled(v: Floats, u: Floats, pixel: float, rng: np.random.Generator) -> Pattern:
    warp = value_noise(u * 0.8, v * 0.8, rng) + np.float32(0.5) * value_noise(u * 2, v * 2, rng)
    fine = value_noise(u * 4, v * 4, rng)
    vein = _near(u * 0.45 + warp * 0.75 + fine * 0.06)
    return np.clip(1.15 - vein * 7 + fine * 0.1, 0, 1), 1 + np.float32(0.07) * warp


def _grid(v: Floats, u: Floats, pixel: float, rng: np.random.Generator) -> Pattern:
    return coverage(np.minimum(_near(u), _near(v)) - 0.12, pixel), None


def _crosshatched(v: Floats, u: Floats, pixel: float, rng: np.random.Generator) -> Pattern:
    tremble = value_noise(u * 0.9, v * 0.9, rng) * np.float32(0.16)
    lean = np.float32(rng.uniform(0.75, 1.2))
    one, other = _near((u + lean * v) * 0.8 + tremble), _near((u - lean * v) * 0.8 - tremble)
    width = np.float32(0.14) + np.float32(0.3) * tremble
    return np.maximum(coverage(one - width, pixel), coverage(other - width, pixel)), None


def _honeycombed(v: Floats, u: Floats, pixel: float, rng: np.random.Generator) -> Pattern:
    tall = np.float32(np.sqrt(3))
    u1, v1 = _saw(u), _saw(v / tall) * tall
    u2, v2 = _saw(u + 0.5), _saw(v / tall + 0.5) * tall
    nearer = u1 * u1 + v1 * v1 < u2 * u2 + v2 * v2
    cu, cv = np.abs(np.where(nearer, u1, u2)), np.abs(np.where(nearer, v1, v2))
    depth = 0.5 - np.maximum(cu, cu * 0.5 + cv * (tall / 2))
    return coverage(depth - 0.09, pixel), None


def _woven(v: Floats, u: Floats, pixel: float, rng: np.random.Generator) -> Pattern:
    odd = (np.floor(u).astype(np.int32) + np.floor(v).astype(np.int32)) & 1 == 1
    across, along = np.where(odd, _saw(v - 0.5), _saw(u - 0.5)), np.where(odd, _saw(u - 0.5), _saw(v - 0.5))
    shade = 1.12 - 2.4 * across * across - 1.0 * along * along
    gap = np.abs(across) > 0.42
    return odd.astype(np.float32), np.where(gap, np.float32(0.35), shade).astype(np.float32)


def _spiralled(v: Floats, u: Floats, pixel: float, rng: np.random.Generator) -> Pattern:
    hand = np.float32(1 if rng.random() < 0.5 else -1)
    turn = np.arctan2(v, u) * np.float32(hand / (2 * np.pi))
    return coverage(_near(np.hypot(u, v) + turn) - 0.25, pixel), None


def _concentric(v: Floats, u: Floats, pixel: float, rng: np.random.Generator) -> Pattern:
    return coverage(_near(np.hypot(u, v)) - 0.25, pixel), None


def _bubbly(v: Floats, u: Floats, pixel: float, rng: np.random.Generator) -> Pattern:
    mix = np.zeros(np.broadcast(u, v).shape, dtype=np.float32)
    shade = np.ones_like(mix)
    for scale, shift in ((0.75, 0.3), (1.3, 7.1)):
        row, column = np.round(v * scale + shift), np.round(u * scale + shift)
        key = (row.astype(np.int32) & 31) * 32 + (column.astype(np.int32) & 31)
        radius = rng.uniform(0.26, 0.42, 1024).astype(np.float32)[key]
        du = u * scale + shift - column + rng.uniform(-0.08, 0.08, 1024).astype(np.float32)[key]
        dv = v * scale + shift - row + rng.uniform(-0.08, 0.08, 1024).astype(np.float32)[key]
        distance = np.hypot(du, dv)
        inside = distance < radius
        np.copyto(mix, 1.0, where=inside)
        glow = np.where(distance > radius * 0.84, 0.5, 1.12 - 0.3 * (distance / radius) ** 2)
        glow += 0.9 * (np.hypot(du + radius * 0.35, dv + radius * 0.35) < radius * 0.24)
        np.copyto(shade, glow.astype(np.float32), where=inside)
    return mix, shade


def _scaly(v: Floats, u: Floats, pixel: float, rng: np.random.Generator) -> Pattern:
    reach = np.float32(0.6)
    row = np.floor(v * 2)
    best = np.full(np.broadcast(u, v).shape, reach, dtype=np.float32)
    for step in (1, 0, -1):  # each row of scales lies over the row above it
        line = row + step
        du = _saw(u - 0.5 * (line.astype(np.int32) & 1))
        distance = np.hypot(du, v - line * 0.5)
        best = np.where((best >= reach) & (distance < reach), distance, best)
    return coverage(best - 0.47, pixel), (1.15 - 0.6 * best).astype(np.float32)


def _cobwebbed(v: Floats, u: Floats, pixel: float, rng: np.random.Generator) -> Pattern:
    spokes = int(rng.integers(7, 11))
    radius = np.hypot(u, v)
    sector = _saw(np.arctan2(v, u) * np.float32(spokes / (2 * np.pi)) + np.float32(rng.random()))
    spoke = np.abs(sector) * radius * np.float32(2 * np.pi / spokes)
    sag = radius * (1 + 0.9 * (0.25 - (0.5 - np.abs(sector)) ** 2))
    thread = _near(sag)
    return np.maximum(coverage(spoke - 0.075, pixel), coverage(thread - 0.085, pixel)), None


def _blotchy(v: Floats, u: Floats, pixel: float, rng: np.random.Generator) -> Pattern:
    cloud = value_noise(u * 0.9, v * 0.9, rng) + np.float32(0.3) * value_noise(u * 2.4, v * 2.4, rng)
    return coverage(0.1 - cloud, 3 * pixel), None


def _sprinkled(v: Floats, u: Floats, pixel: float, rng: np.random.Generator) -> Pattern:
    column, row = np.round(u), np.round(v)
    key = (row.astype(np.int32) & 31) * 32 + (column.astype(np.int32) & 31)
    angle = rng.uniform(0, np.pi, 1024)
    cos, sin = np.cos(angle).astype(np.float32)[key], np.sin(angle).astype(np.float32)[key]
    du = u - column + rng.uniform(-0.1, 0.1, 1024).astype(np.float32)[key]
    dv = v - row + rng.uniform(-0.1, 0.1, 1024).astype(np.float32)[key]
    along = np.maximum(np.abs(du * cos + dv * sin) - np.float32(0.24), 0)
    return coverage(np.hypot(along, dv * cos - du * sin) - 0.13, pixel), None


TEXTURES: dict[str, Texture] = {
    "striped": Texture(_striped, (0.075, 0.13), np.pi),
    "lined": Texture(_lined, (0.08, 0.11), np.pi),
    "dotted": Texture(_dotted, (0.07, 0.12), np.pi),
    "checkered": Texture(_checkered, (0.06, 0.1), np.pi),
    "zigzagged": Texture(_zigzagged, (0.07, 0.12), np.pi),
    "cracked": Texture(_cracked, (0.1, 0.16), np.pi),
    "marbled": Texture(_marbled, (0.08, 0.14), np.pi),
    "grid": Texture(_grid, (0.07, 0.12), 0.25),
    "crosshatched": Texture(_crosshatched, (0.045, 0.065), 0.15),
    "honeycombed": Texture(_honeycombed, (0.08, 0.13), np.pi),
    "woven": Texture(_woven, (0.065, 0.1), 0.25),
    "spiralled": Texture(_spiralled, (0.06, 0.1), np.pi),
    "concentric": Texture(_concentric, (0.06, 0.1), np.pi),
    "bubbly": Texture(_bubbly, (0.1, 0.15), np.pi),
    "scaly": Texture(_scaly, (0.085, 0.13), 0.3),
    "cobwebbed": Texture(_cobwebbed, (0.065, 0.1), np.pi),
    "blotchy": Texture(_blotchy, (0.05, 0.08), np.pi),
    "sprinkled": Texture(_sprinkled, (0.065, 0.095), np.pi),
}
