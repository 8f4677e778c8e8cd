"""The seam between the questions and whatever carries them."""

from __future__ import annotations

from typing import Protocol, Self

from labeler.propose.endpoint.dialect import Dialect
from labeler.propose.endpoint.wire import Failed, Question, Reply


class Exchange(Protocol):
    """Where questions go: an endpoint over HTTP, its batch API, or recorded answers.

    Inside ``async with`` it may be asked from many tasks at once.

    Attributes:
        base_url: its address as it is stored.
        together: nothing is answered before all that is asked in one go is there.
        dialect: what it understands where that needs no asking.
    """

    base_url: str
    together: bool
    dialect: Dialect | None

    async def __aenter__(self) -> Self:
        """Open what it needs in this event loop."""
        ...

    async def __aexit__(self, *exception: object) -> None:
        """Close it."""
        ...

    async def ask(self, question: Question, dialect: Dialect, key: str) -> Reply | Failed:
        """One attempt; `key` names the request."""
        ...

    async def probe(self, question: Question, dialect: Dialect, key: str) -> Reply | Failed:
        """One attempt at a question about the endpoint, answered at once."""
        ...
