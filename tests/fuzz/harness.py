"""Many hostile cases, one after the other: what came of each, the slowest, the most memory.

A case is drawn from (seed, number) alone, so that any of them can be run again with ``--first N --count 1``.
It ends with the name of an outcome, `GOOD` or that of an error class of `labeler.errors`. Whatever else it
raises is unhandled: an exception of another kind, or an assertion about what every outcome must keep.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

GOOD = "good"
LONGEST_SENTENCE = 600
"""Characters of an error's text, the paths in it included."""
_WAITED = 60.0  # seconds that other programs may have the processor for
_KEPT = 20


class OverTimeError(BaseException):
    """A case took longer than it may. No `except Exception` on its way catches it."""


@dataclass
class Figures:
    """What came of the cases so far."""

    name: str
    seed: int
    limit: float
    """Seconds of the processor that a case may take."""
    outcomes: Counter[str] = field(default_factory=Counter)
    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    unhandled: list[dict[str, Any]] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")
    seconds: float = 0.0

    @property
    def count(self) -> int:
        """How many cases there were."""
        return sum(self.outcomes.values())

    def add(self, kind: str, outcome: str, seconds: float, case: str) -> None:
        """Count one case."""
        self.outcomes[outcome] += 1
        self.kinds.setdefault(kind, Counter())[outcome] += 1
        self.seconds += seconds
        self.slowest = max(self.slowest, (seconds, f"{case} ({kind})"))

    def dump(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "fuzz": self.name,
            "cases": self.count,
            "seed": self.seed,
            "outcomes": dict(self.outcomes.most_common()),
            "unhandled": sum(self.outcomes[name] for name in self.outcomes if name.startswith("UNHANDLED")),
            "first_unhandled": self.unhandled[:_KEPT],
            "slowest_seconds": round(self.slowest[0], 3),
            "slowest_case": self.slowest[1],
            "limit_seconds": self.limit,
            "peak_rss_mb": peak_rss_mb(),
            "processor_seconds": round(self.seconds, 1),
            "by_kind": {kind: dict(found.most_common()) for kind, found in sorted(self.kinds.items())},
        }


Case = tuple[str, Callable[[], str]]
"""Its kind, and what runs it and gives the outcome."""


def generator(name: str, seed: int, number: int) -> random.Random:
    """What case `number` is drawn from."""
    return random.Random(f"{name} {seed} {number}")


def peak_rss_mb() -> int:
    """The most memory that this process ever had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise `OverTimeError` in a block that works for longer, or waits for a minute more.

    Other programs may have the processor, so work is measured in its seconds; a pipe that nobody writes to
    takes none of them. Code that no signal interrupts ends the process, with a traceback.
    """

    def over(number: int, frame: object) -> None:
        raise OverTimeError(f"more than {seconds:g} s")

    waited = seconds + _WAITED
    timers = {
        signal.SIGPROF: (signal.ITIMER_PROF, seconds),
        signal.SIGALRM: (signal.ITIMER_REAL, waited),
    }
    before = {number: signal.signal(number, over) for number in timers}
    for timer, allowed in timers.values():
        signal.setitimer(timer, allowed)
    faulthandler.dump_traceback_later(2 * waited, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        for timer, _ in timers.values():
            signal.setitimer(timer, 0)
        faulthandler.cancel_dump_traceback_later()
        for number, handler in before.items():
            signal.signal(number, handler)


def run_case(figures: Figures, case: str, kind: str, run: Callable[[], str]) -> None:
    """Run one case and count what came of it."""
    start = time.process_time()
    try:
        with within(figures.limit), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = run()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        outcome = f"UNHANDLED {type(error).__name__}"
        if len(figures.unhandled) < _KEPT:
            trace = traceback.format_exception(error)
            said = ["".join(trace[:1])[:80], *trace[-4:]]
            figures.unhandled.append({"case": case, "kind": kind, "traceback": "".join(said)[-1500:]})
    figures.add(kind, outcome, time.process_time() - start, case)


def fuzz(
    name: str, draw: Callable[[random.Random], Case], numbers: range, seed: int, limit: float
) -> Figures:
    """Run the cases `numbers` that `draw` makes."""
    figures = Figures(name, seed, limit)
    for number in numbers:
        kind, run = draw(generator(name, seed, number))
        run_case(figures, str(number), kind, run)
    return figures


def sentence(error: Exception) -> str:
    """The class of a typed error, whose text is one sentence that can be printed."""
    text = str(error)
    assert text, "an error says nothing"
    assert text[-1] in ".?!", f"no sentence: {text[-80:]!r}"
    assert len(text) <= LONGEST_SENTENCE, f"{len(text)} characters: {text[:200]!r}"
    assert "\n" not in text, f"several lines: {text!r}"
    return type(error).__name__


def main(name: str, run: Callable[[range, int], Figures], count: int) -> None:
    """``python -m tests.fuzz.NAME [--count N] [--first N] [--seed N] [--out F.json]``: exit 1 if any case was
    unhandled."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.fuzz.{name}")
    parser.add_argument("--count", type=int, default=count)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    found = run(range(given.first, given.first + given.count), given.seed).dump()
    text = json.dumps(found, indent=1)
    if given.out is not None:
        given.out.write_text(text + "\n")
    print(text)
    sys.exit(1 if found["unhandled"] else 0)
