"""One chat completion at an OpenAI-compatible endpoint: bounded, cached, silent about keys."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import time
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx2
import openai
from pydantic import SecretStr

from labeler.config import ProposeConfig
from labeler.errors import EndpointError
from labeler.propose.schema import WIRE
from labeler.seams import Call, ResponseCache
from labeler.storage import fingerprint

OPENAI = "https://api.openai.com/v1"
MOST_BYTES = 1_000_000
"""An answer longer than this is not read further: a label is 80 characters."""
STOPS = {
    401: "does not accept the key: check the environment variable {key}",
    403: "does not allow this: check that the key in {key} may use the model {model}",
    404: "does not know the model {model}: check propose.model and propose.base_url",
}
"""Statuses that no unit will fare better with."""
OPTIONS = {
    "response_format": ("response_format", "json_schema"),
    "max_tokens": ("max_completion_tokens",),
    "temperature": ("temperature",),
}
"""What an endpoint may not know, and the words of a refusal that tell. Newer models of OpenAI's answer
`max_tokens` by asking for `max_completion_tokens`."""


@dataclass(frozen=True)
class Answer:
    """What came back. `refused`: the model or the server would not; `cut`: the tokens ran out."""

    text: str
    refused: bool = False
    cut: bool = False


@dataclass(frozen=True)
class Failed:
    """Why nothing came back, in words that are the same for the same cause. `stop` ends the whole run."""

    cause: str
    stop: bool = False


class ChatClient:
    """Asks one model. Safe to use from several threads.

    What an endpoint turns out not to know (`response_format`, `max_tokens`, `temperature`) is left out from
    then on. Answers are cached under the sha256 of the request, whichever of these were left out.

    Raises:
        EndpointError: when the key is missing or the address is none.
    """

    def __init__(self, settings: ProposeConfig, cache: ResponseCache | None = None) -> None:
        self.settings = settings
        self.base_url = safe_url(settings.base_url or OPENAI)
        self._key = _key(settings, self.base_url)
        self._cache = cache
        self._unknown: set[str] = set()
        self._client = openai.OpenAI(
            api_key=self._key.get_secret_value(),
            base_url=self.base_url,
            timeout=settings.timeout,
            max_retries=settings.retries,
        )

    def ask(self, messages: list[dict[str, Any]], max_tokens: int, salt: str) -> tuple[Answer | Failed, Call]:
        """The answer to `messages`, from the cache where it is known. `salt` is part of the cache's key."""
        key = self._request_key(messages, max_tokens, salt)
        stored = None if self._cache is None else self._cache.get(key)
        if stored is not None:
            return Answer(**json.loads(stored)), Call(self.settings.model, "ok", cached=True)
        start = time.monotonic()
        reply = self._adapt(messages, max_tokens)
        seconds = time.monotonic() - start
        if isinstance(reply, Failed):
            return reply, Call(self.settings.model, "error", seconds=seconds, detail=reply.cause)
        answer, usage = reply
        if self._cache is not None:
            self._cache.put(key, json.dumps(asdict(answer)))
        return answer, Call(self.settings.model, "ok", *usage, seconds=seconds)

    def _request_key(self, messages: list[dict[str, Any]], max_tokens: int, salt: str) -> str:
        hashed = [{**message, "content": _without_images(message["content"])} for message in messages]
        settings = [self.base_url, self.settings.model, self.settings.temperature, max_tokens]
        return fingerprint("chat", settings, hashed, WIRE, salt)

    def _adapt(
        self, messages: list[dict[str, Any]], max_tokens: int
    ) -> tuple[Answer, tuple[int | None, int | None]] | Failed:
        """Ask, leaving out one option after another that the endpoint says it does not know."""
        while True:
            left_out = frozenset(self._unknown)
            reply = self._send(messages, self._options(max_tokens, left_out))
            if not isinstance(reply, _BadRequest):
                return reply
            said = reply.said
            told = {name for name, words in OPTIONS.items() if any(word in said for word in words)}
            if not told - left_out:
                return Failed(f"{self.base_url} refused the request: {said[:200]}")
            self._unknown |= told

    def _options(self, max_tokens: int, left_out: frozenset[str]) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if "response_format" not in left_out:
            form = {"name": "labels", "schema": WIRE, "strict": True}
            options["response_format"] = {"type": "json_schema", "json_schema": form}
        if "temperature" not in left_out:
            options["temperature"] = self.settings.temperature
        options["max_completion_tokens" if "max_tokens" in left_out else "max_tokens"] = max_tokens
        return options

    def _send(
        self, messages: list[dict[str, Any]], options: dict[str, Any]
    ) -> tuple[Answer, tuple[int | None, int | None]] | Failed | _BadRequest:
        create: Any = self._client.chat.completions.with_streaming_response.create
        try:
            with create(model=self.settings.model, messages=messages, **options) as response:
                body = _read(response, time.monotonic() + self.settings.timeout)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            return _BadRequest(self._said(error))
        except openai.APIStatusError as error:
            return self._status(error)
        except (openai.APITimeoutError, httpx2.TimeoutException):
            return Failed(f"{self.base_url} did not answer within {self.settings.timeout:g} seconds.")
        except (openai.APIConnectionError, httpx2.HTTPError):
            return Failed(f"{self.base_url} could not be reached, or broke off.")
        if body is None:
            return Failed("The answer was larger than 1 MB, or took too long.")
        # A server that echoes the key must not get it into the cache.
        return _decode(body.replace(self._key.get_secret_value().encode(), b"***"))

    def _status(self, error: openai.APIStatusError) -> Failed:
        stop = STOPS.get(error.status_code)
        if stop is None:
            return Failed(
                f"{self.base_url} answered with status {error.status_code}: {self._said(error)[:200]}"
            )
        words = stop.format(key=self.settings.api_key_env, model=repr(self.settings.model))
        return Failed(f"{self.base_url} {words}.", stop=True)

    def _said(self, error: openai.APIStatusError) -> str:
        """What the server said, on one printable line and without the key, should it echo it."""
        body = error.body if isinstance(error.body, dict) else {}
        said = str(body.get("message") or error.message)
        said = said.replace(self._key.get_secret_value(), "***")
        return " ".join(re.sub(r"[^\x20-\x7e]", " ", said[:2000]).split())


