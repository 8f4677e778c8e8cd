"""The evaluation suites: what measures the labeller itself, found by name and run.

The modules lie in ``eval/`` beside the package in a checkout and in ``labeler/_eval`` in a wheel; both load
as ``labeler._eval``, so that neither clashes with anybody's ``eval``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from labeler.errors import LabelerError, UnknownNameError
from labeler.resources import resource_directory

SUITES = {
    "asking": "how long asking a model about 1,000 units takes, against the answers' own time",
    "attack": "what is seen of networks that were made to mislead, and what each acceptance believes of them",
    "baselines": "our labels, Network Dissection, SoftWPMI and INVERT side by side on the units of a run",
    "calibrate": "fit the gate on planted networks, and write its calibration",
    "control": "the same architecture with random weights: how many of its units are accepted",
    "cosy": "whether units fire more on images of their labels than on others: AUC and MAD",
    "facets": "whether the facets of units for two concepts are these, and their pictures show one each",
    "gate": "whether the gate tells right labels from wrong ones, and its probabilities are true",
    "imported": "somebody else's right and wrong labels, judged by a planted run",
    "known": "the outputs of a classifier against the names of their classes",
    "memory": "the pass's peak memory: whether it grows with the images, and how many units fit",
    "planted": "label accuracy by kind of unit, on networks whose units' truth is known",
    "rounds": "what each round of refinement buys, against a control that is shown no failing images",
    "sanity": "the missing-label and extra-label tests on every check",
    "scale": "how long a catalogue of 100,000 units takes to search, list, report on and open",
    "simulation": "label-predicted against real activation on held-out images, by a judge nobody used",
    "speed": "each part against a plain loop that does the same, in one run",
    "vlm": "the whole loop on the demo's units with a language model, or with its recorded answers",
}
"""Suites by name, with what they measure. Each is the module ``eval/NAME.py`` with a function ``main``."""

_PACKAGE = "labeler._eval"


@dataclass(frozen=True)
class Result:
    """What a suite found.

    Attributes:
        suite: its name.
        units: how many units the figures speak of.
        figures: the numbers that it promises, by name; None where one could not be measured.
        intervals: (low, high) of figures; the suite's text says of what kind.
        text: the tables for people.
    """

    suite: str
    units: int
    figures: dict[str, float | None]
    text: str
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The object that ``labeler eval NAME --json`` prints."""
        intervals = {name: list(ends) for name, ends in self.intervals.items()}
        return {"suite": self.suite, "units": self.units, "figures": self.figures, "intervals": intervals}


def run_suite(
    name: str, arguments: Sequence[str] = (), *, config: Path | None = None, run: Path | None = None
) -> Result:
    """Run a suite.

    Args:
        name: one of `SUITES`.
        arguments: the suite's own command line.
        config: what to evaluate; the suite has a default.
        run: where the suite keeps its runs, or an existing run that it evaluates.

    Raises:
        UnknownNameError: when there is no such suite.
        LabelerError: whatever the suite cannot do, in one sentence.
    """
    if name not in SUITES:
        raise UnknownNameError("evaluation suite", name, SUITES)
    result = suite_module(name).main(list(arguments), config=config, run=run)
    if not isinstance(result, Result):
        raise LabelerError(f"The evaluation suite {name} gave no result; install labeler again.")
    return result


def suite_module(name: str) -> ModuleType:
    """A module of the evaluation package."""
    if _PACKAGE not in sys.modules:
        _load_package(resource_directory("eval"))
    return importlib.import_module(f"{_PACKAGE}.{name}")


def _load_package(directory: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        _PACKAGE, directory / "__init__.py", submodule_search_locations=[str(directory)]
    )
    if spec is None or spec.loader is None or not (directory / "__init__.py").is_file():
        raise LabelerError(f"{directory} holds no evaluation suites; install labeler again.")
    package = importlib.util.module_from_spec(spec)
    sys.modules[_PACKAGE] = package
    spec.loader.exec_module(package)
