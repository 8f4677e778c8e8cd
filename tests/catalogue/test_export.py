"""Exports come back as the labels they hold, run in no spreadsheet, and take nobody's place."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from labeler.catalogue import CatalogueStore, cells
from labeler.catalogue.export import FORMATS, export
from labeler.catalogue.label_files import BadRow, ForeignLabel, read_label_file
from labeler.catalogue.neuronpedia import BATCH
from labeler.catalogue.tables import light_table, whole_schema
from labeler.errors import RunError, UnknownNameError
from labeler.records import Formula, Label, UnitRecord
from tests.catalogue.catalogue_doubles import CHECK, RUN, filled, record, records
from tests.catalogue.test_query import SETTINGS

STRIPED = Label(
    text="striped", kind="texture", score=0.8, probability=0.9, checks={"prediction": CHECK}, match="striped"
)
EITHER = Label(text="red or -1+1", formula=Formula(op="or", terms=("red", "-1+1")), facet=1)
FOUND = [
    record("layer4:0", "layer4", 0, "polysemantic", (STRIPED, EITHER), reason="=cmd|' /C calc'!A0"),
    record("layer4:1", "layer4", 1, "rejected", ()),
    record("layer4:1-", "layer4", 1, "accepted", (STRIPED,)),
    record("layer2:7", "layer2", 7, "accepted", (Label(text="dog"),)),
]


@pytest.fixture
def store(tmp_path: Path) -> CatalogueStore:
    return filled(tmp_path / "catalogue.db", FOUND)


def said(found: list[UnitRecord]) -> list[tuple[object, ...]]:
    """The accepted labels of records, as an import sees them."""
    return [
        (made.unit, label.text, label.kind, label.formula, label.facet)
        for made in sorted(found, key=lambda made: (made.layer, made.index, made.unit))
        for label in made.labels
    ]


def read(path: Path) -> list[tuple[object, ...]]:
    found = list(read_label_file(path))
    assert not [bad for bad in found if isinstance(bad, BadRow)]
    return [
        (str(label.unit), label.text, label.kind, label.formula, label.facet)
        for label in found
        if isinstance(label, ForeignLabel)
    ]


@SETTINGS
@given(found=records())
def test_an_export_is_imported_as_the_same_labels(
    tmp_path_factory: pytest.TempPathFactory, found: list[UnitRecord]
) -> None:
    folder = tmp_path_factory.mktemp("export")
    store = filled(folder / "catalogue.db", found)
    for to in ("csv", "jsonl", "parquet"):
        export(store, RUN, to, folder / f"labels.{to}")
        assert read(folder / f"labels.{to}") == said(found), to
    store.close()


@given(st.text())
def test_a_quoted_cell_starts_no_formula_and_comes_back(text: str) -> None:
    cell = cells.quoted(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert cells.plain(cell) == text


@given(st.text(alphabet="'=-a"))
def test_cells_that_look_quoted_come_back_too(text: str) -> None:
    assert cells.plain(cells.quoted(text)) == text


def test_the_csv_has_a_row_for_each_label_and_for_each_unit_without(
    store: CatalogueStore, tmp_path: Path
) -> None:
    export(store, RUN, "csv", tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == list(cells.COLUMNS)
    assert [(row["unit"], row["label"]) for row in rows] == [
        ("layer2:7", "dog"), ("layer4:0", "striped"), ("layer4:0", "red or -1+1"), ("layer4:1", ""),
        ("layer4:1-", "striped"),
    ]  # fmt: skip
    assert rows[1]["reason"] == "'=cmd|' /C calc'!A0"
    assert rows[2]["op"] == "or"
    assert json.loads(rows[2]["terms"]) == ["red", "-1+1"]
    numbers = {name: rows[1][name] for name in ("correlation", "correlation_low", "specificity", "images")}
    assert numbers == {
        "correlation": "0.61",
        "correlation_low": "0.5",
        "specificity": "4.5",
        "images": "1200",
    }
    for row in rows:
        assert not [cell for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_jsonl_has_whole_records(store: CatalogueStore, tmp_path: Path) -> None:
    export(store, RUN, "jsonl", tmp_path / "x.jsonl")
    lines = (tmp_path / "x.jsonl").read_text(encoding="utf-8").splitlines()
    assert [UnitRecord.model_validate_json(line) for line in lines] == list(store.units())


def test_parquet_has_a_row_per_unit_and_a_card_that_a_hub_can_read(
    store: CatalogueStore, tmp_path: Path
) -> None:
    assert export(store, RUN, "parquet", tmp_path / "out" / "x.parquet") == [
        tmp_path / "out" / "x.parquet", tmp_path / "out" / "README.md",
    ]  # fmt: skip
    table = pq.read_table(tmp_path / "out" / "x.parquet")
    assert table.schema.names == whole_schema().names
    rows = table.to_pylist()
    assert [row["unit"] for row in rows] == ["layer2:7", "layer4:0", "layer4:1", "layer4:1-"]
    (check,) = rows[1]["labels"][0]["checks"]
    assert (check["check"], check["value"], check["specificity_units"]) == ("prediction", 0.61, 90)
    assert rows[1]["labels"][1]["formula"] == {"op": "or", "terms": ["red", "-1+1"]}
    assert rows[0]["exemplars"][0] == {"image": 49, "path": "scene-0", "activation": 9.0}
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(text.split("---")[1])
    assert head["license"] is None
    assert head["configs"] == [{"config_name": "default", "data_files": "x.parquet"}]
    columns = {
        name.strip()
        for line in text.splitlines()
        if line[:3] == "- `"
        for name in line.split("`")[1].split(",")
    }
    assert set(table.schema.names) <= columns


def test_the_light_table_says_the_same_of_each_unit(store: CatalogueStore) -> None:
    rows = light_table(store.listed()).to_pylist()
    assert [row["unit"] for row in rows] == ["layer2:7", "layer4:0", "layer4:1", "layer4:1-"]
    assert [label["text"] for label in rows[1]["labels"]] == ["striped", "red or -1+1"]
    assert rows[1]["labels"][1]["formula"] == {"op": "or", "terms": ["red", "-1+1"]}
    assert rows[0]["exemplars"] == [49, 49, 49] or len(rows[0]["exemplars"]) == 3


def rows_of(folder: Path) -> list[dict[str, object]]:
    names = sorted(folder.glob("batch-*.jsonl.gz"), key=lambda path: int(path.name[6:].split(".")[0]))
    return [
        json.loads(line)
        for name in names
        for line in gzip.decompress(name.read_bytes()).decode().splitlines()
    ]


def test_neuronpedia_gets_a_source_for_each_layer_and_side(store: CatalogueStore, tmp_path: Path) -> None:
    out = tmp_path / "np"
    export(store, RUN, "neuronpedia", out)
    sources = sorted(path.name for path in (out / "torchvision-resnet50").iterdir())
    assert sources == ["0-labeler-abababab", "1-labeler-abababab", "1-labeler-abababab__negative"]
    for name in sources:
        place = out / "torchvision-resnet50" / name
        (source,) = [json.loads(line) for line in (place / "source.jsonl").read_text().splitlines()]
        (group,) = [json.loads(line) for line in (place / "sourceset.jsonl").read_text().splitlines()]
        (model,) = [json.loads(line) for line in (place / "model.jsonl").read_text().splitlines()]
        (release,) = [json.loads(line) for line in (place / "release.jsonl").read_text().splitlines()]
        assert (source["id"], source["setName"], source["modelId"]) == (name, group["name"], model["id"])
        assert group["releaseName"] == release["name"]
        for row in rows_of(place / "features") + rows_of(place / "explanations"):
            assert (row["modelId"], row["layer"]) == (model["id"], name)
    place = out / "torchvision-resnet50" / sources[1]
    assert [row["index"] for row in rows_of(place / "features")] == ["0", "1"]
    assert rows_of(place / "features")[0]["freq_hist_data_bar_values"] == [2.25, 6.75]
    explained = rows_of(place / "explanations")
    assert [row["description"] for row in explained] == ["striped", "red or -1+1"]
    assert len({row["id"] for row in explained}) == 2
    types = (out / "config" / "explanation_type.jsonl").read_text()
    assert {row["typeName"] for row in explained} == {json.loads(types)["name"]}


def test_neuronpedia_batches_are_full_but_the_last_and_have_the_same_columns(tmp_path: Path) -> None:
    many = [record(f"a:{i}", "a", i, "accepted", (STRIPED,)) for i in range(BATCH + 3)]
    store = filled(tmp_path / "catalogue.db", many)
    export(store, RUN, "neuronpedia", tmp_path / "np")
    (place,) = (tmp_path / "np" / "torchvision-resnet50").iterdir()
    counts = [
        len(gzip.decompress(path.read_bytes()).splitlines()) for path in sorted(place.glob("features/*"))
    ]
    assert counts == [BATCH, 3]
    assert len({tuple(row) for row in rows_of(place / "explanations")}) == 1
    assert [row["index"] for row in rows_of(place / "features")] == [str(i) for i in range(BATCH + 3)]


def test_an_export_is_the_same_bytes_every_time(store: CatalogueStore, tmp_path: Path) -> None:
    for to in FORMATS:
        for name in ("one", "two"):
            export(store, RUN, to, tmp_path / name / to / "x")
    first, second = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("one", "two")
    )
    assert first == second


def test_an_earlier_export_is_replaced_and_nothing_else_is(store: CatalogueStore, tmp_path: Path) -> None:
    for _ in range(2):
        export(store, RUN, "parquet", tmp_path / "x.parquet")
        export(store, RUN, "neuronpedia", tmp_path / "np")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("my own words")
    with pytest.raises(RunError, match="README"):
        export(store, RUN, "parquet", tmp_path / "mine" / "x.parquet")
    with pytest.raises(RunError, match="not a Neuronpedia export"):
        export(store, RUN, "neuronpedia", tmp_path / "mine")
    with pytest.raises(RunError, match="directory"):
        export(store, RUN, "csv", tmp_path / "mine")
    with pytest.raises(UnknownNameError, match="parquet"):
        export(store, RUN, "parqet", tmp_path / "y")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["README.md"]
    assert (tmp_path / "mine" / "README.md").read_text() == "my own words"


def test_an_export_that_fails_leaves_the_earlier_one(
    store: CatalogueStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for to in ("csv", "jsonl", "parquet"):
        export(store, RUN, to, tmp_path / f"x.{to}")
    export(store, RUN, "neuronpedia", tmp_path / "np")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    records_of = store.records

    def breaking(*arguments: object) -> object:
        found = records_of(*arguments)  # type: ignore[arg-type]
        yield next(found)
        raise RunError("The disk is gone.")

    monkeypatch.setattr(store, "records", breaking)
    for to in ("csv", "jsonl", "parquet"):
        with pytest.raises(RunError, match="gone"):
            export(store, RUN, to, tmp_path / f"x.{to}")
    with pytest.raises(RunError, match="gone"):
        export(store, RUN, "neuronpedia", tmp_path / "np")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
