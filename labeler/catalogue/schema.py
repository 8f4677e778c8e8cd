"""The tables of catalogue.db, and how a catalogue of an earlier version is read or brought up to date.

A unit's record is one JSON text of some 30 KB, so questions about many units never touch `units`: what they
ask for stands once more in `listed` (a row per unit, in the order of layer and index) and in `labels`.

Version 1 had neither `listed` nor the words of labels. Such a file is read through temporary views that take
them from the records; opened for writing, it gets the tables in one transaction. Version 2 had no
`digests`; its rows get none.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from labeler.catalogue.paging import INDEXES
from labeler.catalogue.query import LABEL_FIELDS
from labeler.records import UnitRecord

SCHEMA_VERSION = 3
OLDEST = 1
"""The oldest version that can still be read."""

_WORDS = "tokenize = 'porter unicode61 remove_diacritics 2'"
_TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS units (
    unit TEXT PRIMARY KEY, layer TEXT NOT NULL, idx INTEGER NOT NULL, verdict TEXT NOT NULL,
    trust TEXT NOT NULL, record TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS label_embeddings (text TEXT PRIMARY KEY, vector BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS rounds (
    unit TEXT NOT NULL, round INTEGER NOT NULL, record TEXT NOT NULL, PRIMARY KEY (unit, round)
);
CREATE TABLE IF NOT EXISTS decoys (position INTEGER PRIMARY KEY, unit TEXT NOT NULL, labels TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS judgements (
    unit TEXT NOT NULL, text TEXT NOT NULL, record TEXT NOT NULL, counter INTEGER NOT NULL,
    PRIMARY KEY (unit, text)
);
"""
_LISTS = f"""
CREATE TABLE IF NOT EXISTS labels (
    layer TEXT NOT NULL, idx INTEGER NOT NULL, unit TEXT NOT NULL, position INTEGER NOT NULL,
    text TEXT NOT NULL, kind TEXT NOT NULL, probability REAL, PRIMARY KEY (unit, position)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS labels_by_text ON labels (text, layer, idx, unit);
CREATE INDEX IF NOT EXISTS labels_by_kind ON labels (kind, probability);
CREATE INDEX IF NOT EXISTS labels_by_probability ON labels (probability, kind);
CREATE TABLE IF NOT EXISTS listed (
    layer TEXT NOT NULL, idx INTEGER NOT NULL, unit TEXT NOT NULL, name TEXT NOT NULL, verdict TEXT NOT NULL,
    trust TEXT NOT NULL, coverage REAL, reason TEXT NOT NULL, labels TEXT NOT NULL, exemplars TEXT NOT NULL,
    PRIMARY KEY (layer, idx, unit)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS listed_by_verdict ON listed (verdict, layer, idx, unit, trust);
CREATE INDEX IF NOT EXISTS listed_by_trust ON listed (trust, layer, idx, unit, verdict);
CREATE TABLE IF NOT EXISTS texts (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);
CREATE VIRTUAL TABLE IF NOT EXISTS label_words
    USING fts5(text, content = 'texts', content_rowid = 'id', {_WORDS});
CREATE TRIGGER IF NOT EXISTS words_of_texts AFTER INSERT ON texts BEGIN
    INSERT INTO label_words (rowid, text) VALUES (new.id, new.text);
END;
"""
TABLES = _TABLES + _LISTS + INDEXES

