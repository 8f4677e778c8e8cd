"""A run that is killed at any point ends, with the same command, in the catalogue of an undisturbed run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labeler.pipeline import spread
from tests.e2e.toy_run import NETWORK, Outcome, files_of, labeler, rows_of, run_toy, toy_config, write_config

ROOT = Path(__file__).parents[2]
KILLED = -signal.SIGKILL

CHAIN = [("progress:activations", 2), ("round", 2), ("unit", 3)]
"""The quick suite: one run directory killed in the pass, then in the rounds, then in the verdicts."""

LONG_CHAIN = [
    ("manifest:activations", 1), ("rename:activations", 1), ("image", 5), ("progress:exemplars", 1),
    ("manifest:exemplars", 1), ("manifest:visualisations", 1), ("rename:visualisations", 1), ("round", 1),
    ("round", 3), ("unit", 1), ("unit", 5), ("meta", 1), ("page", 1), ("page", 3),
]  # fmt: skip
"""At least one kill in every stage, and between a stage's files and its name."""


@dataclass(frozen=True)
class Undisturbed:
    """A config, the finished run of it, and what the run said on stderr."""

    config: Path
    run: Path
    said: str


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    pictures = {"images": 1, "size": 32, "steps": 4, "batch_size": 1}
    data = toy_config(120, visualise=pictures, activations={"batch_size": 16})
    data["target"] = {**data["target"], "units": {"colours": "0-2,6", "edges": "0-1"}}
    data["checks"] = {**data["checks"], "min_test_images": 40}
    config = write_config(folder, data)
    outcome = run_toy(config, folder / "run")
    assert outcome.code == 0, outcome.err
    return Undisturbed(config, folder / "run", outcome.err)


