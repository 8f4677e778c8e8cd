"""Locks on open files that go with their process, and a question about them that takes none.

Linux has both for an open file description (fcntl(2), F_OFD_SETLK and F_OFD_GETLK). Elsewhere flock(2) stands
in, where the only way to ask is to take the lock for an instant: whoever then wants it looks a few times.
"""

from __future__ import annotations

import contextlib
import struct
import time

_FIELDS = "hhqqi0q"  # struct flock: type, whence, start, length (0: to the end), process
_LOOKS, _LOOK = 5, 0.02  # times, and seconds between them


def lock(descriptor: int) -> bool:
    """Take the whole file, open for writing, for this open file alone; False: another one has it."""
    for _ in range(_LOOKS):
        with contextlib.suppress(BlockingIOError):
            _take(descriptor)
            return True
        time.sleep(_LOOK)
    return False


def is_locked(descriptor: int) -> bool:
    """Whether another open file has locked this one."""
    import fcntl

    if hasattr(fcntl, "F_OFD_GETLK"):
        wanted = struct.pack(_FIELDS, fcntl.F_WRLCK, 0, 0, 0, 0)
        found = struct.unpack(_FIELDS, fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, wanted))
        return bool(found[0] != fcntl.F_UNLCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _take(descriptor: int) -> None:
    import fcntl

    if hasattr(fcntl, "F_OFD_SETLK"):
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack(_FIELDS, fcntl.F_WRLCK, 0, 0, 0, 0))
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
