"""Where independent pieces of work run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class LocalExecutor:
    """Threads of this process; for work that waits on the network, or releases the interpreter lock.

    Args:
        workers: threads; 1 runs everything in the caller's.
    """

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """`function` of every item, in order. The first exception ends the work that has not begun."""
        if self._workers <= 1:
            yield from map(function, items)
            return
        pool = ThreadPoolExecutor(self._workers)
        try:
            yield from [future.result() for future in [pool.submit(function, item) for item in items]]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
