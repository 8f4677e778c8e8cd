from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.toy_run import Outcome, run_toy, toy_config, write_config


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
