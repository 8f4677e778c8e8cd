"""Fit the gate's calibration on planted networks, and write it.

What it is fitted on is what `gate` measures, from other networks: the labels that the proposers came up
with, and the confusables of every truth. Each pair counts once for every pattern of checks that a run may
have: as it is, without pictures, without masks, and judged by the image-text model alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from labeler.checks import Calibration
from labeler.checks.calibration import Domain, Example, fit
from labeler.report.text import table
from labeler.storage import write_atomic
from labeler.suites import Result

from .gate_pairs import Pair, pairs_of
from .planted_runs import GROUPS, PlantedParser, place_of, planted_runs
from .removal import left_out

PICTURES, MASKS = ("synthetic", "agreement"), ("iou", "location", "intervention")
LACKING = tuple(
    (*pictures, *masks, *top)
    for pictures in ((), PICTURES)
    for masks in ((), ("intervention",), MASKS)
    for top in ((), ("auprc",))
)
"""Checks that a run may lack: its pictures cannot be read; there are no masks, or none altered; too few
images lie above a unit's 99th percentile."""


def main(arguments: Sequence[str], *, config: Path | None = None, run: Path | None = None) -> Result:
    """Fit on planted networks labelled into `run`, and write the calibration to ``--out``."""
    parser = PlantedParser("calibrate", "Fit the gate where the truth is known.", "fitted")
    parser.add_argument(
        "--out", type=Path, default=Path("gate.json"), metavar="FILE", help="where to write it"
    )
    options = parser.parse_args(list(arguments))
    names = GROUPS[options.networks]
    examples: list[Example] = []
    pairs: list[Pair] = []
    probe, judges = "", ()
    with place_of("calibrate", run) as place:
        for item in planted_runs(names, place, options.set, config):
            probe, judges = item.probe, item.judges
            own = [pair.without(options.without) for pair in pairs_of(item)]
            pairs += own
            examples += variants(own)
            image_text = tuple(judge for judge in judges if judge != "annotations")
            if image_text and image_text != judges:
                examples += variants([pair.without(options.without) for pair in pairs_of(item, image_text)])
    domain = Domain(
        target="builtin:planted-", probe=probe, judges=judges, fitted_on=f"builtin:{', builtin:'.join(names)}"
    )
    calibration = fit(examples, domain)
    write_atomic(options.out, (calibration.model_dump_json(indent=1) + "\n").encode())
    return Result(
        "calibrate",
        len({(p.network, str(p.unit)) for p in pairs}),
        {},
        _text(calibration, pairs, options.out),
    )


def variants(pairs: Sequence[Pair]) -> list[Example]:
    """Every pair as it would look in runs that lack some checks, each pattern once."""
    return [example for pair in pairs for example in _variants(pair)]


def _variants(pair: Pair) -> Iterator[Example]:
    seen = set()
    for names in LACKING:
        checks = left_out(pair.checks, names)
        key = tuple(sorted(name for name, check in checks.items() if check.status == "ok"))
        if key not in seen:
            seen.add(key)
            yield Example(checks, pair.right)


def _text(calibration: Calibration, pairs: Sequence[Pair], out: Path) -> str:
    rows = [
        (name, f"{weight:.3f}", f"{calibration.missing[name]:.3f}")
        for name, weight in calibration.weights.items()
    ]
    lines = [
        f"{len(pairs)} pairs, {sum(pair.right for pair in pairs)} right; {calibration.domain.fitted_on}",
        table(("feature", "weight", "where missing"), rows),
        f"intercept {calibration.intercept:.3f}; {len(calibration.patterns)} patterns",
        f"written to {out}",
    ]
    return "\n".join(lines)
