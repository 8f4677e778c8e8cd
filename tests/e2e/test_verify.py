"""``labeler verify`` finds what was changed after it was written, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import ToyRun
from tests.e2e.test_wrong_input import ERROR, sentence
from tests.e2e.toy_run import files_of, labeler


@pytest.fixture
def run(toy_run: ToyRun, tmp_path: Path) -> Path:
    return Path(shutil.copytree(toy_run.run, tmp_path / "run"))


def test_a_finished_run_is_what_was_written(run: Path) -> None:
    before = files_of(run)
    outcome = labeler("verify", run, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["problems"] == []
    assert outcome.json["units"] == 12
    assert outcome.json["stages"] == len(list((run / "stages").iterdir()))
    assert outcome.json["pictures"] == len(list((run / "images").iterdir())) > 20
    assert "stages, pictures and the catalogue's rows are what was written" in labeler("verify", run).out
    assert {name: data for name, data in files_of(run).items() if name in before} == before


def test_every_kind_of_damage_is_named(run: Path) -> None:
    stage = next((run / "stages").glob("activations-????????????"))
    picture = next((run / "images").iterdir())
    changed = stage / "areas.npy"
    changed.write_bytes(changed.read_bytes()[:-1] + b"!")
    (stage / "images.json").unlink()
    picture.write_bytes(picture.read_bytes() + b"!")
    outcome = labeler("verify", run, "--json")
    assert outcome.code == 1
    assert len(outcome.json["problems"]) == 3
    for path in (changed, stage / "images.json", picture):
        assert any(str(path) in problem for problem in outcome.json["problems"]), path


def test_a_damaged_catalogue_is_named(run: Path) -> None:
    whole = (run / "catalogue.db").read_bytes()
    middle = len(whole) // 2 // 4096 * 4096
    (run / "catalogue.db").write_bytes(whole[:middle] + b"\xff" * 8192 + whole[middle + 8192 :])
    outcome = labeler("verify", run)
    assert outcome.code == 1
    assert "catalogue.db" in outcome.out + outcome.err


def test_a_flipped_bit_in_a_record_is_named(run: Path) -> None:
    whole = (run / "catalogue.db").read_bytes()
    at = whole.index(b'"verdict":"') + len(b'"verdict":"')
    (run / "catalogue.db").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    outcome = labeler("verify", run, "--json")
    assert outcome.code == 1
    (problem,) = outcome.json["problems"]
    assert "catalogue.db is damaged (rows of units not what was written: 1" in problem


def test_what_is_no_run_is_one_sentence(tmp_path: Path) -> None:
    assert "not a run directory" in sentence(labeler("verify", tmp_path), ERROR)
