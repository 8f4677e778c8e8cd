"""Simulation: does what a judge sees of the label tell how strongly the unit fires on held-out images?

The correlation of label-predicted with real activation (Oikarinen & Weng 2024, "Linear Explanations", sec. 4,
of one label), by a judge that no method used. Our method abstains, so methods are compared at an equal number
of units, each with those of which it is most confident, and on the units that all of them label. Intervals
are bootstrap over units, 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from labeler.checks import Judge
from labeler.suites import Result

from .arguments import SuiteParser
from .bootstrap import Mean, figures_of
from .claims import METHODS, collect
from .opened import OpenedRun, open_run
from .scoring import comparison_table, matched, simulate, unused_judge


def main(arguments: Sequence[str], *, config: Path | None = None, run: Path | None = None) -> Result:
    """Score the labels of the run `run`; `config` is not used: a run carries its own."""
    parser = SuiteParser("simulation", "Label-predicted against real activation on held-out images.")
    add_comparison_arguments(parser, METHODS)
    options = parser.parse_args(list(arguments))
    opened = open_run(run, "simulation", options.trust_code)
    judge = unused_judge(opened, options.judge, options.methods, "simulation")
    return evaluate(opened, judge, options.methods)


def add_comparison_arguments(parser: SuiteParser, methods: Sequence[str]) -> None:
    """The flags of every suite that compares methods."""
    parser.add_argument("--judge", metavar="MODEL", help="an image-text model that took no part")
    parser.add_argument(
        "--methods", nargs="+", choices=methods, default=list(methods), help="who is compared"
    )
    parser.add_argument(
        "--trust-code", action="append", type=Path, default=[], metavar="FILE", help="as in: labeler run"
    )


def evaluate(opened: OpenedRun, judge: Judge, methods: Sequence[str]) -> Result:
    """The suite's result for an opened run; `correlation` is that of our accepted labels."""
    claims = collect(opened, methods)
    scores = {name: simulate(opened, judge, own) for name, own in claims.items()}
    means = matched(scores)
    figures, intervals = figures_of(
        {
            "correlation": means.get("ours", Mean(None, None, 0)),
            **{f"correlation.{n}": m for n, m in means.items()},
        }
    )
    head = f"{opened.describe()}\njudge: {judge.name}, which no method used; test images only"
    tail = "correlation: mean over units, 95 % bootstrap interval over units"
    return Result(
        "simulation",
        len(scores.get("ours", {})),
        figures,
        f"{head}\n\n{comparison_table(claims, scores, 'correlation')}\n\n{tail}",
        intervals,
    )
