"""Interleaved timing: the sides of a comparison take turns, so that a busy machine slows all of them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import torch

Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Stopwatch:
    """How to time.

    Attributes:
        clock: ``wall``, or ``cpu``: seconds of this process, all its threads, which other load moves little.
        repeats: how often each side is timed.
        device: waited for before the clock is read.
    """

    clock: str
    repeats: int
    device: torch.device

    def interleave(self, sides: Mapping[str, Callable[[], object]], warm: bool = True) -> Times:
        """Time every side `repeats` times, in turns, each second turn backwards.

        Args:
            sides: what to run, by name.
            warm: run every side once before.
        """
        if warm:
            for side in sides.values():
                side()
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(self.repeats):
            names = list(sides) if turn % 2 == 0 else list(sides)[::-1]
            for name in names:
                seconds[name].append(self.time(sides[name]))
        return Times(seconds)

    def time(self, side: Callable[[], object]) -> float:
        """Seconds that it takes, once."""
        now = CLOCKS[self.clock]
        self._wait()
        start = now()
        side()
        self._wait()
        return now() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Times:
    """Seconds of every turn, by side."""

    seconds: dict[str, list[float]]

    def per(self, counts: Mapping[str, int]) -> Times:
        """The seconds of one of the things of which each side made so many."""
        return Times({side: [time / counts[side] for time in found] for side, found in self.seconds.items()})

    def of(self, side: str) -> float:
        """The median of one side."""
        return median(self.seconds[side])

    def ratio(self, slow: str, fast: str) -> tuple[float, tuple[float, float]]:
        """How often `fast` fits into `slow`: of the medians; and the least and greatest of single turns."""
        turns = [one / other for one, other in zip(self.seconds[slow], self.seconds[fast], strict=True)]
        return self.of(slow) / self.of(fast), (min(turns), max(turns))


def say(text: str) -> None:
    """One line of progress on stderr."""
    print(text, file=sys.stderr, flush=True)
