"""What goes wrong is one sentence on stderr that says what to do, with the documented exit status."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.e2e.conftest import ToyRun
from tests.e2e.toy_run import NETWORK, Outcome, files_of, labeler, rows_of, run_toy, toy_config, write_config

USAGE, ERROR = 2, 1


def sentence(outcome: Outcome, code: int) -> str:
    """The one sentence of a failed command."""
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err
    said = [line for line in outcome.err.splitlines() if line.startswith("labeler:")]
    assert len(said) == 1, outcome.err
    # nothing else but warnings of libraries and empty lines
    assert outcome.err.rstrip().endswith(said[0])
    text = said[0].removeprefix("labeler: ")
    assert text[-1] in ".?"
    assert len(text) < 400
    return text


@pytest.fixture
def finished(toy_run: ToyRun, tmp_path: Path) -> Path:
    """A copy of a finished run, to be damaged."""
    copy = tmp_path / "finished"
    shutil.copytree(toy_run.run, copy)
    return copy


def pictures(folder: Path, count: int = 3) -> Path:
    """A folder of small JPEG photographs."""
    folder.mkdir()
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((64, 64)).save(folder / f"{number:02d}.jpg")
    return folder


@pytest.mark.parametrize("out", [".", "run", "deeper/run"])
def test_a_run_among_its_own_images_is_refused_before_it_adds_to_them(tmp_path: Path, out: str) -> None:
    photographs = pictures(tmp_path / "photographs")
    before = files_of(photographs)
    data = {**toy_config(), "probe": {"source": "folder:photographs"}}
    outcome = run_toy(write_config(tmp_path, data), photographs / out)
    assert "lies among the images" in sentence(outcome, ERROR)
    assert files_of(photographs) == before
    assert sorted(path.name for path in photographs.iterdir()) == sorted(before)


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ("target.layers=[colour]", ERROR, "colours"),
        ("target.units={colours: '0-99'}", USAGE, "0 to 15"),
        ("target.units={colours: all}", USAGE, "0-31,40"),
        ("target.units={egdes: '0'}", ERROR, "edges"),
        ("target.model=timm:resnet81", ERROR, "resnet18"),
        ("target.model=tim:resnet18", ERROR, "timm"),
        ("target.weights=nowhere.safetensors", ERROR, "nowhere.safetensors"),
        ("probe.source=folder:nowhere", ERROR, "nowhere"),
        ("probe.source=folder:empty", ERROR, "JPEG"),
        ("probe.source=scenes", ERROR, "builtin:scenes"),
        ("encoder.model=builtin:scene-clip", ERROR, "builtin:scenes-clip"),
        ("encoder.judge=clip", ERROR, "clip"),
        ("propose.vocabulary=nowhere.txt", USAGE, "nowhere.txt"),
        ("executor.device=gpu", USAGE, "cuda"),
        ("probe.imges=3", USAGE, "images"),
        ("prob={}", USAGE, "probe"),
        ("refine.rounds=many", USAGE, "refine.rounds"),
        ("gate.precision=1.5", USAGE, "gate.precision"),
        ("propose.kind=vlm", USAGE, "model"),
        ("refine.rounds", USAGE, "key=value"),
        ("seed.x=1", USAGE, "seed"),
        ("seed={", USAGE, "YAML"),
    ],
)  # fmt: skip
def test_a_wrong_config_is_one_sentence_and_leaves_no_work(
    tmp_path: Path, change: str, code: int, says: str
) -> None:
    (tmp_path / "empty").mkdir()
    config = write_config(tmp_path, {**toy_config(), "seed": 0})
    outcome = run_toy(config, tmp_path / "run", "--set", change)
    assert says in sentence(outcome, code)
    assert files_of(tmp_path / "run") == {}


def test_a_wrong_file_is_one_sentence(tmp_path: Path) -> None:
    assert "nowhere.yaml" in sentence(labeler("run", tmp_path / "nowhere.yaml"), USAGE)
    (tmp_path / "broken.yaml").write_text("target: [")
    assert "YAML" in sentence(labeler("run", tmp_path / "broken.yaml"), USAGE)
    (tmp_path / "list.yaml").write_text("- target")
    assert "mapping" in sentence(labeler("run", tmp_path / "list.yaml"), USAGE)
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    sentence(labeler("run", tmp_path / "bytes.yaml"), USAGE)
    (tmp_path / "empty.yaml").write_text("probe: {source: 'builtin:scenes'}")
    assert "target" in sentence(labeler("run", tmp_path / "empty.yaml"), USAGE)


@pytest.mark.parametrize("units", ["edges", "colour:0", "edges:x", "edges:16", "edges:3-1"])
def test_wrong_units_are_one_sentence(toy_run: ToyRun, tmp_path: Path, units: str) -> None:
    text = sentence(run_toy(toy_run.config, tmp_path / "run", "--units", units), USAGE)
    assert "edges" in text


def test_code_is_not_run_unless_it_is_trusted(tmp_path: Path) -> None:
    evil = tmp_path / "evil.py"
    evil.write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    data = toy_config()
    data["target"] = {**data["target"], "model": f"file:{evil}:build"}
    config = write_config(tmp_path, data)
    assert "--trust-code" in sentence(labeler("run", config, "--out", tmp_path / "run"), ERROR)
    other = labeler("run", config, "--out", tmp_path / "run", "--trust-code", NETWORK)
    assert "--trust-code" in sentence(other, ERROR)
    assert not (tmp_path / "ran").exists()
    trusted = labeler("run", config, "--out", tmp_path / "run", "--trust-code", evil)
    assert "build" in sentence(trusted, ERROR)
    assert (tmp_path / "ran").exists()


def test_a_missing_key_is_found_before_the_work(
    toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    vlm = "propose={kind: vlm, model: m, base_url: 'https://example.invalid/v1', api_key_env: MY_KEY}"
    outcome = run_toy(toy_run.config, tmp_path / "run", "--set", vlm)
    assert "MY_KEY" in sentence(outcome, ERROR)
    assert files_of(tmp_path / "run") == {}


def test_a_key_is_written_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-very-secret-4711")
    vlm = {
        "kind": "vlm",
        "model": "m",
        "base_url": "http://127.0.0.1:9/v1",
        "api_key_env": "MY_KEY",
        "retries": 0,
    }
    config = write_config(
        tmp_path, toy_config(24, propose=vlm, visualise={"enabled": False}, refine={"rounds": 1})
    )
    outcome = run_toy(config, tmp_path / "run", "--units", "colours:0")
    assert outcome.code == 4  # nothing listens there: paused, not labelled
    assert "again" in sentence(outcome, 4)
    assert all(b"sk-very-secret-4711" not in data for data in files_of(tmp_path / "run").values())
    assert "sk-very-secret-4711" not in outcome.out + outcome.err
    assert b"MY_KEY" in (tmp_path / "run" / "run.json").read_bytes()


def test_a_truncated_image_among_good_ones_is_kept_as_unreadable(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "photographs", 30)
    whole = (folder / "07.jpg").read_bytes()
    (folder / "07.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "11.png").write_text("not a picture")
    data = toy_config(visualise={"enabled": False}, refine={"rounds": 1})
    data["probe"] = {"source": "folder:photographs"}
    config = write_config(tmp_path, data)
    outcome = run_toy(config, tmp_path / "run", "--units", "colours:0-1")
    assert outcome.code == 0, outcome.err
    status = labeler("status", tmp_path / "run", "--json").json
    assert (status["images"], status["unreadable"]) == (31, 2)
    assert status["unreadable_images"] == ["photographs/07.jpg", "photographs/11.png"]
    assert "unreadable: 2" in labeler("status", tmp_path / "run").out
    top = labeler("top", tmp_path / "run", "colours:0", "-k", 100, "--json").json
    names = [row["image"] for row in top]
    assert len(names) == 29
    assert not {"photographs/07.jpg", "photographs/11.png"} & set(names)
    assert "photographs/29.jpg" in names  # later images keep their names
    records = labeler("show", tmp_path / "run", "colours:0", "--json").json
    assert all(0 <= item["image"] < 31 and item["image"] not in (7, 12) for item in records["exemplars"])


def test_only_unreadable_images_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "photographs").mkdir()
    for number in range(3):
        (tmp_path / "photographs" / f"{number}.jpg").write_bytes(b"\xff\xd8\xff")
    data = toy_config()
    data["probe"] = {"source": "folder:photographs"}
    outcome = run_toy(write_config(tmp_path, data), tmp_path / "run", "--units", "colours:0")
    assert "image" in sentence(outcome, ERROR)


def test_too_few_images_for_the_splits_are_one_sentence(tmp_path: Path) -> None:
    pictures(tmp_path / "photographs", 2)
    data = toy_config(visualise={"enabled": False}, refine={"rounds": 1})
    data["probe"] = {"source": "folder:photographs"}
    outcome = run_toy(write_config(tmp_path, data), tmp_path / "run", "--units", "colours:0")
    assert "2 readable images" in sentence(outcome, ERROR)


def test_a_run_directory_of_another_config_is_refused_and_kept(toy_run: ToyRun) -> None:
    rows, files = rows_of(toy_run.run), files_of(toy_run.run / "report")
    for change in ("seed=5", "probe.images=30", "target.units={}"):
        outcome = run_toy(toy_run.config, toy_run.run, "--set", change)
        assert "another config" in sentence(outcome, ERROR)
    assert rows_of(toy_run.run) == rows
    assert files_of(toy_run.run / "report") == files


def test_a_directory_with_something_else_in_it_is_refused_and_kept(toy_run: ToyRun, tmp_path: Path) -> None:
    thesis = tmp_path / "thesis"
    thesis.mkdir()
    (thesis / "chapter-1.tex").write_text("It was a dark night.")
    assert "--out" in sentence(run_toy(toy_run.config, thesis), ERROR)
    assert [path.name for path in thesis.iterdir()] == ["chapter-1.tex"]


def test_a_file_where_the_run_shall_be_is_refused(toy_run: ToyRun, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "--out" in sentence(run_toy(toy_run.config, tmp_path / "file"), ERROR)
    assert "--out" in sentence(run_toy(toy_run.config, tmp_path / "file" / "below"), ERROR)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_report_replaces_nothing_but_a_report(toy_run: ToyRun, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "units").mkdir(parents=True)
    (project / "units" / "thesis.tex").write_text("mine")
    text = sentence(labeler("report", toy_run.run, "--out", project), ERROR)
    assert "--out" in text
    assert (project / "units" / "thesis.tex").read_text() == "mine"
    assert labeler("report", toy_run.run, "--out", tmp_path / "site").code == 0
    assert labeler("report", toy_run.run, "--out", tmp_path / "site").code == 0


@pytest.mark.parametrize("command", ["status", "list", "show", "search", "top", "report"])
def test_what_is_no_run_directory_is_one_sentence(tmp_path: Path, command: str) -> None:
    more = {"show": ["edges:0"], "search": ["red"], "top": ["edges:0"]}.get(command, [])
    for place in (tmp_path, tmp_path / "nowhere"):
        assert "labeler run" in sentence(labeler(command, place, *more), ERROR)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("show", "edges:9"), ERROR, "edges:9"),
        (("show", "egdes:0"), ERROR, "edges"),
        (("show", "edges"), USAGE, "layer:index"),
        (("top", "edges:16"), ERROR, "0 to 15"),
        (("top", "egdes:0"), ERROR, "edges"),
        (("top", "edges:-1"), USAGE, "layer:index"),
        (("top",), USAGE, "UNIT"),
        (("top", "--layer", "edges"), USAGE, "--direction"),
        (("list", "--layer", "egdes"), ERROR, "edges"),
        (("list", "--verdict", "acepted"), USAGE, "accepted"),
        (("top", "--layer", "edges", "--direction", "nowhere.npy"), USAGE, "nowhere.npy"),
    ],
)  # fmt: skip
def test_questions_about_what_is_not_there(
    toy_run: ToyRun, arguments: tuple[str, ...], code: int, says: str
) -> None:
    command, *rest = arguments
    assert says in sentence(labeler(command, toy_run.run, *rest), code)


@pytest.mark.parametrize(
    "direction", [np.ones(3), np.full(16, np.nan), np.array(["a"] * 16), np.array([{}] * 16)], ids=str
)
def test_a_wrong_direction_is_one_sentence(toy_run: ToyRun, tmp_path: Path, direction: Any) -> None:
    path = tmp_path / "direction.npy"
    np.save(path, direction, allow_pickle=True)
    outcome = labeler("top", toy_run.run, "--layer", "edges", "--direction", path)
    assert outcome.code in (ERROR, USAGE)
    sentence(outcome, outcome.code)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", "\x00" * 40])
def test_a_torn_run_json_is_one_sentence_and_nothing_is_lost(
    finished: Path, toy_run: ToyRun, text: str
) -> None:
    (finished / "run.json").write_text(text)
    rows = rows_of(finished)
    assert "run.json" in sentence(labeler("status", finished), ERROR)
    assert "run.json" in sentence(labeler("report", finished), ERROR)
    assert "run.json" in sentence(run_toy(toy_run.config, finished), ERROR)
    assert labeler("list", finished).code == 0
    assert rows_of(finished) == rows


def damage_header(path: Path) -> None:
    path.write_bytes(b"this was a database once" * 40)


def damage_middle(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    path.write_bytes(data)


def other_version(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema'")


@pytest.mark.parametrize("damage", [damage_header, damage_middle, other_version])
def test_a_corrupt_catalogue_is_one_sentence_and_nothing_is_lost(
    finished: Path, toy_run: ToyRun, damage: Any
) -> None:
    database = finished / "catalogue.db"
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for beside in finished.glob("catalogue.db-*"):
        beside.unlink()
    damage(database)
    kept = {name: data for name, data in files_of(finished).items() if not name.startswith("catalogue.db-")}
    for arguments in (("list",), ("show", "edges:0"), ("search", "red"), ("status",), ("report",)):
        command, *rest = arguments
        assert "catalogue.db" in sentence(labeler(command, finished, *rest), ERROR), command
    assert "catalogue.db" in sentence(run_toy(toy_run.config, finished), ERROR)
    after = {name: data for name, data in files_of(finished).items() if not name.startswith("catalogue.db-")}
    assert after == kept


@pytest.mark.parametrize("stage", ["activations", "exemplars", "visualisations"])
def test_a_damaged_stage_is_named_with_what_to_do(finished: Path, toy_run: ToyRun, stage: str) -> None:
    directory = next((finished / "stages").glob(f"{stage}-*"))
    array = min(directory.glob("*.npy"))
    array.write_bytes(array.read_bytes()[:-7])
    text = sentence(run_toy(toy_run.config, finished), ERROR)
    assert array.name in text
    assert f"delete {directory}" in text
    (directory / "manifest.json").write_text("{")
    assert f"delete {directory}" in sentence(run_toy(toy_run.config, finished), ERROR)
    assert labeler("list", finished).code == 0
