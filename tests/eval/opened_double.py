"""A finished run of doubles whose truth is known: ``conv1`` is the red, green and blue channel."""

from __future__ import annotations

from pathlib import Path

from labeler.config import Config
from labeler.pipeline.bench import Bench
from labeler.pipeline.evidence import evidence_stage
from labeler.pipeline.inputs import Inputs
from labeler.pipeline.pass_stage import activations_stage
from labeler.records import Label, Trust, UnitId, UnitRecord
from labeler.suites import suite_module
from labeler.testing import FakeEncoder, fake_probe, toy_target

COLOURS = ("red", "green", "blue")
CONFIG = {
    "target": {"model": "toy", "layers": ["conv1", "conv2"]},
    "probe": {"source": "fake"},
    "encoder": {"model": "fake", "judge": ["annotations"]},
    "checks": {"min_test_images": 40, "min_null_units": 2, "permutations": 100, "iou_grid": 28},
    "executor": {"workers": 0, "device": "cpu"},
}


class OtherEncoder(FakeEncoder):
    """The same colours under another name: a judge that took no part."""

    name = "other"
    fingerprint = "other"


def opened_double(run: Path, labels: dict[int, str]):
    """240 grey pictures with a red, green or blue rectangle; `labels` are accepted for units of ``conv1``."""
    target = toy_target()
    units = tuple(
        UnitId(layer, index) for layer, count in (("conv1", 4), ("conv2", 6)) for index in range(count)
    )
    config = Config.model_validate(CONFIG)
    inputs = Inputs(config, target, fake_probe(240), FakeEncoder(), (), units)
    activations, key = activations_stage(run, inputs, lambda done, total: None)
    bench = Bench(inputs, activations, evidence_stage(run, inputs, activations, key, None))
    records = tuple(_record(bench, unit, labels) for unit in units)
    return suite_module("opened").OpenedRun(bench, records)


def _record(bench: Bench, unit: UnitId, labels: dict[int, str]) -> UnitRecord:
    own = labels.get(unit.index) if unit.layer == "conv1" else None
    verdict = "accepted" if own else "rejected" if bench.alive(unit) else "dead"
    accepted = (Label(text=own, kind="colour", score=0.9 - 0.1 * unit.index),) if own else ()
    trust = Trust(verdict="not_applicable", reason="no picture")
    return UnitRecord(
        unit=str(unit), layer=unit.layer, index=unit.index, verdict=verdict, reason="", labels=accepted,
        trust=trust,
    )  # fmt: skip
