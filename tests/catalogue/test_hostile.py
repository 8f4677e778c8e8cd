"""Hostile texts outside of a browser: what commands print, and the files that are handed on."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from labeler import Catalogue
from labeler.catalogue.label_files import ForeignLabel, read_label_file
from labeler.records import UnitRecord
from labeler.terminal import TerminalReporter
from tests.e2e.toy_run import Outcome, labeler
from tests.report.catalogues import some_tiles, write_run
from tests.report.conftest import EACH, hostile_unit
from tests.report.hostile import HOSTILE

LAYER = "a|b <script>\x1b[31m*x* `y` &lt; \u202e"
COMMANDS = (
    ("list", "RUN"), ("show", "RUN", "hostile:0"), ("show", "RUN", f"hostile:{len(HOSTILE) // EACH}"),
    ("show", "RUN", f"{LAYER}:0"), ("search", "RUN", "dog"), ("search", "RUN", "title"),
    ("compare", "RUN", "RUN"), ("status", "RUN"), ("cost", "RUN"),
)  # fmt: skip


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[UnitRecord]:
    tiles = some_tiles(tmp_path_factory.mktemp("tiles"), 1)
    found = [hostile_unit(index, tiles[0]) for index in range(-(-len(HOSTILE) // EACH))]
    return [*found, found[0].model_copy(update={"unit": f"{LAYER}:0", "layer": LAYER})]


@pytest.fixture(scope="module")
def run(records: list[UnitRecord], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("hostile") / "run", records, len(records))
    described = json.loads((folder / "run.json").read_text())
    described["warnings"] = list(HOSTILE)
    described["target"]["name"] = LAYER
    (folder / "run.json").write_text(json.dumps(described))
    return folder


@pytest.fixture
def catalogue(run: Path) -> Iterator[Catalogue]:
    with Catalogue.open(run) as found:
        yield found


def ask(run: Path, command: tuple[str, ...], *more: object) -> Outcome:
    return labeler(*(run if word == "RUN" else word for word in command), *more)


def test_there_are_more_than_a_hundred_of_them() -> None:
    assert len(set(HOSTILE)) == len(HOSTILE) > 150


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command)[:30])
def test_commands_print_no_character_that_a_terminal_obeys(run: Path, command: tuple[str, ...]) -> None:
    for more in ((), ("--json",)):
        outcome = ask(run, command, *more)
        assert outcome.code == 0, outcome.err
        for said in (outcome.out, outcome.err):
            assert said.replace("\n", "").isprintable()


def test_json_says_the_very_texts(run: Path, records: list[UnitRecord]) -> None:
    units = ask(run, ("list", "RUN"), "--json").json
    assert [label["text"] for unit in units[1:] for label in unit["labels"]] == list(HOSTILE)
    assert UnitRecord.model_validate(ask(run, ("show", "RUN", "hostile:1"), "--json").json) == records[1]


def test_errors_and_notes_print_none_either(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for text in HOSTILE:
        outcome = ask(run, ("show", "RUN", f"hostile{text}:1"))
        assert outcome.code in (1, 2)
        assert outcome.err.count("\n") == 1
        assert outcome.err.rstrip("\n").isprintable()
    missing = labeler("list", tmp_path / "\x1b[31mred")
    assert missing.err.rstrip("\n").isprintable()
    TerminalReporter().note(HOSTILE[0] + "\x1b[2J\x9b2J")
    assert not re.search("[\x1b\x9b]", capsys.readouterr().err)


def test_a_spreadsheet_runs_none_of_them(
    run: Path, catalogue: Catalogue, records: list[UnitRecord], tmp_path: Path
) -> None:
    (path,) = catalogue.export(tmp_path / "x.csv", "csv")
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        for cell in row.values():
            assert not re.search(r"(^|;)[=+\-@＝＋－＠\t\r\n]", cell), cell
    labels = [found for found in read_label_file(path) if isinstance(found, ForeignLabel)]
    assert [found.text for found in labels if found.unit.layer == "hostile"] == list(HOSTILE)


def test_files_for_others_hold_the_very_texts(catalogue: Catalogue, tmp_path: Path) -> None:
    (lines,) = catalogue.export(tmp_path / "x.jsonl", "jsonl")
    assert [
        UnitRecord.model_validate_json(line) for line in lines.read_text("utf-8").split("\n")[:-1]
    ] == list(catalogue)
    table, _ = catalogue.export(tmp_path / "x.parquet", "parquet")
    rows = [row for row in pq.read_table(table).to_pylist() if row["layer"] == "hostile"]
    assert [label["text"] for row in rows for label in row["labels"]] == list(HOSTILE)
    (folder,) = catalogue.export(tmp_path / "np", "neuronpedia")
    explained = [
        json.loads(line)["description"]
        for path in sorted(folder.rglob("explanations/*.gz"))
        for line in gzip.decompress(path.read_bytes()).decode().split("\n")[:-1]
    ]
    assert set(explained) == set(HOSTILE)


def test_the_dataset_card_is_text_without_markup(catalogue: Catalogue, tmp_path: Path) -> None:
    _, path = catalogue.export(tmp_path / "x.parquet", "parquet")
    text = path.read_text(encoding="utf-8")
    assert text.replace("\n", "").isprintable()
    head = yaml.safe_load(text.split("---\n")[1])
    assert "<script>" in head["pretty_name"]
    body = text.split("---\n")[2].replace("<!-- written by labeler export -->", "")
    assert not re.search(r"(?<!\\)<", body)
    rows = [line for line in body.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}
    warnings = [line for line in body.splitlines() if "window.pwned" in line]
    assert len(warnings) == sum("window.pwned" in text for text in HOSTILE)
