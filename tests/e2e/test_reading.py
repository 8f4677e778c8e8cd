"""Whoever reads a finished run: tables, pages, searches and the Python API agree with its records."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import labeler as package
from labeler import Catalogue, LabelerError
from labeler.records import VERDICTS
from tests.e2e.conftest import ASKED, ToyRun
from tests.e2e.toy_network import NEGATIVE
from tests.e2e.toy_run import files_of, labeler


@pytest.fixture
def catalogue(toy_run: ToyRun) -> Iterator[Catalogue]:
    with Catalogue.open(toy_run.run) as found:
        yield found


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
