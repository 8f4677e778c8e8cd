"""Contact sheets: all that a vision-language model, or a person, is shown of a unit, on one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw, ImageFont

TOP: Final = "A. Photographs that activate the unit most: region outlined, rest dimmed"
SYNTHETIC: Final = "B. Synthetic pictures made to activate it"
LOOK_ALIKE: Final = "C. Look-alikes that activate it no more than the median image"
MISS: Final = "D. The unit fires, but the best label so far says no"
FALSE_ALARM: Final = "E. The best label so far says yes, but the unit does not fire"
RANGE: Final = "F. The rest of its range, strongest first"
TITLES: Final = (TOP, SYNTHETIC, LOOK_ALIKE, MISS, FALSE_ALARM, RANGE)

_GAP = 8  # pixels between tiles and around the sheet
_TITLE, _SUBTITLE = 26, 20  # font sizes that stay readable when a model scales the sheet to 768 pixels
_INK, _PAPER = (0, 0, 0), (255, 255, 255)
_SMALLEST_TILE = 32


@dataclass(frozen=True)
class SheetTile:
    """One picture and what the key says of it (never drawn)."""

    image: Image.Image
    note: str


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
    tiles: tuple[tuple[int, Image.Image], ...]


def contact_sheet(
    sections: Sequence[SheetSection], tile: int = 160, columns: int = 6, max_side: int = 1600
) -> Sheet:
    """Number the tiles 1..n and lay them out by section, `columns` to a row; empty sections are left out.

    Titles are fixed, so that no path and no earlier label can reach the picture. Tiles shrink until neither
    side of the sheet exceeds `max_side`.

    Raises:
        ValueError: when a title is not one of `TITLES`, there is no tile, or too many to be seen.
    """
    for section in sections:
        if section.title not in TITLES:
            raise ValueError(f"{section.title!r} is not a title of the contact sheet")
    shown = [section for section in sections if section.tiles]
    if not shown:
        raise ValueError("a contact sheet needs a tile")
    while True:
        width = columns * (tile + _GAP) + _GAP
        rows = _rows(shown, columns, width - 2 * _GAP)
        height = sum(_height(row, tile) for row in rows) + _GAP
        if max(width, height) <= max_side:
            return Sheet(_draw(rows, width, height, tile), _key(shown))
        tile -= 4
        if tile < _SMALLEST_TILE:
            raise ValueError(
                f"{sum(len(section.tiles) for section in shown)} tiles do not fit {max_side} pixels"
            )


def _rows(sections: Sequence[SheetSection], columns: int, width: int) -> list[_Line | _Row]:
    rows: list[_Line | _Row] = []
    number, last_title = 1, ""
    for section in sections:
        if section.title != last_title:
            rows += [_Line(line, _TITLE) for line in _wrap(section.title, _TITLE, width)]
        if section.facet is not None:
            rows.append(_Line(f"facet {section.facet}", _SUBTITLE))
        last_title = section.title
        for start in range(0, len(section.tiles), columns):
            part = section.tiles[start : start + columns]
            rows.append(_Row(tuple((number + i, shown.image) for i, shown in enumerate(part))))
            number += len(part)
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


def _draw(rows: Sequence[_Line | _Row], width: int, height: int, tile: int) -> Image.Image:
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    y = _GAP
    for row in rows:
        if isinstance(row, _Line):
            pen.text((_GAP, y), row.text, fill=_INK, font=ImageFont.load_default(row.size), anchor="lt")
        else:
            for column, (number, image) in enumerate(row.tiles):
                x = _GAP + column * (tile + _GAP)
                sheet.paste(image.convert("RGB").resize((tile, tile), Image.Resampling.LANCZOS), (x, y))
                _number(pen, number, x, y, tile)
        y += _height(row, tile)
    return sheet


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
