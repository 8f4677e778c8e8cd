"""One served run of ordinary and hostile units. Tests leave it as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browsing import browser
from tests.report.catalogues import some_tiles, units, write_run
from tests.report.conftest import EACH, hostile_unit
from tests.report.hostile import HOSTILE
from tests.serve.serving import Server, serving

__all__ = ["browser"]
EXPECTED = 500
"""Units that the run is to label; not all have a verdict yet."""


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "run"
    tiles = some_tiles(folder / "images")
    hostile = [hostile_unit(index, tiles[0]) for index in range(-(-len(HOSTILE) // EACH))]
    records = [*units("early.1", 70, tiles), *units("late/2", 60, tiles), *hostile]
    return write_run(folder, records, EXPECTED)


@pytest.fixture(scope="session")
def server(run: Path) -> Iterator[Server]:
    with serving(run) as found:
        yield found
