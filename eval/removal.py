"""What a run over a planted network would have decided without some checks, or without the gate at all.

Nothing is measured again: the verdicts follow from the checks that are stored.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace

from labeler.catalogue import CatalogueStore
from labeler.checks import Calibration, Gate
from labeler.config import Config
from labeler.pipeline.deciding import decide_again
from labeler.records import CheckResult, Label, UnitRecord
from labeler.run_directory import read_run

from .planted_runs import PlantedRun

Checks = Mapping[str, CheckResult]


def left_out(checks: Checks, names: Collection[str]) -> dict[str, CheckResult]:
    """The same checks, those named as if they did not apply."""
    gone = CheckResult.not_applicable("left out")
    return {name: gone if name in names else check for name, check in checks.items()}


def without(item: PlantedRun, names: Collection[str], calibration: Calibration) -> PlantedRun:
    """The run decided anew by `calibration`, its labels and decoys without the checks in `names`."""
    config = Config.model_validate(read_run(item.run)["config"])
    store = CatalogueStore(item.run / "catalogue.db", read_only=True)
    try:
        decoys = {unit: [_stripped(x, names) for x in found] for unit, found in store.decoys().items()}
        test_images = json.loads(store.meta("gate") or "{}")["test_images"]
    finally:
        store.close()
    decided = decide_again(
        [_without(record, names) for record in item.records.values()], decoys,
        Gate(config.gate, True, calibration),
        test_images=test_images, min_test_images=config.checks.min_test_images,
    )  # fmt: skip
    return replace(item, records={record.id: record for record in decided.records})


def ungated(item: PlantedRun) -> PlantedRun:
    """The run as if the best label of every live unit were accepted, whatever its score."""
    return replace(item, records={unit: _best(record) for unit, record in item.records.items()})


def _best(record: UnitRecord) -> UnitRecord:
    found = sorted((*record.labels, *record.candidates), key=lambda label: -(label.score or 0.0))
    if record.verdict == "dead" or not found:
        return record
    changed = {"verdict": "accepted", "labels": tuple(found[:1]), "candidates": tuple(found[1:])}
    return record.model_copy(update=changed)


def _without(record: UnitRecord, names: Collection[str]) -> UnitRecord:
    parts = {
        "labels": tuple(_stripped(label, names) for label in record.labels),
        "candidates": tuple(_stripped(label, names) for label in record.candidates),
    }
    return record.model_copy(update=parts)


def _stripped(label: Label, names: Collection[str]) -> Label:
    return label.model_copy(update={"checks": left_out(label.checks, names)})
