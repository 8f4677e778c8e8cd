"""Filters, searches, questions about units, tables and exports of a real run, from shell and Python."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from labeler import Catalogue, UnitRecord
from labeler.activations import Activations
from labeler.errors import CatalogueError, UnknownNameError
from tests.e2e.conftest import ToyRun
from tests.e2e.test_wrong_input import ERROR, USAGE, sentence
from tests.e2e.toy_network import DEAD
from tests.e2e.toy_run import labeler


@pytest.fixture
def catalogue(toy_run: ToyRun) -> Iterator[Catalogue]:
    with Catalogue.open(toy_run.run) as found:
        yield found


FILTERS: list[dict[str, Any]] = [
    {"layer": "edges"}, {"verdict": "accepted"}, {"kind": "colour"}, {"kind": "scene"}, {"probability": 0.5},
    {"trust": "not_applicable", "layer": "colours"}, {"probability": 0.0, "kind": "colour"}, {},
]  # fmt: skip


@pytest.mark.parametrize("wanted", FILTERS, ids=str)
def test_filters_say_the_same_from_python_and_from_the_shell(
    toy_run: ToyRun, catalogue: Catalogue, wanted: dict[str, Any]
) -> None:
    def fits(record: UnitRecord) -> bool:
        named = {"layer": record.layer, "verdict": record.verdict, "trust": record.trust.verdict}
        if any(wanted.get(name, value) != value for name, value in named.items()):
            return False
        labels = [label for label in record.labels if wanted.get("kind", label.kind) == label.kind]
        if "probability" in wanted:
            labels = [
                la for la in labels if la.probability is not None and la.probability >= wanted["probability"]
            ]
        return bool(labels) or not {"kind", "probability"} & set(wanted)

    expected = [record for record in catalogue if fits(record)]
    assert catalogue.units(**wanted) == expected
    assert catalogue.units(limit=2, offset=1, **wanted) == expected[1:3]
    assert list(catalogue.iterate(**wanted)) == expected
    units = [record.unit for record in expected]
    assert [unit.unit for unit in catalogue.listed(**wanted)] == units
    options = [word for name, value in wanted.items() for word in (f"--{name}", value)]
    assert [row["unit"] for row in labeler("list", toy_run.run, *options, "--json").json] == units
    said = labeler("list", toy_run.run, *options).out.splitlines()[1:]
    assert [line.split()[0] for line in said] == units
    assert len(labeler("list", toy_run.run, *options, "--limit", "1", "--json").json) == min(1, len(units))


def test_a_filter_that_cannot_be_is_one_sentence(toy_run: ToyRun, catalogue: Catalogue) -> None:
    for wanted in ({"kind": "colr"}, {"trust": "partly"}, {"verdict": "acepted"}, {"layer": "edgse"}):
        with pytest.raises(UnknownNameError):
            catalogue.units(**wanted)  # type: ignore[arg-type]
    assert "colour" in sentence(labeler("list", toy_run.run, "--kind", "colr"), USAGE)
    assert "edges" in sentence(labeler("list", toy_run.run, "--layer", "edgse"), ERROR)
    assert labeler("list", toy_run.run, "--probability", "2").code == 2


def test_units_like_a_unit_by_what_their_exemplars_show(toy_run: ToyRun, catalogue: Catalogue) -> None:
    found = catalogue.units_like("colours:4", k=11)
    assert "colours:7" in [unit.unit for unit in found[:2]]  # both prefer white
    assert "colours:4" not in [unit.unit for unit in found]
    assert [unit.score for unit in found] == sorted((unit.score for unit in found), reverse=True)
    assert all(-1.001 <= unit.score <= 1.001 for unit in found)
    for unit in found:
        assert unit.labels == tuple(label.text for label in catalogue[unit.unit].labels)
    said = labeler("search", toy_run.run, "--like", "colours:4", "-k", "3", "--json").json
    assert [row["unit"] for row in said] == [unit.unit for unit in found[:3]]


def test_units_like_a_unit_by_how_they_fire(toy_run: ToyRun, catalogue: Catalogue) -> None:
    (stage,) = (toy_run.run / "stages").glob("activations-????????????")
    layers = Activations.load(stage).layers
    own = np.asarray(layers["colours"].maxima[:, 4], np.float64)
    expected = {}
    for layer, count in (("colours", 8), ("edges", 4)):
        for index in range(count):
            if (layer, index) not in (("colours", 4), ("colours", DEAD)):
                column = np.asarray(layers[layer].maxima[:, index], np.float64)
                expected[f"{layer}:{index}"] = np.corrcoef(own, column)[0, 1]
    found = catalogue.units_like("colours:4", k=50, by="activations")
    assert {unit.unit for unit in found} == set(expected)
    np.testing.assert_allclose(
        [unit.score for unit in found], sorted(expected.values(), reverse=True), atol=1e-6
    )
    for unit in found:
        assert expected[unit.unit] == pytest.approx(unit.score, abs=1e-6)
    said = labeler("search", toy_run.run, "--like", "colours:4", "--by", "activations", "--json").json
    assert said[0]["unit"] == found[0].unit


def test_questions_about_units_that_cannot_be_answered_are_one_sentence(
    toy_run: ToyRun, catalogue: Catalogue
) -> None:
    with pytest.raises(CatalogueError, match="edges:9"):
        catalogue.units_like("edges:9")
    assert catalogue.units_like(f"colours:{DEAD}", by="activations") == []
    with pytest.raises(UnknownNameError, match="exemplars"):
        catalogue.units_like("edges:0", by="exemplar")  # type: ignore[arg-type]
    assert "--by" in sentence(labeler("search", toy_run.run, "--like", "edges:0", "--by", "x"), USAGE)
    for arguments in ((), ("red", "--like", "edges:0")):
        assert "--like" in sentence(labeler("search", toy_run.run, *arguments), USAGE)


def test_a_search_says_how_it_was_made(toy_run: ToyRun, catalogue: Catalogue) -> None:
    (label,) = catalogue["colours:0"].labels
    assert catalogue.search("red", k=1)[0].label == label.text
    assert catalogue.search_method == "text embeddings"
    found = catalogue.search("quarterdeck", k=3)  # a word that the encoder does not know
    assert catalogue.search_method.startswith("words (")
    assert found == []
    said = labeler("search", toy_run.run, "re", "--json")
    assert "Searched by words" in said.err
    assert {row["label"] for row in said.json} >= {"red"}
    assert all(row["score"] == 1.0 for row in said.json)


def test_a_catalogue_without_its_run_is_searched_by_words(toy_run: ToyRun, tmp_path: Path) -> None:
    shutil.copy(toy_run.run / "catalogue.db", tmp_path)
    with Catalogue.open(tmp_path) as bare:
        (label, *_) = bare.units(verdict="accepted")[0].labels
        assert bare.search(label.text, k=1)[0].score == 1.0
        assert "is not a run directory" in bare.search_method
        assert len(bare.to_arrow()) == len(bare)


def test_tables_have_a_row_for_each_unit(catalogue: Catalogue) -> None:
    units = [record.unit for record in catalogue]
    light, whole = catalogue.to_arrow(), catalogue.to_arrow(evidence=True)
    assert light.column("unit").to_pylist() == whole.column("unit").to_pylist() == units
    for record, row in zip(catalogue, whole.to_pylist(), strict=True):
        assert [label["text"] for label in row["labels"]] == [label.text for label in record.labels]
        for label, told in zip(
            (*record.labels, *record.candidates), row["labels"] + row["candidates"], strict=True
        ):
            assert {check["check"]: check["value"] for check in told["checks"]} == {
                name: check.value for name, check in label.checks.items()
            }
    table = pytest.importorskip("pandas") and catalogue.to_pandas()
    assert table["labels"].tolist() == ["; ".join(la.text for la in record.labels) for record in catalogue]
    assert table["coverage"].notna().sum() == sum(record.coverage is not None for record in catalogue)
    assert {str(table[name].dtype) for name in ("score", "probability", "coverage")} == {"float64"}


def test_exports_of_a_run_hold_its_labels(toy_run: ToyRun, catalogue: Catalogue, tmp_path: Path) -> None:
    own = [(record.unit, label.text) for record in catalogue for label in record.labels]
    for to in ("csv", "jsonl", "parquet", "neuronpedia"):
        outcome = labeler("export", toy_run.run, "--format", to, "--out", tmp_path / to / "x", "--json")
        assert outcome.code == 0, outcome.err
        assert all(Path(path).exists() for path in outcome.json["written"])
    with (tmp_path / "csv" / "x").open(newline="", encoding="utf-8") as stream:
        assert [(row["unit"], row["label"]) for row in csv.DictReader(stream) if row["label"]] == own
    lines = [json.loads(line) for line in (tmp_path / "jsonl" / "x").read_text().splitlines()]
    assert [UnitRecord.model_validate(line) for line in lines] == list(catalogue)
    rows = pq.read_table(tmp_path / "parquet" / "x").to_pylist()
    assert [(row["unit"], label["text"]) for row in rows for label in row["labels"]] == own
    card = (tmp_path / "parquet" / "README.md").read_text(encoding="utf-8")
    assert str(Path(__file__).parent) not in card  # no folder of this machine
    assert (tmp_path / "neuronpedia" / "x" / "config" / "explanation_type.jsonl").is_file()
    assert "parquet" in sentence(
        labeler("export", toy_run.run, "--format", "parqet", "--out", tmp_path / "y"), ERROR
    )
