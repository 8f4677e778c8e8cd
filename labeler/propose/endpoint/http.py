"""An endpoint over HTTP, through the openai client: every attempt is bounded, and silent about the key."""

from __future__ import annotations

import asyncio
import email.utils
import logging
import math
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Self, TypeVar

import httpx2
import openai
from pydantic import SecretStr

from labeler.propose.endpoint.dialect import Dialect
from labeler.propose.endpoint.wire import MOST_BYTES, Failed, Question, Reply, decode

LONGEST_WAIT = 600.0
"""Seconds: a server that asks for a longer wait is taken as one that does not answer."""
_STOPS = {
    401: "does not accept the key: check the environment variable {key}",
    403: "does not allow this: check that the key in {key} may use the model {model}",
    404: "does not know the model {model}: check propose.model and propose.base_url",
}
"""Statuses that no unit will fare better with."""
_RETRIED = {408, 409, 425, 429}  # and everything from 500 on
CLIENTS = 4
"""Clients that share the calls: for every request a client looks at all its connections, so that one with 32
of them spends a sixth of its time on that."""
_WIRE = "httpcore2"
"""Its debug log has every header of an answer, and a server may echo the key in one: it stays off."""
Result = TypeVar("Result")
_NO_MONEY = ("insufficient_quota", "billing_hard_limit_reached")


class HttpExchange:
    """An endpoint that answers one chat completion at a time.

    Args:
        base_url: as `safe_url` gives it.
        key: of the endpoint; every text that comes back is rid of it.
        key_name: the environment variable that holds it, for sentences.
        model: the name that the endpoint gives it.
        temperature: of the sampling.
        timeout: seconds for a whole attempt, from the connection to the last byte.
    """

    together = False
    dialect: Dialect | None = None

    def __init__(
        self, base_url: str, key: SecretStr, key_name: str, model: str, temperature: float, timeout: float
    ) -> None:
        self.base_url = base_url
        self.key, self._key_name, self._model = key, key_name, model
        self._temperature, self._timeout = temperature, timeout
        self._clients: list[openai.AsyncOpenAI] = []
        self._calls: list[int] = []  # of each client, in flight

    async def __aenter__(self) -> Self:
        context = httpx2.create_ssl_context()  # 50 ms each
        self._clients = [
            open_client(self.base_url, self.key, self._timeout, verify=context) for _ in range(CLIENTS)
        ]
        self._calls = [0] * CLIENTS
        return self

    async def __aexit__(self, *exception: object) -> None:
        for client in self._clients:
            await client.close()
        self._clients = []

    async def ask(self, question: Question, dialect: Dialect, key: str) -> Reply | Failed:
        """One attempt; never raises for what the server does."""

        async def create(client: openai.AsyncOpenAI) -> bytes:
            # `chat.completions.create` would first walk through the whole body, as long as all else takes.
            body = await self.body(question, dialect)
            response = await client.post("/chat/completions", cast_to=httpx2.Response, body=body)
            return response.content

        found = await self.call(create, self._timeout)
        if isinstance(found, Failed):
            return found
        # A server that echoes the key must not get it into the cache.
        return decode(found.replace(self.key.get_secret_value().encode(), b"***"))

    async def probe(self, question: Question, dialect: Dialect, key: str) -> Reply | Failed:
        """The same: every question is answered at once."""
        return await self.ask(question, dialect, key)

    async def body(self, question: Question, dialect: Dialect) -> dict[str, Any]:
        """The body of a chat completion's request."""
        if question.picture and dialect.picture == "jpeg":  # tens of milliseconds of the processor
            return await asyncio.to_thread(dialect.body, question, self._model, self._temperature)
        return dialect.body(question, self._model, self._temperature)

    async def call(
        self, send: Callable[[openai.AsyncOpenAI], Awaitable[Result]], seconds: float
    ) -> Result | Failed:
        """What `send` gets from the client within `seconds`, or what went wrong in words of our own."""
        chosen = min(range(len(self._clients)), key=self._calls.__getitem__)
        self._calls[chosen] += 1
        try:
            async with asyncio.timeout(seconds):
                return await send(self._clients[chosen])
        except openai.APIStatusError as error:
            return self._status(error)
        except (TimeoutError, openai.APITimeoutError):
            cause = f"{self.base_url} did not answer within {seconds:g} seconds."
            return Failed(cause, retry=True, maybe_billed=True)
        except openai.APIConnectionError as error:
            unreached = isinstance(error.__cause__, httpx2.ConnectError)
            cause = f"{self.base_url} could not be reached, or broke off."
            return Failed(cause, retry=True, maybe_billed=not unreached)
        except TooLargeError as problem:
            return Failed(str(problem), maybe_billed=True)
        except (openai.OpenAIError, httpx2.HTTPError, httpx2.InvalidURL):
            return Failed(f"{self.base_url} answered with something that is not HTTP.", maybe_billed=True)
        finally:
            self._calls[chosen] -= 1

    def _status(self, error: openai.APIStatusError) -> Failed:
        status, said = error.status_code, clean(_message(error), self.key)
        if status in _STOPS:
            words = _STOPS[status].format(key=self._key_name, model=repr(self._model))
            return Failed(f"{self.base_url} {words}.", status, said, stop="error")
        if status == 402 or (isinstance(error.body, dict) and error.body.get("code") in _NO_MONEY):
            return Failed(f"{self.base_url} says that the account is used up: {said}", status, stop="pause")
        if status in (400, 422):
            return Failed(f"{self.base_url} refused the request: {said}", status, said)
        wait = retry_after(error.response.headers)
        cause = f"{self.base_url} answered with status {status}: {said}"
        if wait is not None and wait > LONGEST_WAIT:
            return Failed(f"{cause} (and asks to wait {wait:.0f} seconds)", status, said)
        return Failed(cause, status, said, retry=status in _RETRIED or status >= 500, wait=wait)


