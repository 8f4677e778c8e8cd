"""What libraries raise where a disk is full or read-only, as one sentence that says what to do.

numpy, safetensors and faiss each say it in their own way, and only some of them by an `OSError`.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labeler.errors import LabelerError, RunError

_ROOM = "make room there"
_ADVICE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f)",
    errno.EROFS: "make it writable",
}
_SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")  # numpy's whole sentence about a full disk


@contextmanager
def writing(place: Path, node: str = "") -> Iterator[None]:
    """In this block, what a full or read-only disk makes any library raise is a `RunError` about `place`, or
    about the file that the error names, where that lies elsewhere; of the machine `node`, if that is given.

    Raises:
        RunError: one sentence with the cause and what to do. Every other exception passes.
    """
    try:
        yield
    except LabelerError:
        raise
    except Exception as error:
        said = write_failure(error)
        if said is None:
            raise
        where = f"{_where(error, place)}{f' of {node}' if node else ''}"
        raise RunError(f"{where} cannot be written to ({said}; the same command then goes on.") from None


def write_failure(error: Exception) -> str | None:
    """``cause): what to do`` where `error` means that nothing more can be written there, else None."""
    number = error.errno if isinstance(error, OSError) else None
    if number in _ADVICE:
        return _said(number)
    text = str(error)
    if _SHORT_WRITE.search(text):
        return f"a file was not written whole, as on a full disk): {_ROOM}"
    return next((_said(known) for known in _ADVICE if os.strerror(known) in text), None)


def _where(error: Exception, place: Path) -> Path | str:
    named = error.filename if isinstance(error, OSError) else None
    if not isinstance(named, str | Path) or Path(named).is_relative_to(place):
        return place
    return named


def _said(number: int) -> str:
    return f"{os.strerror(number)}): {_ADVICE[number]}"
