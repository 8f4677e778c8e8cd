"""Tables that grow by rows: in memory, or straight into a `.npy` file so that memory does not grow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

_PIECE: Final = 1 << 24  # bytes copied at once when tables are joined


class Rows(Protocol):
    """A float32 table ``(n, width)`` of which n is not known yet."""

    def append(self, rows_nw: NDArray[np.float32]) -> None:
        """Add rows at the end."""
        ...

    def finish(self) -> NDArray[np.float32]:
        """The whole table; nothing is appended afterwards."""
        ...


class MemoryRows:
    """Rows in memory."""

    def __init__(self, width: int) -> None:
        self._parts: list[NDArray[np.float32]] = [np.empty((0, width), dtype=np.float32)]

    def append(self, rows_nw: NDArray[np.float32]) -> None:
        """Add rows at the end."""
        self._parts.append(np.array(rows_nw, dtype=np.float32))

    def finish(self) -> NDArray[np.float32]:
        """The whole table."""
        return np.concatenate(self._parts)


class FileRows:
    """Rows in a `.npy` file, byte for byte the one that `numpy.save` would write.

    They are written, not mapped: pages of a map that grows would count as this process's memory.
    """

    def __init__(self, path: Path, width: int) -> None:
        self._path, self._width, self._count = path, width, 0
        self._stream = path.open("wb")
        self._write_header()

    def append(self, rows_nw: NDArray[np.float32]) -> None:
        """Add rows at the end."""
        self._stream.write(np.ascontiguousarray(rows_nw, dtype="<f4").data)
        self._count += len(rows_nw)

    def finish(self) -> NDArray[np.float32]:
        """The whole table, mapped from the file, read-only."""
        self._stream.seek(0)
        self._write_header()  # numpy leaves room for the digits of the first axis, so the length stays
        self._stream.close()
        return load_rows(self._path)

    def _write_header(self) -> None:
        shape = (self._count, self._width)
        npy.write_array_header_1_0(self._stream, {"descr": "<f4", "fortran_order": False, "shape": shape})


class LateRows:
    """Rows whose width shows with the first that is there; a missing row is NaN.

    Args:
        table: makes the table, given the width.
    """

    def __init__(self, table: Callable[[int], Rows]) -> None:
        self._table = table
        self._rows: Rows | None = None
        self._width = self._waiting = 0

    def append(self, rows: Sequence[NDArray[np.float32] | None]) -> None:
        """Add rows ``(width,)`` at the end; None is a missing one."""
        for row in rows:
            if row is None:
                self._waiting += 1
            else:
                self._width = len(row)
                self._fill().append(row[None])

    def finish(self) -> NDArray[np.float32]:
        """The whole table ``(n, width)``; the width is 0 when every row is missing."""
        return self._fill().finish()

    def _fill(self) -> Rows:
        if self._rows is None:
            self._rows = self._table(self._width)
        missing = np.full((1, self._width), np.nan, dtype=np.float32)
        for _ in range(self._waiting):
            self._rows.append(missing)
        self._waiting = 0
        return self._rows


def load_rows(path: Path) -> NDArray[np.float32]:
    """A table mapped from its file, read-only."""
    table: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    return table


def save_array(path: Path, array: NDArray[Any]) -> None:
    """`numpy.save`, except that a table which already lies in that very file is left there."""
    if is_file_of(array, path):
        return
    temporary = path.with_suffix(".new")  # another map of the old file may still be open
    with temporary.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)
    temporary.replace(path)


def is_file_of(array: NDArray[Any], path: Path) -> bool:
    """Whether `array` is the whole table that is mapped from the file at `path`."""
    if not isinstance(array, np.memmap) or array.filename is None or not path.is_file():
        return False
    return os.path.samefile(str(array.filename), path) and path.stat().st_size == array.offset + array.nbytes


def join_rows(tables: Sequence[NDArray[np.float32]], path: Path | None) -> NDArray[np.float32]:
    """The tables one under another: in the file at `path`, piece by piece, or in memory where it is None."""
    if len(tables) == 1:
        return tables[0]
    if path is None:
        return np.concatenate(tables)
    rows = FileRows(path, tables[0].shape[1])
    for piece in _pieces(tables):
        rows.append(piece)
    return rows.finish()


def _pieces(tables: Iterable[NDArray[np.float32]]) -> Iterable[NDArray[np.float32]]:
    for table in tables:
        step = max(1, _PIECE // max(1, table.shape[1] * 4))
        for start in range(0, len(table), step):
            yield table[start : start + step]
