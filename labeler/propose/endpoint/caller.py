"""Asks one model and keeps account: cache first, then attempts within the pace and the budget, each a row."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from labeler.config import ProposeConfig
from labeler.errors import EndpointError, PausedError
from labeler.propose.endpoint.books import Books
from labeler.propose.endpoint.budget import Budget, expected_input
from labeler.propose.endpoint.dialect import Dialect
from labeler.propose.endpoint.exchange import Exchange
from labeler.propose.endpoint.pace import Pace, backoff
from labeler.propose.endpoint.probe import Understood, find_dialect
from labeler.propose.endpoint.wire import Answer, Failed, Question, Reply
from labeler.seams import Booking, Call, CallLedger
from labeler.storage import fingerprint

Found = TypeVar("Found")
Read = Callable[[Answer], str]
"""What is wrong with an answer, in our own words; empty when it can be used."""


@dataclass(frozen=True)
class Place:
    """What a question is about: a unit and a round (none for the endpoint itself), and the ladder's step."""

    unit: str
    round: int
    step: Literal["ask", "again", "longer", "probe"] = "ask"


class Caller:
    """Asks one model. Safe to use from many tasks of one event loop, inside `open`.

    Args:
        settings: the config's `propose` section.
        exchange: where questions go.
        ledger: the answers that are known, and a row for every attempt.
        budget: what may be spent.
        sees: whether pictures will be shown.
    """

    def __init__(
        self, settings: ProposeConfig, exchange: Exchange, ledger: CallLedger, budget: Budget, sees: bool
    ) -> None:
        self.settings, self._sees = settings, sees
        self.base_url, self.together = exchange.base_url, exchange.together
        self._exchange, self._ledger, self._budget = exchange, ledger, budget
        self._pace = Pace(settings.concurrency)
        self._books = Books(ledger)
        self._dialect = exchange.dialect
        self._probing: asyncio.Lock | None = None
        self._over: Failed | None = None
        """Why nothing more can be had: whoever waited for a turn then is not to ask, before all are told."""

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """What the questions of one event loop share."""
        self._probing, self._over = asyncio.Lock(), None
        async with self._exchange:
            try:
                yield
            finally:
                await self._books.close()

    def key(self, question: Question) -> str:
        """The cache's key of a question."""
        return question.key(self.base_url, self.settings.model, self.settings.temperature)

    async def ask(self, question: Question, place: Place, read: Read) -> Answer | Failed:
        """The answer from the cache, else from the model; durable, with its row, before it is returned.

        What an attempt that failed may still get from another one is tried `propose.retries` times.

        Raises:
            EndpointError: when no unit can succeed: wrong key, model or address.
            PausedError: when the budget or the account is used up.
        """
        key = self.key(question)
        stored = self._ledger.answer(key)
        if stored is not None:
            answer = Answer.load(stored)
            await self._book(_read(self._row(place, key, cached=True), answer, read))
            return answer
        dialect = await self._known_dialect()

        async def attempt() -> Answer | Failed:
            reply, row = await self._attempt(self._exchange.ask, question, dialect, self._row(place, key))
            if isinstance(reply, Failed):
                if not reply.waits:  # a question that was only written down was asked of nobody
                    await self._book(row)
                return reply
            await self._book(_read(row, reply.answer, read), (key, reply.answer.dump()))
            return reply.answer

        found = await self._retried(attempt)
        if isinstance(found, Failed) and found.status in (400, 422):
            simpler = dialect.without(found.said)
            if simpler is not None:  # the server was changed since it was probed
                self._keep(simpler)
                return await self.ask(question, place, read)
        return found

    async def forget(self, keys: tuple[str, ...]) -> None:
        """Drop answers that led nowhere, so that whoever asks again gets new ones."""
        await self._books.put(Booking(forget=keys))

    async def probe(self) -> Understood:
        """What the endpoint understands, by asking it.

        Raises:
            EndpointError: when the key, the model or the address is wrong.
            PausedError: when it does not answer.
        """
        found = await self.understand()
        if isinstance(found, Failed):
            raise PausedError(f"Paused: {found.cause.rstrip('.')}; run again to resume.")
        return found

    async def understand(self) -> Understood | Failed:
        """The same, or why it does not answer.

        Raises:
            EndpointError: when the key, the model or the address is wrong.
            PausedError: when the budget or the account is used up.
        """

        async def ask(question: Question, dialect: Dialect) -> Reply | Failed:
            place, key = Place("", 0, "probe"), self.key(question)

            async def attempt() -> Reply | Failed:
                reply, row = await self._attempt(
                    self._exchange.probe, question, dialect, self._row(place, key)
                )
                await self._book(row if isinstance(reply, Failed) else replace(row, outcome="ok"))
                return reply

            return await self._retried(attempt)

        found = await find_dialect(ask, self.settings.sheet_side if self._sees else 0)
        if isinstance(found, Failed) and found.stop == "error":
            raise EndpointError(f"{found.cause.rstrip('.')}; use another model, or propose.kind: llm.")
        return found

    async def _retried(self, attempt: Callable[[], Awaitable[Found | Failed]]) -> Found | Failed:
        count = 0
        while True:
            found = await attempt()
            if not isinstance(found, Failed):
                return found
            if found.stop != "no":
                raise (EndpointError if found.stop == "error" else PausedError)(found.cause)
            if not found.retry or count >= self.settings.retries:
                return found
            await asyncio.sleep(backoff(count, found.wait))
            count += 1

    async def _attempt(
        self,
        send: Callable[[Question, Dialect, str], Awaitable[Reply | Failed]],
        question: Question,
        dialect: Dialect,
        row: Call,
    ) -> tuple[Reply | Failed, Call]:
        """One attempt in its turn and within the budget, and its row as far as it is known."""
        expected = expected_input(question, self.settings.sheet_side)
        row = replace(row, expected_input=expected, expected_output=question.max_tokens)
        async with AsyncExitStack() as stack:
            if not self.together:
                began = await stack.enter_async_context(self._pace.turn())
            if self._over is not None:
                return self._over, row
            settle = await stack.enter_async_context(self._budget.call(expected, question.max_tokens))
            start = time.monotonic()
            reply = await send(question, dialect, row.key)
            row = _billed(replace(row, seconds=round(time.monotonic() - start, 3)), reply)
            if row.billing != "no":
                settle(row)
            if isinstance(reply, Reply):
                self._pace.good()
            elif reply.stop != "no":
                self._over = replace(reply, waits=True)
            elif reply.status == 429 and not self.together:
                self._pace.too_many(began, reply.wait)
        return reply, row

    async def _known_dialect(self) -> Dialect:
        assert self._probing is not None  # inside `open`
        async with self._probing:
            if self._dialect is None:
                noted = self._ledger.note(self._note)
                if noted:
                    self._dialect = Dialect.load(noted)
                else:
                    self._keep((await self.probe()).dialect)
        assert self._dialect is not None
        return self._dialect

    def _keep(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._ledger.put_note(self._note, dialect.dump())

    @property
    def _note(self) -> str:
        return f"dialect {fingerprint(self.base_url, self.settings.model, self._sees)}"

    def _row(self, place: Place, key: str, *, cached: bool = False) -> Call:
        return Call(place.unit, place.round, place.step, key, self.settings.model, "error", cached)

    async def _book(self, row: Call, *answers: tuple[str, str]) -> None:
        await self._books.put(Booking((row,), answers))


def _billed(row: Call, reply: Reply | Failed) -> Call:
    """The row with the tokens that the server reported, or with what it may have taken."""
    if isinstance(reply, Failed):
        return replace(row, detail=reply.cause, billing="maybe" if reply.maybe_billed else "no")
    return replace(
        row, input_tokens=reply.input_tokens, output_tokens=reply.output_tokens,
        billing="reported" if reply.reported else "maybe",
    )  # fmt: skip


def _read(row: Call, answer: Answer, read: Read) -> Call:
    """The row with what came of the answer."""
    if answer.refused:
        return replace(row, outcome="refused")
    problem = read(answer)
    return replace(row, outcome="invalid" if problem else "ok", detail=problem)
