"""Labels made elsewhere, judged by a finished run: its images, its splits, its decoys, its gate."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import labeler as package
from labeler import Catalogue
from labeler.errors import RunError, UsageError
from tests.e2e.conftest import ToyRun
from tests.e2e.test_wrong_input import ERROR, USAGE, sentence
from tests.e2e.toy_network import PREFERENCES
from tests.e2e.toy_run import NETWORK, Outcome, files_of, labeler

TRUE = {f"colours:{index}": colour for index, colour in enumerate(PREFERENCES)}
"""What six of the units are known to prefer."""
WRONG = dict(zip(TRUE, [*list(TRUE.values())[2:], *list(TRUE.values())[:2]], strict=True))
"""The same labels on units that they do not belong to."""


def write_csv(path: Path, labels: dict[str, str], *more: str) -> Path:
    """A file as CLIP-Dissect and MILAN write it."""
    rows = [f"{unit.partition(':')[0]},{unit.partition(':')[2]},{text}" for unit, text in labels.items()]
    path.write_text("\n".join(["layer,unit,description", *rows, *more]) + "\n")
    return path


def import_into(file: Path, run: Path, *more: object) -> Outcome:
    return labeler("import", file, "--run", run, "--trust-code", NETWORK, *more)


@dataclass(frozen=True)
class Judged:
    """A copy of the toy run as it was, and what two imports, of right labels and of wrong ones, said."""

    run: Path
    before: dict[str, bytes]
    right: dict[str, Any]
    wrong: dict[str, Any]


@pytest.fixture(scope="module")
def judged(toy_run: ToyRun, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    folder = tmp_path_factory.mktemp("import")
    run = Path(shutil.copytree(toy_run.run, folder / "run"))
    before = files_of(run)
    more = ("colours,99,red", "conv1,0,red", "edges,0,<b>red</b>", "edges,1,")
    right = import_into(write_csv(folder / "right.csv", TRUE, *more), run, "--json")
    assert right.code == 0, right.err
    wrong = import_into(write_csv(folder / "wrong.csv", WRONG), run, "--out", folder / "wrong", "--json")
    assert wrong.code == 0, wrong.err
    return Judged(run, before, right.json, wrong.json)


def test_a_run_that_is_damaged_is_named_and_not_taken_for_a_mistake(toy_run: ToyRun, tmp_path: Path) -> None:
    run = Path(shutil.copytree(toy_run.run, tmp_path / "run"))
    (path,) = run.glob("stages/activations-*/layer-000.safetensors")
    path.write_bytes(b"\xff" * path.stat().st_size)
    said = sentence(import_into(write_csv(tmp_path / "labels.csv", TRUE), run), ERROR)
    assert said.startswith(f"{path} is not what was written: delete {path.parent}")


def accepted(run: str) -> dict[str, list[str]]:
    with Catalogue.open(run) as catalogue:
        return {
            unit.unit: [label.text for label in unit.labels] for unit in catalogue.listed() if unit.labels
        }


def test_right_labels_are_accepted_and_the_same_on_wrong_units_are_not(judged: Judged) -> None:
    right, wrong = accepted(judged.right["run"]), accepted(judged.wrong["run"])
    assert len(right) >= 3  # of six; a colour may be too rare among so few scenes
    assert all(found == [TRUE[unit]] for unit, found in right.items())
    assert not wrong


def test_every_label_was_opened_on_test_beside_decoys(judged: Judged) -> None:
    with Catalogue.open(judged.right["run"]) as catalogue:
        for unit, text in TRUE.items():
            record = catalogue[unit]
            (label,) = (*record.labels, *record.candidates)
            assert (label.text, label.split) == (text, "test")
            assert [found.round for found in record.rounds] == [1]
        other = catalogue["edges:2"]
        control = json.loads(catalogue.note("gate") or "")
    assert (other.verdict, other.reason) == ("abstained", "No label was proposed.")
    assert control["layers"]["colours"]["decoys"] > 0
    assert judged.right["verdicts"]["accepted"] == control["layers"]["colours"]["accepted"]


def test_what_cannot_be_judged_is_said_row_by_row(judged: Judged) -> None:
    assert (judged.right["labels"], judged.right["units"]) == (6, 6)
    rows = {bad["row"]: bad["why"] for bad in judged.right["left_out"]}
    assert sorted(rows) == [7, 8, 9]
    assert "no unit colours:99" in rows[7]
    assert "no unit conv1:0" in rows[8]
    assert "markup" in rows[9]
    assert any("3 label(s) of labels.csv" in text for text in run_json(judged.right["run"])["warnings"])


def run_json(run: str) -> dict[str, Any]:
    return dict(json.loads((Path(run) / "run.json").read_text()))


def test_the_first_run_stays_as_it_is_but_for_the_count_of_openings(judged: Judged) -> None:
    after = files_of(judged.run)
    assert {name for name in after if name not in judged.before} <= {
        "openings.json", "catalogue.db-wal", "catalogue.db-shm",
    }  # fmt: skip
    assert {name: after[name] for name in judged.before if "-" not in name} == {
        name: data for name, data in judged.before.items() if "-" not in name
    }


def test_every_opening_of_the_test_split_is_counted(judged: Judged, tmp_path: Path) -> None:
    assert [judged.right["test_openings"], judged.wrong["test_openings"]] == [2, 3]
    assert labeler("status", judged.run, "--json").json["test_openings"] == 3
    again = import_into(write_csv(tmp_path / "wrong.csv", WRONG), judged.run, "--out", judged.wrong["run"])
    assert again.code == 0
    assert "now been opened for 3 set(s)" in again.out
    with Catalogue.open(judged.wrong["run"]) as catalogue:
        assert json.loads(catalogue.note("gate") or "")["test_openings"] == 3


def test_the_new_run_is_one_like_any_other(judged: Judged) -> None:
    right = Path(judged.right["run"])
    assert right.parent == judged.run.parent
    assert right.name.startswith("run-imported-")
    assert run_json(str(right))["config"]["propose"]["kind"] == ["imported"]
    assert labeler("show", right, "colours:0").code == 0
    assert labeler("report", right).code == 0
    # what is altered in *intervention* are the concepts that labels name
    stages, others = (
        {path.name for path in (run / "stages").iterdir() if not path.name.startswith("altered-")}
        for run in (judged.run, right)
    )
    assert stages == others


def test_compare_shows_where_two_labellers_differ(judged: Judged, toy_run: ToyRun) -> None:
    found = labeler("compare", judged.right["run"], judged.wrong["run"], "--json").json
    assert (found["common"], found["only_a"], found["only_b"], found["exemplars"]) == (12, 0, 0, 1.0)
    lost = {unit["unit"] for unit in found["changed"]}
    assert lost == set(accepted(judged.right["run"]))
    assert sum(pair["units"] for pair in found["verdicts"]) == 12
    said = labeler("compare", judged.right["run"], judged.wrong["run"]).out
    assert "12 units in both" in said
    assert all(unit in said for unit in lost)
    same = package.compare(toy_run.run, toy_run.run)
    assert (same.same_text, same.changed) == (1.0, ())


def test_labels_of_two_runs_are_compared_by_meaning(judged: Judged, toy_run: ToyRun) -> None:
    result = package.compare(toy_run.run, judged.right["run"])
    assert result.labelled >= 3
    assert result.similarity is not None
    for unit in result.changed:
        if unit.labels_a and unit.labels_b:
            assert unit.similarity is not None
            assert result.similarity_by in ("builtin:scenes-clip", "MiniLM")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("layer,unit,description\ncolour,0,red\n", "layer colours"),
        ("layer,unit,description\n", "no label"),
        ("unit,category,score\n1,scene,0.1\n", "needs the columns"),
    ],
)
def test_a_file_without_a_label_to_judge_is_one_sentence_and_leaves_nothing(
    judged: Judged, tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "x.csv").write_text(text)
    out = tmp_path / "out"
    assert says in sentence(import_into(tmp_path / "x.csv", judged.run, "--out", out), USAGE)
    assert not out.exists()


def test_places_that_are_taken_are_refused_and_left_alone(judged: Judged, tmp_path: Path) -> None:
    file = write_csv(tmp_path / "x.csv", TRUE)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for out in (judged.run, Path(judged.wrong["run"]), tmp_path / "mine"):
        kept = files_of(out)
        assert "another --out" in sentence(import_into(file, judged.run, "--out", out), ERROR)
        assert files_of(out) == kept


def test_a_network_that_is_no_longer_the_same_does_not_judge(judged: Judged, tmp_path: Path) -> None:
    run = Path(shutil.copytree(judged.run, tmp_path / "run"))
    data = run_json(str(run))
    data["target"]["fingerprint"] = "0" * 64
    (run / "run.json").write_text(json.dumps(data))
    file = write_csv(tmp_path / "x.csv", TRUE)
    with pytest.raises(RunError, match=r"network of .* no longer"):
        package.import_labels(file, run, tmp_path / "out", trust_code=NETWORK)
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="no file"):
        package.import_labels(tmp_path / "nowhere.csv", run, tmp_path / "out")


def test_an_export_is_judged_as_the_same_labels(judged: Judged, toy_run: ToyRun, tmp_path: Path) -> None:
    assert labeler("export", toy_run.run, "--format", "csv", "--out", tmp_path / "own.csv").code == 0
    made = package.import_labels(tmp_path / "own.csv", judged.run, tmp_path / "out", trust_code=NETWORK)
    own = accepted(str(toy_run.run))
    assert made.labels == sum(len(found) for found in own.values())
    assert not made.left_out
    with Catalogue.open(made.run) as catalogue:
        for unit, texts in own.items():
            record = catalogue[unit]
            assert {label.text for label in (*record.labels, *record.candidates)} == set(texts)
    with (tmp_path / "own.csv").open(newline="") as stream:
        assert {row["unit"] for row in csv.DictReader(stream)} == {f"colours:{i}" for i in range(8)} | {
            f"edges:{i}" for i in range(4)
        }
