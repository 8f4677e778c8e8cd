"""A finished run from the outside: what its records, pictures and files are."""

from __future__ import annotations

import math
from typing import Any

from labeler.records import KINDS, VERDICTS
from tests.e2e.conftest import ASKED, ToyRun
from tests.e2e.toy_network import DEAD, NEGATIVE, PREFERENCES

CHECKS = [
    "prediction", "rivals", "auprc", "real", "synthetic", "agreement", "iou", "location", "intervention"
]  # fmt: skip


def labels_of(record: dict[str, Any]) -> list[dict[str, Any]]:
    return [*record["labels"], *record["candidates"]]


def test_every_asked_unit_has_a_verdict_and_no_other(listed: list[dict[str, Any]]) -> None:
    assert [record["unit"] for record in listed] == ASKED
    for record in listed:
        assert record["verdict"] in VERDICTS
        assert record["reason"].endswith(".")


def test_units_of_known_meaning_get_it(shown: dict[str, dict[str, Any]]) -> None:
    right = 0
    for index, colour in enumerate(PREFERENCES):
        right += colour in [label["text"] for label in shown[f"colours:{index}"]["labels"]]
    assert right >= 3  # of six; a colour may be too rare among so few scenes


def test_the_dead_unit_is_dead_and_the_negative_one_is_not(shown: dict[str, dict[str, Any]]) -> None:
    dead, negative = shown[f"colours:{DEAD}"], shown[f"colours:{NEGATIVE}"]
    assert dead["verdict"] == "dead"
    assert not labels_of(dead)
    assert dead["visualisations"] == dead["rounds"] == []
    assert negative["verdict"] not in ("dead", "failed")
    assert negative["activation"]["maximum"] < 0
    assert all(exemplar["activation"] < 0 for exemplar in negative["exemplars"])
    assert negative["rounds"]


def test_list_is_an_array_and_show_an_object_of_the_promised_shape(
    listed: list[dict[str, Any]], shown: dict[str, dict[str, Any]]
) -> None:
    promised = {"unit", "layer", "index", "verdict", "labels", "candidates", "trust", "reason"}
    assert all(record.keys() == promised for record in listed)
    for record in listed:
        whole = shown[record["unit"]]
        assert {name: whole[name] for name in promised} == record
        assert f"{record['layer']}:{record['index']}" == record["unit"]
        assert record["trust"]["reason"]
        for label in labels_of(record):
            assert label["kind"] in KINDS
            assert label["text"]
            assert label["round"] >= 1
            assert label["facet"] in [facet["index"] for facet in whole["facets"]]
            assert label["probability"] is None or 0 <= label["probability"] <= 1
            assert label["split"] == "test"


def test_altered_images_say_whether_a_unit_follows_its_label(shown: dict[str, dict[str, Any]]) -> None:
    found = [label for record in shown.values() for label in labels_of(record)]
    measured = [label["checks"]["intervention"] for label in found]
    applied = [check for check in measured if check["status"] == "ok"]
    assert len(applied) >= 6
    for check in applied:
        assert -1 <= check["low"] <= check["value"] <= 1
        assert 5 <= check["n"] <= 12
        assert check["judge"] == "annotations"
    right = [
        label["checks"]["intervention"]
        for index, colour in enumerate(PREFERENCES)
        for label in labels_of(shown[f"colours:{index}"])
        if label["text"] == colour
    ]
    high = [check for check in right if check["status"] == "ok" and check["value"] > 0.3]
    assert len(high) >= 3
    assert all(check["significance"]["p"] < 0.05 for check in high)
    rounds = [label for record in shown.values() for item in record["rounds"] for label in item["labels"]]
    assert {label["checks"]["intervention"]["status"] for label in rounds} == {"not_applicable"}


def test_verdicts_follow_from_the_labels(listed: list[dict[str, Any]]) -> None:
    for record in listed:
        accepted = [label["text"] for label in record["labels"]]
        refused = [label["text"] for label in record["candidates"]]
        assert not set(accepted) & set(refused)
        assert len(accepted) == {"accepted": 1}.get(record["verdict"], len(accepted))
        assert bool(accepted) == (record["verdict"] in ("accepted", "polysemantic"))
        if record["verdict"] in ("rejected", "uninterpretable"):
            assert refused
    assert {record["verdict"] for record in listed} >= {"accepted", "dead"}


def test_every_check_has_a_status_a_reason_or_numbers(shown: dict[str, dict[str, Any]]) -> None:
    found = [label for record in shown.values() for label in labels_of(record)]
    found += [label for record in shown.values() for item in record["rounds"] for label in item["labels"]]
    assert found
    for label in found:
        assert list(label["checks"]) == CHECKS
        for name, check in label["checks"].items():
            if check["status"] == "ok":
                assert math.isfinite(check["value"])
                assert check["n"] > 0
                assert check["judge"]
                assert 0 <= check["significance"]["p"] <= 1
            else:
                assert check["why"], name
                assert check["value"] is None


def test_accepted_labels_are_significant_and_specific(listed: list[dict[str, Any]]) -> None:
    for record in listed:
        for label in record["labels"]:
            prediction = label["checks"]["prediction"]
            assert prediction["low"] > 0
            assert prediction["significance"]["p"] <= 0.05
            assert prediction["specificity"]["z"] >= 3


def test_pictures_that_records_name_exist_and_are_shown_once_in_the_report(
    toy_run: ToyRun, shown: dict[str, dict[str, Any]]
) -> None:
    for record in shown.values():
        tiles = [
            item["tile"] for item in (*record["exemplars"], *record["near_misses"], *record["visualisations"])
        ]
        tiles += [item["tile"] for r in record["rounds"] for item in (*r["misses"], *r["false_alarms"])]
        names = {name for name in tiles if name}
        assert names
        for name in names:
            assert (toy_run.run / "images" / name).read_bytes() == (
                toy_run.run / "report/images" / name
            ).read_bytes()


def test_splits_are_respected(shown: dict[str, dict[str, Any]]) -> None:
    proposed, failed = set(), set()
    for record in shown.values():
        proposed |= {item["image"] for item in (*record["exemplars"], *record["near_misses"])}
        failed |= {i["image"] for r in record["rounds"] for i in (*r["misses"], *r["false_alarms"])}
        assert all(i["split"] == "propose" for i in record["exemplars"])
        assert all(
            i["split"] == "feedback" for r in record["rounds"] for i in (*r["misses"], *r["false_alarms"])
        )
    assert not proposed & failed


def test_run_prints_a_table_to_stdout_and_progress_to_stderr(toy_run: ToyRun) -> None:
    assert toy_run.outcome.out.rstrip().endswith(f"Report: {toy_run.run}/report/index.html")
    assert "activations" not in toy_run.outcome.out
    assert "Traceback" not in toy_run.outcome.err
    for stage in ("activations", "exemplars", "visualisations", "rounds", "checks"):
        assert stage in toy_run.outcome.err


def test_the_run_keeps_no_unfinished_file_and_hashes_what_it_keeps(toy_run: ToyRun) -> None:
    from labeler.storage import verify_stage

    stages = sorted((toy_run.run / "stages").iterdir())
    names = {stage.name.rpartition("-")[0] for stage in stages}
    assert names >= {"activations", "exemplars", "visualisations"}
    assert [problem for stage in stages for problem in verify_stage(stage)] == []
    assert not list(toy_run.run.rglob("*incomplete*"))
    assert not list(toy_run.run.rglob("*.pkl"))
