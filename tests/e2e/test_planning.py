"""What would be done, without doing it, and how the command line and Python change that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import labeler as package
from labeler import LabelerError
from tests.e2e.conftest import ToyRun
from tests.e2e.toy_run import NETWORK, run_toy, toy_config, write_config


def test_dry_run_says_what_would_be_done_and_writes_nothing(toy_run: ToyRun, tmp_path: Path) -> None:
    config = write_config(tmp_path, toy_config())
    before = sorted(tmp_path.rglob("*"))
    outcome = run_toy(config, tmp_path / "never", "--dry-run", "--json")
    assert outcome.code == 0
    assert sorted(tmp_path.rglob("*")) == before
    plan = outcome.json
    assert (plan["units"], plan["images"], plan["synthetic_pictures"]) == (12, 220, 24)
    assert plan["endpoint_calls_at_most"] == 0
    assert "12" in run_toy(config, tmp_path / "never", "--dry-run").out


def test_units_and_set_change_what_would_be_done(toy_run: ToyRun) -> None:
    plan = run_toy(
        toy_run.config, Path("never"), "--dry-run", "--json", "--units", "edges:1-3,9", "--units", "edges:5",
        "--set", "probe.images=30", "--set", "visualise.images=1",
    ).json  # fmt: skip
    assert (plan["units"], plan["images"], plan["synthetic_pictures"]) == (5, 30, 5)


def test_a_plan_for_an_endpoint_counts_its_calls(toy_run: ToyRun) -> None:
    plan = run_toy(
        toy_run.config, Path("never"), "--dry-run", "--json", "--set",
        "propose={kind: vlm, model: m, base_url: 'http://127.0.0.1:9/v1'}",
    ).json  # fmt: skip
    assert plan["endpoint_calls_expected"] == 24
    assert plan["endpoint_calls_at_most"] >= 24


def test_an_encoder_that_also_judges_is_warned_of(toy_run: ToyRun) -> None:
    plan = run_toy(
        toy_run.config, Path("never"), "--dry-run", "--json", "--set", "encoder.judge=builtin:scenes-clip"
    ).json
    assert len(plan["warnings"]) == 1
    assert "judges" in plan["warnings"][0]


def test_a_run_restricted_from_python_has_those_units_only(tmp_path: Path) -> None:
    config = write_config(tmp_path, toy_config(visualise={"enabled": False}, refine={"rounds": 1}))
    with package.run(
        config, tmp_path / "run", units=["colours:0,6"], overrides=["probe.images=40"], trust_code=NETWORK
    ) as catalogue:
        assert [record.unit for record in catalogue] == ["colours:0", "colours:6"]
        few, dead = catalogue
    assert few.verdict == "abstained"
    assert "60 are needed" in few.reason
    assert few.visualisations == ()
    assert dead.verdict == "dead"
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (run["units"], run["probe"]["images"]) == (2, 40)


def test_overrides_of_a_config_object_are_refused_not_ignored(toy_run: ToyRun, tmp_path: Path) -> None:
    config = package.load_config(toy_run.config)
    with pytest.raises(LabelerError, match="YAML"):
        package.run(config, tmp_path / "run", overrides=["seed=1"])
    assert not (tmp_path / "run").exists()
