"""A budget ends a run before the call that would exceed it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from werkzeug import Request, Response

from labeler.catalogue import Ledger
from labeler.config import PricesConfig
from labeler.errors import PausedError, UsageError
from labeler.propose.endpoint import Limit, cost, parse_limit
from labeler.seams import Proposed
from labeler.testing import MemoryLedger
from tests.propose.endpoint.loopback import GOOD, HALVES, Endpoint, completion, many, problem

EURO = PricesConfig(input=2.0, output=8.0, currency="EUR")


def test_limits_are_written_as_tokens_or_money() -> None:
    assert parse_limit("200000", None) == Limit(tokens=200_000)
    assert parse_limit(" 5000 tokens", EURO) == Limit(tokens=5000)
    assert parse_limit("2.50eur", EURO) == Limit(money=2.5, currency="EUR")
    for wrong in ("", "much", "-5", "2.5", "1e9", "5 USD 3"):
        with pytest.raises(UsageError, match="--budget"):
            parse_limit(wrong, EURO)
    with pytest.raises(UsageError, match=r"propose\.prices"):
        parse_limit("2EUR", None)
    with pytest.raises(UsageError, match=r"USD.*EUR"):
        parse_limit("2USD", EURO)


def drain(found: object) -> tuple[list[Proposed], str]:
    """What came before the pause, and its sentence."""
    got: list[Proposed] = []
    try:
        got.extend(found)  # type: ignore[call-overload]
    except PausedError as pause:
        return got, str(pause)
    return got, ""


@pytest.mark.parametrize("concurrency", [1, 8])
@pytest.mark.parametrize("given_tokens", [40, 900, 20_000])
def test_tokens_never_exceed_the_budget_whatever_a_picture_takes(
    endpoint: Endpoint, concurrency: int, given_tokens: int
) -> None:
    """The model's pictures take far fewer or far more tokens than the rule expects."""
    endpoint.probed = lambda body: completion(HALVES, usage=(given_tokens, 50))
    seen = endpoint.script(completion(GOOD, usage=(given_tokens, 50)))
    limit, ledger = Limit(tokens=12 * (given_tokens + 50) + 5000), MemoryLedger()
    settings = {"concurrency": concurrency, "max_tokens": 100, "sheet_side": 512}
    found, pause = drain(endpoint.proposer(ledger, limit, **settings).propose_all(many(200)))
    spent = ledger.spent()
    assert "budget" in pause
    assert f"{limit.tokens:,} tokens" in pause
    assert spent.input_tokens + spent.output_tokens <= (limit.tokens or 0)
    assert len(seen) == spent.output_tokens // 50 - 1  # one is the question about the endpoint
    assert len(seen) > 6
    assert len(found) <= len(ledger.answers) == len(seen)
    _, pause = drain(endpoint.proposer(ledger, limit, **settings).propose_all(many(200)))
    assert pause
    assert len(seen) == len(ledger.answers)  # what is known is not paid for again
    more = endpoint.proposer(ledger, Limit(tokens=10**9), **settings).propose_all(many(200))
    assert sum(proposed.failure is None for proposed in more) == 200
    assert len(seen) == 200


def test_a_budget_in_money_goes_by_the_prices(endpoint: Endpoint) -> None:
    endpoint.script(completion(GOOD, usage=(1000, 100)))
    limit, ledger = Limit(money=0.02, currency="EUR"), MemoryLedger()
    proposer = endpoint.proposer(ledger, limit, prices=EURO, max_tokens=120, sheet_side=512)
    _, pause = drain(proposer.propose_all(many(50)))
    spent = ledger.spent()
    taken = cost(spent.input_tokens, spent.output_tokens, EURO)
    assert taken == pytest.approx((1000 * 2 + 100 * 8) / 1e6 * (len(ledger.calls) - 1), rel=0.1)
    assert 0.014 < taken <= 0.02
    assert "0.02 EUR" in pause


def test_a_server_that_reports_nothing_counts_with_its_most(endpoint: Endpoint) -> None:
    endpoint.probed = lambda body: completion(HALVES, usage=None)
    seen = endpoint.script(completion(GOOD, usage=None))
    ledger = MemoryLedger()
    settings = {"max_tokens": 100, "sheet_side": 512, "concurrency": 4}
    _, pause = drain(endpoint.proposer(ledger, Limit(tokens=8000), **settings).propose_all(many(50)))
    assert pause
    assert 1 <= len(seen) < 12
    assert ledger.spent().unreported == len(seen) + 1


def test_an_answer_that_was_lost_may_have_been_billed(endpoint: Endpoint) -> None:
    def hang(request: Request) -> Response:
        time.sleep(0.6)
        return completion(GOOD)

    endpoint.script(hang)
    ledger = MemoryLedger()
    endpoint.proposer(ledger, timeout=0.2).propose(many(1)[0])
    assert ledger.calls[-1].billing == "maybe"
    assert ledger.calls[-1].expected_output == 800
    refused = MemoryLedger()
    endpoint.server.clear()
    endpoint.script(problem(500))
    endpoint.proposer(refused).propose(many(1)[0])
    assert refused.calls[-1].billing == "no"


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["reported", "maybe", "no"]), st.integers(0, 9), st.integers(0, 9)))
)
def test_the_ledger_on_disk_counts_as_the_one_in_memory(rows: list[tuple[str, int, int]]) -> None:
    import tempfile

    from labeler.seams import Booking, Call

    calls = tuple(
        Call("a:0", 1, "ask", "k", "m", "ok", billing=billing, input_tokens=given, output_tokens=taken,
             expected_input=taken, expected_output=given)  # type: ignore[arg-type]
        for billing, given, taken in rows
    )  # fmt: skip
    memory = MemoryLedger()
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "catalogue.db")
        for store in (memory, ledger):
            store.book([Booking(calls)])
        assert ledger.spent() == memory.spent()
        ledger.close()
