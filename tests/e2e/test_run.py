"""A finished run from the outside: records, tables, pages, searches and the Python API agree."""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labeler as package
from labeler import Catalogue, LabelerError
from labeler.records import KINDS, VERDICTS
from tests.e2e.conftest import ToyRun
from tests.e2e.toy_network import DEAD, NEGATIVE, PREFERENCES
from tests.e2e.toy_run import NETWORK, files_of, labeler, run_toy, toy_config, write_config

CHECKS = [
    "prediction", "rivals", "auprc", "real", "synthetic", "agreement", "iou", "location", "intervention"
]  # fmt: skip
ASKED = [f"colours:{i}" for i in range(8)] + [f"edges:{i}" for i in range(4)]


@pytest.fixture(scope="module")
def listed(toy_run: ToyRun) -> list[dict[str, Any]]:
    return list(labeler("list", toy_run.run, "--json").json)


@pytest.fixture(scope="module")
def shown(toy_run: ToyRun) -> dict[str, dict[str, Any]]:
    return {unit: labeler("show", toy_run.run, unit, "--json").json for unit in ASKED}


@pytest.fixture
def catalogue(toy_run: ToyRun) -> Iterator[Catalogue]:
    with Catalogue.open(toy_run.run) as found:
        yield found


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


def test_labels_agree_in_table_list_show_search_and_report(
    toy_run: ToyRun, listed: list[dict[str, Any]]
) -> None:
    index = html.unescape((toy_run.run / "report" / "index.html").read_text())
    table = labeler("list", toy_run.run).out
    for record in listed:
        text = "; ".join(label["text"] for label in record["labels"])
        page = (toy_run.run / "report" / "units" / record["layer"] / f"{record['index']}.html").read_text()
        said = labeler("show", toy_run.run, record["unit"]).out
        for place in (toy_run.outcome.out, table):
            row = next(line for line in place.splitlines() if line.split()[:1] == [record["unit"]])
            assert text in row
            assert record["verdict"] in row
        assert all(label["text"] in index for label in record["labels"])
        assert record["unit"] in index
        assert said.startswith(f"{record['unit']}: {record['verdict']}\n{record['reason']}\n")
        assert record["reason"] in html.unescape(page)
        for kind, labels in (("accepted", record["labels"]), ("refused", record["candidates"])):
            for label in labels:
                assert f"{kind}: {label['text']} (" in said
                assert label["text"] in html.unescape(page)


def test_links_in_the_report_lead_somewhere(toy_run: ToyRun) -> None:
    site = toy_run.run / "report"
    pages = sorted(site.rglob("*.html"))
    assert len(pages) == 2 + 2 + len(ASKED)  # the first, about the run, one for each layer and unit
    for page in pages:
        text = page.read_text()
        for target in re.findall(r'(?:href|src)="([^"#]+)"', text):
            assert (page.parent / html.unescape(target)).exists(), f"{page.name}: {target}"
        assert text.count("<script") == len(re.findall(r'<script defer src="[^"]+"></script>', text))
        assert page.stat().st_size < 1_000_000
        assert page.relative_to(site).as_posix() == "index.html" or "index.html" in text


def test_the_report_prints_the_control_and_the_openings_of_the_test_split(toy_run: ToyRun) -> None:
    text = (toy_run.run / "report" / "index.html").read_text()
    assert "decoys" in text
    assert "opened 1 time(s)" in text


def test_run_prints_a_table_to_stdout_and_progress_to_stderr(toy_run: ToyRun) -> None:
    assert toy_run.outcome.out.rstrip().endswith(f"Report: {toy_run.run}/report/index.html")
    assert "activations" not in toy_run.outcome.out
    assert "Traceback" not in toy_run.outcome.err
    for stage in ("activations", "exemplars", "visualisations", "rounds", "checks"):
        assert stage in toy_run.outcome.err


