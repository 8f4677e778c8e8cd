"""The 11 basic colour names of every pixel, as concept annotations for any probe dataset.

The names are those of van de Weijer et al. 2009 ("Learning Color Names for Real-World Applications"), after
Berlin & Kay 1969. Their learned table is not used: a pixel gets its one name from boxes in OKLCh, the polar
form of Oklab (Ottosson 2020, "A perceptual color space for image processing"), whose hue does not turn purple
along blue as CIELAB's does. The boxes were set by hand on the names of the XKCD colour survey (Munroe 2010)
that end in a basic name, of which they agree with nine in ten, and looked at on photographs.
"""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from labeler.seams import Annotation, Concept, ProbeDataset
from labeler.storage import fingerprint

COLOUR_NAMES: Final = (
    "black", "blue", "brown", "gray", "green", "orange", "pink", "purple", "red", "white", "yellow",
)  # fmt: skip
CATEGORY: Final = "colour"
RULE_VERSION: Final = 1
_SYNONYMS: Final = {"gray": ("grey",), "purple": ("violet",)}
_BITS: Final = 5  # the table has 32 levels of each primary; 8 of 256 is under a visible step of name


class _ColourBox(NamedTuple):
    """A name for hues in [from, to) degrees, lightness and chroma in [from, to)."""

    name: str
    hue: tuple[float, float] = (0, 360)
    lightness: tuple[float, float] = (0, 2)
    chroma: tuple[float, float] = (0, 1)


# Painted one over another: the last box that holds a colour names it. Hue sectors first, then what lightness
# and chroma change (brown is dark or dull orange, pink is light red), then the colours without a hue.
_BOXES: Final = (
    _ColourBox("red", (345, 394)),
    _ColourBox("orange", (34, 84)),
    _ColourBox("yellow", (84, 112)),
    _ColourBox("green", (112, 186)),
    _ColourBox("blue", (186, 287)),
    _ColourBox("purple", (287, 345)),
    _ColourBox("purple", (345, 365), (0, 0.5)),
    _ColourBox("pink", (345, 368), (0.5, 2)),
    _ColourBox("pink", (338, 360), (0.58, 2)),
    _ColourBox("pink", (360, 374), (0.62, 2)),
    _ColourBox("pink", (374, 394), (0.58, 2), (0, 0.13)),
    _ColourBox("pink", (374, 394), (0.7, 2)),
    _ColourBox("pink", (305, 345), (0.72, 2)),
    _ColourBox("brown", (14, 45), (0, 0.55), (0, 0.12)),
    _ColourBox("brown", (34, 84), (0, 0.58)),
    _ColourBox("brown", (34, 84), (0, 0.77), (0, 0.115)),
    _ColourBox("brown", (66, 84), (0, 0.82), (0, 0.09)),
    _ColourBox("brown", (84, 102), (0, 0.73)),
    _ColourBox("green", (102, 112), (0, 0.7)),
    _ColourBox("pink", (34, 60), (0.77, 2), (0, 0.1)),
    _ColourBox("gray", chroma=(0, 0.032)),
    _ColourBox("gray", (160, 330), (0, 0.875), (0, 0.04)),
    _ColourBox("white", lightness=(0.875, 2), chroma=(0, 0.032)),
    _ColourBox("white", lightness=(0.95, 2), chroma=(0, 0.05)),
    _ColourBox("black", lightness=(0, 0.3), chroma=(0, 0.025)),
    _ColourBox("black", lightness=(0, 0.26), chroma=(0, 0.05)),
    _ColourBox("black", lightness=(0, 0.18), chroma=(0, 0.09)),
)

# Linear sRGB to cone responses, and their cube roots to Oklab: Ottosson 2020.
_TO_CONES: Final = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_OKLAB: Final = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


