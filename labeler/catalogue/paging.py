"""Pages of a catalogue of any size, read as it is now: filters, order and neighbours in SQL.

Filters and counts are read from indexes that hold every column they name, never from the records, which are
30 KB each. A catalogue without the indexes gives the same answers, more slowly.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from labeler.catalogue.collector import without_collector
from labeler.catalogue.files import failed, is_begun, reading_address
from labeler.errors import CatalogueError, RunError
from labeler.records import UnitId, UnitRecord

_SCORE = "COALESCE(json_extract(record, '$.labels[0].score'), json_extract(record, '$.candidates[0].score'))"
INDEXES = f"""
CREATE INDEX IF NOT EXISTS units_listed ON units (layer, idx, unit, verdict, trust);
CREATE INDEX IF NOT EXISTS units_by_score ON units ({_SCORE}, layer, idx, unit, verdict, trust);
"""
Order = Literal["unit", "best", "worst"]
_ORDERS: dict[Order, str] = {
    "unit": "layer, idx, unit",
    "best": f"{_SCORE} DESC, layer, idx, unit",
    "worst": f"{_SCORE}, layer, idx, unit",
}
_TEXT = (
    "(unit LIKE ? ESCAPE '\\' OR unit IN (SELECT unit FROM labels WHERE text LIKE ? ESCAPE '\\')"
    " OR layer LIKE '%.directions' AND json_extract(record, '$.name') LIKE ? ESCAPE '\\')"
)  # only directions have names, so only their records are opened
_TOGETHER = 50  # records of 30 KB that are in memory at once


@dataclass(frozen=True)
class Filter:
    """Which units: None and the empty text let all of them through.

    `text` is looked for in units as they print, in the names of directions and in accepted labels, without
    regard to the case of ASCII letters.
    """

    layer: str | None = None
    verdict: str | None = None
    trust: str | None = None
    text: str = ""


@dataclass(frozen=True)
class Page:
    """Some of the units that a filter lets through, and how many there are in all."""

    total: int
    records: tuple[UnitRecord, ...]


class CataloguePages:
    """Reads a catalogue that a run may still be writing. Safe to use from several threads.

    Raises:
        RunError: when there is no catalogue, or it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        if not path.is_file():
            raise RunError(f"There is no catalogue in {path.parent} yet; labeler run makes one.")
        try:
            self._connection = sqlite3.connect(
                reading_address(path), uri=True, check_same_thread=False, timeout=30
            )
        except sqlite3.DatabaseError as error:
            raise failed(path, error) from None
        from labeler.catalogue.schema import OLDEST, SCHEMA_VERSION  # which takes the indexes from here

        if not is_begun(path):
            raise RunError(f"{path} holds nothing yet; the same labeler run command goes on.")
        ((found,),) = self._all("SELECT MAX(value) FROM meta WHERE key = 'schema'")
        if not OLDEST <= int(found) <= SCHEMA_VERSION:
            raise RunError(
                f"{path} has catalogue version {found}; this labeler reads {OLDEST} to {SCHEMA_VERSION}:"
                " run again elsewhere."
            )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def find(self, wanted: Filter, *, order: Order = "unit", limit: int = 60, offset: int = 0) -> Page:
        """The units that a filter lets through, `limit` of them from place `offset` on.

        Units without a score come last in the order ``best`` and are left out of ``worst``.
        """
        where, values = _where(wanted, scored=order == "worst", by_score=order != "unit")
        query = f"SELECT unit FROM units WHERE {where} ORDER BY {_ORDERS[order]}"
        if wanted.text:  # no index helps to find a text, so its units are looked for once and counted here
            found = self._all(query, values)
            total, rows = len(found), found[offset : offset + limit]
        else:
            total = int(self._all(f"SELECT COUNT(*) FROM units WHERE {where}", values)[0][0])
            rows = self._all(f"{query} LIMIT ? OFFSET ?", (*values, limit, offset))
        return Page(total, tuple(self._records([str(row[0]) for row in rows])))

    def layers(self) -> dict[str, int]:
        """Number of units that have a verdict, by layer."""
        return dict(self._all("SELECT layer, COUNT(*) FROM units GROUP BY layer ORDER BY layer"))

    def counts(self, column: Literal["verdict", "trust"]) -> dict[tuple[str, str], int]:
        """Number of units by (layer, verdict) or (layer, trust)."""
        rows = self._all(f"SELECT layer, {column}, COUNT(*) FROM units GROUP BY layer, {column}")
        return {(str(layer), str(name)): int(count) for layer, name, count in rows}

    def units(self, layer: str) -> list[UnitId]:
        """The units of a layer, by index."""
        rows = self._all("SELECT unit FROM units WHERE layer = ? ORDER BY idx, unit", (layer,))
        return [UnitId.parse(str(row[0])) for row in rows]

    def unit(self, unit: UnitId) -> UnitRecord:
        """The record of one unit.

        Raises:
            CatalogueError: when it has no verdict (yet).
        """
        found = self._records([str(unit)])
        if not found:
            raise CatalogueError(f"The catalogue has no unit {unit}, or none yet.")
        return found[0]

    def beside(self, unit: UnitId) -> tuple[UnitId | None, UnitId | None]:
        """The units before and after one in its layer; None at an end."""
        found: list[UnitId | None] = []
        for sign, order in (("<", "DESC"), (">", "ASC")):
            query = (
                f"SELECT unit FROM units WHERE layer = ? AND (idx, unit) {sign} (?, ?)"
                f" ORDER BY idx {order}, unit {order} LIMIT 1"
            )
            rows = self._all(query, (unit.layer, unit.index, str(unit)))
            found.append(UnitId.parse(str(rows[0][0])) if rows else None)
        return found[0], found[1]

    def place(self, unit: UnitId) -> int:
        """How many units of its layer come before one."""
        query = "SELECT COUNT(*) FROM units WHERE layer = ? AND (idx, unit) < (?, ?)"
        return int(self._all(query, (unit.layer, unit.index, str(unit)))[0][0])

    def records(self, layer: str, first: UnitId, count: int) -> Iterator[UnitRecord]:
        """`count` records of a layer from the unit `first` on, by index."""
        query = "SELECT unit FROM units WHERE layer = ? AND (idx, unit) >= (?, ?) ORDER BY idx, unit LIMIT ?"
        units = [str(row[0]) for row in self._all(query, (layer, first.index, str(first), count))]
        for start in range(0, len(units), _TOGETHER):
            part = units[start : start + _TOGETHER]
            texts = self._texts(part)  # read together, but parsed one by one: a record is a thousand objects
            yield from (UnitRecord.model_validate_json(texts[unit]) for unit in part)

    def sample(self, most: int) -> list[UnitRecord]:
        """At most `most` records, evenly spaced by layer and index."""
        units = [str(row[0]) for row in self._all("SELECT unit FROM units ORDER BY layer, idx, unit")]
        return self._records(units[:: max(1, -(-len(units) // most))])

    def decoy_scores(self, most: int) -> tuple[float, ...]:
        """Scores of the decoys of at most `most` units, evenly spaced over them."""
        last = int(self._all("SELECT COALESCE(MAX(position), 0) FROM decoys")[0][0])
        chosen = range(1, last + 1, max(1, -(-last // most)))
        query = (
            "SELECT json_extract(label.value, '$.score') AS score"
            " FROM decoys, json_each(decoys.labels) AS label"
            f" WHERE position IN ({','.join('?' * len(chosen))}) AND score IS NOT NULL"
        )
        return tuple(float(row[0]) for row in self._all(query, tuple(chosen)))

    def state(self) -> tuple[int, int]:
        """What changes whenever a unit's record does: the last row's number, and how many units there are."""
        found = self._all("SELECT COALESCE(MAX(rowid), 0) FROM units")[0][0]
        return int(found), sum(self.layers().values())

    def note(self, key: str) -> str | None:
        """What the run stored about itself under `key`."""
        rows = self._all("SELECT value FROM meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else None

    def rounds(self) -> int:
        """Rounds that are recorded, of units with a verdict or without."""
        return int(self._all("SELECT COUNT(*) FROM rounds")[0][0])

    def _records(self, units: Sequence[str]) -> list[UnitRecord]:
        texts = self._texts(units)
        with without_collector():
            return [UnitRecord.model_validate_json(texts[unit]) for unit in units if unit in texts]

    def _texts(self, units: Sequence[str]) -> dict[str, str]:
        marks = ",".join("?" * len(units))
        return dict(self._all(f"SELECT unit, record FROM units WHERE unit IN ({marks})", units))

    def _all(self, query: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._connection.execute(query, tuple(values)).fetchall()
        except sqlite3.DatabaseError as error:
            raise failed(self.path, error) from None


def _where(wanted: Filter, *, scored: bool, by_score: bool) -> tuple[str, tuple[str, ...]]:
    given = {"layer": wanted.layer, "verdict": wanted.verdict, "trust": wanted.trust}
    plus = "+" if by_score else ""  # keeps SQLite from another index than that of the scores
    parts = [f"{plus}{column} = ?" for column, value in given.items() if value is not None]
    values = [value for value in given.values() if value is not None]
    if wanted.text:
        escaped = wanted.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        parts.append(_TEXT)
        values += [f"%{escaped}%"] * 3
    if scored:
        parts.append(f"{_SCORE} > -1e300")  # not IS NOT NULL, for which SQLite would parse every record
    return " AND ".join(parts) or "1", tuple(values)
