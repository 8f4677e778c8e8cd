"""The batch API: all questions of a round in one file, answered together, for less money and within a day.

A batch is noted before it is waited for, so a run that was killed finds it again and pays for nothing twice.
Answers come back through the same door as any other, and into the same cache.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import openai
from openai.types import Batch

from labeler.propose.endpoint.dialect import Dialect
from labeler.propose.endpoint.http import HttpExchange, clean, open_client
from labeler.propose.endpoint.wire import MOST_BYTES, Failed, Question, Reply, decode
from labeler.seams import CallLedger
from labeler.storage import fingerprint

QUIET = 0.5
"""Seconds without a new question after which those that wait go out together."""
POLL = 30.0
"""Seconds between two questions about how far a batch is."""
MOST_FILE_BYTES = 150_000_000
MOST_REQUESTS = 50_000
"""OpenAI takes 200 MB and 50,000 requests in a file; a larger round goes out as several batches at once."""
_OPEN = ("validating", "in_progress", "finalizing", "cancelling")
_MOST_FAILURES = 20  # in a row, of asking how far a batch is
_FILE_TIMEOUT = 20.0  # times that of a call: files are large


@dataclass(eq=False)
class _Line:
    """One request of a batch's file, and who waits for its answer."""

    key: str
    data: bytes = field(repr=False)
    answer: asyncio.Future[Reply | Failed]


class BatchExchange:
    """Implements `labeler.propose.endpoint.exchange.Exchange` with OpenAI's batch API.

    Args:
        live: the same endpoint, for questions that are answered at once.
        ledger: where batches are noted.
        timeout: seconds for a call about a batch; files take longer.
    """

    together = True
    dialect: Dialect | None = None

    def __init__(self, live: HttpExchange, ledger: CallLedger, timeout: float) -> None:
        self.base_url = live.base_url
        self._live, self._ledger, self._timeout = live, ledger, timeout
        self._note = f"batches {fingerprint(live.base_url)}"
        self._files: openai.AsyncOpenAI | None = None
        self._lines: list[_Line] = []
        self._flush: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: set[str] = set()

    async def __aenter__(self) -> Self:
        await self._live.__aenter__()
        most = MOST_BYTES * MOST_REQUESTS  # no line of a file may be longer than one answer
        self._files = open_client(self.base_url, self._live.key, self._timeout, most)
        return self

    async def __aexit__(self, *exception: object) -> None:
        for task in self._tasks:
            task.cancel()
        if exception[0] is None:  # all answers are in the cache
            self._keep({name: keys for name, keys in self._noted().items() if name not in self._ended})
        if self._files is not None:
            await self._files.close()
        await self._live.__aexit__(*exception)

    async def probe(self, question: Question, dialect: Dialect, key: str) -> Reply | Failed:
        """A question about the endpoint is not worth a batch."""
        return await self._live.ask(question, dialect, key)

    async def ask(self, question: Question, dialect: Dialect, key: str) -> Reply | Failed:
        """The answer, once the batch that the question goes out with is done."""
        body = await self._live.body(question, dialect)
        request = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
        loop = asyncio.get_running_loop()
        line = _Line(key, json.dumps(request).encode() + b"\n", loop.create_future())
        self._lines.append(line)
        if self._flush is not None:
            self._flush.cancel()
        self._flush = loop.call_later(QUIET, self._send_all)
        return await line.answer

    def _send_all(self) -> None:
        lines, self._lines = self._lines, []
        for known, keys in self._noted().items():
            found = [line for line in lines if line.key in keys]
            if found and known not in self._ended:
                self._start(self._finish(known, found))
                lines = [line for line in lines if line.key not in keys]
        for part in _parts(lines):
            self._start(self._send(part))

    def _start(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, lines: Sequence[_Line]) -> None:
        data = b"".join(line.data for line in lines)

        async def create(client: openai.AsyncOpenAI) -> str:
            file = await client.files.create(
                file=("labeler.jsonl", data, "application/jsonl"), purpose="batch"
            )
            batch = await client.batches.create(
                input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
            )
            return batch.id

        found = await self._live.call(create, _FILE_TIMEOUT * self._timeout)
        if isinstance(found, Failed):
            _answer_all(lines, found)
            return
        self._keep({**self._noted(), found: [line.key for line in lines]})
        await self._finish(found, lines)

    async def _finish(self, batch: str, lines: Sequence[_Line]) -> None:
        """Wait for a batch and hand out its answers; whoever got none is told why."""
        try:
            ended = await self._ended_batch(batch)
            if isinstance(ended, Failed):
                _answer_all(lines, ended)
                return
            for file in (ended.output_file_id, ended.error_file_id):
                if file:
                    failed = await self._hand_out(file, {line.key: line for line in lines})
                    if failed is not None:
                        _answer_all(lines, failed)
                        return
            self._ended.add(batch)
            _answer_all(lines, self._unanswered(ended))
        finally:
            _answer_all(lines, Failed(f"The batch {batch} was given up."))  # nobody waits for ever

    async def _ended_batch(self, batch: str) -> Batch | Failed:
        failures = 0
        while True:
            found = await self._live.call(lambda client: client.batches.retrieve(batch), self._timeout)
            if not isinstance(found, Failed):
                if found.status not in _OPEN:
                    return found
                failures = 0
            elif not found.retry or (failures := failures + 1) > _MOST_FAILURES:
                return found
            await asyncio.sleep(POLL)

    async def _hand_out(self, file: str, waiting: dict[str, _Line]) -> Failed | None:
        """Give every line of a result file to whoever waits for it. One line is read at a time."""
        files = self._files
        assert files is not None  # inside `async with`

        async def read(client: openai.AsyncOpenAI) -> None:
            async with client.files.with_streaming_response.content(file) as response:
                async for data in _split(response.iter_bytes(), MOST_BYTES):
                    key, found = _result(data, self._live)
                    line = waiting.get(key)
                    if line is not None and not line.answer.done():
                        line.answer.set_result(found)

        return await self._live.call(lambda _: read(files), _FILE_TIMEOUT * self._timeout)

    def _unanswered(self, batch: Batch) -> Failed:
        said = "; ".join(str(error.message) for error in (batch.errors and batch.errors.data) or ())
        said = f": {clean(said, self._live.key)}" if said else ""
        if batch.status == "failed":
            return Failed(f"{self.base_url} refused the batch{said}.", stop="error")
        return Failed(f"The batch ended as {batch.status} without this answer{said}.", retry=True)

    def _noted(self) -> dict[str, list[str]]:
        """The request keys of every batch that was sent and whose answers may not all be in the cache."""
        noted: dict[str, list[str]] = json.loads(self._ledger.note(self._note) or "{}")
        return noted

    def _keep(self, batches: dict[str, list[str]]) -> None:
        self._ledger.put_note(self._note, json.dumps(batches) if batches else None)


