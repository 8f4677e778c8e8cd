"""Shards made apart, also in other processes, join into the run that an undivided one makes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from labeler.config import Config
from labeler.errors import UsageError
from labeler.pipeline.inputs import Inputs, load_inputs
from labeler.pipeline.sharding import parse_shard
from tests.e2e.toy_run import NETWORK, files_of, labeler, run_toy, toy_config, write_config

IMAGES = 70  # five blocks of 16: with 16 shards some are empty


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = toy_config(
        images=IMAGES, activations={"batch_size": 16, "top_k": 20}, visualise={"enabled": False}
    )
    return write_config(tmp_path_factory.mktemp("sharding"), data)


@pytest.fixture(autouse=True, scope="module")
def loaded_once() -> Iterator[None]:
    """Loading the encoders anew for each shard would take most of the time."""
    kept: dict[str, Inputs] = {}

    def load(settings: Config, *, trust_code: Path | None = None) -> Inputs:
        name = settings.model_dump_json()
        if name not in kept:
            kept[name] = load_inputs(settings, trust_code=trust_code)
        return kept[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labeler.pipeline.sharding.load_inputs", load)
        yield


@pytest.fixture(scope="module")
def whole(config: Path) -> Path:
    """An undivided run."""
    run = config.parent / "whole"
    outcome = run_toy(config, run)
    assert outcome.code == 0, outcome.err
    return run


def make(config: Path, shard: str, out: Path, *more: str) -> Path:
    outcome = labeler("activations", config, "--shard", shard, "--out", out, "--trust-code", NETWORK, *more)
    assert outcome.code == 0, outcome.err
    return out


@pytest.fixture(scope="module")
def thirds(config: Path) -> list[Path]:
    return [make(config, f"{number}/3", config.parent / f"third-{number}") for number in (1, 2, 3)]


def stage(run: Path) -> tuple[str, dict[str, bytes]]:
    """Name and files of a run's activations stage, manifest included."""
    (found,) = (run / "stages").glob("activations-????????????")
    return found.name, files_of(found)


@pytest.mark.parametrize("count", [1, 3, 16])
def test_any_number_of_shards_gives_the_stage_of_one_run(
    config: Path, whole: Path, count: int, tmp_path: Path
) -> None:
    for number in range(count, 0, -1):
        make(config, f"{number}/{count}", tmp_path / "shared")
    outcome = labeler("merge", tmp_path / "shared", "--out", tmp_path / "run", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["run"] == str(tmp_path / "run")
    assert stage(tmp_path / "run") == stage(whole)


def test_a_run_goes_on_from_merged_shards(
    config: Path, whole: Path, thirds: list[Path], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert labeler("merge", *reversed(thirds), "--out", run).code == 0
    before = {path: path.stat().st_mtime_ns for path in run.glob("stages/activations-*/*")}
    assert run_toy(config, run).code == 0
    assert {path: path.stat().st_mtime_ns for path in run.glob("stages/activations-*/*")} == before
    records = [labeler("list", folder, "--json").json for folder in (run, whole)]
    assert records[0] == records[1]
    assert stage(run) == stage(whole)


def test_making_a_shard_again_finds_it(config: Path, thirds: list[Path]) -> None:
    (index,) = thirds[0].glob("stages/shard-1-of-3-*/manifest.json")
    before = index.stat().st_mtime_ns
    make(config, "1/3", thirds[0])
    assert index.stat().st_mtime_ns == before


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "1/4/2", "-1/4", "1 / 4", "1/٤", ""])
def test_a_wrong_shard_is_one_sentence_and_usage(config: Path, text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="written like 1/4, the first of four"):
        parse_shard(text)
    outcome = labeler("activations", config, f"--shard={text}", "--out", tmp_path / "d")
    assert outcome.code == 2
    assert not (tmp_path / "d").exists()


def refused(*arguments: object) -> str:
    outcome = labeler("merge", *arguments)
    assert outcome.code == 1
    assert outcome.err.startswith("labeler: ")
    assert len(outcome.err.strip().splitlines()) == 1
    return outcome.err


def test_a_missing_shard_is_named(thirds: list[Path], tmp_path: Path) -> None:
    assert "Shards are missing: 2/3;" in refused(thirds[0], thirds[2], "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_shard_given_twice_is_named(thirds: list[Path], tmp_path: Path) -> None:
    copy = shutil.copytree(thirds[1], tmp_path / "copy")
    message = refused(*thirds, copy, "--out", tmp_path / "run")
    assert "Shard 2/3 is given twice" in message
    assert str(copy) in message


@pytest.mark.parametrize("change", [("2/4",), ("2/3", "--set", "seed=1"), ("2/3", "--units", "edges:0-3")])
def test_a_foreign_shard_is_refused(
    config: Path, thirds: list[Path], change: tuple[str, ...], tmp_path: Path
) -> None:
    make(config, change[0], tmp_path / "other", *change[1:])
    message = refused(thirds[0], tmp_path / "other", thirds[2], "--out", tmp_path / "run")
    assert "different passes" in message


def test_a_damaged_shard_is_refused(thirds: list[Path], tmp_path: Path) -> None:
    copy = shutil.copytree(thirds[1], tmp_path / "copy")
    (victim,) = copy.glob("stages/shard-*/layer-000-maxima.npy")
    data = bytearray(victim.read_bytes())
    data[-1] ^= 1
    victim.write_bytes(data)
    assert "layer-000-maxima.npy is not what was written" in refused(
        thirds[0], copy, thirds[2], "--out", tmp_path / "run"
    )


def test_what_is_not_a_shard_or_not_ours_is_refused(thirds: list[Path], tmp_path: Path) -> None:
    assert "holds no finished shard" in refused(tmp_path, "--out", tmp_path / "run")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("mine")
    assert "is not empty and is not a run directory" in refused(*thirds, "--out", tmp_path / "full")
    assert labeler("merge", *thirds, "--out", tmp_path / "run").code == 0
    description = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps({**description, "fingerprint": "0" * 64}))
    assert "belongs to another config" in refused(*thirds, "--out", tmp_path / "run")
