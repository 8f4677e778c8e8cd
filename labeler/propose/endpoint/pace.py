"""How many calls are out at once: as many as asked for, fewer when the server says that they are too many."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

BACKOFF = (0.5, 30.0)
"""Seconds before the first retry where the server names none, doubled for each more; and the most."""


class Pace:
    """Turns for calls of one event loop at a time.

    Additive increase, multiplicative decrease (Chiu & Jain 1989): a refusal for too many requests halves the
    calls at once; as many good answers as may be out at once allow one more. Refusals of calls that were
    out together count once.

    Args:
        most: calls at once, when the server keeps up.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.limit = most
        self.out = 0
        self._good = 0
        self._slowed = float("-inf")  # when the limit was halved last
        self._opens = float("-inf")  # no call begins before
        self._waiting: deque[asyncio.Future[None]] = deque()

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[float]:
        """Wait for a turn and hold it; gives the time at which it began."""
        while self._wait() > 0 or self.out >= self.limit:
            await self._next(self._wait())
        self.out += 1
        try:
            yield time.monotonic()
        finally:
            self.out -= 1
            self._wake()

    def too_many(self, began: float, wait: float | None) -> None:
        """A call that began then was refused for too many requests; the server may have named a wait."""
        now = time.monotonic()
        if began > self._slowed:
            self.limit, self._good, self._slowed = max(1, self.limit // 2), 0, now
        if wait is not None:
            self._opens = max(self._opens, now + wait)

    def good(self) -> None:
        """A call was answered."""
        self._good += 1
        if self._good >= self.limit and self.limit < self._most:
            self.limit, self._good = self.limit + 1, 0
            self._wake()

    def _wait(self) -> float:
        return self._opens - time.monotonic()

    async def _next(self, seconds: float) -> None:
        if seconds > 0:
            await asyncio.sleep(seconds)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(woken)
        try:
            await woken
        except asyncio.CancelledError:
            if woken.done():
                self._wake()  # somebody else takes the turn that was ours
            raise

    def _wake(self) -> None:
        while self._waiting:
            woken = self._waiting.popleft()
            if not woken.done():
                woken.set_result(None)
                return


def backoff(attempt: int, wait: float | None) -> float:
    """Seconds to wait after attempt 0, 1, …: what the server asked for, else doubling."""
    return wait if wait is not None else min(BACKOFF[0] * 2.0**attempt, BACKOFF[1])
