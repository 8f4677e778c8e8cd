"""A sha256 of every row of catalogue.db, written with the row: SQLite has no checksums of its own.

Triggers write them, so that no statement can forget to. A row that was changed or lost by anything else, a
flipped bit on a disk among them, no longer fits.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator

KEYS = {
    "units": ("unit",),
    "listed": ("unit",),
    "labels": ("unit", "position"),
    "label_embeddings": ("text",),
    "rounds": ("unit", "round"),
    "decoys": ("position",),
    "judgements": ("unit", "text"),
    "meta": ("key",),
    "model_answers": ("key",),
    "model_notes": ("key",),
    "model_calls": ("id",),
}
"""What names a row, by table."""

_TABLE = """
CREATE TABLE IF NOT EXISTS digests (
    of_table TEXT NOT NULL, row TEXT NOT NULL, sha256 TEXT NOT NULL, PRIMARY KEY (of_table, row)
) WITHOUT ROWID;
"""


def keep_digests(connection: sqlite3.Connection) -> None:
    """From now on every row that this connection or another of this package writes has its digest."""
    _teach(connection)
    script = _TABLE
    for table in _present(connection):
        row, digest = _row(connection, table, "new.")
        gone, _ = _row(connection, table, "old.")
        script += f"""
CREATE TRIGGER IF NOT EXISTS digest_of_{table} AFTER INSERT ON {table} BEGIN
    INSERT OR REPLACE INTO digests VALUES ('{table}', {row}, {digest});
END;
CREATE TRIGGER IF NOT EXISTS no_digest_of_{table} AFTER DELETE ON {table} BEGIN
    DELETE FROM digests WHERE of_table = '{table}' AND row = {gone};
END;
"""
    connection.executescript(script)


def changed_rows(connection: sqlite3.Connection) -> Iterator[str]:
    """Where rows are not what was written, a phrase for each table; rows without a digest are not judged."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'digests'").fetchone() is None:
        return
    _teach(connection)
    for table in _present(connection):
        query = "SELECT row, sha256 FROM digests WHERE of_table = ?"
        written = dict(connection.execute(query, (table,)).fetchall())
        row, digest = _row(connection, table)
        found = connection.execute(f"SELECT {row}, {digest} FROM {table}")
        changed = [name for name, now in found if written.pop(name, now) != now]
        for names, what in ((changed, "not what was written"), (list(written), "missing")):
            if names:
                yield f"rows of {table} {what}: {len(names)}, the first {names[0]}"


def _present(connection: sqlite3.Connection) -> list[str]:
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    return [table for table in KEYS if table in tables]


def _row(connection: sqlite3.Connection, table: str, of: str = "") -> tuple[str, str]:
    """The expressions for a row's name and for its digest."""
    columns = [str(column[1]) for column in connection.execute(f"PRAGMA table_info({table})")]
    name = ", ".join(f"{of}{key}" for key in KEYS[table])
    values = ", ".join(f"{of}{column}" for column in columns)
    return f"json_array({name})", f"row_digest({values})"


def _teach(connection: sqlite3.Connection) -> None:
    connection.create_function("row_digest", -1, _digest, deterministic=True)


def _digest(*values: object) -> str:
    plain = [value.hex() if isinstance(value, bytes) else value for value in values]
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()
