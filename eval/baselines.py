"""Our accepted labels, Network Dissection, SoftWPMI and INVERT side by side on the same units of one run.

Accuracy where the truth is known (``--truth``), by the rules of `rightness`; simulation correlation on
held-out images by a judge that no method used. Each at matched coverage: our labels abstain, so every method
is taken with as many units as the one that labels fewest, those of which it is most confident. All baselines
look at the `propose` split only, as our proposers do: Network Dissection and INVERT at its annotations,
SoftWPMI at the exemplars, words and encoder of the run. Intervals are bootstrap over units, 95 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from labeler.builtin.planted import PLANTED
from labeler.checks import Judge
from labeler.errors import UsageError
from labeler.records import UnitId
from labeler.report.text import table
from labeler.suites import Result

from .arguments import SuiteParser
from .bootstrap import Mean, bootstrap_mean, figures_of
from .claims import METHODS, Claims, collect
from .opened import OpenedRun, open_run
from .planted_runs import planted_truth
from .rightness import NO_LABEL, Similarity, Truth, read_truth, right
from .scoring import Scored, comparison_table, matched, simulate, smallest, unused_judge
from .sentences import sentence_similarity
from .simulation import add_comparison_arguments


def main(arguments: Sequence[str], *, config: Path | None = None, run: Path | None = None) -> Result:
    """Compare the methods on the run `run`; `config` is not used: a run carries its own."""
    parser = SuiteParser("baselines", "Our labels and three published methods on the same units.")
    add_comparison_arguments(parser, METHODS)
    parser.add_argument(
        "--truth", metavar="FILE", help="what each unit responds to, as JSON; or builtin:planted-N"
    )
    options = parser.parse_args(list(arguments))
    if options.truth is None and options.judge is None:
        parser.error("give --truth FILE, --judge MODEL, or both")
    truth = _truth(options.truth) if options.truth is not None else {}
    opened = open_run(run, "baselines", options.trust_code)
    if truth and not set(truth) & set(opened.units):
        raise UsageError(f"{options.truth} names no live unit of {run}, whose first is {opened.units[0]}.")
    judge = unused_judge(opened, options.judge, options.methods, "baselines") if options.judge else None
    similarity = sentence_similarity() if truth else None
    return evaluate(opened, options.methods, truth=truth, judge=judge, similarity=similarity)


def _truth(source: str) -> Mapping[UnitId, Truth]:
    name = source.removeprefix("builtin:")
    return (
        planted_truth(name) if source.startswith("builtin:") and name in PLANTED else read_truth(Path(source))
    )


def evaluate(
    opened: OpenedRun,
    methods: Sequence[str],
    *,
    truth: Mapping[UnitId, Truth],
    judge: Judge | None,
    similarity: Similarity | None,
) -> Result:
    """The suite's result for an opened run: what `truth` and `judge` allow."""
    claims = collect(opened, methods)
    means: dict[str, Mean] = {}
    parts = [opened.describe()]
    if truth:
        found, text = _accuracy(
            claims, {u: t for u, t in truth.items() if u in set(opened.units)}, similarity
        )
        means |= found
        parts.append(text)
    if judge is not None:
        scores = {name: simulate(opened, judge, own) for name, own in claims.items()}
        means |= {f"simulation.{name}": mean for name, mean in matched(scores).items()}
        parts.append(f"judge: {judge.name}, which no method used; test images only")
        parts.append(comparison_table(claims, scores, "correlation"))
    figures, intervals = figures_of(means)
    parts.append("means over units, 95 % bootstrap intervals over units")
    return Result("baselines", len(opened.units), figures, "\n\n".join(parts), intervals)


def _accuracy(
    claims: Mapping[str, Claims], truth: Mapping[UnitId, Truth], similarity: Similarity | None
) -> tuple[dict[str, Mean], str]:
    """Share of right labels: at matched coverage (by name; by similarity) and over all units.

    Over all units an unlabelled unit counts as wrong. Units for which no label is right (decoys) are in none
    of these; they have a column of their own: how many of them are labelled.
    """
    units = sorted(unit for unit, known in truth.items() if known.labelled)
    rest = [unit for unit, known in truth.items() if known.kind in NO_LABEL]
    by_name = {name: _marks(own, units, truth, None) for name, own in claims.items()}
    by_text = {name: _marks(own, units, truth, similarity) for name, own in claims.items()}
    equal, near = matched(by_name), matched(by_text)
    whole = {n: bootstrap_mean([m[u].value if u in m else 0.0 for u in units]) for n, m in by_name.items()}
    means = {f"accuracy.{name}": mean for name, mean in equal.items()}
    means |= {f"accuracy_similar.{name}": mean for name, mean in near.items()}
    means |= {f"accuracy_all.{name}": mean for name, mean in whole.items()}
    least = smallest(by_name)
    header = (
        "method",
        "labelled",
        f"right, best {least}",
        "by similarity",
        f"of all {len(units)}",
        "no-label units",
    )
    rows = [
        (
            name, str(len(marks)), str(equal[name]), str(near[name]), str(whole[name]),
            f"{sum(unit in claims[name] for unit in rest)} of {len(rest)} labelled",
        )
        for name, marks in by_name.items()
    ]  # fmt: skip
    return means, f"{table(header, rows)}\n\n{_by_kind(by_name, truth, units)}"


def _marks(
    claims: Claims, units: Sequence[UnitId], truth: Mapping[UnitId, Truth], similarity: Similarity | None
) -> dict[UnitId, Scored]:
    return {
        unit: Scored(claims[unit].confidence, float(right(claims[unit], truth[unit], similarity)))
        for unit in units
        if unit in claims
    }


def _by_kind(
    marks: Mapping[str, Mapping[UnitId, Scored]], truth: Mapping[UnitId, Truth], units: Sequence[UnitId]
) -> str:
    kinds = sorted({truth[unit].kind for unit in units})
    rows = []
    for name, own in marks.items():
        cells = [[own[u].value for u in units if u in own and truth[u].kind == kind] for kind in kinds]
        rows.append((name, *(f"{int(np.sum(cell))} of {len(cell)}" if cell else "none" for cell in cells)))
    return table(("right of labelled", *kinds), rows)