class ColourProbe:
    """Any probe dataset with the category "colour" added: every pixel of every image has exactly one name."""

    def __init__(self, probe: ProbeDataset) -> None:
        self._probe = probe
        self._first = len(probe.concepts)
        self.name = probe.name
        self.images = probe.images
        self.concepts = probe.concepts + tuple(
            Concept(name, CATEGORY, _SYNONYMS.get(name, ())) for name in COLOUR_NAMES
        )
        self.fingerprint = fingerprint("colours", RULE_VERSION, probe.fingerprint)

    def image(self, image_id: int) -> Image:
        """The decoded RGB image."""
        return self._probe.image(image_id)

    def annotation(self, image_id: int, image: Image) -> Annotation:
        """The probe's own masks and those of the colours that occur in `image`."""
        indices_hw = colour_indices(np.asarray(image))
        present = np.flatnonzero(np.bincount(indices_hw.ravel(), minlength=len(COLOUR_NAMES)))
        colours = Annotation(
            concepts=present + self._first,
            masks=indices_hw[None] == present.astype(np.uint8)[:, None, None],
            categories=frozenset({CATEGORY}),
        )
        own = self._probe.annotation(image_id, image)
        if own is None:
            return colours
        return replace(
            own,
            concepts=np.concatenate([own.concepts, colours.concepts]),
            masks=np.concatenate([own.masks, colours.masks]),
            categories=own.categories | colours.categories,
        )


def with_colours(probe: ProbeDataset) -> ProbeDataset:
    """`probe` with colour names, or `probe` itself where it brings its own annotation of colour."""
    if any(concept.category == CATEGORY for concept in probe.concepts):
        return probe
    return ColourProbe(probe)


def colour_indices(image_hwc: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The position in `COLOUR_NAMES` of every pixel's name: ``(h, w, 3)`` sRGB to ``(h, w)``."""
    shift = np.uint16(8 - _BITS)
    levels = [image_hwc[..., primary].astype(np.uint16) >> shift for primary in range(3)]
    cells_hw = (levels[0] << np.uint16(2 * _BITS)) | (levels[1] << np.uint16(_BITS)) | levels[2]
    indices_hw: NDArray[np.uint8] = _table().take(cells_hw)
    return indices_hw


@functools.cache
def _table() -> NDArray[np.uint8]:
    """The name of each of 32³ cells of sRGB, by the colour at its centre: ``(32768,)``."""
    size = 2**_BITS
    centres = (np.arange(size) + 0.5) / size
    rgb_n3 = np.stack(np.meshgrid(centres, centres, centres, indexing="ij"), axis=-1).reshape(-1, 3)
    # The outermost cells stand for their ends, so that pure black, white and primaries are met exactly.
    rgb_n3[rgb_n3 == centres[0]] = 0
    rgb_n3[rgb_n3 == centres[-1]] = 1
    return name_colours(rgb_n3)


def name_colours(rgb_n3: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The rule itself: sRGB colours ``(n, 3)`` in [0, 1] to positions in `COLOUR_NAMES` ``(n,)``."""
    lightness, chroma, hue = _oklch(rgb_n3)
    names = np.zeros(len(rgb_n3), dtype=np.uint8)
    for box in _BOXES:
        # A box may run past 360 degrees; its hues are then measured from its own start.
        inside = (hue - box.hue[0]) % 360 < box.hue[1] - box.hue[0]
        inside &= (lightness >= box.lightness[0]) & (lightness < box.lightness[1])
        inside &= (chroma >= box.chroma[0]) & (chroma < box.chroma[1])
        names[inside] = COLOUR_NAMES.index(box.name)
    return names


def _oklch(
    rgb_n3: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Lightness in [0, 1], chroma (0 to about 0.33 in sRGB) and hue in degrees [0, 360), each ``(n,)``."""
    linear_n3 = np.where(rgb_n3 <= 0.04045, rgb_n3 / 12.92, ((rgb_n3 + 0.055) / 1.055) ** 2.4)
    lab_n3 = np.cbrt(linear_n3 @ _TO_CONES.T) @ _TO_OKLAB.T
    a_n, b_n = lab_n3[:, 1], lab_n3[:, 2]
    return lab_n3[:, 0], np.hypot(a_n, b_n), np.degrees(np.arctan2(b_n, a_n)) % 360
