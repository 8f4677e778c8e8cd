"""A person, played by a pipe, rates a blinded sample of a finished run, and the gate is fitted to it."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labeler.catalogue import CatalogueStore
from labeler.checks import Gate, shipped
from labeler.config import Config
from labeler.pipeline.deciding import decide_again
from labeler.records import UnitRecord
from tests.e2e.toy_network import PREFERENCES
from tests.e2e.toy_run import Outcome, files_of, labeler, rows_of, run_toy, toy_config, write_config
from tests.faults.test_resume import working_on

Pairs = list[tuple[str, str, str]]
ACCEPTED = ("accepted", "polysemantic")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Config and run of all units of the toy network: about sixty labels are opened on `test`.

    Its second judge is not one of the shipped calibration's, so that labels have no probability before.
    """
    folder = tmp_path_factory.mktemp("judged")
    data = toy_config(encoder={"judge": ["annotations", "builtin:scenes-clip"]})
    data["target"] = {**data["target"], "units": {"colours": "0-15", "edges": "0-15"}}
    config = write_config(folder, data)
    outcome = run_toy(config, folder / "run")
    assert outcome.code == 0, outcome.err
    return config, folder / "run"


@pytest.fixture
def run(finished: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished[1], tmp_path / "run"))


@pytest.fixture
def judge(run: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    def say(lines: str | list[str] = "", *more: object) -> Outcome:
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        return labeler("judge", run, *more)

    return say


def meta(run: Path, key: str) -> Any:
    store = CatalogueStore(run / "catalogue.db", read_only=True)
    found = store.meta(key)
    store.close()
    return json.loads(found or "null")


def sample_of(run: Path) -> Pairs:
    return [(unit, text, source) for unit, text, source in meta(run, "judge")["pairs"]]


def answers_of(run: Path) -> dict[tuple[str, str], tuple[str, int]]:
    connection = sqlite3.connect(f"file:{run / 'catalogue.db'}?mode=ro", uri=True)
    rows = connection.execute("SELECT unit, text, record, counter FROM judgements").fetchall()
    connection.close()
    return {(unit, text): (json.loads(record)["answer"], counter) for unit, text, record, counter in rows}


def records_of(run: Path) -> dict[str, UnitRecord]:
    store = CatalogueStore(run / "catalogue.db", read_only=True)
    found = {record.unit: record for record in store.units()}
    store.close()
    return found


def test_the_sample_has_decoys_and_shows_nothing_that_tells_them(
    run: Path, judge: Callable[..., Outcome]
) -> None:
    outcome = judge("y" * 30, "--sample", 30, "--json")
    assert outcome.code == 0
    sample = sample_of(run)
    assert [source for _, _, source in sample].count("decoy") == 7
    assert {source for _, _, source in sample} == {"accepted", "refused", "decoy"}
    shown = outcome.err.split("\n\n", 1)[1]
    blocks = [block.strip().splitlines() for block in shown.split("y/n/u/b/q? ") if block]
    assert blocks == [
        [f"{i} of 30: {text}", str(run / "judge" / f"{i:03d}.webp")]
        for i, (_, text, _) in enumerate(sample, 1)
    ]
    words = ("accepted", "refused", "rejected", "decoy", "score", "colours:", "edges:")
    assert not [word for word in words if word in shown.replace(str(run), "")]
    assert sorted(files_of(run / "judge")) == [f"{i:03d}.webp" for i in range(1, 31)]
    sheets = files_of(run / "judge")
    by_unit: dict[str, set[bytes]] = {}
    for i, (unit, _, _) in enumerate(sample, 1):
        by_unit.setdefault(unit, set()).add(sheets[f"{i:03d}.webp"])
    assert {len(found) for found in by_unit.values()} == {1}  # a label and a decoy look alike
    assert outcome.json["answered"] == 30
    assert outcome.json["own_error_at_least"] == 1.0


def test_the_judges_answers_are_kept_and_the_next_time_goes_on(
    run: Path, judge: Callable[..., Outcome]
) -> None:
    assert judge(["y", "what?", "n", "q", "y"], "--sample", 12, "--seed", 3).code == 0
    sample = sample_of(run)
    keys = [pair[:2] for pair in sample]
    assert answers_of(run) == {keys[0]: ("y", 1), keys[1]: ("n", 2)}
    again = judge(["u", "b", "Y", "n"])  # goes back once, then on; the pipe ends
    assert "3 of 12" in again.err
    assert "1 of 12" not in again.err
    assert sample_of(run) == sample
    assert answers_of(run) == {
        keys[0]: ("y", 1), keys[1]: ("n", 2), keys[2]: ("y", 4), keys[3]: ("n", 5),
    }  # fmt: skip
    assert "Answered 4 of 12" in again.out
    other = judge([], "--seed", 4, "--json")
    assert sample_of(run) != sample
    assert len(answers_of(run)) == 4
    assert other.json["sample"] == 12


def test_too_few_answers_leave_all_as_it_is_and_say_how_many_are_needed(
    run: Path, judge: Callable[..., Outcome]
) -> None:
    units, gate = rows_of(run)["units"], meta(run, "gate")
    outcome = judge("y" * 20, "--sample", 20, "--json")
    assert outcome.code == 0
    assert outcome.json["gate"] is None
    assert outcome.json["verdicts_changed"] is None
    assert outcome.json["fitted_on"] == 15
    assert "25 more y or n" in outcome.json["lacking"]
    assert "10 more n" in outcome.json["lacking"]
    assert not (run / "gate.json").exists()
    assert (rows_of(run)["units"], meta(run, "gate")) == (units, gate)


def everything(judge: Callable[..., Outcome], run: Path, answer: Callable[[str, str, str], str]) -> Outcome:
    """Draw all labels of the run, then answer each as `answer` does from its unit, text and source."""
    assert judge([], "--sample", 400).code == 0
    return judge([answer(*pair) for pair in sample_of(run)], "--json")


def contrary(unit: str, text: str, source: str) -> str:
    """Says no to all that is accepted and to decoys, and yes to most of what is refused."""
    return "y" if source == "refused" and len(text) % 4 else "n"


def sensible(run: Path) -> Callable[[str, str, str], str]:
    """Says yes to what is accepted and to the labels with the highest scores, no to all others."""
    labels = {
        (record.unit, label.text): label.score or 0.0
        for record in records_of(run).values()
        for label in (*record.labels, *record.candidates)
    }
    best = sorted(labels, key=lambda key: -labels[key])[:14]
    return lambda unit, text, source: "y" if source == "accepted" or (unit, text) in best else "n"


def test_who_says_no_to_all_that_is_accepted_leaves_nothing_accepted(
    finished: tuple[Path, Path], run: Path, judge: Callable[..., Outcome]
) -> None:
    before = records_of(run)
    accepted = {unit for unit, record in before.items() if record.verdict in ACCEPTED}
    assert len(accepted) >= 5
    outcome = everything(judge, run, contrary)
    said = outcome.json
    assert said["agreement"]["accepted"]["share"] == 0
    assert said["agreement"]["refused"]["share"] > 0.5
    assert said["own_error_at_least"] == 0
    assert said["verdicts_changed"] == len(accepted)
    after = records_of(run)
    for unit, record in after.items():
        assert record.verdict not in ACCEPTED
        if unit in accepted:
            assert record.verdict == "rejected"
            assert "too little probability" in record.reason
            assert record.coverage is None
            assert {label.text for label in record.candidates} == {
                label.text for label in (*before[unit].labels, *before[unit].candidates)
            }
            assert all(label.probability is not None for label in record.candidates)
        else:
            assert record.verdict == before[unit].verdict
    assert labeler("list", run, "--verdict", "accepted", "--json").json == []
    assert labeler("search", run, "red", "--json").json == []
    assert "answers of a person" in (run / "report" / "index.html").read_text()
    assert meta(run, "gate")["test_openings"] == 1
    units = rows_of(run)["units"]
    assert run_toy(finished[0], run).code == 0  # the run is settled: nothing is decided by another gate
    assert rows_of(run)["units"] == units
    assert judge([], "--json").json["verdicts_changed"] == 0


def test_who_says_yes_to_the_right_ones_keeps_them_and_gives_them_probabilities(
    run: Path, judge: Callable[..., Outcome]
) -> None:
    before = records_of(run)
    colours = {f"colours:{unit}": name for unit, name in enumerate(PREFERENCES)}
    right = {unit for unit, name in colours.items() if name in {label.text for label in before[unit].labels}}
    assert len(right) >= 3
    outcome = everything(judge, run, sensible(run))
    assert outcome.json["agreement"]["accepted"]["share"] == 1
    assert outcome.json["gate"] == str(run / "gate.json")
    after = records_of(run)
    for unit in right:
        (label,) = after[unit].labels
        assert label.text == colours[unit]
        assert label.probability > 0.8
        assert label.score == before[unit].labels[0].score
        assert after[unit].coverage == before[unit].coverage
    refused = [label.probability for record in after.values() for label in record.candidates]
    known = [
        probability for probability in refused if probability is not None
    ]  # None: it could not be tested
    assert sum(probability < 0.3 for probability in known) > 0.9 * len(known) > 0
    fitted = json.loads((run / "gate.json").read_text())
    assert fitted["domain"]["run"] == json.loads((run / "run.json").read_text())["fingerprint"]
    assert fitted["weights"] == shipped().weights


def test_deciding_again_by_the_same_gate_changes_no_byte(run: Path) -> None:
    config = Config.model_validate(json.loads((run / "run.json").read_text())["config"])
    store = CatalogueStore(run / "catalogue.db", read_only=True)
    records, decoys = list(store.units()), store.decoys()
    calibrated = any(la.probability is not None for r in records for la in (*r.labels, *r.candidates))
    decided = decide_again(
        records, decoys, Gate(config.gate, calibrated, shipped()),
        test_images=meta(run, "gate")["test_images"], min_test_images=config.checks.min_test_images,
    )  # fmt: skip
    store.close()
    assert [r.model_dump_json() for r in decided.records] == [r.model_dump_json() for r in records]
    assert {unit: tuple(item.label for item in found) for unit, found in decided.decoys.items()} == decoys
    assert decided.cut.threshold == meta(run, "gate")["threshold"]


def one_sentence(outcome: Outcome, *words: str) -> None:
    assert outcome.code == 1
    (said,) = [line for line in outcome.err.splitlines() if line]
    assert said.startswith("labeler: ")
    assert all(word in said for word in words), said
    assert outcome.out == ""


def test_what_cannot_be_judged_is_one_sentence(
    run: Path, judge: Callable[..., Outcome], tmp_path: Path
) -> None:
    one_sentence(labeler("judge", tmp_path / "nothing"), "not a run directory")
    assert not (tmp_path / "nothing").exists()
    with working_on(run):
        one_sentence(judge("y"), "Another process")
    connection = sqlite3.connect(run / "catalogue.db")
    connection.execute("UPDATE decoys SET labels = '[]'")
    connection.commit()
    one_sentence(judge("y"), "no decoys")
    connection.execute("DELETE FROM meta WHERE key = 'gate'")
    connection.commit()
    connection.close()
    one_sentence(judge("y"), "no verdicts yet", "labeler run")
    (run / "catalogue.db").unlink()
    one_sentence(judge("y"), "no verdicts yet")
    assert not (run / "catalogue.db").exists()


def test_the_gate_of_another_run_is_refused(
    finished: tuple[Path, Path], run: Path, judge: Callable[..., Outcome]
) -> None:
    everything(judge, run, sensible(run))
    path = run / "gate.json"
    own = path.read_text()
    data = json.loads(own)
    path.write_text(json.dumps({**data, "domain": {**data["domain"], "run": "0" * 64}}))
    one_sentence(last_line(run_toy(finished[0], run)), "fitted for another run", "labeler judge")
    path.write_text("{")
    one_sentence(last_line(run_toy(finished[0], run)), "not a calibration", "labeler judge")
    path.write_text(own)
    assert run_toy(finished[0], run).code == 0


def last_line(outcome: Outcome) -> Outcome:
    """Without the progress bars."""
    said = [line for line in outcome.err.splitlines() if line.startswith("labeler:")]
    return Outcome(outcome.code, outcome.out, "\n".join(said))


def test_a_unit_asked_for_again_is_decided_by_the_persons_gate(
    finished: tuple[Path, Path], run: Path, judge: Callable[..., Outcome]
) -> None:
    everything(judge, run, contrary)
    units = rows_of(run)["units"]
    connection = sqlite3.connect(run / "catalogue.db")
    connection.execute("DELETE FROM meta WHERE key = 'gate'")  # as `forget_rounds` leaves it
    connection.commit()
    connection.close()
    assert run_toy(finished[0], run).code == 0
    assert {row[0]: row[3] for row in rows_of(run)["units"]} == {row[0]: row[3] for row in units}
