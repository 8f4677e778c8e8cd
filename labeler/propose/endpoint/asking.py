"""Many questions at once, from code that is not asynchronous: answers come in the order of the questions."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Done(Generic[Result]):
    position: int
    result: Result


@dataclass(frozen=True)
class _Ended:
    count: int
    error: BaseException | None


def ask_all(
    items: Iterable[Item],
    ask: Callable[[Item], Awaitable[Result]],
    around: Callable[[], AbstractAsyncContextManager[object]],
    ahead: int | None,
) -> Iterator[Result]:
    """`ask` of every item, concurrently, results in the order of the items.

    An event loop in a thread of its own does the asking, while whoever reads the results goes on with them.
    Items are taken one at a time in another thread (making them may be work), at most `ahead` before they
    are answered. The first exception, of an item or an answer, ends everything and is raised here; so does
    closing the iterator.

    Args:
        items: what to ask.
        ask: asks one item, in the event loop.
        around: opened in the event loop before the first item and closed after the last.
        ahead: None: all items are taken before the first need be answered.
    """
    found: queue.SimpleQueue[_Done[Result] | _Ended] = queue.SimpleQueue()
    asker = _Asker(iter(items), ask, around, ahead, found)
    thread = threading.Thread(target=asker.run, name="labeler-ask", daemon=True)
    thread.start()
    early: dict[int, Result] = {}
    position, ended = 0, None
    try:
        while ended is None or position < ended.count:
            while position in early:
                yield early.pop(position)
                position += 1
            if ended is not None:
                break
            message = found.get()
            if isinstance(message, _Done):
                early[message.position] = message.result
            elif message.error is not None:
                raise message.error
            else:
                ended = message
    finally:
        asker.stop()
        thread.join()


class _Asker(Generic[Item, Result]):
    """The event loop's side of `ask_all`."""

    def __init__(
        self,
        items: Iterator[Item],
        ask: Callable[[Item], Awaitable[Result]],
        around: Callable[[], AbstractAsyncContextManager[object]],
        ahead: int | None,
        found: queue.SimpleQueue[_Done[Result] | _Ended],
    ) -> None:
        self._items, self._ask, self._around, self._ahead, self._found = items, ask, around, ahead, found
        self._loop = asyncio.new_event_loop()
        self._main: asyncio.Task[int] | None = None
        self._stopped = False

    def run(self) -> None:
        """The thread's whole life; how it ended is the last message."""
        error: BaseException | None = None
        count = 0
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                count = runner.run(self._all())
        except asyncio.CancelledError:
            pass  # nobody reads any more
        except BaseException as problem:  # raised again by `ask_all`, in the thread that can tell anybody
            error = problem.exceptions[0] if isinstance(problem, BaseExceptionGroup) else problem
        self._found.put(_Ended(count, error))

    def stop(self) -> None:
        """End the asking, from another thread; harmless when it has ended."""

        def cancel() -> None:
            self._stopped = True
            if self._main is not None:
                self._main.cancel()

        try:
            self._loop.call_soon_threadsafe(cancel)
        except RuntimeError:
            return  # the loop is closed: it has ended

    async def _all(self) -> int:
        self._main = asyncio.current_task()
        if self._stopped:
            return 0
        room = asyncio.Semaphore(self._ahead) if self._ahead is not None else None
        count = 0
        with ThreadPoolExecutor(1, thread_name_prefix="labeler-evidence") as maker:
            async with self._around(), asyncio.TaskGroup() as tasks:
                while True:
                    if room is not None:
                        await room.acquire()
                    item = await self._loop.run_in_executor(maker, next, self._items, None)
                    if item is None:
                        return count
                    tasks.create_task(self._one(count, item, room))
                    count += 1

    async def _one(self, position: int, item: Item, room: asyncio.Semaphore | None) -> None:
        result = await self._ask(item)
        self._found.put(_Done(position, result))
        if room is not None:
            room.release()
