import hashlib
import json
import multiprocessing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labeler.errors import RunError
from labeler.storage import (
    canonical,
    fingerprint,
    hash_order,
    run_lock,
    stage_directory,
    verify_stage,
    write_atomic,
)


def _build(directory: Path) -> None:
    (directory / "a.txt").write_text("alpha")


def test_a_finished_stage_is_not_built_again(tmp_path: Path) -> None:
    built = []

    def build(directory: Path) -> None:
        built.append(directory)
        _build(directory)

    first = stage_directory(tmp_path, "pass", "k" * 64, build)
    second = stage_directory(tmp_path, "pass", "k" * 64, build)
    assert first == second
    assert len(built) == 1
    assert verify_stage(first) == []


def test_a_stage_killed_in_the_middle_is_built_from_the_start(tmp_path: Path) -> None:
    def dies(directory: Path) -> None:
        (directory / "half.txt").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage_directory(tmp_path, "pass", "k" * 64, dies)
    final = stage_directory(tmp_path, "pass", "k" * 64, _build)
    assert [path.name for path in sorted(final.iterdir())] == ["a.txt", "manifest.json"]


def test_a_torn_manifest_is_refused_with_advice(tmp_path: Path) -> None:
    final = stage_directory(tmp_path, "pass", "k" * 64, _build)
    (final / "manifest.json").write_text("{")
    with pytest.raises(RunError, match="delete"):
        stage_directory(tmp_path, "pass", "k" * 64, _build)


def test_a_stage_of_other_inputs_is_refused(tmp_path: Path) -> None:
    stage_directory(tmp_path, "pass", "k" * 12 + "1" * 52, _build)
    with pytest.raises(RunError, match="other inputs"):
        stage_directory(tmp_path, "pass", "k" * 12 + "2" * 52, _build)


def test_verify_finds_a_changed_file(tmp_path: Path) -> None:
    final = stage_directory(tmp_path, "pass", "k" * 64, _build)
    (final / "a.txt").write_text("alphA")
    assert len(verify_stage(final)) == 1
    (final / "a.txt").unlink()
    assert "missing" in verify_stage(final)[0]


def _hold(
    run: Path, ready: "multiprocessing.synchronize.Event", go: "multiprocessing.synchronize.Event"
) -> None:
    with run_lock(run):
        ready.set()
        go.wait(20)


def test_two_processes_cannot_hold_one_run(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, go = context.Event(), context.Event()
    process = context.Process(target=_hold, args=(tmp_path, ready, go))
    process.start()
    assert ready.wait(20)
    with pytest.raises(RunError, match="Another process"), run_lock(tmp_path):
        pass
    go.set()
    process.join(20)
    with run_lock(tmp_path):
        pass


def test_write_atomic_leaves_no_temporary_file(tmp_path: Path) -> None:
    write_atomic(tmp_path / "x" / "run.json", b"one")
    write_atomic(tmp_path / "x" / "run.json", b"two")
    assert (tmp_path / "x" / "run.json").read_bytes() == b"two"
    assert len(list((tmp_path / "x").iterdir())) == 1


@given(st.dictionaries(st.text(), st.integers()))
def test_equal_data_has_one_fingerprint_whatever_the_order_of_keys(data: dict[str, int]) -> None:
    backwards = dict(reversed(list(data.items())))
    assert fingerprint(data) == fingerprint(backwards) == fingerprint(json.loads(json.dumps(data)))


def test_a_fingerprint_is_that_of_plain_json_in_utf8() -> None:
    """Written so, it is the same on every machine and in every version: caches and runs stay found."""
    assert canonical({"b": [1, "é"], "a": None}) == '{"a":null,"b":[1,"é"]}'.encode()
    assert fingerprint("a", 1) == hashlib.sha256(b'["a",1]').hexdigest()
    assert fingerprint("ab") != fingerprint("a", "b")


@given(st.lists(st.integers(), unique=True, min_size=1), st.integers(0, 5), st.data())
def test_a_hash_chosen_order_does_not_depend_on_what_else_is_there(
    values: list[int], seed: int, data: st.DataObject
) -> None:
    kept = data.draw(st.lists(st.sampled_from(values), unique=True))
    whole = [values[i] for i in hash_order(values, seed, "x")]
    part = [kept[i] for i in hash_order(kept, seed, "x")]
    assert part == [value for value in whole if value in kept]
