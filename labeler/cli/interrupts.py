"""Whether the user has interrupted this process, also where a library made another error of it.

Libraries in C or Rust may turn the `KeyboardInterrupt` that meets them into an error of their own, and an
object that is half made when it comes may complain when it goes.
"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any


@contextmanager
def watching_interrupts() -> Iterator[Callable[[], bool]]:
    """In this block of the main thread, a function that tells whether an interrupt has come.

    Python writes every signal that it handles into a file, whatever becomes of the exception.
    """
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    writing.setblocking(False)
    seen = bytearray()

    def interrupted() -> bool:
        with suppress(BlockingIOError):
            seen.extend(reading.recv(65536))
        return signal.SIGINT in seen

    def unraisable(told: Any) -> None:
        if not interrupted():
            hook(told)

    hook, wakeup = sys.unraisablehook, signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    sys.unraisablehook = unraisable
    try:
        yield interrupted
    finally:
        signal.set_wakeup_fd(wakeup)
        sys.unraisablehook = hook
        reading.close()
        writing.close()
