"""The contact sheet of one unit, from tiles that the run has already made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from labeler.exemplars.sheets import (
    FALSE_ALARM,
    LOOK_ALIKE,
    MISS,
    RANGE,
    SYNTHETIC,
    TOP,
    Sheet,
    SheetSection,
    SheetTile,
    contact_sheet,
)
from labeler.pipeline.evidence import UnitEvidence
from labeler.records import Exemplar, Facet, RoundRecord, UnitRecord, Visualisation


def unit_sheet(
    images: Path,
    evidence: UnitEvidence,
    pictures: Sequence[Visualisation],
    failing: RoundRecord | None,
    max_side: int,
) -> Sheet:
    """One numbered sheet: photographs by facet, synthetic pictures, look-alikes, the best label's failures.

    Nothing on it names a label, a path or a class: the proposer sees pictures and activations only.

    Args:
        images: where the tiles are.
        evidence: the unit's photographs and look-alikes.
        pictures: its synthetic pictures.
        failing: the round whose misses and false alarms are shown; None shows none.
        max_side: of the sheet, in pixels.
    """
    sections = _by_facet(images, evidence.exemplars, evidence.facets)
    facets = sorted({item.facet for item in pictures if item.tile})
    for facet in facets:
        made = [item for item in pictures if item.tile and item.facet == facet]
        tiles = [SheetTile(_open(images, item.tile), _note(item.activation)) for item in made]
        sections.append(SheetSection(SYNTHETIC, tiles, facet if len(facets) > 1 else None))
    sections.append(_section(images, LOOK_ALIKE, evidence.near_misses))
    if failing is not None:
        sections.append(_section(images, MISS, failing.misses))
        sections.append(_section(images, FALSE_ALARM, failing.false_alarms))
    return contact_sheet(sections, max_side=max_side)


def person_sheet(images: Path, record: UnitRecord) -> Sheet:
    """What a person rates a label by: photographs by facet, look-alikes, and the rest of the range.

    No synthetic picture and nothing of any round is on it, so the sheet is the same for a label and a decoy.
    """
    sections = _by_facet(images, record.exemplars, record.facets)
    sections += [_section(images, LOOK_ALIKE, record.near_misses), _section(images, RANGE, record.bands)]
    return contact_sheet(sections)


def _by_facet(images: Path, exemplars: Sequence[Exemplar], facets: Sequence[Facet]) -> list[SheetSection]:
    return [
        _section(images, TOP, [item for item in exemplars if item.facet == facet.index], facet.index)
        for facet in facets
    ]


def _section(
    images: Path, title: str, exemplars: Sequence[Exemplar], facet: int | None = None
) -> SheetSection:
    tiles = [
        SheetTile(
            _open(images, item.tile),
            _note(item.activation),
            _open(images, item.crop) if item.crop else None,
        )
        for item in exemplars
        if item.tile
    ]
    return SheetSection(title, tiles, facet)


def _note(activation: float | None) -> str:
    return "" if activation is None else f"activation {activation:.3g}"


def _open(images: Path, name: str | None) -> Image.Image:
    assert name is not None  # callers pass items with tiles only
    with Image.open(images / name) as image:
        return image.convert("RGB")
