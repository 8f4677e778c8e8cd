"""Many units, many calls at once; how long that takes is measured by `labeler eval asking`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from labeler.catalogue import call_totals
from labeler.propose.endpoint import EndpointProposer
from labeler.propose.endpoint.connect import make_exchange
from labeler.suites import run_suite
from tests.propose.endpoint.loopback import GOOD, Endpoint, completion, many


def test_a_second_run_makes_no_call(endpoint: Endpoint, tmp_path: Path) -> None:
    from labeler.catalogue import Ledger

    endpoint.script(completion(GOOD))
    found = []
    for _ in range(2):
        ledger = Ledger(tmp_path / "catalogue.db")
        settings = endpoint.settings(concurrency=32)
        proposer = EndpointProposer(settings, make_exchange(settings, ledger), ledger)
        found.append(list(proposer.propose_all(many(300))))
        ledger.close()
    assert found[0] == found[1]
    assert all(proposed.proposals for proposed in found[0])
    assert len(endpoint.seen) == len(Counter(str(body) for body in endpoint.seen)) == 300
    assert len(endpoint.probes) == 1
    totals = call_totals(tmp_path / "catalogue.db")
    assert (totals["calls"], totals["from_cache"]) == (301, 300)


def test_the_suite_measures_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    sizes = ["--units", "60", "--latency", "0.02", "--concurrency", "16", "--repeats", "2"]
    result = run_suite("asking", sizes)
    assert result.units == 60
    assert result.figures["calls_again"] == 0
    assert result.figures["ratio"] > 1  # no answer comes before its time
    assert result.intervals["ratio"][0] <= result.figures["ratio"] <= result.intervals["ratio"][1]
