"""Whether the checks tell somebody else's right labels from wrong ones.

Two files of labels for a finished run of a planted network go through `labeler.import_labels`: the truth of
its units, and the same labels shuffled among them, so that none says anything of the unit it is given to. A
unit counts where its truth is known and is a label.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import labeler
from labeler.errors import UsageError
from labeler.records import UnitId
from labeler.report.text import table
from labeler.run_directory import read_run
from labeler.storage import hash_order
from labeler.suites import Result
from labeler.terminal import TerminalReporter

from .arguments import SuiteParser
from .bootstrap import Mean, bootstrap_mean, figures_of
from .planted_runs import planted_truth
from .rightness import Truth

_OPS = {"or": "or", "and": "and", "context": "and", "not": "not"}


def main(arguments: Sequence[str], *, config: Path | None = None, run: Path | None = None) -> Result:
    """Import both files into directories that go again, and say what share of each was accepted."""
    parser = SuiteParser("imported", "Right and wrong labels made elsewhere, judged by a planted run.")
    parser.add_argument("--seed", type=int, default=0, help="of the shuffle")
    options = parser.parse_args(list(arguments))
    if run is None:
        raise UsageError("The suite imported needs a finished run: labeler eval imported --run RUN.")
    name = read_run(run)["config"]["target"]["model"].removeprefix("builtin:")
    if not name.startswith("planted-"):
        raise UsageError(f"{run} is not a run of a planted network; make one with configs/planted.yaml.")
    truth = {unit: found for unit, found in planted_truth(name).items() if found.labelled}
    files = {"right": truth, "wrong": shuffled(truth, options.seed)}
    accepted = {what: _accepted(run, labels, truth) for what, labels in files.items()}
    return _summarise(name, truth, accepted)


def shuffled(truth: Mapping[UnitId, Truth], seed: int) -> dict[UnitId, Truth]:
    """Each unit's truth replaced by that of the next unit, in a hash order, that shares no term with it."""
    units = list(truth)
    order = hash_order([str(unit) for unit in units], seed, "wrong labels")
    left = [truth[units[place]] for place in order]
    found = {}
    for unit in units:
        chosen = next((other for other in left if not set(other.terms) & set(truth[unit].terms)), None)
        if chosen is not None:
            left.remove(chosen)
            found[unit] = chosen
    return found


def write_labels(path: Path, labels: Mapping[UnitId, Truth]) -> None:
    """A JSONL file of one label for each unit; compounds with their terms."""
    rows = []
    for unit, found in labels.items():
        op = _OPS.get(found.kind)
        formula = {} if op is None else {"op": op, "terms": list(found.terms)}
        rows.append(json.dumps({"unit": str(unit), "label": found.label, **formula}))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def _accepted(run: Path, labels: Mapping[UnitId, Truth], truth: Mapping[UnitId, Truth]) -> dict[UnitId, bool]:
    with tempfile.TemporaryDirectory(prefix="labeler-imported-", dir=run.parent) as temporary:
        write_labels(Path(temporary) / "labels.jsonl", labels)
        with TerminalReporter() as reporter:
            made = labeler.import_labels(
                Path(temporary) / "labels.jsonl", run, Path(temporary) / "run", reporter=reporter
            )
        with labeler.Catalogue.open(made.run) as catalogue:
            found = {unit.unit: bool(unit.labels) for unit in catalogue.listed()}
    return {unit: found[str(unit)] for unit in truth if unit in labels}


def _summarise(
    name: str, truth: Mapping[UnitId, Truth], accepted: Mapping[str, Mapping[UnitId, bool]]
) -> Result:
    kinds = sorted({found.kind for found in truth.values()})
    rows = [
        (
            kind,
            *(
                _count([yes for unit, yes in found.items() if truth[unit].kind == kind])
                for found in accepted.values()
            ),
        )
        for kind in kinds
    ]
    means: dict[str, Mean] = {
        f"{what}_accepted": bootstrap_mean([float(yes) for yes in found.values()])
        for what, found in accepted.items()
    }
    lines = [
        f"{name}: {len(truth)} units whose truth is a label; 95 % intervals over units.",
        table(("the unit is", *(f"{what} labels accepted" for what in accepted)), rows),
        "",
        *(f"{what}: {mean}, {mean.count} labels" for what, mean in means.items()),
    ]
    figures, intervals = figures_of(means)
    return Result("imported", len(truth), figures, "\n".join(lines), intervals)


def _count(accepted: Sequence[bool]) -> str:
    return f"{sum(accepted)} of {len(accepted)}"
