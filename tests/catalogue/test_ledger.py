"""The model calls of a run on disk."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from labeler.catalogue import CatalogueStore, Ledger, call_totals, read_costs, read_note
from labeler.errors import RunError
from labeler.seams import Booking, Call

CALL = Call("a:0", 1, "ask", "key", "toy", "ok", billing="reported", input_tokens=70, output_tokens=7,
            expected_input=50, expected_output=800, seconds=0.5, detail="x")  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    CatalogueStore(tmp_path / "catalogue.db").close()
    return tmp_path / "catalogue.db"


def test_answers_come_back_and_go(path: Path) -> None:
    ledger = Ledger(path)
    assert ledger.answer("key") is None
    ledger.book([Booking((CALL,), (("key", "one"), ("other", "two"))), Booking(forget=("other",))])
    ledger.close()
    again = Ledger(path)
    assert (again.answer("key"), again.answer("other")) == ("one", None)
    again.book([Booking(answers=(("key", "three"),))])
    assert again.answer("key") == "three"
    again.close()


def test_every_attempt_is_a_row_with_all_that_is_known(path: Path) -> None:
    ledger = Ledger(path)
    ledger.book([Booking((CALL, replace(CALL, cached=True, billing="no", input_tokens=None)))])
    ledger.close()
    with sqlite3.connect(path) as connection:
        connection.row_factory = sqlite3.Row
        rows = [dict(row) for row in connection.execute("SELECT * FROM model_calls ORDER BY id")]
    connection.close()
    assert {name: rows[0][name] for name in asdict(CALL)} == asdict(CALL)
    assert (rows[1]["cached"], rows[1]["input_tokens"]) == (1, None)


def test_costs_are_by_model_and_know_what_nobody_reported(path: Path) -> None:
    ledger = Ledger(path)
    lost = replace(CALL, outcome="error", billing="maybe", input_tokens=None, output_tokens=None)
    ledger.book([Booking((CALL, replace(CALL, cached=True, billing="no"), lost, replace(CALL, model="big")))])
    ledger.close()
    big, toy = read_costs(path)
    assert (big.model, big.calls, big.input_tokens) == ("big", 1, 70)
    assert (toy.calls, toy.failed, toy.from_cache, toy.unreported) == (2, 1, 1, 1)
    assert (toy.input_tokens, toy.output_tokens, toy.unreported_tokens) == (70 + 50, 7 + 800, 850)
    assert call_totals(path) == {"calls": 3, "from_cache": 1, "input_tokens": 190, "output_tokens": 814}


def test_a_catalogue_that_never_asked_a_model_has_no_costs(path: Path) -> None:
    assert read_costs(path) == []
    assert read_note(path, "prices") is None
    assert call_totals(path) == {"calls": 0, "from_cache": 0, "input_tokens": 0, "output_tokens": 0}


def test_notes_stay_until_they_are_taken_away(path: Path) -> None:
    ledger = Ledger(path)
    ledger.put_note("a", "1")
    ledger.put_note("a", "2")
    assert ledger.note("a") == read_note(path, "a") == "2"
    ledger.put_note("a", None)
    assert ledger.note("a") is None
    ledger.close()


def test_what_is_no_catalogue_is_told_in_one_sentence(tmp_path: Path) -> None:
    broken = tmp_path / "catalogue.db"
    broken.write_bytes(b"not a database, but long enough to look like one" * 30)
    for open_it in (Ledger, read_costs):
        with pytest.raises(RunError, match="not a readable catalogue"):
            open_it(broken)
