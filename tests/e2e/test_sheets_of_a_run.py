"""The contact sheets of a finished run: every facet is on them, and what is drawn is what the record says."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from labeler import Catalogue
from labeler.pipeline.evidence import FACET_TILES, UnitEvidence
from labeler.pipeline.sheet import person_sheet, unit_sheet
from labeler.records import RoundRecord, UnitRecord
from tests.e2e.conftest import ToyRun


@pytest.fixture(scope="module")
def records(toy_run: ToyRun) -> list[UnitRecord]:
    with Catalogue.open(toy_run.run) as catalogue:
        return [record for record in catalogue if record.verdict != "dead"]


def sheet_of(run: Path, record: UnitRecord, failing: RoundRecord | None = None, side: int = 1344):
    import numpy as np

    evidence = UnitEvidence(
        record.id,
        record.exemplars,
        record.near_misses,
        record.bands,
        record.facets,
        np.zeros((0, 1), np.float32),
    )
    return unit_sheet(run / "images", evidence, record.visualisations, failing, side)


def test_every_facet_has_tiles(records: list[UnitRecord]) -> None:
    several = [record for record in records if len(record.facets) > 1]
    assert several, "no unit has facets: the test shows nothing"
    for record in records:
        for facet in record.facets:
            own = [item for item in record.exemplars if item.facet == facet.index]
            assert sum(item.tile is not None for item in own) >= min(FACET_TILES, facet.size)
            shown = [item.activation for item in own if item.tile]
            assert shown == sorted(shown, reverse=True)[: len(shown)]


def test_every_facet_is_on_the_sheet_and_in_its_key(toy_run: ToyRun, records: list[UnitRecord]) -> None:
    for record in records:
        drawn = sheet_of(toy_run.run, record)
        for facet in record.facets:
            assert f"A, facet {facet.index}: activation" in drawn.key
        tiles = [item for item in record.exemplars if item.tile]
        pictures = [item for item in record.visualisations if item.tile]
        assert len(drawn.key.splitlines()) == len(tiles) + len(pictures) + len(record.near_misses)
        assert max(drawn.image.size) <= 1344
        assert record.unit not in drawn.key


def test_the_crop_is_the_region_enlarged(toy_run: ToyRun, records: list[UnitRecord]) -> None:
    cropped = [item for record in records for item in record.exemplars if item.crop]
    assert cropped
    for item in cropped:
        assert item.tile is not None
        assert item.region is not None
        left, top, right, bottom = item.region
        assert max(right - left, bottom - top) < 0.75
        with Image.open(toy_run.run / "images" / item.crop) as crop:
            assert crop.size == (160, 160)


def test_a_round_that_failed_nowhere_adds_no_section(toy_run: ToyRun, records: list[UnitRecord]) -> None:
    record = records[0]
    plain = sheet_of(toy_run.run, record)
    assert sheet_of(toy_run.run, record, RoundRecord(round=1)).key == plain.key
    failing = RoundRecord(round=1, misses=record.exemplars[:1], false_alarms=record.near_misses[:1])
    lines = sheet_of(toy_run.run, record, failing).key.splitlines()
    assert [line.split(": ")[1] for line in lines[-2:]] == ["D", "E"]


def test_a_person_s_sheet_has_no_synthetic_picture(toy_run: ToyRun, records: list[UnitRecord]) -> None:
    assert ": B" not in person_sheet(toy_run.run / "images", records[0]).key