def disturbed(config: Path, out: Path, point: str, count: int, sent: str = "SIGKILL") -> Outcome:
    """``labeler run`` in a child that signals itself at a point."""
    script = [sys.executable, "-m", "tests.faults.killed_run", sent, point, str(count), "--"]
    command = [*script, "run", str(config), "--out", str(out), "--trust-code", str(NETWORK)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    return Outcome(done.returncode, done.stdout, done.stderr)


def assert_same_run(run: Path, expected: Path) -> None:
    found, wanted = rows_of(run), rows_of(expected)
    for table, rows in wanted.items():
        assert found[table] == rows, table
    assert files_of(run / "report") == files_of(expected / "report")
    assert files_of(run / "images") == files_of(expected / "images")
    assert files_of(run / "stages").keys() == files_of(expected / "stages").keys()
    assert not list(run.rglob("*.incomplete"))


def killed_again_and_again(undisturbed: Undisturbed, out: Path, chain: Sequence[tuple[str, int]]) -> None:
    for point, count in chain:
        killed = disturbed(undisturbed.config, out, point, count)
        assert killed.code == KILLED, f"{point} was not reached: {killed.err}"
        acknowledged = rows_of(out)["rounds"] if (out / "catalogue.db").exists() else []
        assert set(acknowledged) <= set(rows_of(undisturbed.run)["rounds"])
        status = labeler("status", out, "--json")
        assert status.code == 0
        assert "the same labeler run command goes on" in status.json["next"]
    outcome = run_toy(undisturbed.config, out)
    assert outcome.code == 0, outcome.err
    assert_same_run(out, undisturbed.run)
    assert "nothing" in labeler("status", out, "--json").json["next"]


def test_a_run_killed_in_the_pass_the_rounds_and_the_verdicts_ends_as_if_undisturbed(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    killed_again_and_again(undisturbed, tmp_path / "run", CHAIN)


@pytest.mark.slow
def test_a_run_killed_everywhere_ends_as_if_undisturbed(undisturbed: Undisturbed, tmp_path: Path) -> None:
    killed_again_and_again(undisturbed, tmp_path / "run", LONG_CHAIN)


@pytest.mark.slow
@pytest.mark.parametrize(("point", "count"), LONG_CHAIN)
def test_one_kill_anywhere_changes_nothing(
    undisturbed: Undisturbed, tmp_path: Path, point: str, count: int
) -> None:
    killed_again_and_again(undisturbed, tmp_path / "run", [(point, count)])


@pytest.mark.parametrize("stage", ["activations", "visualisations"])
def test_of_a_stage_that_is_killed_only_the_piece_at_work_is_done_again(
    undisturbed: Undisturbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    out = tmp_path / "run"
    assert disturbed(undisturbed.config, out, f"manifest:piece-here-{stage}-2-of-2", 1).code == KILLED
    assert len(list(out.glob(f"stages/piece-here-{stage}-1-of-2-????????????"))) == 1
    assert labeler("verify", out).code == 0
    done, original = list[str](), spread._done

    def noting(work: Any, inputs: Any, item: Any, progress: Any, directory: Path) -> None:
        done.append(directory.name.split("-of-")[0])
        original(work, inputs, item, progress, directory)

    monkeypatch.setattr(spread, "_done", noting)
    assert run_toy(undisturbed.config, out).code == 0
    assert [piece for piece in done if stage in piece] == [f"piece-here-{stage}-2"]
    assert any(piece.startswith("piece-here-altered-") for piece in done)
    assert not list(out.glob("stages/piece-*"))
    assert_same_run(out, undisturbed.run)


def test_an_interrupt_ends_with_130_and_one_sentence_that_says_how_to_go_on(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    outcome = disturbed(undisturbed.config, tmp_path / "run", "progress:activations", 1, "SIGINT")
    assert outcome.code == 130
    assert "Traceback" not in outcome.err
    said = [line for line in outcome.err.splitlines() if line.startswith("labeler:")]
    assert len(said) == 1
    assert "interrupted" in said[0]
    assert str(tmp_path / "run") in said[0]
    assert outcome.out == ""


def test_running_again_changes_nothing_and_makes_no_pass(undisturbed: Undisturbed) -> None:
    rows, files = rows_of(undisturbed.run), files_of(undisturbed.run / "stages")
    written = {path: path.stat().st_mtime_ns for path in (undisturbed.run / "stages").rglob("*")}
    begun = time.process_time()
    outcome = run_toy(undisturbed.config, undisturbed.run)
    assert outcome.code == 0
    assert time.process_time() - begun < 5
    assert rows_of(undisturbed.run) == rows
    assert files_of(undisturbed.run / "stages") == files
    assert {path: path.stat().st_mtime_ns for path in (undisturbed.run / "stages").rglob("*")} == written
    assert "/120" in undisturbed.said
    assert "/120" not in outcome.err


def test_the_same_config_in_another_directory_gives_the_same_catalogue(
    undisturbed: Undisturbed, tmp_path: Path
) -> None:
    assert run_toy(undisturbed.config, tmp_path / "other", "--set", "executor.workers=2").code == 0
    assert_same_run(tmp_path / "other", undisturbed.run)


@contextmanager
def working_on(run: Path) -> Iterator[None]:
    """Another process that works on `run`."""
    code = (
        "import sys; from pathlib import Path; from labeler.storage import run_lock\n"
        "with run_lock(Path(sys.argv[1])):\n    print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(run)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        try:
            yield
        finally:
            other.kill()


def test_a_second_process_is_refused_in_one_sentence_and_readers_are_not(undisturbed: Undisturbed) -> None:
    before = rows_of(undisturbed.run)
    with working_on(undisturbed.run):
        refused = run_toy(undisturbed.config, undisturbed.run)
        assert labeler("list", undisturbed.run).code == 0
    assert refused.code == 1
    said = [line for line in refused.err.splitlines() if line.startswith("labeler:")]
    assert len(said) == 1
    assert "Another process" in said[0]
    assert rows_of(undisturbed.run) == before
    assert run_toy(undisturbed.config, undisturbed.run).code == 0  # the lock went with the process
