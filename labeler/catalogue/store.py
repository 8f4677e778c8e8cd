"""catalogue.db: unit records, rounds, the model-call cache and its ledger, in one SQLite file.

WAL with ``synchronous=FULL``: what `put_*` returned from survives a kill at any moment. One short
transaction per unit and round. One writer; any number of readers.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from labeler.errors import CatalogueError, RunError
from labeler.records import Judgement, Label, RoundRecord, UnitId, UnitRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from labeler.seams import Call

Statement = tuple[str, Sequence[object]]
Decoys = Mapping[UnitId, Sequence[Label]]
SCHEMA_VERSION = 1
_LABELS = TypeAdapter(tuple[Label, ...])
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS units (
    unit TEXT PRIMARY KEY, layer TEXT NOT NULL, idx INTEGER NOT NULL, verdict TEXT NOT NULL,
    trust TEXT NOT NULL, record TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS units_by_layer ON units (layer, idx);
CREATE INDEX IF NOT EXISTS units_by_verdict ON units (verdict);
CREATE TABLE IF NOT EXISTS labels (
    unit TEXT NOT NULL, position INTEGER NOT NULL, text TEXT NOT NULL, PRIMARY KEY (unit, position)
);
CREATE INDEX IF NOT EXISTS labels_by_text ON labels (text);
CREATE TABLE IF NOT EXISTS label_embeddings (text TEXT PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS rounds (
    unit TEXT NOT NULL, round INTEGER NOT NULL, record TEXT NOT NULL, PRIMARY KEY (unit, round)
);
CREATE TABLE IF NOT EXISTS decoys (position INTEGER PRIMARY KEY, unit TEXT NOT NULL, labels TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS judgements (
    unit TEXT NOT NULL, text TEXT NOT NULL, record TEXT NOT NULL, counter INTEGER NOT NULL,
    PRIMARY KEY (unit, text)
);
CREATE TABLE IF NOT EXISTS responses (key TEXT PRIMARY KEY, answer TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, unit TEXT NOT NULL, round INTEGER NOT NULL, model TEXT NOT NULL,
    outcome TEXT NOT NULL, cached INTEGER NOT NULL, input_tokens INTEGER, output_tokens INTEGER,
    seconds REAL NOT NULL, detail TEXT NOT NULL
);
"""


