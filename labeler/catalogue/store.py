"""catalogue.db: unit records and rounds, in one SQLite file; model calls are `ledger`'s.

WAL with ``synchronous=FULL``: what `put_*` returned from survives a kill at any moment. One short
transaction per unit and round. One writer; any number of readers.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from labeler.catalogue.collector import without_collector
from labeler.catalogue.digests import keep_digests
from labeler.catalogue.files import failed, reading_address
from labeler.catalogue.query import ALL, ListedUnit, Selection, listing, names, read_row, words
from labeler.catalogue.schema import (
    OLDEST,
    SCHEMA_VERSION,
    TABLES,
    Statement,
    bring_up_to_date,
    read_as_current,
    unit_statements,
    version_of,
)
from labeler.errors import CatalogueError, RunError
from labeler.records import Judgement, Label, RoundRecord, UnitId, UnitRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Decoys = Mapping[UnitId, Sequence[Label]]
_LABELS = TypeAdapter(tuple[Label, ...])
_TOGETHER = 200  # records of 30 KB that are in memory at once


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
        address = reading_address(path) if read_only else f"{path.resolve().as_uri()}?mode=rwc"
        try:
            self._connection = sqlite3.connect(address, uri=True, check_same_thread=False, timeout=30)
            self._prepare(read_only)
        except sqlite3.DatabaseError as error:
            raise failed(self.path, error) from None

    def _prepare(self, read_only: bool) -> None:
        try:
            found = version_of(self._connection)
        except ValueError:
            raise RunError(f"{self.path} is not a catalogue; give another --out or delete it.") from None
        if found is None and read_only:
            raise RunError(f"{self.path} holds nothing yet; the same labeler run command goes on.")
        if found is not None and not OLDEST <= found <= SCHEMA_VERSION:
            raise RunError(
                f"{self.path} has catalogue version {found}; this labeler reads {OLDEST} to {SCHEMA_VERSION}:"
                " run again elsewhere."
            )
        if read_only:
            if found is not None:
                read_as_current(self._connection, found)
            return
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        if found is not None:
            bring_up_to_date(self._connection, found)
        self._connection.executescript(TABLES)
        keep_digests(self._connection)
        if found != SCHEMA_VERSION:
            self.put_meta("schema", str(SCHEMA_VERSION))

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
        self._write(unit_statements(record))

    def put_decision(self, records: Iterable[UnitRecord], decoys: Decoys, gate: str) -> None:
        """Replace records, all decoys and the note `gate` of a finished run in one transaction."""
        rows = [row for record in records for row in unit_statements(record)] + _decoy_rows(decoys)
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
        layers = self.layers()
        if unit.layer not in layers:
            return f"The catalogue has no layer {unit.layer!r}; it has {', '.join(layers) or 'no units yet'}."
        return f"The catalogue has no unit {unit}; see labeler list RUN --layer {unit.layer}."

    def units(
        self, wanted: Selection = ALL, limit: int | None = None, offset: int = 0
    ) -> Iterator[UnitRecord]:
        """The wanted records in the order (layer, index), a few hundred in memory at a time."""
        texts = self.records(wanted, limit, offset)
        while part := list(islice(texts, _TOGETHER)):
            with without_collector():
                found = [UnitRecord.model_validate_json(text) for text in part]
            yield from found

    def records(self, wanted: Selection = ALL, limit: int | None = None, offset: int = 0) -> Iterator[str]:
        """The same as the JSON texts that are stored."""
        found = [str(row[0]) for row in self._all(*names(wanted, limit, offset))]
        for start in range(0, len(found), _TOGETHER):
            part = found[start : start + _TOGETHER]
            marks = ",".join("?" * len(part))
            records = dict(self._all(f"SELECT unit, record FROM units WHERE unit IN ({marks})", part))
            yield from (str(records[unit]) for unit in part)

    def listed(
        self, wanted: Selection = ALL, limit: int | None = None, offset: int = 0
    ) -> Iterator[ListedUnit]:
        """What is listed of the wanted units, in the order (layer, index); no record is opened."""
        rows = self._all(*listing(wanted, limit, offset))
        with without_collector():
            found = [read_row(row) for row in rows]
        yield from found

    def counts(self) -> dict[tuple[str, str], int]:
        """Number of units by (layer, verdict)."""
        rows = self._all("SELECT layer, verdict, COUNT(*) FROM listed GROUP BY layer, verdict", ())
        return {(str(layer), str(verdict)): int(count) for layer, verdict, count in rows}

    def layers(self) -> list[str]:
        """All layers, sorted: one step in the index for each, however many units it has."""
        found: list[str] = []
        while row := self._one(
            "SELECT MIN(layer) FROM listed WHERE layer > ?", (found[-1] if found else "",)
        ):
            if row[0] is None:
                break
            found.append(str(row[0]))
        return found

    def label_texts(self) -> list[str]:
        """All distinct label texts, sorted."""
        return [str(row[0]) for row in self._all("SELECT DISTINCT text FROM labels ORDER BY text", ())]

    def labelled_units(self, text: str, limit: int) -> list[str]:
        """The first `limit` units that have the label `text`, by layer and index."""
        query = (
            "SELECT DISTINCT layer, idx, unit FROM labels WHERE text = ? ORDER BY layer, idx, unit LIMIT ?"
        )
        return [str(row[2]) for row in self._all(query, (text, limit))]

    def find_words(self, text: str, limit: int) -> list[str]:
        """The `limit` label texts that have all words of `text` (or begin so), best first.

        SQLite's FTS5 with Porter's stems, ordered by BM25 and the text.
        """
        asked = words(text)
        if asked is None:
            return []
        query = (
            "SELECT text FROM label_words WHERE label_words MATCH ?"
            " AND EXISTS (SELECT 1 FROM labels WHERE labels.text = label_words.text)"
            " ORDER BY bm25(label_words), text LIMIT ?"
        )
        return [str(row[0]) for row in self._all(query, (asked, limit))]

    def put_label_embeddings(self, texts: Sequence[str], vectors_td: NDArray[np.float32]) -> None:
        """Store unit-norm text embeddings ``(t, dim)`` of label texts for `search`."""
        self._write(
            [
                ("INSERT OR REPLACE INTO label_embeddings VALUES (?, ?)", (text, vector.tobytes()))
                for text, vector in zip(texts, vectors_td, strict=True)
            ]
        )

    def label_embeddings(self) -> tuple[list[str], NDArray[np.float32]]:
        """The texts of accepted labels that have an embedding, and their embeddings ``(t, dim)``."""
        import numpy as np

        query = (
            "SELECT text, vector FROM label_embeddings"
            " WHERE EXISTS (SELECT 1 FROM labels WHERE labels.text = label_embeddings.text) ORDER BY text"
        )
        rows = self._all(query, ())
        vectors = np.frombuffer(b"".join(row[1] for row in rows), dtype=np.float32)
        return [str(row[0]) for row in rows], vectors.reshape(len(rows), -1 if rows else 0)

    def version(self) -> int:
        """A number that changes whenever another process has changed the file."""
        return int(self._all("PRAGMA data_version", ())[0][0])

    def put_round(self, unit: UnitId, record: RoundRecord) -> None:
        """Acknowledge one round of one unit."""
        insert = "INSERT OR REPLACE INTO rounds VALUES (?, ?, ?)"
        self._write([(insert, (str(unit), record.round, record.model_dump_json()))])

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

    def _write(self, statements: Sequence[Statement]) -> None:
        try:
            with self._lock, self._connection:
                for statement, values in statements:
                    self._connection.execute(statement, tuple(values))
        except sqlite3.DatabaseError as error:
            raise failed(self.path, error) from None

    def _one(self, query: str, values: Sequence[object]) -> tuple[Any, ...] | None:
        rows = self._all(query, values, limit=1)
        return rows[0] if rows else None

    def _all(self, query: str, values: Sequence[object], limit: int | None = None) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                cursor = self._connection.execute(query, tuple(values))
                return cursor.fetchall() if limit is None else cursor.fetchmany(limit)
        except sqlite3.DatabaseError as error:
            raise failed(self.path, error) from None


def _decoy_rows(decoys: Decoys) -> list[Statement]:
    insert = "INSERT INTO decoys (unit, labels) VALUES (?, ?)"
    json = {unit: _LABELS.dump_json(tuple(found), exclude_defaults=True) for unit, found in decoys.items()}
    rows: list[Statement] = [(insert, (str(unit), data.decode())) for unit, data in json.items()]
    return [("DELETE FROM decoys", ()), *rows]