def test_list_filters(toy_run: ToyRun, listed: list[dict[str, Any]]) -> None:
    for verdict in VERDICTS:
        found = labeler("list", toy_run.run, "--verdict", verdict, "--json").json
        assert found == [record for record in listed if record["verdict"] == verdict]
    found = labeler("list", toy_run.run, "--layer", "edges", "--json").json
    assert found == [record for record in listed if record["layer"] == "edges"]


def test_top_of_a_unit_is_in_order_and_agrees_with_the_record(
    toy_run: ToyRun, shown: dict[str, dict[str, Any]]
) -> None:
    for unit in ("colours:0", f"colours:{NEGATIVE}"):
        found = labeler("top", toy_run.run, unit, "-k", 12, "--json").json
        assert all(row.keys() == {"image", "activation"} for row in found)
        values = [row["activation"] for row in found]
        assert len(found) == 12
        assert values == sorted(values, reverse=True)
        assert values[0] == pytest.approx(shown[unit]["activation"]["maximum"])
        strongest = shown[unit]["exemplars"][0]
        assert {"image": strongest["path"], "activation": strongest["activation"]} in found or strongest[
            "activation"
        ] < values[-1]
        table = labeler("top", toy_run.run, unit, "-k", 12).out
        assert [line.split()[0] for line in table.splitlines()[1:]] == [row["image"] for row in found]


def test_top_gives_what_there_is_when_asked_for_more(toy_run: ToyRun) -> None:
    found = labeler("top", toy_run.run, "colours:0", "-k", 5000, "--json").json
    assert len(found) == 220
    assert len({row["image"] for row in found}) == 220


def test_top_of_a_direction_is_the_mean_over_positions(toy_run: ToyRun, tmp_path: Path) -> None:
    direction = np.zeros(16, np.float32)
    direction[2] = 2
    np.save(tmp_path / "direction.npy", direction)
    found = labeler(
        "top", toy_run.run, "--layer", "colours", "--direction", tmp_path / "direction.npy", "-k", 4, "--json"
    ).json
    with Catalogue.open(toy_run.run) as catalogue:
        same = catalogue.top_images(layer="colours", direction=direction.tolist(), k=4)
        opposite = catalogue.top_images(layer="colours", direction=-direction, k=220)
    assert [(row["image"], row["activation"]) for row in found] == [(i.image, i.activation) for i in same]
    assert [image.image for image in opposite[::-1][:4]] == [row["image"] for row in found]


def test_search_finds_the_unit_of_an_accepted_label_first(
    toy_run: ToyRun, listed: list[dict[str, Any]]
) -> None:
    record = next(record for record in listed if record["verdict"] == "accepted")
    text = record["labels"][0]["text"]
    outcome = labeler("search", toy_run.run, text, "-k", 3, "--json")
    found = outcome.json
    assert len(found) <= 3
    assert all(row.keys() == {"unit", "label", "score"} for row in found)
    assert found[0]["label"] == text
    assert record["unit"] in [row["unit"] for row in found if row["label"] == text]
    assert [row["score"] for row in found] == sorted((row["score"] for row in found), reverse=True)
    assert "Searched by text embeddings" in outcome.err


def test_search_for_a_word_that_the_encoder_does_not_know_says_so_and_compares_words(toy_run: ToyRun) -> None:
    outcome = labeler("search", toy_run.run, "zzxqy", "--json")
    assert outcome.code == 0
    assert outcome.json == []
    assert "Searched by words" in outcome.err
    assert "zzxqy" in outcome.err


def test_status_counts_what_there_is(toy_run: ToyRun, listed: list[dict[str, Any]]) -> None:
    found = labeler("status", toy_run.run, "--json").json
    assert found["units"] == found["with_verdict"] == len(ASKED)
    assert sum(found["verdicts"].values()) == len(ASKED)
    for verdict, count in found["verdicts"].items():
        assert count == sum(record["verdict"] == verdict for record in listed)
    assert [found[name] for name in ("activations", "exemplars", "visualisations", "report")] == ["done"] * 4
    assert found["images"] == 220
    assert found["unreadable"] == 0
    assert found["calls"] == 0
    said = labeler("status", toy_run.run).out
    assert "every unit has a verdict" in said


