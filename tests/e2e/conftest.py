from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.toy_run import Outcome, labeler, run_toy, toy_config, write_config

ASKED = [f"colours:{i}" for i in range(8)] + [f"edges:{i}" for i in range(4)]
"""The units of the toy run."""


@dataclass(frozen=True)
class ToyRun:
    """A finished run of the toy network: its config, its directory and what the command printed."""

    config: Path
    run: Path
    outcome: Outcome


@pytest.fixture(scope="session")
def toy_run(tmp_path_factory: pytest.TempPathFactory) -> ToyRun:
    """12 units, 220 scenes. Tests read it and leave it as it is."""
    folder = tmp_path_factory.mktemp("toy")
    config = write_config(folder, toy_config())
    outcome = run_toy(config, folder / "run")
    assert outcome.code == 0, outcome.err
    return ToyRun(config, folder / "run", outcome)


@pytest.fixture(scope="session")
def listed(toy_run: ToyRun) -> list[dict[str, Any]]:
    """What ``labeler list`` says of all its units."""
    return list(labeler("list", toy_run.run, "--json").json)


@pytest.fixture(scope="session")
def shown(toy_run: ToyRun) -> dict[str, dict[str, Any]]:
    """What ``labeler show`` says of each."""
    return {unit: labeler("show", toy_run.run, unit, "--json").json for unit in ASKED}
