from __future__ import annotations

from collections.abc import Iterator

import pytest
from pytest_httpserver import HTTPServer

from tests.propose.endpoint.loopback import Endpoint


@pytest.fixture(scope="session")
def threaded_server() -> Iterator[HTTPServer]:
    """Answers many requests at once."""
    with HTTPServer(threaded=True) as server:
        yield server


@pytest.fixture
def endpoint(threaded_server: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("labeler.propose.endpoint.pace.BACKOFF", (0.01, 0.05))
    yield Endpoint(threaded_server)
    threaded_server.clear()
