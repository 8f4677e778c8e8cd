"""Faults that a child of `tests.faults.warm` arms in itself before it begins, by name."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable

from tests.faults.killed_run import arm


def small_files(most: int) -> None:
    """No file may grow beyond `most` bytes, as with ``ulimit -f``."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))


def clock_runs_back(seconds: float) -> None:
    """Each time that somebody looks at the wall clock it shows `seconds` less than before."""
    now = [time.time()]

    def earlier() -> float:
        now[0] -= seconds
        return now[0]

    time.time = earlier


def kill_at(point: str, count: int, sent: str) -> None:
    """See `tests.faults.killed_run`."""
    arm(point, count, signal.Signals[sent])


FAULTS: dict[str, Callable[..., None]] = {
    "small files": small_files,
    "clock runs back": clock_runs_back,
    "kill at": kill_at,
}
