"""Leaving checks out, or the gate: verdicts that follow from a real run's stored checks."""

from __future__ import annotations

import pytest

from labeler.builtin import planted
from labeler.checks import shipped
from labeler.errors import UsageError
from labeler.records import CheckResult
from labeler.suites import suite_module

removal, runs, suite = (suite_module(name) for name in ("removal", "planted_runs", "planted"))
SMALL = (
    "probe.images=420", "visualise.enabled=false", "target.units={units: 0-15}", "refine.rounds=1",
    "propose.kind=[annotations]", "checks.interventions=0",
)  # fmt: skip


@pytest.fixture(scope="module")
def item(tmp_path_factory):
    (found,) = runs.planted_runs(["planted-1"], tmp_path_factory.mktemp("planted"), SMALL, None)
    return found


def test_with_nothing_left_out_and_the_same_calibration_nothing_changes(item):
    again = removal.without(item, (), shipped())
    assert {u: (r.verdict, r.labels) for u, r in again.records.items()} == {
        u: (r.verdict, r.labels) for u, r in item.records.items()
    }


def test_a_check_that_is_left_out_speaks_for_no_label_any_more(item):
    less = removal.without(item, ("prediction",), shipped())
    assert not any(record.labels for record in less.records.values())
    named = [record.labels for record in removal.without(item, ("iou",), shipped()).records.values()]
    checks = [label.checks["iou"] for labels in named for label in labels]
    assert all(check.status == "not_applicable" for check in checks)


def test_without_the_gate_every_live_unit_has_a_label(item):
    free = removal.ungated(item)
    dead = {unit.index for unit in planted.truth("planted-1") if unit.kind == "dead"}
    for unit, record in free.records.items():
        assert bool(record.labels) is (unit.index not in dead)
    outcomes = suite.outcomes_of(free, None)
    assert all(found.verdict in ("accepted", "polysemantic", "dead") for found in outcomes)


def test_what_is_left_out_is_marked_and_the_rest_is_as_it_was():
    kept = CheckResult.not_applicable("none")
    found = removal.left_out({"iou": kept, "real": kept}, ["real"])
    assert found["iou"] is kept
    assert found["real"].why == "left out"


def test_a_file_that_is_no_calibration_is_one_sentence(tmp_path):
    wrong = tmp_path / "gate.json"
    wrong.write_text("{}", encoding="utf-8")
    with pytest.raises(UsageError, match="labeler eval calibrate"):
        runs.calibration_of(wrong)
    assert runs.calibration_of(None) == shipped()
