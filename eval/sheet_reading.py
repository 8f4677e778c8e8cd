"""What a model is shown, read back from a request alone: the tiles of the contact sheet and what was tried.

For models that stand in for real ones. They get nothing but the request, so they cannot know more than a real
one does.
"""

from __future__ import annotations

import base64
import io
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labeler.exemplars.sheets import COLUMNS

GAP, CLOSE = 8, 2  # pixels, as `labeler.exemplars.sheets` leaves them
_KEY_LINE = re.compile(r"^(\d+): ([A-E])(?:, facet (\d+))?(?:: activation (\S+))?$", re.MULTILINE)
_TRIED = re.compile(
    r'^- facet (\d+): "([^"]+)" scored (-?\d+\.\d+)(?:.*?correlation with the activation is (-?\d+\.\d+))?'
    r"(.*sections D and E show)?",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Tile:
    """One numbered tile: its picture, its region enlarged (where it has one beside it), and its line in the
    prompt: section ``A`` (fires) to ``E`` (false alarm), facet and activation."""

    number: int
    section: str
    facet: int
    activation: float
    image: Image.Image
    crop: Image.Image | None

    @property
    def look(self) -> Image.Image:
        """What is looked at: the region where it is enlarged, else the whole picture."""
        return self.image if self.crop is None else self.crop


@dataclass(frozen=True)
class Tried:
    """A label that the prompt says was tested: its score in [0, 1], its correlation with the activation (0
    where it could not be tested), and whether the failing images are its own."""

    text: str
    facet: int
    score: float
    correlation: float = 0.0
    failing: bool = False


@dataclass(frozen=True)
class Shown:
    """One request, as whoever answers it sees it."""

    sheet: bytes
    prompt: str
    tiles: tuple[Tile, ...]
    tried: tuple[Tried, ...]

    @property
    def facets(self) -> tuple[int, ...]:
        """The facets that have photographs."""
        return tuple(sorted({tile.facet for tile in self.tiles if tile.section == "A"}))

    def of(self, *sections: str) -> list[Tile]:
        """The tiles of some sections."""
        return [tile for tile in self.tiles if tile.section in sections]

    @property
    def failing(self) -> Tried | None:
        """The label whose failing images are on the sheet; None where none are."""
        return next((tried for tried in self.tried if tried.failing), None)

    def strength(self, tile: Tile) -> float:
        """A tile's activation in [0, 1], from the weakest on the sheet to the photographs' mean.

        Where activations are not given, a photograph or miss has 1, any other tile 0.
        """
        levels = [t.activation for t in self.tiles if t.section != "B" and math.isfinite(t.activation)]
        top = [t.activation for t in self.of("A") if math.isfinite(t.activation)]
        if not math.isfinite(tile.activation) or not top or sum(top) / len(top) <= min(levels):
            return float(tile.section in "AD")
        span = sum(top) / len(top) - min(levels)
        return min(1.0, max(0.0, (tile.activation - min(levels)) / span))


def read_request(body: dict[str, Any]) -> Shown:
    """Decode the picture and the prompt of a chat completion.

    Raises:
        ValueError: when the tiles on the sheet are not those that the prompt lists.
    """
    text, picture = body["messages"][0]["content"]
    sheet = base64.b64decode(picture["image_url"]["url"].partition("base64,")[2])
    return read_shown(text["text"], sheet)


def read_shown(prompt: str, sheet: bytes) -> Shown:
    """The same from a prompt and a contact sheet."""
    key = _KEY_LINE.findall(prompt)
    found = find_tiles(np.asarray(Image.open(io.BytesIO(sheet)).convert("RGB")), len(key))
    tiles = tuple(
        Tile(int(number), section, int(facet or 0), float(activation or "nan"), image, crop)
        for (number, section, facet, activation), (image, crop) in zip(key, found, strict=True)
    )
    tried = tuple(
        Tried(text, int(facet), float(score), float(correlation or 0), bool(failing))
        for facet, text, score, correlation, failing in _TRIED.findall(prompt)
    )
    return Shown(sheet, prompt, tiles, tried)


def find_tiles(sheet_hwc: NDArray[np.uint8], count: int) -> list[tuple[Image.Image, Image.Image | None]]:
    """The `count` tiles of a contact sheet in order of their numbers, and the enlarged regions beside them.

    A tile is found by the black box of its number.

    Raises:
        ValueError: when there are more or fewer.
    """
    for columns in COLUMNS:
        side, rest = divmod(sheet_hwc.shape[1] - GAP, columns)
        found = _in_columns(sheet_hwc, columns, side - GAP) if rest == 0 else []
        if len(found) == count:
            return found
    raise ValueError(f"there are not {count} tiles on the sheet")


def _in_columns(
    sheet_hwc: NDArray[np.uint8], columns: int, side: int
) -> list[tuple[Image.Image, Image.Image | None]]:
    dark_hw = (sheet_hwc.max(axis=2) < 70).astype(np.uint8)
    lefts = [GAP + column * (side + GAP) for column in range(columns)]
    found, y = [], GAP
    while y + side <= sheet_hwc.shape[0]:
        if _numbered(sheet_hwc, dark_hw, y, lefts[0]):
            # A little further down every box of the row has begun, whatever the compression did to its edge.
            boxed = [left for left in lefts if _numbered(sheet_hwc, dark_hw, y + 2, left)]
            row_hwc = sheet_hwc[y : y + side]
            found += [(_cut(row_hwc, left, side), _beside(row_hwc, left, side, boxed)) for left in boxed]
            y += side
        y += 1
    return found


def _numbered(sheet_hwc: NDArray[np.uint8], dark_hw: NDArray[np.uint8], y: int, left: int) -> bool:
    """Whether a number's box begins here: black nearly from its edge, where no letter of a title begins yet,
    and paper before it, of which an enlarged region leaves none."""
    box = dark_hw[y + 3 : y + 21, left + 2 : left + 5].mean() > 0.95
    return bool(box and sheet_hwc[y + 3 : y + 21, left - CLOSE - 3 : left - 1].mean() > 240)


def _beside(row_hwc: NDArray[np.uint8], left: int, side: int, boxed: list[int]) -> Image.Image | None:
    """The picture in the next cell, where that has no number of its own and is not empty paper."""
    start = left + side + CLOSE
    if left + side + GAP in boxed or start + side > row_hwc.shape[1]:
        return None
    return None if row_hwc[:, start + GAP : start + side - GAP].min() > 250 else _cut(row_hwc, start, side)


def _cut(row_hwc: NDArray[np.uint8], left: int, side: int) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(row_hwc[:, left : left + side]))
