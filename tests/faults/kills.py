"""Kill runs at random moments, resume them, and count what was lost.

``python -m tests.faults.kills --count 200 --seed 0 --out figures.json`` kills that many times, by SIGKILL,
SIGTERM and SIGINT, in every stage of runs whose labels come from a model endpoint on this machine. A run
directory is killed again and again until a child reaches the end, and then compared with an undisturbed one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labeler.errors import LabelerError
from labeler.run_directory import run_status
from labeler.verification import verify_run
from tests.e2e.toy_run import NETWORK, files_of, rows_of, toy_config, write_config
from tests.faults.model import CountingModel, counting_model
from tests.faults.warm import STAGES, Ended, Kill, Warm

SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
CONCURRENCY = 4
SECONDS_TO_END = 20.0
"""For the processes that decode images of a killed run, which look after it once a second."""
_DURABLE = {
    "rounds": "SELECT unit || ' ' || round, record FROM rounds",
    "units": "SELECT unit, record FROM units",
    "calls": "SELECT key, answer FROM model_answers",
}
_PACES = (("0", "threads"), ("0", "threads"), ("2", "threads"), ("2", "processes"))


@dataclass
class Figures:
    """What happened; `problems` are sentences, empty when every promise was kept."""

    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    finished_first: int = 0
    unheeded: int = 0
    asked: int = 0
    needed: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    problems: list[str] = field(default_factory=list)

    def as_json(self, undisturbed: Ended, idle: Ended) -> dict[str, Any]:
        """All of it; `undisturbed` is a whole run, `idle` the same command once more."""
        count = self.kills.total()
        by_stage = {stage: _of(self.kills, 0, stage) for stage in ("start", *STAGES)}
        over = {
            "wall": self.wall - self.runs * undisturbed.wall, "cpu": self.cpu - self.runs * undisturbed.cpu,
        }  # fmt: skip
        return {
            "kills": count,
            "by_signal": {name: _of(self.kills, 1, name) for name in SIGNALS},
            "by_stage": by_stage,
            "runs_compared": self.runs,
            "ended_before_the_kill": self.finished_first,
            "of_them_unheeded": self.unheeded,
            "problems": self.problems,
            "calls": {
                "asked": self.asked, "needed": self.needed, "repaid": self.asked - self.needed,
                "in_flight_at_kills": self.in_flight, "most_in_flight_at_a_kill": self.most_in_flight,
                "concurrency": CONCURRENCY,
            },
            "seconds": {
                "undisturbed": {"wall": round(undisturbed.wall, 2), "cpu": round(undisturbed.cpu, 2)},
                "finished_run_again": {"wall": round(idle.wall, 2), "cpu": round(idle.cpu, 2)},
                "overhead_per_kill": {name: round(value / max(1, count), 2) for name, value in over.items()},
            },
        }  # fmt: skip


def _of(kills: Counter[str], place: int, name: str) -> int:
    return sum(count for key, count in kills.items() if key.split()[place] == name)


@dataclass
class Bench:
    """An undisturbed run, and what is needed to make the same run again."""

    folder: Path
    config: Path
    warm: Warm
    model: CountingModel
    undisturbed: Ended
    idle: Ended

    @property
    def code(self) -> Path:
        """What the config's target executes."""
        return NETWORK

    @property
    def expected(self) -> Path:
        """The undisturbed run's directory."""
        return self.folder / "undisturbed"

    def run(self, out: Path, *more: str, kill: Kill | None = None) -> Ended:
        """``labeler run`` into `out`."""
        return self.warm.run("run", self.config, "--out", out, "--trust-code", NETWORK, *more, kill=kill)