class CatalogueStore:
    """The SQLite side of a catalogue. Safe to use from several threads of one process.

    Args:
        path: the database file; created when missing unless `read_only`.
        read_only: open an existing catalogue without the right to change it.

    Raises:
        RunError: when the file is missing (read-only) or is not a catalogue of this version.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        if read_only and not path.is_file():
            raise RunError(
                f"There is no catalogue in {path.parent}; make one with: labeler run CONFIG --out DIR."
            )
        self._lock = threading.RLock()
        try:
            self._connection = self._open(read_only)
            self._check_version(read_only)
        except sqlite3.DatabaseError as error:
            raise self._broken(error) from None

    def _open(self, read_only: bool) -> sqlite3.Connection:
        mode = "ro" if read_only else "rwc"
        connection = sqlite3.connect(
            f"{self.path.resolve().as_uri()}?mode={mode}", uri=True, check_same_thread=False, timeout=30
        )
        if not read_only:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.executescript(_TABLES)
        return connection

    def _check_version(self, read_only: bool) -> None:
        found = self.meta("schema")
        if found is None and not read_only:
            self.put_meta("schema", str(SCHEMA_VERSION))
        elif found != str(SCHEMA_VERSION):
            raise RunError(
                f"{self.path} has catalogue version {found}, not {SCHEMA_VERSION}: run again elsewhere."
            )

    def close(self) -> None:
        """Close the file; the store cannot be used afterwards."""
        self._connection.close()

    def meta(self, key: str) -> str | None:
        """A value stored with `put_meta`, or None."""
        row = self._one("SELECT value FROM meta WHERE key = ?", (key,))
        return None if row is None else str(row[0])

    def put_meta(self, key: str, value: str) -> None:
        """Store one value for the whole catalogue."""
        self._write([("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))])

    def put_unit(self, record: UnitRecord) -> None:
        """Store a unit's final record and its labels in one transaction."""
        self._write(_unit_rows(record))

    def put_decision(self, records: Iterable[UnitRecord], decoys: Decoys, gate: str) -> None:
        """Replace records, all decoys and the note `gate` of a finished run in one transaction."""
        rows = [row for record in records for row in _unit_rows(record)] + _decoy_rows(decoys)
        self._write([*rows, ("INSERT OR REPLACE INTO meta VALUES ('gate', ?)", (gate,))])

    def put_decoys(self, decoys: Decoys) -> None:
        """Store the decoys of every judged unit, with their checks; earlier ones go."""
        self._write(_decoy_rows(decoys))

    def decoys(self) -> dict[UnitId, tuple[Label, ...]]:
        """The decoys of every judged unit, in the order in which they were stored."""
        rows = self._all("SELECT unit, labels FROM decoys ORDER BY position", ())
        return {UnitId.parse(unit): _LABELS.validate_json(labels) for unit, labels in rows}

    def put_judgement(self, judgement: Judgement) -> None:
        """Store a person's answer durably; an earlier one to the same label goes."""
        last = "(SELECT COALESCE(MAX(counter), 0) + 1 FROM judgements)"
        insert = f"INSERT OR REPLACE INTO judgements VALUES (?, ?, ?, {last})"
        self._write([(insert, (judgement.unit, judgement.text, judgement.model_dump_json()))])

    def judgements(self) -> list[Judgement]:
        """All answers, in the order in which they were given."""
        rows = self._all("SELECT record FROM judgements ORDER BY counter", ())
        return [Judgement.model_validate_json(row[0]) for row in rows]

    def unit(self, unit: UnitId) -> UnitRecord:
        """The record of one unit.

        Raises:
            CatalogueError: when the catalogue has no such unit.
        """
        row = self._one("SELECT record FROM units WHERE unit = ?", (str(unit),))
        if row is None:
            raise CatalogueError(self._missing_unit(unit))
        return UnitRecord.model_validate_json(row[0])

    def _missing_unit(self, unit: UnitId) -> str:
        layers = [str(row[0]) for row in self._all("SELECT DISTINCT layer FROM units ORDER BY layer", ())]
        if unit.layer not in layers:
            return f"The catalogue has no layer {unit.layer!r}; it has {', '.join(layers) or 'no units yet'}."
        return f"The catalogue has no unit {unit}; see labeler list RUN --layer {unit.layer}."

    def units(
        self, *, layer: str | None = None, verdict: str | None = None, trust: str | None = None
    ) -> Iterator[UnitRecord]:
        """Records in the order (layer, index), filtered in SQL."""
        wanted = {"layer": layer, "verdict": verdict, "trust": trust}
        given = {column: value for column, value in wanted.items() if value is not None}
        where = " AND ".join(f"{column} = ?" for column in given) or "1"
        query = f"SELECT record FROM units WHERE {where} ORDER BY layer, idx, unit"
        for row in self._all(query, tuple(given.values())):
            yield UnitRecord.model_validate_json(row[0])

    def counts(self) -> dict[tuple[str, str], int]:
        """Number of units by (layer, verdict)."""
        rows = self._all("SELECT layer, verdict, COUNT(*) FROM units GROUP BY layer, verdict", ())
        return {(str(layer), str(verdict)): int(count) for layer, verdict, count in rows}

    def label_texts(self) -> list[str]:
        """All distinct label texts, sorted."""
        return [str(row[0]) for row in self._all("SELECT DISTINCT text FROM labels ORDER BY text", ())]

    def labelled_units(self, texts: Sequence[str]) -> list[tuple[str, str]]:
        """(unit, label text) of every label whose text is in `texts`, by layer and index."""
        marks = ",".join("?" * len(texts))
        query = (
            f"SELECT labels.unit, text FROM labels JOIN units ON units.unit = labels.unit"
            f" WHERE text IN ({marks}) ORDER BY layer, idx, labels.unit, position"
        )
        return [(str(unit), str(text)) for unit, text in self._all(query, tuple(texts))]

    def put_label_embeddings(self, texts: Sequence[str], vectors_td: NDArray[np.float32]) -> None:
        """Store unit-norm text embeddings ``(t, dim)`` of label texts for `search`."""
        self._write(
            [
                ("INSERT OR REPLACE INTO label_embeddings VALUES (?, ?)", (text, vector.tobytes()))
                for text, vector in zip(texts, vectors_td, strict=True)
            ]
        )

    def label_embeddings(self) -> tuple[list[str], NDArray[np.float32]]:
        """Stored label texts and their embeddings ``(t, dim)``, those of refused labels too."""
        import numpy as np

        rows = self._all("SELECT text, vector FROM label_embeddings ORDER BY text", ())
        vectors = [np.frombuffer(row[1], dtype=np.float32) for row in rows]
        return [str(row[0]) for row in rows], np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)

    def put_round(self, unit: UnitId, record: RoundRecord, calls: Iterable[Call] = ()) -> None:
        """Acknowledge one round of one unit together with its ledger rows, in one transaction."""
        rows = [
            (
                "INSERT INTO calls (unit, round, model, outcome, cached, input_tokens, output_tokens,"
                " seconds, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (str(unit), record.round, call.model, call.outcome, int(call.cached), call.input_tokens,
                 call.output_tokens, call.seconds, call.detail),
            )
            for call in calls
        ]  # fmt: skip
        insert = "INSERT OR REPLACE INTO rounds VALUES (?, ?, ?)"
        self._write([(insert, (str(unit), record.round, record.model_dump_json())), *rows])

    def rounds(self, unit: UnitId) -> list[RoundRecord]:
        """The acknowledged rounds of a unit, in order."""
        query = "SELECT record FROM rounds WHERE unit = ? ORDER BY round"
        return [RoundRecord.model_validate_json(row[0]) for row in self._all(query, (str(unit),))]

    def forget_rounds(self, units: Iterable[UnitId]) -> None:
        """Drop all rounds of units, so that they are asked for again; the ledger keeps their calls.

        The gate goes with them: until it is written anew, no verdict of the run is settled.
        """
        rounds = [("DELETE FROM rounds WHERE unit = ?", (str(unit),)) for unit in units]
        if rounds:
            self._write([*rounds, ("DELETE FROM meta WHERE key = 'gate'", ())])

    def get(self, key: str) -> str | None:
        """A stored model answer (`ResponseCache`)."""
        row = self._one("SELECT answer FROM responses WHERE key = ?", (key,))
        return None if row is None else str(row[0])

    def put(self, key: str, answer: str) -> None:
        """Store a model answer durably (`ResponseCache`)."""
        self._write([("INSERT OR REPLACE INTO responses VALUES (?, ?)", (key, answer))])

    def call_totals(self) -> dict[str, int]:
        """Calls made, answers from the cache, and tokens as far as servers reported them."""
        row = self._one(
            "SELECT COALESCE(SUM(NOT cached), 0), COALESCE(SUM(cached), 0), COALESCE(SUM(input_tokens), 0),"
            " COALESCE(SUM(output_tokens), 0) FROM calls",
            (),
        )
        names = ("calls", "from_cache", "input_tokens", "output_tokens")
        return {name: int(value) for name, value in zip(names, row or (0, 0, 0, 0), strict=True)}

    def _write(self, statements: Sequence[Statement]) -> None:
        try:
            with self._lock, self._connection:
                for statement, values in statements:
                    self._connection.execute(statement, tuple(values))
        except sqlite3.DatabaseError as error:
            raise self._broken(error) from None

    def _one(self, query: str, values: Sequence[object]) -> tuple[Any, ...] | None:
        rows = self._all(query, values, limit=1)
        return rows[0] if rows else None

    def _all(self, query: str, values: Sequence[object], limit: int | None = None) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                cursor = self._connection.execute(query, tuple(values))
                return cursor.fetchall() if limit is None else cursor.fetchmany(limit)
        except sqlite3.DatabaseError as error:
            raise self._broken(error) from None

    def _broken(self, error: sqlite3.DatabaseError) -> RunError:
        advice = "restore it, make room, or run again elsewhere"
        return RunError(f"{self.path} is not a readable catalogue ({error}): {advice}.")


def _unit_rows(record: UnitRecord) -> list[Statement]:
    texts = [label.text for label in record.labels]
    return [
        ("DELETE FROM labels WHERE unit = ?", (record.unit,)),
        (
            "INSERT OR REPLACE INTO units VALUES (?, ?, ?, ?, ?, ?)",
            (record.unit, record.layer, record.index, record.verdict, record.trust.verdict,
             record.model_dump_json()),
        ),
        *(("INSERT INTO labels VALUES (?, ?, ?)", (record.unit, i, t)) for i, t in enumerate(texts)),
    ]  # fmt: skip


def _decoy_rows(decoys: Decoys) -> list[Statement]:
    insert = "INSERT INTO decoys (unit, labels) VALUES (?, ?)"
    json = {unit: _LABELS.dump_json(tuple(found), exclude_defaults=True) for unit, found in decoys.items()}
    rows: list[Statement] = [(insert, (str(unit), data.decode())) for unit, data in json.items()]
    return [("DELETE FROM decoys", ()), *rows]
