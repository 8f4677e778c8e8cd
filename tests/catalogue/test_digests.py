"""Rows of a catalogue that were changed by anything but the package no longer fit their digests."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labeler.catalogue import CatalogueStore, Ledger
from labeler.catalogue.digests import KEYS, changed_rows
from labeler.records import Judgement, Label, RoundRecord, UnitId, UnitRecord
from labeler.seams import Booking, Call
from tests.catalogue.catalogue_doubles import record, records
from tests.catalogue.test_query import version_1

CHANGES = {
    "units": "record = record || ' '",
    "listed": "reason = 'x'",
    "labels": "probability = 0.5",
    "label_embeddings": "vector = zeroblob(4)",
    "rounds": "round = round + 1",
    "decoys": "labels = '[]'",
    "judgements": "counter = 7",
    "meta": "value = value || '0'",
    "model_answers": "answer = ''",
    "model_notes": "value = ''",
    "model_calls": "input_tokens = 0",
}


def changed(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(changed_rows(connection))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A catalogue with rows in every table."""
    path = tmp_path / "catalogue.db"
    store, ledger = CatalogueStore(path), Ledger(path)
    for index in range(3):
        store.put_unit(record(f"a:{index}", "a", index, "accepted", (Label(text=f"word {index}"),)))
        store.put_round(UnitId("a", index), RoundRecord(round=1, labels=(Label(text="x", score=0.25),)))
        store.put_judgement(Judgement(unit=f"a:{index}", text="x", source="decoy", answer="n"))
    store.put_decoys({UnitId("a", 0): [Label(text="decoy")]})
    store.put_label_embeddings(["word 0"], np.ones((1, 3), np.float32))
    ledger.put_note("endpoint", "speaks JSON")
    call = Call("a:0", 1, "propose", "key", "model", "ok", False, "reported", 10, 2, 12, 5, 0.5, "")
    ledger.book([Booking((call,), (("key", "an answer"),))])
    store.close()
    ledger.close()
    return path


def test_what_was_written_replaced_and_taken_away_is_as_it_was(path: Path) -> None:
    assert changed(path) == []
    store, ledger = CatalogueStore(path), Ledger(path)
    store.put_unit(record("a:1", "a", 1, "rejected", ()))
    store.put_decoys({UnitId("a", 2): [Label(text="another")]})
    store.forget_rounds([UnitId("a", 0)])
    ledger.put_note("endpoint", None)
    ledger.book([Booking(forget=("key",))])
    store.close()
    ledger.close()
    assert changed(path) == []


@pytest.mark.parametrize("table", KEYS)
def test_a_row_that_was_changed_or_lost_is_named(path: Path, table: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE {table} SET {CHANGES[table]}")
    assert all(f"rows of {table} " in problem for problem in changed(path))
    assert changed(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"DROP TRIGGER no_digest_of_{table}")
        connection.execute(f"DELETE FROM {table}")
    (problem,) = changed(path)
    assert f"rows of {table} missing" in problem


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=records(), at=st.integers(0))
def test_a_flipped_digit_in_any_record_is_seen(
    tmp_path_factory: pytest.TempPathFactory, found: list[UnitRecord], at: int
) -> None:
    path = tmp_path_factory.mktemp("digests") / "catalogue.db"
    store = CatalogueStore(path)
    for made in found:
        store.put_unit(made)
    store.close()
    assert changed(path) == []
    if not found:
        return
    unit = found[at % len(found)].unit
    with closing(sqlite3.connect(path)) as connection, connection:
        ((text,),) = connection.execute("SELECT record FROM units WHERE unit = ?", (unit,))
        place = at % len(text)
        other = "0" if text[place] != "0" else "1"
        text = text[:place] + other + text[place + 1 :]
        connection.execute("DROP INDEX units_by_score")  # which would refuse what is no JSON
        connection.execute("UPDATE units SET record = ? WHERE unit = ?", (text, unit))
    assert len(changed(path)) == 1


def test_rows_that_are_older_than_digests_are_not_judged(tmp_path: Path) -> None:
    path = version_1(tmp_path / "catalogue.db", [record("a:1", "a", 1, "accepted", (Label(text="x"),))])
    assert changed(path) == []
    store = CatalogueStore(path)
    store.put_unit(record("a:2", "a", 2, "accepted", (Label(text="y"),)))
    store.close()
    assert changed(path) == []
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE units SET record = record || ' '")
    (problem,) = changed(path)
    assert '1, the first ["a:2"]' in problem