_LISTED_FROM_RECORDS = """
SELECT layer, idx, unit, COALESCE(json_extract(record, '$.name'), '') AS name, verdict, trust,
    json_extract(record, '$.coverage') AS coverage, json_extract(record, '$.reason') AS reason,
    listed_labels(record) AS labels, listed_exemplars(record) AS exemplars
FROM main.units
"""
_LABELS_FROM_RECORDS = """
SELECT layer, idx, unit, key AS position, json_extract(value, '$.text') AS text,
    json_extract(value, '$.kind') AS kind, json_extract(value, '$.probability') AS probability
FROM main.units, json_each(record, '$.labels')
"""
_VIEWS = f"""
CREATE TEMP VIEW listed AS {_LISTED_FROM_RECORDS};
CREATE TEMP VIEW labels AS {_LABELS_FROM_RECORDS};
CREATE VIRTUAL TABLE temp.label_words USING fts5(text, {_WORDS});
INSERT INTO temp.label_words (text) SELECT DISTINCT text FROM temp.labels;
"""
_MIGRATE = f"""
BEGIN IMMEDIATE;
DROP TABLE labels;
{_LISTS}
INSERT INTO listed SELECT * FROM ({_LISTED_FROM_RECORDS});
INSERT INTO labels SELECT * FROM ({_LABELS_FROM_RECORDS});
INSERT INTO texts (text) SELECT DISTINCT text FROM labels ORDER BY text;
UPDATE meta SET value = '2' WHERE key = 'schema';
COMMIT;
"""

Statement = tuple[str, tuple[object, ...]]
_LISTED = set(LABEL_FIELDS)


def version_of(connection: sqlite3.Connection) -> int | None:
    """The version of the catalogue in a file; None where the file is empty.

    Raises:
        sqlite3.DatabaseError: when it is not a database.
        ValueError: when it is one, but no catalogue.
    """
    tables = {str(row[0]) for row in connection.execute("SELECT name FROM sqlite_master")}
    if not tables:
        return None
    if "meta" not in tables:
        raise ValueError("no catalogue")
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    return None if row is None else int(row[0])


def read_as_current(connection: sqlite3.Connection, found: int) -> None:
    """Let a read-only catalogue of version `found` answer the questions of this version, more slowly."""
    if found > 1:
        return
    _teach(connection)
    connection.executescript(_VIEWS)


def bring_up_to_date(connection: sqlite3.Connection, found: int) -> None:
    """Give a catalogue of version `found` the lists of this version; all or, where interrupted, nothing."""
    if found > 1:
        return
    _teach(connection)
    try:
        connection.executescript(_MIGRATE)
    except sqlite3.DatabaseError:
        connection.rollback()
        raise


def unit_statements(record: UnitRecord) -> list[Statement]:
    """What stores one record, and replaces an earlier one of the same unit."""
    whole = record.model_dump_json()
    return [
        (
            "INSERT OR REPLACE INTO units VALUES (?, ?, ?, ?, ?, ?)",
            (record.unit, record.layer, record.index, record.verdict, record.trust.verdict, whole),
        ),
        (
            "INSERT OR REPLACE INTO listed VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (record.layer, record.index, record.unit, record.name, record.verdict, record.trust.verdict,
             record.coverage, record.reason,
             _labels([label.model_dump(include=set(_LISTED)) for label in record.labels]),
             _exemplars([{"image": exemplar.image} for exemplar in record.exemplars])),
        ),
        ("DELETE FROM labels WHERE unit = ?", (record.unit,)),
        *(
            ("INSERT INTO labels VALUES (?, ?, ?, ?, ?, ?, ?)",
             (record.layer, record.index, record.unit, position, label.text, label.kind, label.probability))
            for position, label in enumerate(record.labels)
        ),
        *(("INSERT OR IGNORE INTO texts (text) VALUES (?)", (label.text,)) for label in record.labels),
    ]  # fmt: skip


def _teach(connection: sqlite3.Connection) -> None:
    """SQLite's own JSON functions round numbers to 15 digits, so lists are taken from records by Python."""
    connection.create_function(
        "listed_labels", 1, lambda record: _labels(json.loads(record)["labels"]), deterministic=True
    )
    connection.create_function(
        "listed_exemplars", 1, lambda record: _exemplars(json.loads(record)["exemplars"]), deterministic=True
    )


def _labels(labels: Sequence[Mapping[str, Any]]) -> str:
    """What is listed of labels: for each the values of `LABEL_FIELDS`."""
    return json.dumps([[label[name] for name in LABEL_FIELDS] for label in labels], ensure_ascii=False)


def _exemplars(exemplars: Sequence[Mapping[str, Any]]) -> str:
    return json.dumps([exemplar["image"] for exemplar in exemplars])
