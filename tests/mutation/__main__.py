"""``python -m tests.mutation [--module labeler/refine.py] [--most 150] [--seed 0]``."""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from tests.mutation import running
from tests.mutation.mutants import mutants

ENOUGH = 0.8
"""Least share of mutants that a test has to notice."""
EQUIVALENT = Path(__file__).with_name("equivalent.json")
"""Mutants that behave as the original does, each with the reason."""


@dataclass(frozen=True)
class Suite:
    """A module, the tests that speak of it, and its functions that count (all, where none is named)."""

    module: str
    tests: tuple[str, ...]
    functions: tuple[str, ...] = ()


WIRE = "labeler/propose/endpoint/wire.py"
SUITES = (
    Suite("labeler/activations/topk.py", ("tests/activations/test_topk.py",)),
    Suite(
        "labeler/activations/quantiles.py",
        ("tests/activations/test_quantiles_by_hand.py", "tests/activations/test_quantiles.py"),
    ),
    Suite("labeler/checks/iou.py", ("tests/checks/test_iou_by_hand.py", "tests/checks/test_iou.py")),
    Suite("labeler/checks/gate.py", ("tests/checks/test_gate.py",)),
    Suite("labeler/checks/verdict.py", ("tests/checks/test_verdict.py",)),
    Suite(
        "labeler/checks/calibration.py",
        ("tests/checks/test_calibration_by_hand.py", "tests/checks/test_calibration.py"),
        ("Line", "Domain", "Calibration", "refit", "_sigmoid", "expected_precision_cut"),  # what a run uses
    ),
    Suite("labeler/refine.py", ("tests/test_refine.py",)),
    Suite(WIRE, ("tests/propose/endpoint/test_wire.py",), ("Question", "Answer")),
    Suite("labeler/propose/endpoint/caller.py", ("tests/propose/endpoint/test_wire.py",), ("Caller.key",)),
    Suite("labeler/storage.py", ("tests/test_storage.py",), ("canonical", "fingerprint")),
)


def main() -> int:
    """Exit status 1 where too few mutants are noticed, or where one listed as equivalent is."""
    parser = argparse.ArgumentParser(description="Break a module on purpose and see whether a test notices.")
    parser.add_argument("--module", choices=[suite.module for suite in SUITES], help="only this one")
    parser.add_argument("--most", type=int, default=150, help="mutants of a module; more are sampled")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    chosen = parser.parse_args()
    worst = 0
    for suite in SUITES:
        if chosen.module in (None, suite.module):
            worst = max(worst, _in_a_fork(suite, chosen.most, chosen.seed))
    return worst


def _in_a_fork(suite: Suite, most: int, seed: int) -> int:
    """What one module's tests import is not there for the next one's."""
    child = os.fork()
    if child == 0:
        status = 2
        try:
            running.warm_up(suite.module, suite.tests)
            status = measure(suite, most, seed)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def measure(suite: Suite, most: int, seed: int) -> int:
    """Run the mutants of one module and print what survived; 1 where that is too much."""
    source = Path(suite.module).read_text(encoding="utf-8")
    plain = compile(source, suite.module, "exec", dont_inherit=True)
    found, seconds = running.outcome(suite.module, plain, suite.tests, 600.0)
    if found != running.UNNOTICED:
        print(f"{suite.module}: its tests do not pass as it is; run pytest {' '.join(suite.tests)} first.")
        return 2
    every = list(mutants(source, suite.module, suite.functions))
    places = sorted(random.Random(seed).sample(range(len(every)), min(most, len(every))))
    known = _equivalent(suite.module)
    results: Counter[str] = Counter()
    wrongly = 0
    for mutant in (every[place] for place in places):
        state, _ = running.outcome(suite.module, mutant.code, suite.tests, 5.0 + 4 * seconds)
        reason = known.get((mutant.function, mutant.before, mutant.after))
        results[state if state != running.UNNOTICED or reason is None else "equivalent"] += 1
        if state == running.UNNOTICED:
            print(f"{suite.module}:{mutant}" + (f"\n    equivalent: {reason}" if reason else ""), flush=True)
        elif reason is not None:
            wrongly += 1
            print(f"{suite.module}:{mutant}\n    is listed as equivalent and was noticed", flush=True)
    return _report(suite, results, len(every), seconds) or int(wrongly > 0)


def _report(suite: Suite, results: Counter[str], made: int, seconds: float) -> int:
    tried, equivalent = results.total(), results["equivalent"]
    killed = results[running.NOTICED] + results[running.TIMED_OUT]
    raw, rest = killed / tried, killed / max(1, tried - equivalent)
    print(
        f"{suite.module}: {tried} of {made} mutants, {killed} killed ({results[running.TIMED_OUT]} by time), "
        f"{tried - killed} survived ({equivalent} equivalent): {raw:.1%} raw, {rest:.1%} without the "
        f"equivalent; the tests take {seconds:.1f} s",
        flush=True,
    )
    return int(raw < ENOUGH)


def _equivalent(module: str) -> dict[tuple[str, str, str], str]:
    listed = json.loads(EQUIVALENT.read_text(encoding="utf-8")).get(module, [])
    return {(item["function"], item["before"], item["after"]): item["reason"] for item in listed}


if __name__ == "__main__":
    sys.exit(main())
