"""Every executor does the same work; a Ray cluster does it again where a worker or a node was lost."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from labeler.config import Config, ExecutorConfig
from labeler.errors import ConfigError, MissingExtraError, RunError
from labeler.executors import LOCAL, LocalExecutor, open_executor
from labeler.executors.cluster import RayExecutor
from labeler.seams import Executor
from tests.ray_cluster import MEMORY, cluster_of

KEY = "LABELER_TEST_KEY"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with cluster_of(2) as found:
        yield found


def on(address: str, notes: list[str] | None = None, **settings: Any) -> RayExecutor:
    config = ExecutorConfig(kind="ray", address=address, device="cpu", **settings)
    return RayExecutor(config, secrets=(KEY,), note=(notes if notes is not None else []).append)


@pytest.fixture(params=["here", "threads", "pieces", "ray"])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if request.param == "ray":
        opened: AbstractContextManager[Executor] = on(request.getfixturevalue("cluster").address)
    else:
        made = {"here": LOCAL, "threads": LocalExecutor(3), "pieces": LocalExecutor(pieces=4)}
        opened = nullcontext(made[request.param])
    with opened as found:
        yield found


def squared(log: Path) -> Callable[[int], int]:
    """A function that travels by value, and notes who it was given."""

    def function(number: int) -> int:
        with log.open("a") as stream:
            stream.write(f"{number}\n")
        return number * number

    return function


def starts(log: Path) -> Counter[int]:
    return Counter(map(int, log.read_text().split()))


def test_every_item_is_done_once_and_results_keep_their_places(executor: Executor, tmp_path: Path) -> None:
    items = list(range(7))
    assert list(executor.map(squared(tmp_path / "log"), items)) == [n * n for n in items]
    assert sorted(executor.as_finished(squared(tmp_path / "log"), items)) == [(n, n * n) for n in items]
    assert starts(tmp_path / "log") == dict.fromkeys(items, 2)
    assert list(executor.as_finished(squared(tmp_path / "log"), [])) == []


def test_an_error_of_the_work_is_raised_as_it_is(executor: Executor) -> None:
    def refuse(number: int) -> int:
        raise ConfigError("executor.cpus is too many.") if number else ConfigError("The first.")

    with pytest.raises(ConfigError) as caught:
        list(executor.map(refuse, [0]))
    assert str(caught.value) == "The first."
    assert list(executor.map(abs, [-1])) == [1]  # and the executor goes on


def test_a_worker_whose_work_raised_holds_no_core_while_the_error_is_looked_at(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(number: int) -> int:
        raise ConfigError("A sentence.")

    monkeypatch.setattr("labeler.executors.cluster.HIRING_SECONDS", 60.0)
    looked_at = []
    with on(cluster.address) as executor:
        for _ in cluster.worker_nodes:
            with pytest.raises(ConfigError) as caught:
                list(executor.map(refuse, [0]))
            looked_at.append(caught)
        assert list(executor.map(abs, [-1])) == [1]


def dying(log: Path, times: int, ends: int = signal.SIGKILL) -> Callable[[int], int]:
    """Kills the worker that is given item 2, as often as `times`."""

    def function(number: int) -> int:
        with log.open("a") as stream:
            stream.write(f"{number}\n")
        if number == 2 and log.read_text().split().count("2") <= times:
            os.kill(os.getpid(), ends)
        return number * number

    return function


def test_a_worker_that_dies_costs_the_piece_that_it_had(cluster: Any, tmp_path: Path) -> None:
    notes: list[str] = []
    with on(cluster.address, notes) as executor:
        found = list(executor.map(dying(tmp_path / "log", times=2), range(6)))
    assert found == [n * n for n in range(6)]
    assert starts(tmp_path / "log") == {**dict.fromkeys(range(6), 1), 2: 3}
    assert len(notes) == 2
    assert all(note.startswith("Warning: the cluster lost a worker") for note in notes)


def test_a_piece_that_always_kills_its_worker_is_one_sentence(cluster: Any, tmp_path: Path) -> None:
    with on(cluster.address, retries=1) as executor, pytest.raises(RunError) as caught:
        list(executor.map(dying(tmp_path / "log", times=9), range(6)))
    assert starts(tmp_path / "log")[2] == 2
    assert "lost its worker 2 times" in str(caught.value)
    assert "executor.shards" in str(caught.value)
    assert "\n" not in str(caught.value)


def slowly(log: Path) -> Callable[[int], tuple[int, str]]:
    def function(number: int) -> tuple[int, str]:
        import ray

        with log.open("a") as stream:
            stream.write(f"{number}\n")
        time.sleep(0.4)
        return number * number, ray.get_runtime_context().get_node_id()

    return function


def test_a_node_that_is_lost_costs_the_piece_that_it_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes: list[str] = []
    with cluster_of(2) as cluster, on(cluster.address, notes) as executor:
        found = dict[int, int]()
        for place, (result, node) in executor.as_finished(slowly(tmp_path / "log"), range(8)):
            found[place] = result
            if len(found) == 2:  # whoever gave it has its next one by now
                time.sleep(0.2)
                (lost,) = [one for one in cluster.worker_nodes if one.node_id == node]
                cluster.remove_node(lost, allow_graceful=False)
    assert found == {n: n * n for n in range(8)}
    assert len(notes) == 1
    begun = starts(tmp_path / "log")
    assert sum(begun.values()) <= 9
    assert set(begun) == set(range(8))
    assert capsys.readouterr().out == ""  # stdout is for data, whatever Ray says of its nodes


def test_workers_that_went_while_they_had_nothing_to_do_have_lost_nothing() -> None:
    def rested(number: int) -> int:
        time.sleep(1)
        return number

    notes: list[str] = []
    with cluster_of(1) as cluster:
        large = cluster.add_node(num_cpus=2, object_store_memory=MEMORY)
        with on(cluster.address, notes, retries=0) as executor:
            list(executor.map(rested, range(12)))
            assert executor._team is not None
            assert len(executor._team.resting) == 3
            cluster.remove_node(large, allow_graceful=False)
            assert list(executor.map(abs, [-1])) == [1]
    assert notes == []


def test_a_cluster_whose_workers_cannot_begin_is_one_sentence(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stillborn:
        def __init__(self) -> None:
            raise ModuleNotFoundError("No module named 'labeler'")

        def prepare(self, threads: int) -> str:
            return ""

    monkeypatch.setattr("labeler.executors.cluster._Worker", Stillborn)
    with on(cluster.address, retries=0) as executor, pytest.raises(RunError) as caught:
        list(executor.map(abs, [-1]))
    assert "install labeler on every node" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_worker_has_a_gpu_of_its_own_where_there_are_any() -> None:
    def visible(number: int) -> tuple[int, str]:
        time.sleep(1)
        return os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES", "")

    with cluster_of(0) as cluster:
        cluster.add_node(num_cpus=3, num_gpus=2, object_store_memory=MEMORY)  # Ray takes our word for it
        for device, gpus in (("auto", {"0", "1"}), ("cpu", {""})):
            config = ExecutorConfig(kind="ray", address=cluster.address, device=device)
            with RayExecutor(config, note=print) as executor:
                found = dict(executor.map(visible, range(6)))
            assert set(found.values()) <= gpus
            assert device == "cpu" or len(set(found.values())) == len(found)  # no two workers share one


def test_workers_have_no_key_and_a_worker_each_of_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv(KEY, "sk-canary-41aa9e")

    def environment(number: int) -> tuple[str, int]:
        import torch

        time.sleep(0.5)
        return repr(dict(os.environ)), torch.get_num_threads()

    with on("local", cpus=2) as executor:
        found = list(executor.map(environment, range(2)))
        session = Path("/tmp/ray/session_latest").resolve()
    assert all("sk-canary-41aa9e" not in said for said, _ in found)
    assert [threads for _, threads in found] == [2, 2]
    assert os.environ[KEY] == "sk-canary-41aa9e"
    written = [path for path in session.rglob("*") if path.is_file()]
    assert written
    assert all(b"sk-canary-41aa9e" not in path.read_bytes() for path in written)


def test_no_cluster_is_one_sentence() -> None:
    pytest.importorskip("ray")
    with on("127.0.0.1:9") as executor, pytest.raises(RunError) as caught:
        list(executor.map(abs, [1]))
    assert "There is no Ray cluster at 127.0.0.1:9" in str(caught.value)
    assert "ray start --head" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with on("auto") as executor, pytest.raises(MissingExtraError, match=r'pip install "labeler\[ray\]"'):
        list(executor.map(abs, [1]))


def test_a_config_names_its_executor() -> None:
    base = {"target": {"model": "timm:x", "layers": ["a"]}, "probe": {"source": "builtin:scenes"}}
    with open_executor(Config.model_validate(base), print) as executor:
        assert (executor.here, executor.pieces) == (True, 64)
    settings = {"kind": "ray", "address": "ray://far:10001", "shards": 7}
    with open_executor(Config.model_validate({**base, "executor": settings}), print) as executor:
        assert isinstance(executor, RayExecutor)  # connects when it gets work
        assert executor.pieces == 7