@contextmanager
def bench(folder: Path) -> Iterator[Bench]:
    """Everything started, and one run made."""
    with counting_model() as (model, url), Warm(folder) as warm:
        propose = {
            "kind": "vlm",
            "model": "toy",
            "base_url": url,
            "candidates": 4,
            "concurrency": CONCURRENCY,
        }
        data = toy_config(
            110, propose=propose, visualise={"images": 1, "size": 32, "steps": 8},
            exemplars={"propose": 0.35, "feedback": 0.3, "considered": 8, "shown": 3, "near_misses": 2},
        )  # fmt: skip
        data["target"] = {**data["target"], "units": {"colours": "0-2,6", "edges": "0-2"}}
        data["checks"] = {**data["checks"], "min_test_images": 30, "interventions": 0}
        made = Bench(folder, write_config(folder, data), warm, model, None, None)  # type: ignore[arg-type]
        made.undisturbed = made.run(made.expected)
        assert made.undisturbed.code == 0, made.undisturbed.err
        made.idle = made.run(made.expected)
        assert made.idle.code == 0, made.idle.err
        yield made


def kill_often(bench: Bench, count: int, seed: int) -> Figures:
    """Kill `count` times and compare every run that reached its end."""
    figures, draw = Figures(), random.Random(seed)
    while figures.kills.total() < count:
        chain(bench, bench.folder / f"run-{figures.runs}", figures, draw, count)
    return figures


def chain(bench: Bench, out: Path, figures: Figures, draw: random.Random, count: int) -> None:
    """One run directory: killed until a child is faster than its kill, or `count` kills have been."""
    bench.model.asked.clear()
    groups = list[int]()
    acknowledged: dict[str, dict[str, Any]] = {what: {} for what in (*_DURABLE, "stages")}
    while figures.kills.total() < count:
        asked, before = bench.model.count(), acknowledged
        workers, decoding = draw.choice(_PACES)
        pace = ("--set", f"executor.workers={workers}", "--set", f"executor.decoding={decoding}")
        kill = next_kill(bench.undisturbed, out, draw)
        ended = bench.run(out, *pace, kill=kill)
        figures.wall, figures.cpu = figures.wall + ended.wall, figures.cpu + ended.cpu
        groups.append(ended.pid)
        if ended.code == 0:
            figures.finished_first += 1
            figures.unheeded += ended.sent
            break
        figures.kills[f"{ended.stage} {kill.signal}"] += 1
        acknowledged = durable(out)
        new = len(acknowledged["calls"]) - len(before["calls"])
        flying = bench.model.count() - asked - new
        figures.in_flight += flying
        figures.most_in_flight = max(figures.most_in_flight, flying)
        where = f"kill {figures.kills.total()} ({kill.signal} in {ended.stage})"
        found = [*wrong_end(ended, kill), *lost(before, acknowledged, ended), *unhealthy(out)]
        figures.problems += [f"{where}: {problem}" for problem in found]
    else:
        ended = bench.run(out)
        figures.wall, figures.cpu = figures.wall + ended.wall, figures.cpu + ended.cpu
    figures.runs += 1
    figures.asked += bench.model.count()
    figures.needed += len(bench.model.asked)
    figures.problems += [
        f"run {figures.runs}: {problem}" for problem in different(out, bench.expected, ended)
    ]
    if bench.model.count() - len(bench.model.asked) > figures.in_flight:
        figures.problems.append(f"run {figures.runs}: a call that was not in flight was paid for again.")
    if outlived(groups):
        figures.problems.append(f"run {figures.runs}: processes of {outlived(groups)} are still there.")
    shutil.rmtree(out)


def outlived(groups: list[int]) -> list[int]:
    """The killed processes of whose children some still live after a few seconds."""
    limit = time.monotonic() + SECONDS_TO_END
    while (left := [group for group in groups if _exists(group)]) and time.monotonic() < limit:
        time.sleep(0.05)
    return left


def _exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def next_kill(undisturbed: Ended, out: Path, draw: random.Random) -> Kill:
    """Half at any moment of what is left of the run, half at any moment of a stage that is left."""
    starts = sorted(undisturbed.began.items(), key=lambda item: item[1])
    ends = [*(at for _, at in starts[1:]), undisturbed.wall]
    seconds = {stage: end - at for (stage, at), end in zip(starts, ends, strict=True)}
    made = {path.name[:-13] for path in out.glob("stages/*-????????????")}
    left = {stage: most for stage, most in seconds.items() if stage not in made}
    name = draw.choice(SIGNALS)
    if draw.random() < 0.5:
        return Kill(name, draw.uniform(0, sum(left.values())))
    stage = draw.choice([stage for stage in left if stage != "loading"][:3])
    return Kill(name, draw.uniform(0, left[stage]), stage)