def open_client(
    base_url: str,
    key: SecretStr,
    timeout: float,
    most_bytes: int = MOST_BYTES,
    verify: ssl.SSLContext | bool = True,
) -> openai.AsyncOpenAI:
    """A client that never retries by itself, follows no redirection and reads no body beyond `most_bytes`.

    Retries are the caller's, who keeps a row for each. A redirection could carry pictures elsewhere.
    """

    logging.getLogger(_WIRE).setLevel(max(logging.INFO, logging.getLogger(_WIRE).level))

    async def cap(response: httpx2.Response) -> None:
        """Before a body is read, those of errors too."""
        if response.headers.get("content-encoding", "identity") != "identity":
            raise TooLargeError("The answer was compressed, which was not asked for.")
        response.stream = _Capped(response.stream, most_bytes)

    http = openai.DefaultAsyncHttpxClient(
        timeout=timeout, follow_redirects=False, event_hooks={"response": [cap]}, verify=verify
    )
    return openai.AsyncOpenAI(
        api_key=key.get_secret_value(),
        base_url=base_url,
        timeout=timeout,
        max_retries=0,
        http_client=http,
        default_headers={"Accept-Encoding": "identity"},
    )


class TooLargeError(Exception):
    """An answer that is not read to its end."""


class _Capped(httpx2.AsyncByteStream):
    def __init__(self, stream: Any, most_bytes: int) -> None:
        self._stream, self._most = stream, most_bytes

    async def __aiter__(self) -> AsyncIterator[bytes]:
        read = 0
        async for piece in self._stream:
            read += len(piece)
            if read > self._most:
                raise TooLargeError(f"The answer was larger than {self._most // 10**6} MB.")
            yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that ``Retry-After`` (RFC 9110, sec. 10.2.3) or ``retry-after-ms`` ask for, or None."""
    for name, parts in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / parts
        except ValueError:
            continue
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        when = email.utils.parsedate_to_datetime(headers.get("retry-after", "")).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, when - time.time())


def clean(said: str, key: SecretStr) -> str:
    """What a server said, on one printable line of at most 200 characters and without the key."""
    said = said[:2000].replace(key.get_secret_value(), "***")
    return " ".join(re.sub(r"[^\x20-\x7e]", " ", said).split())[:200]


def _message(error: openai.APIStatusError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or body.get("detail") or error.message)