def test_report_can_be_built_elsewhere_and_equals_the_run_s_own(toy_run: ToyRun, tmp_path: Path) -> None:
    outcome = labeler("report", toy_run.run, "--out", tmp_path / "site", "--json")
    assert outcome.json == {"report": str(tmp_path / "site" / "index.html")}
    assert files_of(tmp_path / "site") == files_of(toy_run.run / "report")


def test_the_run_keeps_no_unfinished_file_and_hashes_what_it_keeps(toy_run: ToyRun) -> None:
    from labeler.storage import verify_stage

    stages = sorted((toy_run.run / "stages").iterdir())
    names = {stage.name.rpartition("-")[0] for stage in stages}
    assert names >= {"activations", "exemplars", "visualisations"}
    assert [problem for stage in stages for problem in verify_stage(stage)] == []
    assert not list(toy_run.run.rglob("*incomplete*"))
    assert not list(toy_run.run.rglob("*.pkl"))


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


def test_the_catalogue_answers_from_python(catalogue: Catalogue, listed: list[dict[str, Any]]) -> None:
    pytest.importorskip("pandas")
    assert len(catalogue) == len(ASKED)
    assert [record.unit for record in catalogue] == ASKED
    assert catalogue["edges", 3] == catalogue["edges:3"] == catalogue[package.UnitId("edges", 3)]
    accepted = [record["unit"] for record in listed if record["verdict"] == "accepted"]
    assert [record.unit for record in catalogue.units(verdict="accepted")] == accepted
    assert sum(catalogue.counts().values()) == len(ASKED)
    kinds = {label["kind"] for record in listed for label in record["labels"]}
    for kind in kinds:
        assert catalogue.units(kind=kind) == [
            record for record in catalogue if kind in [label.kind for label in record.labels]
        ]
    table = catalogue.to_pandas()
    assert table["unit"].tolist() == ASKED
    assert table["verdict"].tolist() == [record["verdict"] for record in listed]
    hits = catalogue.search(catalogue[accepted[0]].labels[0].text, k=1)
    assert [hit.label for hit in hits] == [catalogue[accepted[0]].labels[0].text]
    assert catalogue.search("red", k=0) == []


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda c: c["edges:9"], "edges:9"),
        (lambda c: c["nope", 0], "nope"),
        (lambda c: c["edges"], "layer:index"),
        (lambda c: c["edges:0-"], "edges:0-"),
        (lambda c: c.units(layer="edgse"), "edges"),
        (lambda c: c.units(verdict="acepted"), "accepted"),
        (lambda c: c.top_images(), "either a unit"),
        (lambda c: c.top_images(layer="edges"), "either a unit"),
        (lambda c: c.top_images("edges:0", layer="edges", direction=[1.0] * 16), "either a unit"),
        (lambda c: c.top_images("edges:16"), "0 to 15"),
        (lambda c: c.top_images("edges:0-"), "edges"),
        (lambda c: c.top_images("edgse:0"), "edges"),
        (lambda c: c.top_images(layer="edgse", direction=[1.0] * 16), "edges"),
        (lambda c: c.top_images(layer="edges", direction=[1.0] * 3), "16 finite numbers"),
        (lambda c: c.top_images(layer="edges", direction=[math.nan] * 16), "16 finite numbers"),
        (lambda c: c.top_images(layer="edges", direction=["a"] * 16), "16 finite numbers"),
    ],
)  # fmt: skip
def test_questions_without_an_answer_are_one_sentence(catalogue: Catalogue, ask: Any, says: str) -> None:
    with pytest.raises(LabelerError) as caught:
        ask(catalogue)
    message = str(caught.value)
    assert says in message
    assert "\n" not in message
    assert message[-1] in ".?"


def test_overrides_of_a_config_object_are_refused_not_ignored(toy_run: ToyRun, tmp_path: Path) -> None:
    config = package.load_config(toy_run.config)
    with pytest.raises(LabelerError, match="YAML"):
        package.run(config, tmp_path / "run", overrides=["seed=1"])
    assert not (tmp_path / "run").exists()