@dataclass(frozen=True)
class _BadRequest:
    said: str


def safe_url(url: str) -> str:
    """An endpoint's address as it may be stored and shown: no user name, password, query or fragment.

    Raises:
        EndpointError: when it is not an http address, or carries a user name or password.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise EndpointError("propose.base_url is not an address; write it like http://localhost:8000/v1.")
    if "@" in parts.netloc:
        raise EndpointError(
            "Take the user name and password out of propose.base_url; keys come from the environment."
        )
    place = f"[{host}]" if ":" in host else host
    return urlunsplit(
        (parts.scheme, place if port is None else f"{place}:{port}", parts.path.rstrip("/"), "", "")
    )


def _key(settings: ProposeConfig, base_url: str) -> SecretStr:
    value = os.environ.get(settings.api_key_env, "").strip()
    if value and not (value.isascii() and value.isprintable()):
        raise EndpointError(
            f"The environment variable {settings.api_key_env} does not hold a key; set it again."
        )
    if value:
        return SecretStr(value)
    host = urlsplit(base_url).hostname or ""
    if host == "localhost" or _loopback(host):
        return SecretStr("not-needed")  # a server on this machine; the client insists on some key
    raise EndpointError(f"Set the environment variable {settings.api_key_env} to the key of {base_url}.")


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _without_images(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    return [
        {"image": hashlib.sha256(part["image_url"]["url"].encode()).hexdigest()}
        if "image_url" in part
        else part
        for part in content
    ]


def _read(response: Any, deadline: float) -> bytes | None:
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > MOST_BYTES or time.monotonic() > deadline:
            return None
    return bytes(body)


def _decode(body: bytes) -> tuple[Answer, tuple[int | None, int | None]] | Failed:
    try:
        data = json.loads(body)
        choice = data["choices"][0]
        message = choice["message"]
        reason = choice.get("finish_reason")
        text = message.get("content")
        refused = bool(message.get("refusal")) or reason == "content_filter"
        usage = data.get("usage") or {}
        counts = (_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        return Failed(
            "The answer is not a chat completion; check that propose.base_url ends where the API begins."
        )
    # Half of a surrogate pair is legal in JSON, and can be neither stored nor sent on.
    text = text.encode("utf-8", "replace").decode() if isinstance(text, str) else ""
    return Answer(text, refused, reason == "length"), counts


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