def _parts(lines: Sequence[_Line]) -> Iterator[list[_Line]]:
    """As few files as the limits allow."""
    part: list[_Line] = []
    size = 0
    for line in lines:
        if part and (size + len(line.data) > MOST_FILE_BYTES or len(part) == MOST_REQUESTS):
            yield part
            part, size = [], 0
        part.append(line)
        size += len(line.data)
    if part:
        yield part


async def _split(pieces: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """The lines of a stream; one longer than `most` is passed over without being kept."""
    line = bytearray()
    too_long = False
    async for piece in pieces:
        *ended, rest = piece.split(b"\n")
        for part in ended:
            if not too_long and len(line) + len(part) <= most:
                yield bytes(line + part)
            line.clear()
            too_long = False
        too_long = too_long or len(line) + len(rest) > most
        if too_long:
            line.clear()
        else:
            line += rest
    if line:
        yield bytes(line)


def _result(data: bytes, live: HttpExchange) -> tuple[str, Reply | Failed]:
    """The request's key and what came of it, of one line of a result file; an empty key for no such line."""
    try:
        row: Any = json.loads(data.replace(live.key.get_secret_value().encode(), b"***"))
        key, response = str(row["custom_id"]), row.get("response") or {}
        status, body = int(response.get("status_code") or 0), response.get("body") or {}
        if not 0 <= status < 1000:
            raise ValueError("no status of HTTP")
        said = (body.get("error") or row.get("error") or {}) if status != 200 else {}
        if status == 200:
            return key, decode(json.dumps(body).encode())
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return "", Failed("A line of the batch's results cannot be read.")
    words = clean(str(said.get("message") if isinstance(said, dict) else said), live.key)
    retry = status == 429 or status >= 500
    return key, Failed(f"The batch answered with status {status}: {words}", status, words, retry=retry)


def _answer_all(lines: Sequence[_Line], found: Failed) -> None:
    for line in lines:
        if not line.answer.done():
            line.answer.set_result(found)
