"""How well the gate tells right labels from wrong ones where the truth is known: planted networks.

The pairs are the labels that the proposers themselves came up with, right and wrong, and for every unit the
concepts that its truth is most easily taken for: those that come with it in the same scenes (wholes and
parts among them) and its nearest siblings of the same category. Every pair is checked on `test` as the run's
own labels are. Intervals are bootstraps over networks and, within each, over pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeler.checks import Calibration, expected_precision_cut
from labeler.checks.features import features
from labeler.report.text import table
from labeler.suites import Result

from .bootstrap import nested_statistic
from .gate_pairs import Pair, pairs_of
from .planted_runs import GROUPS, PlantedParser, calibration_of, place_of, planted_runs

REQUESTS = (0.8, 0.9, 0.95)
ALONE = (
    "prediction", "iou", "agreement", "rivals", "location", "auprc", "real", "intervention", "synthetic",
)  # fmt: skip
BINS = 10
Floats = NDArray[np.float64]
Rows = NDArray[np.float64]  # (n, 2): the score or probability, and 1 where the label is right


def main(arguments: Sequence[str], *, config: Path | None = None, run: Path | None = None) -> Result:
    """Measure the shipped calibration, or another, on planted networks labelled into `run`."""
    parser = PlantedParser("gate", "Whether the gate tells right labels from wrong ones.")
    parser.add_calibration()
    options = parser.parse_args(list(arguments))
    calibration = calibration_of(options.calibration)
    with place_of("gate", run) as place:
        runs = planted_runs(GROUPS[options.networks], place, options.set, config)
        pairs = [pair.without(options.without) for item in runs for pair in pairs_of(item)]
    return summarise(pairs, calibration)


def summarise(pairs: Sequence[Pair], calibration: Calibration) -> Result:
    """The suite's result for pairs whose truth is known."""
    lines = [
        f"{len({p.network for p in pairs})} networks, {len(pairs)} pairs, {sum(p.right for p in pairs)} right"
    ]
    scores = _grouped(pairs, lambda pair: calibration.score(pair.checks))
    probable = _grouped(pairs, lambda pair: calibration.probability(pair.checks))
    found: dict[str, tuple[float, tuple[float, float] | None]] = {
        "auc": nested_statistic(scores, _auc),
        "ece": nested_statistic(probable, _calibration_error),
    }
    for request in REQUESTS:
        name = f"precision_at_{round(100 * request)}"
        found[name] = nested_statistic(probable, lambda rows, request=request: _precision(rows, request))
    for name in ALONE:
        rows = _grouped(pairs, lambda pair, name=name: features(pair.checks).get(name))
        if any(len(set(group[:, 1])) > 1 for group in rows):
            found[f"auc_{name}"] = nested_statistic(rows, _auc)
    figures = {name: value for name, (value, _) in found.items()}
    intervals = {name: ends for name, (_, ends) in found.items() if ends is not None}
    cells = [
        (name, f"{v:.3f}", "" if e is None else f"{e[0]:.3f} to {e[1]:.3f}") for name, (v, e) in found.items()
    ]
    lines += [table(("figure", "value", "95 %"), cells), "", "Reliability (probability: said, right, pairs)"]
    everything = np.concatenate(probable)
    lines += [f"{said:.2f}  {right:.2f}  {count}" for said, right, count in reliability(everything)]
    lines += ["", "Precision and coverage of right labels, by cut"]
    lines += [
        f"{cut:.2f}  {precision:.3f}  {coverage:.3f}"
        for cut, precision, coverage in precision_coverage(everything)
    ]
    lines.append(f"{sum(len(group) for group in probable)} pairs have a probability.")
    return Result(
        "gate", len({(p.network, str(p.unit)) for p in pairs}), figures, "\n".join(lines), intervals
    )


def _grouped(pairs: Sequence[Pair], value: Callable[[Pair], float | None]) -> list[Rows]:
    """Values and truth by network; pairs without a value are left out."""
    groups = []
    for name in sorted({pair.network for pair in pairs}):
        own = [(value(pair), float(pair.right)) for pair in pairs if pair.network == name]
        groups.append(np.array([row for row in own if row[0] is not None], dtype=np.float64).reshape(-1, 2))
    return groups


def _auc(rows: Rows) -> float:
    """Chance that a right label scores above a wrong one; ties count half."""
    right, wrong = rows[rows[:, 1] > 0.5, 0], np.sort(rows[rows[:, 1] < 0.5, 0])
    if not len(right) or not len(wrong):
        return float("nan")
    below, up_to = np.searchsorted(wrong, right), np.searchsorted(wrong, right, side="right")
    return float((below + up_to).mean() / 2 / len(wrong))


def _calibration_error(rows: Rows) -> float:
    """Expected calibration error over bins of equally many pairs (Naeini, Cooper & Hauskrecht 2015)."""
    gaps = [(abs(said - right), count) for said, right, count in reliability(rows)]
    return sum(gap * count for gap, count in gaps) / max(1, sum(count for _, count in gaps))


def reliability(rows: Rows) -> list[tuple[float, float, int]]:
    """Mean probability, share of right labels and number of pairs in `BINS` bins of equally many pairs."""
    ordered = rows[np.argsort(rows[:, 0], kind="stable")]
    parts = [part for part in np.array_split(ordered, BINS) if len(part)]
    return [(float(part[:, 0].mean()), float(part[:, 1].mean()), len(part)) for part in parts]


def _precision(rows: Rows, request: float) -> float:
    """Share of right labels among those that the gate accepts when asked for this precision."""
    accepted = rows[rows[:, 0] >= expected_precision_cut(rows[:, 0].tolist(), request)]
    return float(accepted[:, 1].mean()) if len(accepted) else float("nan")


def precision_coverage(rows: Rows) -> list[tuple[float, float, float]]:
    """For cuts from 0.1 to 0.9: precision, and the share of all right labels that is accepted."""
    total = max(1.0, float(rows[:, 1].sum()))
    found = []
    for cut in np.arange(1, 10) / 10:
        accepted = rows[rows[:, 0] >= cut]
        if len(accepted):
            found.append((float(cut), float(accepted[:, 1].mean()), float(accepted[:, 1].sum()) / total))
    return found
