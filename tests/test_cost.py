"""What the model calls of a run took."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from labeler.catalogue import PRICES, CatalogueStore, Ledger
from labeler.config import PricesConfig
from labeler.cost import cost_text, run_cost
from labeler.errors import RunError
from labeler.seams import Booking, Call
from tests.e2e.toy_run import labeler

CALL = Call("a:0", 1, "ask", "k", "toy", "ok", billing="reported", input_tokens=1_000_000,
            output_tokens=500_000, expected_input=900, expected_output=800)  # fmt: skip
DESCRIPTION = {"config": {}, "target": {}, "probe": {"images": 0}, "warnings": [], "versions": {}}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory with a catalogue and nothing else."""
    (tmp_path / "run.json").write_text(json.dumps({**DESCRIPTION, "fingerprint": "x", "units": 1}))
    CatalogueStore(tmp_path / "catalogue.db").close()
    return tmp_path


def book(run: Path, *calls: Call, prices: PricesConfig | None = None) -> None:
    ledger = Ledger(run / "catalogue.db")
    ledger.book([Booking(calls)])
    ledger.put_note(PRICES, None if prices is None else prices.model_dump_json())
    ledger.close()


def test_money_is_by_the_prices_of_the_config(run: Path) -> None:
    lost = replace(CALL, outcome="error", billing="maybe", input_tokens=None, output_tokens=None)
    prices = PricesConfig(input=2, output=8, currency="EUR")
    book(run, CALL, replace(CALL, cached=True, billing="no"), lost, prices=prices)
    found = run_cost(run)
    assert (found["calls"], found["failed"], found["from_cache"], found["unreported"]) == (2, 1, 1, 1)
    assert found["money"] == pytest.approx(2 + 4 + (900 * 2 + 800 * 8) / 1e6)
    assert "6.008 EUR" in cost_text(found)
    assert "reported no tokens" in cost_text(found)


def test_without_prices_no_money_is_guessed(run: Path) -> None:
    book(run, CALL, replace(CALL, model="big"))
    found = run_cost(run)
    assert (found["money"], found["currency"]) == (None, None)
    assert [row["model"] for row in found["models"]] == ["big", "toy"]
    assert "propose.prices" in cost_text(found)


def test_the_command_prints_both_ways(run: Path) -> None:
    assert labeler("cost", run).out == "No model was asked.\n"
    book(run, CALL)
    shown = labeler("cost", run, "--json").json
    assert (shown["calls"], shown["input_tokens"], shown["output_tokens"]) == (1, 1_000_000, 500_000)
    assert "1,000,000 tokens in" in labeler("cost", run).out


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run directory"):
        run_cost(tmp_path)
    assert labeler("cost", tmp_path).code == 1
