"""One report on the disk: ordinary units, and one for each hostile text."""

from __future__ import annotations

from pathlib import Path

import pytest

from labeler.records import DissectedConcept, Exemplar, Facet, Label, RoundRecord, Trust, UnitRecord
from labeler.report import RunInfo, build_report
from tests.browsing import browser
from tests.report.catalogues import some_tiles, units
from tests.report.hostile import HOSTILE

__all__ = ["browser"]


EACH = 10
"""Hostile texts of one unit."""


def hostile_unit(index: int, tile: str) -> UnitRecord:
    """A unit that has `EACH` hostile texts wherever a record has several, and one wherever it has one."""
    texts = HOSTILE[index * EACH : (index + 1) * EACH]
    labels = [Label(text=text, score=0.5, match=f"{text} matched") for text in texts]
    refused = [label.model_copy(update={"text": f"no {label.text}"}) for label in labels]
    exemplars = [
        Exemplar(image=1, path=text, activation=3.0, band="top", split="propose", tile=tile) for text in texts
    ]
    return UnitRecord(
        unit=f"hostile:{index}", layer="hostile", index=index, name=texts[0], verdict="accepted",
        reason=" ".join(texts), labels=labels, candidates=refused, facets=(Facet(index=0, size=1),),
        trust=Trust(verdict="supports", reason=texts[0]), exemplars=exemplars,
        rounds=[RoundRecord(round=1, labels=refused, outcome=text, failure=text) for text in texts[:2]],
        dissection=[DissectedConcept(category=text, concept=text, iou=0.1, images=9) for text in texts],
    )  # fmt: skip


@pytest.fixture(scope="session")
def readable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of 130 units in three layers and one for each hostile text. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("readable")
    tiles = some_tiles(folder / "images")
    records = [
        record for layer, count in (("early.1", 70), ("late.2", 60)) for record in units(layer, count, tiles)
    ]
    records += [hostile_unit(index, tiles[0]) for index in range(-(-len(HOSTILE) // EACH))]
    info = RunInfo(
        title=f"Labels of {HOSTILE[0]}", facts=(("probe", HOSTILE[1]),), warnings=(HOSTILE[2],),
        gate=(("cut", HOSTILE[3]),), cut=0.03, decoy_scores=(0.001, 0.01, 0.02), config=HOSTILE[4],
        provenance=(("run", HOSTILE[5]),), run="abc",
    )  # fmt: skip
    build_report(records, info, folder / "images", folder / "report")
    return folder / "report"
