"""Random kills lose nothing, corrupt nothing, and cost little; see `tests.faults.kills`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.kills import CONCURRENCY, SIGNALS, Bench, kill_often, lost
from tests.faults.warm import Ended


def killed(made: Bench, count: int, seed: int) -> dict[str, int]:
    figures = kill_often(made, count, seed)
    data = figures.as_json(made.undisturbed, made.idle)
    assert data["problems"] == []
    assert data["kills"] == count
    assert data["runs_compared"] >= 1
    assert data["calls"]["repaid"] <= data["calls"]["in_flight_at_kills"]
    assert data["calls"]["most_in_flight_at_a_kill"] <= CONCURRENCY
    assert data["seconds"]["overhead_per_kill"]["cpu"] <= 10 + 0.02 * made.undisturbed.cpu
    assert all(data["by_signal"][name] for name in SIGNALS)
    return {stage: times for stage, times in data["by_stage"].items() if times}


def test_twenty_kills_at_random_moments_lose_nothing(made: Bench) -> None:
    assert len(killed(made, 20, seed=0)) >= 5


@pytest.mark.slow
def test_two_hundred_kills_at_random_moments_lose_nothing(made: Bench) -> None:
    assert len(killed(made, 200, seed=1)) >= 9


def test_what_was_lost_is_noticed() -> None:
    """The harness itself: a result that is gone, changed, or was acknowledged and is not there."""
    none = {"rounds": 0, "units": 0, "calls": 0, "stages": 0}
    ended = Ended(-9, "", "", 0, True, "rounds", {}, none, 0.0, 0.0)
    before = {"rounds": {"a": "1", "b": "2"}, "units": {}, "calls": {}, "stages": {}}
    assert list(lost(before, before, ended)) == []
    assert any("b" in problem for problem in lost(before, {**before, "rounds": {"a": "1", "b": "3"}}, ended))
    assert list(lost(before, {**before, "rounds": {"a": "1"}}, ended))
    one = Ended(-9, "", "", 0, True, "rounds", {}, {**none, "rounds": 1}, 0.0, 0.0)
    assert list(lost(before, before, one))
    assert list(lost(before, {**before, "rounds": {"a": "1", "b": "2", "c": "3"}}, one)) == []


def test_a_killed_run_can_be_gone_on_with_at_once_though_its_decoders_still_live(
    made: Bench, tmp_path: Path
) -> None:
    from tests.faults.warm import Kill

    decoding = ("--set", "executor.workers=2", "--set", "executor.decoding=processes")
    out = tmp_path / "run"
    moment = Kill("SIGKILL", 0.3 * (made.undisturbed.began["index"] - made.undisturbed.began["activations"]),
                  "activations")  # fmt: skip
    assert made.run(out, *decoding, kill=moment).code == -9
    assert "Another process" not in made.run(out, kill=Kill("SIGKILL", 0.05, "activations")).err
