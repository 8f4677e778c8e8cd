"""Where independent pieces of work run: in this process, or on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext

from labeler.config import Config
from labeler.seams import Executor, Item, Result

__all__ = ["LOCAL", "LocalExecutor", "open_executor"]


class LocalExecutor:
    """Threads of this process; for work that waits on the network, or releases the interpreter lock.

    Args:
        workers: threads; 1 runs everything in the caller's.
        pieces: see `Executor`.
    """

    here = True

    def __init__(self, workers: int = 1, pieces: int = 1) -> None:
        self._workers = workers
        self.pieces = pieces

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """`function` of every item, in order. The first exception ends the work that has not begun."""
        if self._workers <= 1:
            yield from map(function, items)
            return
        pool = ThreadPoolExecutor(self._workers)
        try:
            yield from [future.result() for future in [pool.submit(function, item) for item in items]]
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def as_finished(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[int, Result]]:
        """The place of each item and `function` of it, in order."""
        yield from enumerate(self.map(function, items))


LOCAL = LocalExecutor()
"""Everything in the caller's thread and in one piece."""


def open_executor(config: Config, note: Callable[[str], None]) -> AbstractContextManager[Executor]:
    """The executor that `config` names; a cluster is connected to when it first gets work, if ever.

    Args:
        config: of the run.
        note: told in one line when a worker was lost.
    """
    if config.executor.kind == "local":
        return nullcontext(LocalExecutor(pieces=config.executor.shards))
    from labeler.executors.cluster import RayExecutor

    return RayExecutor(config.executor, secrets=(config.propose.api_key_env,), note=note)
