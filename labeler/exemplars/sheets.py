"""Contact sheets: all that a vision-language model, or a person, is shown of a unit, on one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw, ImageFont

TOP: Final = "A. Photographs that activate the unit most: region outlined, and beside it enlarged"
SYNTHETIC: Final = "B. Synthetic pictures made to activate it"
LOOK_ALIKE: Final = "C. Look-alikes that activate it no more than the median image"
MISS: Final = "D. The unit fires, but the best label so far says no"
FALSE_ALARM: Final = "E. The best label so far says yes, but the unit does not fire"
RANGE: Final = "F. The rest of its range, strongest first"
TITLES: Final = (TOP, SYNTHETIC, LOOK_ALIKE, MISS, FALSE_ALARM, RANGE)

COLUMNS: Final = (6, 7, 8)
"""Cells in a row: whichever lets the tiles be largest."""

_GAP = 8  # pixels between tiles and around the sheet
_CLOSE = 2  # pixels between a tile and the enlarged region that belongs to it
_TITLE, _SUBTITLE = 26, 20  # font sizes that stay readable when a model scales the sheet to 768 pixels
_INK, _PAPER = (0, 0, 0), (255, 255, 255)
_SMALLEST_TILE = 32


@dataclass(frozen=True)
class SheetTile:
    """One picture, what the key says of it (never drawn), and its region enlarged, which stands beside it."""

    image: Image.Image
    note: str
    crop: Image.Image | None = None

    @property
    def cells(self) -> int:
        """Places that it takes in a row."""
        return 1 if self.crop is None else 2


@dataclass(frozen=True)
class SheetSection:
    """Tiles under one of `TITLES`; `facet` gives them a sub-section of their own below the same title."""

    title: str
    tiles: Sequence[SheetTile]
    facet: int | None = None


@dataclass(frozen=True)
class Sheet:
    """The picture, and one line for each numbered tile: ``3: A, facet 0: activation 2.1``."""

    image: Image.Image
    key: str


@dataclass(frozen=True)
class _Line:
    text: str
    size: int


@dataclass(frozen=True)
class _Row:
    tiles: tuple[tuple[int, SheetTile], ...]


@dataclass(frozen=True)
class _Layout:
    tile: int
    width: int
    height: int
    rows: Sequence[_Line | _Row]


def contact_sheet(sections: Sequence[SheetSection], tile: int = 160, max_side: int = 1600) -> Sheet:
    """Number the tiles 1..n and lay them out by section; empty sections are left out.

    Titles are fixed, so that no path and no earlier label can reach the picture. Tiles shrink until neither
    side of the sheet exceeds `max_side`, in as many columns as lets them be largest.

    Raises:
        ValueError: when a title is not one of `TITLES`, there is no tile, or too many to be seen.
    """
    for section in sections:
        if section.title not in TITLES:
            raise ValueError(f"{section.title!r} is not a title of the contact sheet")
    shown = [section for section in sections if section.tiles]
    if not shown:
        raise ValueError("a contact sheet needs a tile")
    layouts = [_layout(shown, columns, tile, max_side) for columns in COLUMNS]
    best = max((layout for layout in layouts if layout), key=lambda layout: layout.tile, default=None)
    if best is None:
        raise ValueError(f"{sum(len(section.tiles) for section in shown)} tiles do not fit {max_side} pixels")
    return Sheet(_draw(best), _key(shown))


def _layout(sections: Sequence[SheetSection], columns: int, tile: int, max_side: int) -> _Layout | None:
    """The layout with the largest tiles that fits; None where none does."""
    for side in range(tile, _SMALLEST_TILE - 1, -4):
        width = columns * (side + _GAP) + _GAP
        rows = _rows(sections, columns, width - 2 * _GAP)
        height = sum(_height(row, side) for row in rows) + _GAP
        if max(width, height) <= max_side:
            return _Layout(side, width, height, rows)
    return None


def _rows(sections: Sequence[SheetSection], columns: int, width: int) -> list[_Line | _Row]:
    rows: list[_Line | _Row] = []
    number, last_title = 1, ""
    for section in sections:
        if section.title != last_title:
            rows += [_Line(line, _TITLE) for line in _wrap(section.title, _TITLE, width)]
        if section.facet is not None:
            rows.append(_Line(f"facet {section.facet}", _SUBTITLE))
        last_title = section.title
        row: list[tuple[int, SheetTile]] = []
        for shown in section.tiles:
            if sum(item.cells for _, item in row) + shown.cells > columns:
                rows.append(_Row(tuple(row)))
                row = []
            row.append((number, shown))
            number += 1
        rows.append(_Row(tuple(row)))
    return rows


def _wrap(text: str, size: int, width: int) -> list[str]:
    font, lines = ImageFont.load_default(size), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _height(row: _Line | _Row, tile: int) -> int:
    return tile + _GAP if isinstance(row, _Row) else row.size + _GAP


def _draw(layout: _Layout) -> Image.Image:
    sheet = Image.new("RGB", (layout.width, layout.height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    y = _GAP
    for row in layout.rows:
        if isinstance(row, _Line):
            pen.text((_GAP, y), row.text, fill=_INK, font=ImageFont.load_default(row.size), anchor="lt")
        else:
            _draw_row(sheet, pen, row, y, layout.tile)
        y += _height(row, layout.tile)
    return sheet


def _draw_row(sheet: Image.Image, pen: ImageDraw.ImageDraw, row: _Row, y: int, tile: int) -> None:
    x = _GAP
    for number, shown in row.tiles:
        sheet.paste(_sized(shown.image, tile), (x, y))
        if shown.crop is not None:
            sheet.paste(_sized(shown.crop, tile), (x + tile + _CLOSE, y))
        _number(pen, number, x, y, tile)
        x += shown.cells * (tile + _GAP)


def _sized(image: Image.Image, side: int) -> Image.Image:
    rgb = image.convert("RGB")
    return rgb if rgb.size == (side, side) else rgb.resize((side, side), Image.Resampling.LANCZOS)


def _number(pen: ImageDraw.ImageDraw, number: int, x: int, y: int, tile: int) -> None:
    """The tile's number, white on black with a white edge, in its top left corner."""
    size = max(16, tile // 6)
    font = ImageFont.load_default(size)
    right, bottom = x + round(font.getlength(str(number))) + 10, y + size + 6
    pen.rectangle((x, y, right, bottom), fill=_INK, outline=_PAPER)
    pen.text(((x + right) / 2, (y + bottom) / 2), str(number), fill=_PAPER, font=font, anchor="mm")


def _key(sections: Sequence[SheetSection]) -> str:
    lines = []
    for section in sections:
        place = section.title[0] if section.facet is None else f"{section.title[0]}, facet {section.facet}"
        lines += [f"{place}: {' '.join(shown.note.split())}".rstrip(": ") for shown in section.tiles]
    return "\n".join(f"{number}: {line}" for number, line in enumerate(lines, start=1))
