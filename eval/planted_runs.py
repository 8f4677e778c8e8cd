"""Runs over the planted networks, made or found, with the truth of their units."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import labeler
from labeler.builtin import planted
from labeler.config_file import load_config
from labeler.records import UnitId, UnitRecord
from labeler.resources import resource_directory
from labeler.run_directory import read_run
from labeler.terminal import TerminalReporter

from .rightness import Truth
from .timing import say

CONFIG = "planted.yaml"
GROUPS = {"fitted": planted.FITTED, "held-out": planted.HELD_OUT, "all": planted.PLANTED}
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
