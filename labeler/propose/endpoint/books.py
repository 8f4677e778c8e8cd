"""Bookings from many tasks at once, in few commits."""

from __future__ import annotations

import asyncio

from labeler.seams import Booking, CallLedger


class Books:
    """Keeps a ledger from an event loop.

    A commit waits for the disk, milliseconds, so whatever comes during one goes into the next together.
    Nobody goes on before his own is durable. What was put is written even if whoever put it is cancelled, as
    long as `close` is awaited.
    """

    def __init__(self, ledger: CallLedger) -> None:
        self._ledger = ledger
        self._waiting: list[tuple[Booking, asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None

    async def put(self, booking: Booking) -> None:
        """Return once `booking` is durable."""
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((booking, durable))
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        await durable

    async def close(self) -> None:
        """Return once everything that was put is durable, or whoever put it knows that it is not."""
        if self._writer is not None:
            await self._writer

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            error: Exception | None = None
            try:
                await asyncio.to_thread(self._ledger.book, [booking for booking, _ in batch])
            except Exception as problem:  # told to each of them
                error = problem
            for _, durable in batch:
                if durable.done():
                    continue
                if error is None:
                    durable.set_result(None)
                else:
                    durable.set_exception(error)
