"""A run that is cut into pieces and done elsewhere ends in the catalogue of a run on one machine."""

from __future__ import annotations

import errno
import platform
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labeler.errors import RunError
from labeler.executors import LocalExecutor
from labeler.pipeline import spread
from labeler.pipeline.recipe import Recipe
from tests.e2e.conftest import ToyRun
from tests.e2e.toy_run import Outcome, files_of, labeler, rows_of, run_toy
from tests.ray_cluster import cluster_of


class Elsewhere(LocalExecutor):
    """A cluster's double: as many `pieces`, done one by one in this process, the last first.

    `done` counts the items; the run is interrupted before the item `last`.
    """

    here = False

    def __init__(self, pieces: int, last: int | None = None) -> None:
        super().__init__(pieces=pieces)
        self.done, self._last = 0, last

    def as_finished(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for place in reversed(range(len(items))):
            if self.done == self._last:
                raise KeyboardInterrupt
            self.done += 1
            yield place, function(items[place])


def run_with(executor: Elsewhere, toy_run: ToyRun, out: Path, patch: pytest.MonkeyPatch) -> Outcome:
    patch.setattr("labeler.pipeline.open_executor", lambda config, note: nullcontext(executor))
    return run_toy(toy_run.config, out)


def assert_same_run(run: Path, expected: Path) -> None:
    for part in ("stages", "images", "report"):
        assert files_of(run / part) == files_of(expected / part)
    assert rows_of(run) == rows_of(expected)


@dataclass(frozen=True)
class Spread:
    """The toy run in pieces, interrupted twice: the pieces that were kept, and how many each attempt did."""

    run: Path
    kept: list[str]
    done: list[int]


@pytest.fixture(scope="module")
def spread_run(toy_run: ToyRun, tmp_path_factory: pytest.TempPathFactory) -> Spread:
    out, kept = tmp_path_factory.mktemp("spread") / "run", list[str]()
    attempts = [Elsewhere(5, last=2), Elsewhere(5, last=4), Elsewhere(5)]
    with pytest.MonkeyPatch.context() as patch:
        noting(kept, patch)
        for executor, code in zip(attempts, (130, 130, 0), strict=True):
            assert run_with(executor, toy_run, out, patch).code == code
            if executor is attempts[0]:
                assert len(list(out.glob("stages/piece-activations-*"))) == 2
                assert labeler("verify", out).code == 0
    return Spread(out, kept, [executor.done for executor in attempts])


def noting(kept: list[str], patch: pytest.MonkeyPatch, then: Callable[[], object] = lambda: None) -> None:
    """Note the pieces that are kept from here on, and do something after each."""
    original = spread._Keeper.keep

    def keep(self: Any, number: int, files: Any) -> None:
        original(self, number, files)
        kept.append(f"{self.name} {number}")
        then()

    patch.setattr(spread._Keeper, "keep", keep)


def test_a_run_in_pieces_is_the_run(spread_run: Spread, toy_run: ToyRun) -> None:
    assert_same_run(spread_run.run, toy_run.run)


def test_what_is_finished_is_not_done_again_and_nothing_is_left_of_the_pieces(spread_run: Spread) -> None:
    assert spread_run.done[:2] == [2, 4]
    assert len(set(spread_run.kept)) == len(spread_run.kept) == sum(spread_run.done)
    assert {piece.split()[0] for piece in spread_run.kept} >= {
        "activations", "exemplars", "visualisations", "paths",
    }  # fmt: skip
    assert not list(spread_run.run.glob("stages/piece-*"))
    assert not list(spread_run.run.rglob("*.incomplete"))


def test_a_kept_piece_that_was_damaged_is_done_again(
    toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    assert run_with(Elsewhere(5, last=2), toy_run, out, monkeypatch).code == 130
    damaged, _ = out.glob("stages/piece-activations-*/files.tar")
    data = bytearray(damaged.read_bytes())
    for header in re.finditer(rb"\x93NUMPY", bytes(data)):
        data[header.start() + 131] ^= 1  # of the first number: the archive stays one that can be read
    damaged.write_bytes(data)
    assert run_with(Elsewhere(5, last=4), toy_run, out, monkeypatch).code == 130
    (made,) = out.glob("stages/activations-????????????")
    assert files_of(made) == files_of(toy_run.run / "stages" / made.name)


def test_a_node_with_other_files_is_one_sentence(toy_run: ToyRun, tmp_path: Path) -> None:
    from labeler.config_file import load_config
    from labeler.pipeline.inputs import load_inputs
    from tests.e2e.toy_run import NETWORK

    recipe = Recipe.of(load_inputs(load_config(toy_run.config, ()), trust_code=NETWORK))
    assert recipe.inputs().key == recipe.key
    for other, says in (
        (Recipe(recipe.config, recipe.trust_code, "0" * 64), "are not those of this run"),
        (Recipe(recipe.config.replace("toy_network.py", "gone.py"), recipe.trust_code, recipe.key), "gone"),
    ):
        with pytest.raises(RunError, match="every node needs the same") as caught:
            other.inputs()
        assert says in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_full_disk_of_a_node_is_not_taken_for_that_of_the_run(toy_run: ToyRun) -> None:
    from labeler.config_file import load_config
    from labeler.pipeline.inputs import load_inputs
    from tests.e2e.toy_run import NETWORK

    def fill(inputs: object, item: int, directory: Path, progress: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    recipe = Recipe.of(load_inputs(load_config(toy_run.config, ()), trust_code=NETWORK))
    with pytest.raises(RunError) as caught:
        spread._packed(fill, recipe, 0)
    assert str(caught.value).startswith(f"{tempfile.gettempdir()} of {platform.node()} cannot be written to")


def test_nothing_of_an_endpoint_travels(toy_run: ToyRun) -> None:
    from labeler.config_file import load_config
    from labeler.pipeline.inputs import load_inputs
    from tests.e2e.toy_run import NETWORK

    asked = ("propose.base_url=http://me:secret@host/v1", "propose.model=m", "propose.api_key_env=MINE")
    recipe = Recipe.of(load_inputs(load_config(toy_run.config, asked), trust_code=NETWORK))
    assert "secret" not in recipe.config
    assert "MINE" not in recipe.config


@pytest.mark.slow
def test_a_cluster_that_loses_a_node_ends_in_the_same_catalogue(
    toy_run: ToyRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[str] = []
    with cluster_of(3) as cluster:

        def lose_a_node() -> None:
            if len(kept) == 3:
                cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

        noting(kept, monkeypatch, lose_a_node)
        settings = ("executor.kind=ray", f"executor.address={cluster.address}", "executor.shards=6")
        words = [word for setting in settings for word in ("--set", setting)]
        outcome = run_toy(toy_run.config, tmp_path / "run", *words, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["run"] == str(tmp_path / "run")
    assert outcome.err.count("lost a worker") <= 1
    assert len(set(kept)) == len(kept)
    assert_same_run(tmp_path / "run", toy_run.run)
