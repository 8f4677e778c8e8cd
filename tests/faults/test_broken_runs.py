"""Each fault ends a run in one sentence that says what to do; once it is done, the run goes on as if nothing.

What `labeler status`, `labeler verify` and ``labeler doctor --run`` say of a broken run is true.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from labeler.run_directory import run_status
from tests.e2e.test_wrong_input import ERROR, sentence
from tests.e2e.toy_run import Outcome, labeler, rows_of
from tests.faults.kills import Bench, different
from tests.faults.medium import mounted
from tests.faults.warm import Ended, Kill

LARGE = 300_000  # KiB


@pytest.fixture
def run(made: Bench, tmp_path: Path) -> Path:
    """A copy of the finished run, to be broken."""
    return Path(shutil.copytree(made.expected, tmp_path / "run"))


def said(ended: Ended, code: int = ERROR) -> str:
    """The one sentence of a command that failed."""
    return sentence(Outcome(ended.code, ended.out, ended.err), code)


def status_of(run: Path) -> dict[str, Any]:
    outcome = labeler("status", run, "--json")
    assert outcome.code == 0, outcome.err
    found: dict[str, Any] = outcome.json
    return found


def doctor(made: Bench, run: Path) -> tuple[int, list[str]]:
    """The exit status, and what is broken."""
    ended = made.warm.run("doctor", "--run", run, "--json")
    assert "Traceback" not in ended.err
    of_run = [item for item in ended.json if item["what"].startswith("run")]
    assert of_run
    return ended.code, [item["says"] for item in of_run if not item["works"]]


def goes_on(made: Bench, run: Path) -> None:
    """The same command ends in the same catalogue, and nothing is left to complain of."""
    ended = made.run(run)
    assert list(different(run, made.expected, ended)) == []
    assert status_of(run)["next"] == "nothing: every unit has a verdict"
    assert doctor(made, run) == (0, [])


def keeps(run: Path, before: dict[str, Any]) -> dict[str, Any]:
    """The finished stages and acknowledged rows of a run; those of `before` must be among them."""
    found: dict[str, Any] = {path.name: True for path in run.glob("stages/*-????????????")}
    if (run / "catalogue.db").is_file() and status_of(run).get("verdicts") is not None:
        rows = rows_of(run)
        found |= {str(row[:2]): row for table in ("rounds", "units") for row in rows[table]}
    assert {name: found.get(name) for name in before} == before
    return found


def test_a_full_disk_stops_a_run_anywhere_and_room_lets_it_go_on(made: Bench, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", 8) as disk:
        out, before, stages = disk.place / "run", {}, set()
        for size in (8, 60, 200, 300, 500, 650, 800, 900, 1000, 1100, 1200, 1300, 1400, 1500):
            disk.resize(size)
            ended = made.run(out)
            if ended.code == 0:
                break
            assert "make room" in said(ended)
            assert str(out) in said(ended)
            stages.add(ended.stage)
            before = keeps(out, before)
            assert labeler("verify", out, "--json").json["problems"] == []
            assert "goes on" in status_of(out)["next"]
        assert len(stages) >= 4, stages
        disk.resize(LARGE)
        goes_on(made, out)


def test_a_limit_on_the_size_of_files_stops_a_run_likewise(made: Bench, tmp_path: Path) -> None:
    before: dict[str, Any] = {}
    out = tmp_path / "run"
    for size in (4_000, 30_000, 60_000, 130_000):
        ended = made.warm.run(
            "run", made.config, "--out", out, "--trust-code", made.code, fault=("small files", size)
        )
        assert ended.code == ERROR, (size, ended.err)
        text = said(ended)
        assert "make room" in text or "ulimit" in text
        before = keeps(out, before)
    goes_on(made, out)


def test_a_run_that_cannot_be_written_to_is_read_all_the_same(made: Bench, tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", LARGE) as disk:
        out = Path(shutil.copytree(made.expected, disk.place / "run"))
        for left in out.glob("catalogue.db-*"):
            left.unlink()
        before = rows_of(out)
        disk.forbid_writing()
        assert "Read-only" in said(made.run(out))
        for command in (("list",), ("show", "edges:0"), ("status",), ("verify",), ("cost",)):
            assert labeler(command[0], out, *command[1:]).code == 0, command
        assert labeler("report", out, "--out", tmp_path / "site").code == 0
        assert str(out) in said(made.warm.run("report", out))
        code, broken = doctor(made, out)
        assert code == 1
        assert "writable" in broken[0]
        disk.allow_writing()
        assert rows_of(out) == before
        goes_on(made, out)


def stage_of(run: Path, name: str) -> Path:
    (found,) = (run / "stages").glob(f"{name}-????????????")
    return found


def tear_manifest(stage: Path) -> None:
    path = stage / "manifest.json"
    path.write_bytes(path.read_bytes()[:40])


def empty_manifest(stage: Path) -> None:
    (stage / "manifest.json").write_text('{"schema": 1, "fingerprint": "", "files": {}}')


def change_manifest(**changed: Any) -> Callable[[Path], None]:
    def change(stage: Path) -> None:
        path = stage / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return change


def lose_file(stage: Path) -> None:
    max(stage.rglob("*.json")).unlink()


def shorten_file(stage: Path) -> None:
    path = min(stage.rglob("*.npy"))
    path.write_bytes(path.read_bytes()[:-3])


AT_A_GLANCE = [
    ("activations", tear_manifest), ("visualisations", empty_manifest),
    ("exemplars", change_manifest(schema=2)), ("paths", lose_file), ("exemplars", shorten_file),
]  # fmt: skip


@pytest.mark.parametrize(("name", "damage"), AT_A_GLANCE)
def test_a_broken_stage_is_named_and_made_again_once_it_is_deleted(
    made: Bench, run: Path, name: str, damage: Callable[[Path], None]
) -> None:
    stage, rows = stage_of(run, name), rows_of(run)
    damage(stage)
    assert f"delete {stage}" in said(made.run(run))
    found = status_of(run)
    assert any(f"delete {stage}" in problem for problem in found["problems"])
    assert found.get(name, "broken") == "broken"
    assert "mend" in found["next"]
    code, broken = doctor(made, run)
    assert code == 1
    assert any(f"delete {stage}" in problem for problem in broken)
    assert rows_of(run) == rows
    shutil.rmtree(stage)
    goes_on(made, run)


def test_a_stage_of_other_inputs_is_named(made: Bench, run: Path) -> None:
    stage = stage_of(run, "index")
    change_manifest(fingerprint="0" * 64)(stage)
    assert f"{stage} was made from other inputs: delete {stage}" in said(made.run(run))
    shutil.rmtree(stage)
    goes_on(made, run)


@pytest.mark.parametrize(
    ("name", "file"),
    [("exemplars", "evidence.json"), ("activations", "layer-000.safetensors"), ("paths", "paths.json")],
)
def test_a_stage_whose_bytes_were_changed_is_named(made: Bench, run: Path, name: str, file: str) -> None:
    stage = stage_of(run, name)
    path = stage / file
    path.write_bytes(b"\xff" * path.stat().st_size)
    assert f"{path} is not what was written: delete {stage}" in said(made.run(run))
    assert any(str(path) in problem for problem in doctor(made, run)[1])
    shutil.rmtree(stage)
    goes_on(made, run)


def test_a_picture_that_is_missing_or_damaged_is_named_and_drawn_again(made: Bench, run: Path) -> None:
    rows = json.loads((stage_of(run, "visualisations") / "pictures.json").read_text())
    named = [row["picture"]["tile"] for row in rows if row["unit"].startswith("edges")]
    missing, damaged = (run / "images" / name for name in sorted(set(named))[:2])
    missing.unlink()
    damaged.write_bytes(b"\xff" * damaged.stat().st_size)
    shutil.rmtree(stage_of(run, "paths"))  # which looks at the pictures
    assert "images" in said(made.run(run))
    problems = labeler("verify", run, "--json").json["problems"]
    assert [path for path in (missing, damaged) if not any(str(path) in found for found in problems)] == []
    assert all("visualisations-*" in problem for problem in problems)
    damaged.unlink()
    for name in ("exemplars", "visualisations"):
        shutil.rmtree(stage_of(run, name))
    goes_on(made, run)


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(path.stat().st_size))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 3)


@pytest.mark.parametrize("damage", [garbage, truncate])
def test_a_damaged_catalogue_is_one_sentence_and_can_be_made_again(
    made: Bench, run: Path, damage: Callable[[Path], None]
) -> None:
    database = run / "catalogue.db"
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    damage(database)
    for ended in (made.run(run), made.warm.run("list", run)):
        assert "delete it with its -wal and -shm" in said(ended)
    code, broken = doctor(made, run)
    assert code == 1
    assert any("delete it" in problem for problem in broken)
    for path in run.glob("catalogue.db*"):
        path.unlink()
    goes_on(made, run)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def without_version(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
    connection.close()


@pytest.mark.parametrize("begin", [empty, without_version])
def test_a_catalogue_that_was_only_just_begun_is_none_yet(
    made: Bench, run: Path, begin: Callable[[Path], None]
) -> None:
    for beside in run.glob("catalogue.db-*"):
        beside.unlink()
    begin(run / "catalogue.db")
    assert "the same labeler run command goes on" in status_of(run)["next"]
    assert labeler("verify", run).code == 0
    for command in (("list",), ("show", "edges:0"), ("report",), ("search", "red")):
        assert "goes on" in said(made.warm.run(command[0], run, *command[1:]))
    goes_on(made, run)


def test_of_two_runs_on_one_directory_the_second_is_refused(made: Bench, tmp_path: Path) -> None:
    out, ended = tmp_path / "run", list[Ended]()
    first = threading.Thread(target=lambda: ended.append(made.run(out)))
    first.start()
    limit = time.monotonic() + 60
    while not (out / "run.json").is_file() and time.monotonic() < limit:
        time.sleep(0.01)
    found = run_status(out)
    assert found["running"]
    assert found["next"].startswith("wait")
    assert "interrupted" not in found.values()
    refused = labeler("run", made.config, "--out", out, "--trust-code", made.code)
    assert "Another process is working on" in sentence(refused, ERROR)
    first.join()
    assert list(different(out, made.expected, ended[0])) == []
    assert not run_status(out)["running"]


def test_whoever_asks_whether_a_run_is_held_is_in_nobodys_way(tmp_path: Path) -> None:
    from labeler.storage import is_held, run_lock

    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            is_held(tmp_path)

    askers = [threading.Thread(target=ask) for _ in range(2)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(100):
            with run_lock(tmp_path):
                assert is_held(tmp_path)
    finally:
        done.set()
        for asker in askers:
            asker.join()
    assert not is_held(tmp_path)


def test_a_clock_that_runs_back_and_files_from_the_future_change_nothing(made: Bench, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ("run", made.config, "--out", out, "--trust-code", made.code)
    killed = made.warm.run(*arguments, fault=("kill at", "round", 3, "SIGKILL"))
    assert killed.code == -9
    future = time.time() + 10 * 365 * 86400
    for path in out.rglob("*"):
        os.utime(path, (future, future))
    ended = made.warm.run(*arguments, fault=("clock runs back", 3600))
    assert list(different(out, made.expected, ended)) == []


def test_a_report_that_was_interrupted_is_built_again_in_its_place(
    made: Bench, run: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    killed = made.warm.run("report", run, "--out", site, fault=("kill at", "page", 3, "SIGKILL"))
    assert killed.code == -9
    assert not (site / "index.html").exists()
    assert made.warm.run("report", run, "--out", site).code == 0
    assert (site / "index.html").is_file()
    killed = made.warm.run("report", run, fault=("kill at", "page", 3, "SIGKILL"))
    assert killed.code == -9
    found = status_of(run)
    assert found["report"] == "interrupted"
    assert "goes on" in found["next"]
    goes_on(made, run)


def test_verdicts_without_their_gate_are_not_called_finished(made: Bench, run: Path) -> None:
    with sqlite3.connect(run / "catalogue.db") as connection:
        connection.execute("DELETE FROM meta WHERE key = 'gate'")
    connection.close()
    assert "goes on" in status_of(run)["next"]
    goes_on(made, run)


@pytest.mark.parametrize("changed", [{"probe": []}, {"units": "7"}, {"probe": {"images": None}}, None])
def test_a_damaged_description_is_one_sentence_and_costs_nothing_of_the_run(
    made: Bench, run: Path, tmp_path: Path, changed: dict[str, Any] | None
) -> None:
    path = run / "run.json"
    data = path.read_bytes()
    path.write_text('{"config":' if changed is None else json.dumps(json.loads(data) | changed))
    for command in (("status",), ("report",), ("verify",)):
        assert f"{path} is" in sentence(labeler(*command, run), ERROR)
    code, broken = doctor(made, run)
    assert code == 1
    assert "another --out" in broken[0]
    other = tmp_path / "other"
    assert made.run(other, kill=Kill("SIGKILL", 0.0, "activations")).code == -9
    shutil.copyfile(other / "run.json", path)  # as the sentence says
    goes_on(made, run)


def test_what_is_no_run_is_said_by_the_doctor(made: Bench, tmp_path: Path) -> None:
    code, broken = doctor(made, tmp_path)
    assert code == 1
    assert "not a run directory" in broken[0]
