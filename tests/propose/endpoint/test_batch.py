"""The batch API: one round, one batch; results go the way of all answers."""

from __future__ import annotations

import pytest

from labeler.config import ProposeConfig
from labeler.errors import EndpointError, PausedError
from labeler.propose.endpoint import EndpointProposer, Limit, batch
from labeler.propose.endpoint.connect import make_exchange
from labeler.testing import MemoryLedger
from tests.propose.endpoint.batch_server import BatchServer, Line, answered
from tests.propose.endpoint.loopback import Endpoint, many


@pytest.fixture
def server(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> BatchServer:
    monkeypatch.setattr(batch, "QUIET", 0.1)
    monkeypatch.setattr(batch, "POLL", 0.02)
    return BatchServer(endpoint.server)


def proposer(server: BatchServer, ledger: MemoryLedger, limit: Limit | None = None) -> EndpointProposer:
    config = ProposeConfig(
        kind=("vlm",), model="toy", base_url=server.server.url_for("/v1"), batch=True, retries=1, timeout=5,
        sheet_side=512,
    )  # fmt: skip
    return EndpointProposer(config, make_exchange(config, ledger), ledger, limit)


def test_a_round_is_one_batch_and_its_answers_are_cached(server: BatchServer) -> None:
    ledger = MemoryLedger()
    found = list(proposer(server, ledger).propose_all(many(30)))
    assert [proposed.proposals[0].text for proposed in found] == ["dog"] * 30
    assert [len(requests) for requests in server.batches] == [30]
    assert server.live == 1  # what the endpoint understands is asked at once
    assert {line["custom_id"] for line in server.batches[0]} == set(ledger.answers)
    assert all(line["url"] == "/v1/chat/completions" for line in server.batches[0])
    assert sum(call.billing == "reported" for call in ledger.calls) == 31
    assert not any(note.startswith("batches") for note in ledger.notes)
    list(proposer(server, ledger).propose_all(many(30)))
    assert len(server.batches) == 1


def test_what_cannot_be_used_goes_out_together_again(server: BatchServer) -> None:
    seen: set[str] = set()

    def result(line: Line) -> Line:
        first = len(line["body"]["messages"]) == 1
        seen.add(line["custom_id"])
        return answered(line, "It is a dog.") if first and len(seen) % 3 == 0 else answered(line)

    server.result = result
    found = list(proposer(server, MemoryLedger()).propose_all(many(12)))
    assert all(proposed.proposals for proposed in found)
    assert [len(requests) for requests in server.batches] == [12, 4]


def test_lines_that_failed_or_are_missing_are_their_units_alone(server: BatchServer) -> None:
    def result(line: Line) -> Line | None:
        number = order.setdefault(line["custom_id"], len(order))
        return None if number == 0 else answered(line, status=400) if number == 1 else answered(line)

    order: dict[str, int] = {}
    server.result = result
    server.junk = b"not json\n\n" + b"[1]\n" + b"y" * 1_500_000 + b"\n"
    found = list(proposer(server, MemoryLedger()).propose_all(many(5)))
    causes = sorted(str(proposed.failure) for proposed in found if proposed.failure)
    assert len(causes) == 2
    assert "status 400" in causes[0]
    assert "ended as completed without this answer" in causes[1]
    assert sum(bool(proposed.proposals) for proposed in found) == 3
    assert [len(requests) for requests in server.batches] == [
        5,
        1,
    ]  # what is missing may be there another time


def test_a_batch_that_is_refused_stops_the_run(server: BatchServer) -> None:
    server.ends_as = "failed"
    with pytest.raises(EndpointError, match="refused the batch: a line is wrong") as caught:
        list(proposer(server, MemoryLedger()).propose_all(many(3)))
    assert not isinstance(caught.value, PausedError)


def test_a_run_that_stopped_finds_its_batch_again(server: BatchServer) -> None:
    """Stopped while it waited: the batch is not sent, and not paid for, twice."""
    import threading
    import time

    server.polls = 10**9
    ledger = MemoryLedger()
    found = proposer(server, ledger).propose_all(many(8))
    reader = threading.Thread(target=lambda: next(found, None), daemon=True)
    reader.start()
    deadline = time.monotonic() + 10
    while not any(note.startswith("batches") for note in ledger.notes):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    server.polls = 1
    again = list(proposer(server, ledger).propose_all(many(8)))
    assert all(proposed.proposals for proposed in again)
    assert [len(requests) for requests in server.batches] == [8]
    reader.join(timeout=10)


def test_a_large_round_goes_out_as_several_batches(
    server: BatchServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MOST_REQUESTS", 4)
    found = list(proposer(server, MemoryLedger()).propose_all(many(10)))
    assert all(proposed.proposals for proposed in found)
    assert sorted(len(requests) for requests in server.batches) == [2, 4, 4]


def test_a_budget_bounds_what_goes_out(server: BatchServer) -> None:
    ledger = MemoryLedger()
    with pytest.raises(PausedError, match="budget"):
        list(proposer(server, ledger, Limit(tokens=3000)).propose_all(many(50)))
    spent = ledger.spent()
    assert spent.input_tokens + spent.output_tokens <= 3000
    assert 1 <= sum(map(len, server.batches)) < 50
