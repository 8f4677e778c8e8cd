import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from labeler.exemplars.images import encode_webp
from labeler.exemplars.sheets import (
    FALSE_ALARM,
    LOOK_ALIKE,
    SYNTHETIC,
    TOP,
    SheetSection,
    SheetTile,
    contact_sheet,
)
from labeler.suites import suite_module


def tiles(count, colour=(200, 30, 30), note="activation 1.50"):
    return [SheetTile(Image.new("RGB", (64, 64), colour), note) for _ in range(count)]


def test_the_key_names_every_numbered_tile_on_one_line():
    sheet = contact_sheet(
        [
            SheetSection(TOP, tiles(2), facet=0),
            SheetSection(TOP, tiles(1), facet=1),
            SheetSection(SYNTHETIC, tiles(1, note="seed 0\nactivation 9")),
            SheetSection(LOOK_ALIKE, []),
        ]
    )
    assert sheet.key.splitlines() == [
        "1: A, facet 0: activation 1.50",
        "2: A, facet 0: activation 1.50",
        "3: A, facet 1: activation 1.50",
        "4: B: seed 0 activation 9",
    ]


def test_every_tile_is_drawn_and_notes_are_not():
    colours = [
        (255, 0, 0),
        (0, 255, 0),
        (0, 0, 255),
        (255, 255, 0),
        (0, 255, 255),
        (255, 0, 255),
        (90, 60, 30),
    ]
    shown = [SheetTile(Image.new("RGB", (30, 30), colour), "a") for colour in colours]
    image = contact_sheet([SheetSection(TOP, shown)]).image
    counts = {colour: n for n, colour in image.getcolors(maxcolors=1 << 20)}
    assert all(counts[colour] > 0.8 * 160 * 160 for colour in colours)
    longer = [SheetTile(tile.image, "quite another note") for tile in shown]
    assert contact_sheet([SheetSection(TOP, longer)]).image.tobytes() == image.tobytes()


def read_back(sheet):
    """The tiles as a model finds them, after the compression."""
    reading = suite_module("sheet_reading")
    return reading.read_shown(sheet.key, encode_webp(sheet.image)).tiles


@pytest.mark.parametrize("max_side", [768, 1344, 1600])
@pytest.mark.parametrize(("count", "crops"), [(1, 0), (9, 9), (18, 7), (40, 0), (30, 30)])
def test_the_sheet_fits_and_every_tile_can_be_found_on_it(count, crops, max_side):
    crop = Image.new("RGB", (160, 160), (20, 60, 200))
    shown = [replace(tile, crop=crop if n < crops else None) for n, tile in enumerate(tiles(count))]
    sheet = contact_sheet([SheetSection(TOP, shown), SheetSection(FALSE_ALARM, tiles(3))], max_side=max_side)
    assert max(sheet.image.size) <= max_side
    found = read_back(sheet)
    assert [tile.section for tile in found] == ["A"] * count + ["E"] * 3
    assert [tile.crop is not None for tile in found] == [True] * crops + [False] * (count - crops + 3)
    for tile in found[:crops]:
        assert np.abs(np.asarray(tile.crop).mean(axis=(0, 1)) - (20, 60, 200)).max() < 12


def test_tiles_are_as_large_as_the_sheet_allows():
    few, many = (contact_sheet([SheetSection(TOP, tiles(n))], max_side=1344).image for n in (9, 60))
    assert few.width == 6 * 168 + 8
    assert many.width > 7 * 150


def test_titles_of_ones_own_empty_sheets_and_endless_ones_are_refused():
    with pytest.raises(ValueError, match="title"):
        contact_sheet([SheetSection("tench (n01440764)", tiles(1))])
    with pytest.raises(ValueError, match="needs a tile"):
        contact_sheet([SheetSection(TOP, [])])
    with pytest.raises(ValueError, match="do not fit"):
        contact_sheet([SheetSection(TOP, tiles(900))], max_side=400)


def test_encoding_is_deterministic_webp():
    sheet = contact_sheet([SheetSection(TOP, tiles(3))])
    data = encode_webp(sheet.image)
    assert data == encode_webp(sheet.image.copy())
    decoded = Image.open(io.BytesIO(data))
    assert (decoded.format, decoded.size) == ("WEBP", sheet.image.size)
    assert np.abs(np.asarray(decoded.convert("RGB")).astype(int) - np.asarray(sheet.image)).mean() < 4
