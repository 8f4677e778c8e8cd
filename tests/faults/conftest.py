from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.kills import Bench, bench


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """An undisturbed run, and what it takes to make it again and again."""
    with bench(tmp_path_factory.mktemp("faults")) as found:
        yield found
