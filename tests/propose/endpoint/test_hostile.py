"""Whatever a server does, a unit soon ends labelled, or failed with the right cause."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Iterator

import pytest
from werkzeug import Request, Response

from labeler.config import ProposeConfig
from labeler.errors import EndpointError
from labeler.propose.endpoint import EndpointProposer
from labeler.propose.endpoint.connect import make_exchange
from labeler.propose.schema import LONGEST
from labeler.seams import CallLedger
from labeler.testing import MemoryLedger
from tests.propose.endpoint.hostile import LONG, MISDEEDS, HostileServer, serving
from tests.propose.endpoint.loopback import GOOD, Endpoint, completion, evidence, many, problem, sheet

CANARY = "sk-canary-0123456789abcdef"


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostileServer]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("labeler.propose.endpoint.pace.BACKOFF", (0.01, 0.05))
    with serving() as server:
        yield server


def proposer(server: HostileServer, ledger: CallLedger, **settings: object) -> EndpointProposer:
    given = {"retries": 2, "timeout": 1.0, "candidates": 2, "concurrency": 16, **settings}
    config = ProposeConfig(kind=("vlm",), model="toy", base_url=server.url, **given)  # type: ignore[arg-type]
    return EndpointProposer(config, make_exchange(config, ledger), ledger)


def test_every_misdeed_ends_as_a_label_or_as_its_cause(hostile: HostileServer) -> None:
    ledger = MemoryLedger()
    start = time.monotonic()
    found = list(
        proposer(hostile, ledger).propose_all(
            evidence(picture=sheet((number, 0, 0)), unit=number) for number in range(len(MISDEEDS))
        )
    )
    assert time.monotonic() - start < 20
    for misdeed, proposed in zip(MISDEEDS, found, strict=True):
        if misdeed.cause is None:
            assert proposed.failure is None, (misdeed.name, proposed.failure)
            assert proposed.proposals, misdeed.name
        else:
            assert proposed.proposals == (), misdeed.name
            assert misdeed.cause in str(proposed.failure), (misdeed.name, proposed.failure)
    for proposed in found:
        assert len(proposed.proposals) <= 2
        assert all(0 < len(proposal.text) <= LONGEST for proposal in proposed.proposals)
        assert len(str(proposed.failure)) < 400
        assert "<script" not in str(proposed)
        assert LONG[:100] not in str(proposed)
    labelled = sum(misdeed.cause is None for misdeed in MISDEEDS)
    assert sum(call.outcome == "ok" for call in ledger.calls) == labelled + 1  # one is the probe
    attempts = sum(hostile.asked.values()) + 1
    assert len(ledger.calls) == attempts  # a row for every attempt


def test_what_failed_is_asked_anew_and_what_did_not_is_not(hostile: HostileServer) -> None:
    ledger = MemoryLedger()
    units = [evidence(picture=sheet((number, 0, 0)), unit=number) for number in range(len(MISDEEDS))]
    list(proposer(hostile, ledger, retries=1).propose_all(units))
    before = dict(hostile.asked)
    list(proposer(hostile, ledger, retries=1).propose_all(units))
    again = {MISDEEDS[number].name for number, count in hostile.asked.items() if count > before[number]}
    assert again >= {misdeed.name for misdeed in MISDEEDS if misdeed.cause is not None}
    assert not again & {"good", "half good", "many", "429 with Retry-After", "500", "reset"}


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
def test_the_key_reaches_the_server_and_nothing_else(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    sent: list[str] = []

    def echo(request: Request) -> Response:
        sent.append(request.headers["Authorization"])
        found = completion(f"{GOOD} {CANARY}") if status == 200 else problem(status, f"bad key {CANARY}")
        found.headers["X-Your-Key"] = CANARY
        return found

    endpoint.script(echo)
    ledger = MemoryLedger()
    vlm = endpoint.proposer(ledger)
    said = [
        repr(vlm),
        str(vars(vlm)),
        repr(vars(vlm._caller)),
        repr(vars(vlm._caller._exchange)),
        vlm.fingerprint,
    ]
    if status in (401, 404):
        with pytest.raises(EndpointError) as caught:
            vlm.propose(evidence())
        said += [str(caught.value), "".join(traceback.format_exception(caught.value))]
    else:
        said.append(repr(vlm.propose(evidence())))
    assert sent == [f"Bearer {CANARY}"]
    kept = repr((ledger.calls, ledger.answers, ledger.notes))
    assert CANARY not in "".join(said) + kept + caplog.text


def test_nobody_there_pauses_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    config = ProposeConfig(kind=("vlm",), model="toy", base_url="http://127.0.0.1:9/v1", retries=0, timeout=2)
    ledger = MemoryLedger()
    nobody = EndpointProposer(config, make_exchange(config, ledger), ledger)
    with pytest.raises(EndpointError, match="could not be reached"):
        nobody.propose(evidence())
    assert [(call.billing, call.outcome) for call in ledger.calls] == [("no", "error")]


def test_too_many_requests_halve_the_calls_at_once_and_they_recover(endpoint: Endpoint) -> None:
    """The server takes four at once; the pace settles there, and nearly all are answered at first."""
    import threading

    out = threading.Semaphore(4)
    refused: list[float] = []

    def answer(request: Request) -> Response:
        if not out.acquire(blocking=False):
            refused.append(time.monotonic())
            return problem(429, "slow down")
        time.sleep(0.02)
        out.release()
        return completion(GOOD)

    endpoint.script(answer)
    found = list(endpoint.proposer(concurrency=32, retries=10).propose_all(many(300)))
    assert all(proposed.failure is None for proposed in found)
    assert len(refused) < 150
