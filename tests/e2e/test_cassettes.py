"""A vision-language model's recorded answers, replayed: the whole loop with real words, and no network."""

import json
import shutil
from pathlib import Path

import pytest

from labeler.suites import run_suite

CASSETTES = Path(__file__).parents[1] / "cassettes"
UNITS = {"lite0": 48, "planted-9": 46}
"""Live units that the model was asked about."""


def requests(name):
    return [json.loads(path.read_text()) for path in sorted((CASSETTES / name / "requests").glob("*.json"))]


@pytest.mark.parametrize("name", UNITS)
def test_every_question_that_was_asked_is_there_with_its_sheet_and_its_answer(name):
    folder = CASSETTES / name
    asked = requests(name)
    assert {path.name for path in (folder / "answers").glob("*.json")} == {
        path.name for path in (folder / "requests").glob("*.json")
    }
    assert all((folder / request["sheet"]).is_file() for request in asked)
    first = [request for request in asked if request["about"].endswith("round 1")]
    assert len(first) == UNITS[name]
    assert len(asked) > len(first)


@pytest.mark.slow
def test_the_recorded_answers_label_the_planted_units(tmp_path):
    folder = tmp_path / "cassette"  # a copy: questions without an answer would be written there
    shutil.copytree(CASSETTES / "planted-9", folder)
    asked = ["--cassette", str(folder), "--network", "planted-9", "--rounds", "3"]
    found = run_suite("vlm", [*asked, "--set", "target.units={units: '0-47'}"])
    assert found.figures["schema_ok"] == 1.0
    assert found.figures["single_accepted"] >= 0.9
    assert found.figures["single_right"] >= 0.75
    assert found.figures["decoys_accepted"] == 0.0
    assert len(list((folder / "requests").glob("*.json"))) == len(requests("planted-9"))


@pytest.mark.slow
def test_the_recorded_answers_label_the_units_of_the_demo(tmp_path):
    folder = tmp_path / "cassette"
    shutil.copytree(CASSETTES / "lite0", folder)
    found = run_suite("vlm", ["--cassette", str(folder), "--rounds", "3"])
    assert found.units == 48
    assert found.figures["schema_ok"] == 1.0
    assert len(list((folder / "requests").glob("*.json"))) == len(requests("lite0"))
