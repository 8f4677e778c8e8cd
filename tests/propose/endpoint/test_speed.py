"""1,000 units, each with a sheet of its own, at 100 ms an answer and 32 calls at once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labeler.catalogue import Ledger, call_totals
from labeler.config import ProposeConfig
from labeler.exemplars.images import encode_webp
from labeler.propose.endpoint import EndpointProposer
from labeler.propose.endpoint.connect import make_exchange
from labeler.seams import Evidence
from tests.propose.endpoint.loopback import evidence

UNITS, LATENCY, CONCURRENCY = 1000, 0.1, 32


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    command = [sys.executable, "-m", "tests.propose.endpoint.slow_server", str(LATENCY)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    yield f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
    server.kill()
    server.wait()
    server.stdout.close()


def evidences() -> list[Evidence]:
    """Sheets of 120 kB, as real ones; the unit's number is appended, which no decoder minds."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((1016, 1344), Image.Resampling.BICUBIC)
    sheet = encode_webp(picture)
    base = evidence(picture=sheet)
    return [
        replace(base, unit=replace(base.unit, index=n), sheet=sheet + n.to_bytes(2, "big"))
        for n in range(UNITS)
    ]


def ask(url: str, catalogue: Path, items: list[Evidence]) -> float:
    config = ProposeConfig(kind=("vlm",), model="toy", base_url=url, concurrency=CONCURRENCY)
    with closing(Ledger(catalogue)) as ledger:
        proposer = EndpointProposer(config, make_exchange(config, ledger), ledger)
        start = time.perf_counter()
        found = list(proposer.propose_all(items))
        seconds = time.perf_counter() - start
    assert all(proposed.proposals for proposed in found)
    return seconds


@pytest.mark.slow
def test_asking_takes_little_more_than_the_answers_do(url: str, tmp_path: Path) -> None:
    items = evidences()
    ask(url, tmp_path / "warm.db", items[:CONCURRENCY])  # imports, connections' code paths
    ideal = UNITS / CONCURRENCY * LATENCY
    seconds = min(ask(url, tmp_path / f"{attempt}.db", items) for attempt in range(3))
    print(f"\n{seconds:.2f} s, {seconds / ideal:.2f} x the ideal time; sheets of {len(items[0].sheet)} bytes")
    assert seconds <= 1.3 * ideal
    again = ask(url, tmp_path / "0.db", items)
    print(f"again, from the cache: {again:.2f} s")
    totals = call_totals(tmp_path / "0.db")
    assert (totals["calls"], totals["from_cache"]) == (UNITS + 1, UNITS)
