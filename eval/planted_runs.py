"""Runs over the planted networks, made or found, with the truth of their units."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

import labeler
from labeler.builtin import planted
from labeler.checks import CHECKS, Calibration, shipped
from labeler.config_file import load_config
from labeler.errors import UsageError
from labeler.records import UnitId, UnitRecord
from labeler.resources import resource_directory
from labeler.run_directory import read_run
from labeler.terminal import TerminalReporter

from .arguments import SuiteParser
from .rightness import Truth
from .timing import say

CONFIG = "planted.yaml"
GROUPS = {
    "fitted": planted.FITTED, "looked-at": planted.LOOKED_AT, "held-out": planted.HELD_OUT,
    "all": planted.PLANTED,
}  # fmt: skip
"""Networks by what may be done with them: tables for others come from those held out."""


@dataclass(frozen=True)
class PlantedRun:
    """One network, labelled: its directory, its units' truth and their records, the probe and the judges."""

    name: str
    probe: str
    judges: tuple[str, ...]
    run: Path
    truth: dict[UnitId, Truth]
    records: dict[UnitId, UnitRecord]


class PlantedParser(SuiteParser):
    """The options of all suites over planted networks: which, changes of the config, what is left out."""

    def __init__(self, suite: str, description: str, networks: str = "held-out") -> None:
        super().__init__(suite, description)
        self.add_argument("--networks", choices=list(GROUPS), default=networks, help="which to label")
        self.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", help="replace a config value"
        )
        self.add_argument(
            "--without", nargs="+", default=[], choices=CHECKS, metavar="CHECK",
            help="leave these checks out of the gate, as if they did not apply",
        )  # fmt: skip

    def add_calibration(self) -> None:
        """The option to measure another calibration than the shipped."""
        self.add_argument("--calibration", type=Path, metavar="FILE", help="of: labeler eval calibrate")


def calibration_of(file: Path | None) -> Calibration:
    """The calibration in a file, the shipped one where there is none.

    Raises:
        UsageError: when the file is not a calibration.
    """
    if file is None:
        return shipped()
    try:
        return Calibration.model_validate_json(file.read_bytes())
    except (OSError, ValidationError):
        raise UsageError(f"--calibration: {file} is not what `labeler eval calibrate` writes.") from None


@contextmanager
def place_of(suite: str, run: Path | None) -> Iterator[Path]:
    """Where a suite's runs are made: `run`, or a temporary directory."""
    with tempfile.TemporaryDirectory(prefix=f"labeler-{suite}-") as temporary:
        yield run or Path(temporary)


def planted_truth(name: str) -> dict[UnitId, Truth]:
    """The truth of a planted network as the suites use it; duplicates are singles that have a twin."""
    return {
        UnitId(planted.LAYER, unit.index): Truth(_label(unit), unit.terms, unit.kind)
        for unit in planted.truth(name)
    }


def _label(unit: planted.PlantedUnit) -> str:
    if unit.kind == "not":
        return f"not {unit.terms[0]}"
    return {"or": " or ", "and": " and ", "context": " and "}.get(unit.kind, " ").join(unit.terms)


def planted_runs(
    names: Sequence[str], place: Path, settings: Sequence[str], config: Path | None
) -> Iterator[PlantedRun]:
    """Label each network into ``place/NAME``; a run that is there already is gone on with, or just read."""
    for name in names:
        say(f"{name} ...")
        chosen = (f"target.model=builtin:{name}", *settings)
        loaded = load_config(config or resource_directory("configs") / CONFIG, chosen)
        with (
            TerminalReporter() as reporter,
            labeler.run(loaded, place / name, reporter=reporter) as catalogue,
        ):
            records = {record.id: record for record in catalogue}
        stored = read_run(place / name)
        judges, truth = tuple(loaded.encoder.judge), planted_truth(name)
        yield PlantedRun(name, stored["probe"]["name"], judges, place / name, truth, records)
