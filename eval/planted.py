"""How right the labels are where the truth is known: planted networks, by kind of unit.

A unit is right when its accepted labels say what it was trained to do (`rightness.right`): of two accepted
labels both count. Intervals are bootstraps over networks and, within each, over units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from labeler.report.text import table
from labeler.suites import Result

from .bootstrap import Mean, figures_of, nested_mean
from .claims import Claim
from .opened import ACCEPTED
from .planted_runs import GROUPS, PlantedParser, PlantedRun, calibration_of, place_of, planted_runs
from .removal import ungated, without
from .rightness import UNKNOWN, Similarity, right
from .sentences import sentence_similarity

FIGURES = {
    "single_right": (("single", "duplicate"), "right of accepted"),
    "or_right": (("or",), "right of accepted"),
    "and_not_right": (("and", "not"), "right of accepted"),
    "single_accepted": (("single", "duplicate"), "accepted"),
    "decoys_accepted": (("decoy",), "accepted"),
    "dead_found": (("dead",), "dead"),
    "context_right": (("context",), "right of accepted"),
}
"""What each figure counts: the kinds of units, and the share of them."""


@dataclass(frozen=True)
class Outcome:
    """What became of one unit."""

    network: str
    kind: str
    verdict: str
    right: bool
    similar: bool
    text: str
    truth: str

    @property
    def accepted(self) -> bool:
        """Whether it has a label."""
        return self.verdict in ACCEPTED


def main(arguments: Sequence[str], *, config: Path | None = None, run: Path | None = None) -> Result:
    """Label the networks into `run` (or a temporary directory) and compare with their truth."""
    parser = PlantedParser("planted", "Label accuracy where the truth is known.")
    parser.add_argument("--wrong", action="store_true", help="list the accepted labels that are wrong")
    parser.add_calibration()
    options = parser.parse_args(list(arguments))
    similarity = sentence_similarity()
    outcomes: list[Outcome] = []
    free: list[Outcome] = []
    with place_of("planted", run) as place:
        for item in planted_runs(GROUPS[options.networks], place, options.set, config):
            free += outcomes_of(ungated(item), similarity)
            if options.without or options.calibration:
                item = without(item, options.without, calibration_of(options.calibration))
            outcomes += outcomes_of(item, similarity)
    found = summarise(outcomes, wrong=options.wrong)
    without_gate = f"Without the gate, the best label of every unit:\n{_table(free)}"
    return replace(found, text=f"{found.text}\n\n{without_gate}")


def outcomes_of(item: PlantedRun, similarity: Similarity | None) -> list[Outcome]:
    """Every unit of one network whose truth is known."""
    found = []
    for unit, truth in item.truth.items():
        if truth.kind == UNKNOWN or unit not in item.records:  # some units alone may have been asked for
            continue
        record = item.records[unit]
        claim = Claim.of_labels(record.labels) if record.labels else None
        exact = claim is not None and right(claim, truth)
        similar = exact or (claim is not None and right(claim, truth, similarity))
        text = claim.text if claim is not None else ""
        found.append(Outcome(item.name, truth.kind, record.verdict, exact, similar, text, truth.label))
    return found


def summarise(outcomes: Sequence[Outcome], *, wrong: bool = False) -> Result:
    """The suite's result from what became of every unit."""
    means = {name: _share(outcomes, kinds, what) for name, (kinds, what) in FIGURES.items()}
    networks = sorted({outcome.network for outcome in outcomes})
    lines = [f"{', '.join(networks)}: {len(outcomes)} units", _table(outcomes), ""]
    lines += [f"{name}: {mean}, {mean.count} units" for name, mean in means.items()]
    if wrong:
        lines += [
            f"{o.network} {o.kind}: {o.text!r}, the truth is {o.truth!r}"
            for o in outcomes
            if o.accepted and not o.right
        ]
    figures, intervals = figures_of(means)
    return Result("planted", len(outcomes), figures, "\n".join(lines), intervals)


def _table(outcomes: Sequence[Outcome]) -> str:
    kinds = list(dict.fromkeys(kind for group, _ in FIGURES.values() for kind in group))
    rows = [_row(kind, [outcome for outcome in outcomes if outcome.kind == kind]) for kind in kinds]
    header = ("kind", "units", "accepted", "right", "right by similar words", "dead", "rejected", "no label")
    return table(header, rows)


def _share(outcomes: Sequence[Outcome], kinds: Sequence[str], what: str) -> Mean:
    chosen = [outcome for outcome in outcomes if outcome.kind in kinds]
    if what == "right of accepted":
        chosen = [outcome for outcome in chosen if outcome.accepted]
    counted = {"right of accepted": "right", "accepted": "accepted"}
    values = [
        float(outcome.verdict == "dead" if what == "dead" else getattr(outcome, counted[what]))
        for outcome in chosen
    ]
    names = sorted({outcome.network for outcome in chosen})
    groups = [
        np.array([v for v, outcome in zip(values, chosen, strict=True) if outcome.network == name])
        for name in names
    ]
    return nested_mean(groups)


def _row(kind: str, outcomes: Sequence[Outcome]) -> tuple[str, ...]:
    accepted = [outcome for outcome in outcomes if outcome.accepted]
    numbers = (
        len(outcomes), len(accepted), sum(outcome.right for outcome in accepted),
        sum(outcome.similar for outcome in accepted), sum(o.verdict == "dead" for o in outcomes),
        sum(o.verdict == "rejected" for o in outcomes),
        sum(o.verdict in ("uninterpretable", "abstained", "failed") for o in outcomes),
    )  # fmt: skip
    return (kind, *map(str, numbers))