def durable(out: Path) -> dict[str, dict[str, Any]]:
    """Everything in a run directory that has been acknowledged, by kind and name."""
    stages = {path.parent.name: path.read_bytes() for path in out.glob("stages/*-????????????/manifest.json")}
    found: dict[str, dict[str, Any]] = {what: {} for what in _DURABLE} | {"stages": stages}
    if not (out / "catalogue.db").is_file():
        return found
    with closing(sqlite3.connect(out / "catalogue.db")) as database:
        tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        for what, query in _DURABLE.items():
            if query.split()[-1] in tables:
                found[what] = dict(database.execute(query).fetchall())
    return found


def lost(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]], ended: Ended) -> Iterator[str]:
    """What was there, or was acknowledged by the child that was killed, and is there no longer."""
    for what, named in after.items():
        gone = [name for name, value in before[what].items() if named.get(name) != value]
        if gone:
            yield f"{what} {', '.join(gone)} were lost or changed."
        told = ended.acknowledged[what]
        had = 0 if what == "units" else len(before[what])  # verdicts are all decided together, and again
        if what != "stages" and len(named) < had + told:
            yield f"{had} + {told} {what} were acknowledged, {len(named)} are there."
        if what == "stages" and len(named) < max(had, told):
            yield f"{told} stages were acknowledged, {len(named)} are there."


def wrong_end(ended: Ended, kill: Kill) -> Iterator[str]:
    """A signal that kills does so; an interrupt ends with 130 and one sentence; nobody sees a traceback."""
    number = signal.Signals[kill.signal]
    if ended.code != (130 if number == signal.SIGINT else -number):
        yield f"it ended with {ended.code}: {ended.err[-500:]}"
    said = [line for line in ended.err.splitlines() if line.startswith("labeler:")]
    if number == signal.SIGINT and ended.stage != "start" and len(said) != 1:
        yield f"it said {said} {ended.err[-500:]}"
    if "Traceback" in ended.err or ended.out:
        yield f"it printed {ended.err[-800:]} {ended.out[-200:]}"


def unhealthy(out: Path) -> Iterator[str]:
    """What ``labeler verify`` and ``labeler status`` find wrong with a run that is not finished."""
    if not (out / "run.json").is_file():
        return
    try:
        yield from verify_run(out)["problems"]
        said = run_status(out)["next"]
    except LabelerError as error:
        yield f"{error}"
        return
    if "the same labeler run command goes on" not in said and "nothing" not in said:
        yield f"status says {said}"


def different(out: Path, expected: Path, ended: Ended) -> Iterator[str]:
    """How a resumed run differs from the undisturbed one."""
    if ended.code != 0:
        yield f"the last child ended with {ended.code}: {ended.err[-500:]}"
        return
    found, wanted = rows_of(out), rows_of(expected)
    yield from (f"the table {table} differs." for table in wanted if found[table] != wanted[table])
    for part in ("report", "images", "stages"):
        one, other = files_of(out / part), files_of(expected / part)
        differs = sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
        if differs:
            yield f"{part}: {', '.join(differs[:5])} differ."
    left = [path.name for path in out.rglob("*.incomplete")]
    if left:
        yield f"{', '.join(left[:5])} were left."


def main() -> int:
    """The figures as JSON; exit status 1 where there is a problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, bench(Path(folder)) as made:
        figures = kill_often(made, asked.count, asked.seed)
        data = figures.as_json(made.undisturbed, made.idle)
    asked.out.write_text(json.dumps(data, indent=1) + "\n")
    print(json.dumps(data, indent=1))
    return 1 if figures.problems else 0


if __name__ == "__main__":
    sys.exit(main())
