"""The model calls in catalogue.db: answers by request, and a row for every attempt.

The file is the catalogue's, WAL with ``synchronous=FULL``: what `book` returned from survives a kill. A
second connection reads, so that a look-up never waits for a commit.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labeler.catalogue.digests import keep_digests
from labeler.catalogue.files import failed, reading_address
from labeler.seams import Booking, Call, Spent

PRICES = "prices"
"""Note of what tokens cost by the config that ran last."""
_COLUMNS = (
    "unit", "round", "step", "key", "model", "outcome", "cached", "billing", "input_tokens",
    "output_tokens", "expected_input", "expected_output", "seconds", "detail",
)  # fmt: skip
_TABLES = """
CREATE TABLE IF NOT EXISTS model_answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS model_notes (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS model_calls (
    id INTEGER PRIMARY KEY, unit TEXT NOT NULL, round INTEGER NOT NULL, step TEXT NOT NULL,
    key TEXT NOT NULL, model TEXT NOT NULL, outcome TEXT NOT NULL, cached INTEGER NOT NULL,
    billing TEXT NOT NULL, input_tokens INTEGER, output_tokens INTEGER, expected_input INTEGER NOT NULL,
    expected_output INTEGER NOT NULL, seconds REAL NOT NULL, detail TEXT NOT NULL
);
"""
_INPUT = (
    "CASE billing WHEN 'reported' THEN COALESCE(input_tokens, 0) WHEN 'maybe' THEN expected_input ELSE 0 END"
)
_OUTPUT = _INPUT.replace("input", "output")
_INSERT = f"INSERT INTO model_calls ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"


@dataclass(frozen=True)
class ModelCost:
    """What one model was asked for in a run.

    Tokens are the servers' reports; `unreported` calls may have been billed without one, and count with what
    they took at most, `unreported_tokens` together.
    """

    model: str
    calls: int
    failed: int
    from_cache: int
    input_tokens: int
    output_tokens: int
    unreported: int
    unreported_tokens: int


class Ledger:
    """Implements `labeler.seams.CallLedger` in a catalogue's file. Safe to use from several threads.

    Args:
        path: the catalogue's file; made when missing.

    Raises:
        RunError: when the file cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._writing, self._reading = threading.Lock(), threading.Lock()
        try:
            self._writer = _connect(path)
            self._writer.execute("PRAGMA journal_mode=WAL")
            self._writer.execute("PRAGMA synchronous=FULL")
            self._writer.executescript(_TABLES)
            keep_digests(self._writer)
            self._reader = _connect(path)
        except sqlite3.DatabaseError as error:
            raise failed(path, error) from None

    def close(self) -> None:
        """Close the file; the ledger cannot be used afterwards."""
        self._reader.close()
        self._writer.close()

    def answer(self, key: str) -> str | None:
        """The stored answer to a request, or None."""
        return self._value("SELECT answer FROM model_answers WHERE key = ?", key)

    def note(self, key: str) -> str | None:
        """What was noted about an endpoint, or None."""
        return self._value("SELECT value FROM model_notes WHERE key = ?", key)

    def put_note(self, key: str, value: str | None) -> None:
        """Note something about an endpoint durably; None takes the note away."""
        if value is None:
            self._write([("DELETE FROM model_notes WHERE key = ?", [(key,)])])
        else:
            self._write([("INSERT OR REPLACE INTO model_notes VALUES (?, ?)", [(key, value)])])

    def book(self, bookings: Sequence[Booking]) -> None:
        """Store rows and answers, and forget others, durably and in one transaction."""
        answers = [item for booking in bookings for item in booking.answers]
        forget = [(key,) for booking in bookings for key in booking.forget]
        rows = [_row(call) for booking in bookings for call in booking.calls]
        self._write(
            [
                ("INSERT OR REPLACE INTO model_answers VALUES (?, ?)", answers),
                ("DELETE FROM model_answers WHERE key = ?", forget),
                (_INSERT, rows),
            ]
        )

    def spent(self) -> Spent:
        """What all calls so far took; those without a report at their most."""
        known = "billing = 'reported' AND expected_input > 0"
        ratio = f"MAX(CASE WHEN {known} THEN input_tokens * 1.0 / expected_input END)"
        query = f"SELECT SUM({_INPUT}), SUM({_OUTPUT}), SUM(billing = 'maybe'), {ratio} FROM model_calls"
        try:
            with self._reading:
                given, taken, unreported, most = self._reader.execute(query).fetchone()
        except sqlite3.DatabaseError as error:
            raise failed(self.path, error) from None
        return Spent(given or 0, taken or 0, unreported or 0, most)

    def _value(self, query: str, key: str) -> str | None:
        try:
            with self._reading:
                row = self._reader.execute(query, (key,)).fetchone()
        except sqlite3.DatabaseError as error:
            raise failed(self.path, error) from None
        return None if row is None else str(row[0])

    def _write(self, statements: Sequence[tuple[str, Sequence[tuple[Any, ...]]]]) -> None:
        try:
            with self._writing, self._writer:
                for statement, rows in statements:
                    self._writer.executemany(statement, rows)
        except sqlite3.DatabaseError as error:
            raise failed(self.path, error) from None


def read_costs(path: Path) -> list[ModelCost]:
    """What each model of a run was asked for, by name; nothing where the run asked no model.

    Raises:
        RunError: when the catalogue cannot be read.
    """
    unreported = "CASE billing WHEN 'maybe' THEN expected_input + expected_output ELSE 0 END"
    query = (
        "SELECT model, SUM(NOT cached), SUM(outcome = 'error' AND NOT cached), SUM(cached),"
        f" SUM({_INPUT}), SUM({_OUTPUT}), SUM(billing = 'maybe'), SUM({unreported})"
        " FROM model_calls GROUP BY model ORDER BY model"
    )
    return [ModelCost(str(row[0]), *map(int, row[1:])) for row in _read(path, query, ())]


def costs_by_round(path: Path) -> dict[int, tuple[int, int]]:
    """Calls and tokens of each round; those about the endpoint itself are round 0."""
    query = f"SELECT round, SUM(NOT cached), SUM({_INPUT} + {_OUTPUT}) FROM model_calls GROUP BY round"
    return {int(number): (int(calls), int(tokens)) for number, calls, tokens in _read(path, query, ())}


def read_note(path: Path, key: str) -> str | None:
    """A note of a run's ledger, or None; for readers that do not write."""
    rows = _read(path, "SELECT value FROM model_notes WHERE key = ?", (key,))
    return str(rows[0][0]) if rows else None


def call_totals(path: Path) -> dict[str, int]:
    """Calls made, answers from the cache, and tokens, of all models of a run."""
    costs = read_costs(path)
    return {
        "calls": sum(cost.calls for cost in costs),
        "from_cache": sum(cost.from_cache for cost in costs),
        "input_tokens": sum(cost.input_tokens for cost in costs),
        "output_tokens": sum(cost.output_tokens for cost in costs),
    }


def _read(path: Path, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
    try:
        with closing(sqlite3.connect(reading_address(path), uri=True, timeout=30)) as connection:
            known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'model_calls'").fetchone()
            return [] if known is None else connection.execute(query, tuple(values)).fetchall()
    except sqlite3.DatabaseError as error:
        raise failed(path, error) from None


def _connect(path: Path) -> sqlite3.Connection:
    address = f"{path.resolve().as_uri()}?mode=rwc"
    return sqlite3.connect(address, uri=True, check_same_thread=False, timeout=30)


def _row(call: Call) -> tuple[object, ...]:
    return tuple(getattr(call, name) for name in _COLUMNS)
