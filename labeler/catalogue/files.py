"""catalogue.db as a file: opened for reading, begun or not, and what SQLite raises as one sentence."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from labeler.errors import RunError

_ADVICE = {
    sqlite3.SQLITE_FULL: "make room there; the same command then goes on",
    sqlite3.SQLITE_IOERR: "look after its disk (room, quota, ulimit -f); the same command then goes on",
    sqlite3.SQLITE_READONLY: "make it writable; the same command then goes on",
    sqlite3.SQLITE_CANTOPEN: "make it and its directory readable and writable",
    sqlite3.SQLITE_PERM: "make it and its directory readable and writable",
    sqlite3.SQLITE_BUSY: "wait until no other process writes to it; the same command then goes on",
    sqlite3.SQLITE_LOCKED: "wait until no other process writes to it; the same command then goes on",
    sqlite3.SQLITE_PROTOCOL: "move the run off a network file system; the same command then goes on",
    sqlite3.SQLITE_NOMEM: "free memory; the same command then goes on",
}
_WRITES = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY}
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
_AGAIN = "nothing says that it is damaged: give the same command again"
MEND = (
    "put a copy in its place, or delete it with its -wal and -shm and run again: the stages stay, labels are"
    " asked for anew"
)
"""Of a damaged catalogue."""


def failed(path: Path, error: sqlite3.Error) -> RunError:
    """The error to raise in place of SQLite's own."""
    # Python itself raises errors without a code: of text that is no UTF-8, or of a connection that is closed.
    misused = isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError)
    unknown = sqlite3.SQLITE_MISUSE if misused else sqlite3.SQLITE_CORRUPT
    code = getattr(error, "sqlite_errorcode", unknown) & 0xFF  # the rest are finer causes
    if code in _WRITES:
        return RunError(f"{path} cannot be written to ({error}): {_ADVICE[code]}.")
    if code in _DAMAGE:
        return RunError(f"{path} is not a readable catalogue ({error}): {MEND}.")
    return RunError(f"{path} cannot be used now ({error}): {_ADVICE.get(code, _AGAIN)}.")


def reading_address(path: Path) -> str:
    """The URI by which SQLite opens `path` without the right to change it.

    A reader of a file in WAL mode writes beside it where readers and writers meet. On a read-only medium it
    cannot, and nobody writes, so SQLite is told so.
    """
    nobody_writes = not os.access(path.parent, os.W_OK) and not path.with_name(f"{path.name}-wal").exists()
    return f"{path.resolve().as_uri()}?mode=ro{'&immutable=1' if nobody_writes else ''}"


def is_begun(path: Path) -> bool:
    """Whether there is a catalogue: the file, and in it what a run writes first.

    Raises:
        RunError: when the file cannot be read.
    """
    if not path.is_file():
        return False
    try:
        with closing(sqlite3.connect(reading_address(path), uri=True)) as database:
            known = database.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone()
            return bool(known and database.execute("SELECT 1 FROM meta WHERE key = 'schema'").fetchone())
    except sqlite3.DatabaseError as error:
        raise failed(path, error) from None
