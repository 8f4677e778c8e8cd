"""What is asked and what comes back, whatever the server's dialect."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from labeler.propose.schema import WIRE
from labeler.storage import fingerprint

MOST_BYTES = 1_000_000
"""An answer longer than this is not read further: a label is 80 characters."""


@dataclass(frozen=True)
class Turn:
    """What the model answered, and what it was told about that."""

    said: str
    told: str


@dataclass(frozen=True)
class Question:
    """One chat completion to ask for.

    Args:
        prompt: the text.
        picture: a WebP or PNG contact sheet; empty where only text is sent.
        max_tokens: the most that the answer may take.
        template: sha256 of the prompt's template, so that another version is another request.
        turns: earlier answers that could not be used.
        schema: the JSON schema of the answer, and its name.
        about: the unit and round, for whoever records; no part of the request.
    """

    prompt: str
    picture: bytes = field(default=b"", repr=False)
    max_tokens: int = 800
    template: str = ""
    turns: tuple[Turn, ...] = ()
    schema: Mapping[str, Any] = field(default_factory=lambda: WIRE, repr=False)
    schema_name: str = "labels"
    about: str = ""

    def again(self, said: str, problem: str) -> Question:
        """The same question once more, after an answer that cannot be used."""
        told = f"That answer cannot be used: {problem}. Answer again, with the JSON object only."
        return replace(self, turns=(*self.turns, Turn(said[:4000] or "(nothing)", told)))

    def longer(self, times: int) -> Question:
        """The same question with room for `times` as long an answer."""
        return replace(self, max_tokens=self.max_tokens * times)

    @cached_property
    def words(self) -> int:
        """Characters of text that are sent."""
        return len(self.prompt) + sum(len(turn.said) + len(turn.told) for turn in self.turns)

    @cached_property
    def content(self) -> str:
        """sha256 over all that the model is shown: text and pictures, nothing of any endpoint."""
        turns = [asdict(turn) for turn in self.turns]
        return fingerprint("content", self.prompt, hashlib.sha256(self.picture).hexdigest(), turns)

    def key(self, base_url: str, model: str, temperature: float) -> str:
        """sha256 over the whole request: the cache's key.

        How a server's dialect writes the request is not in it: an answer to the same question stays one.
        """
        return fingerprint(
            "chat", 2, base_url, model, temperature, self.max_tokens, self.content, self.schema, self.template
        )


@dataclass(frozen=True)
class Answer:
    """What came back. `refused`: the model or the server would not; `cut`: the tokens ran out."""

    text: str
    refused: bool = False
    cut: bool = False

    def dump(self) -> str:
        """As it is cached."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Answer:
        """An answer from the cache."""
        return cls(**json.loads(text))


@dataclass(frozen=True)
class Reply:
    """An answer and the tokens that the server reported; None where it did not."""

    answer: Answer
    input_tokens: int | None = None
    output_tokens: int | None = None

    @property
    def reported(self) -> bool:
        """Whether the server said what it took."""
        return self.input_tokens is not None and self.output_tokens is not None


@dataclass(frozen=True)
class Failed:
    """Why nothing came back, in words that are the same for the same cause.

    Attributes:
        cause: one sentence.
        status: the HTTP status, None where there was none.
        said: the server's own words, on one printable line.
        retry: another attempt may succeed.
        wait: seconds that the server asked to wait before it.
        stop: what it means for the run: ``error``: no unit can succeed; ``pause``: none can now.
        maybe_billed: the server may have worked for nothing.
        waits: the answer will be there another time; the unit did not fail.
    """

    cause: str
    status: int | None = None
    said: str = ""
    retry: bool = False
    wait: float | None = None
    stop: Literal["no", "error", "pause"] = "no"
    maybe_billed: bool = False
    waits: bool = False


def decode(body: bytes) -> Reply | Failed:
    """The answer in a chat completion's body."""
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
            "The answer is not a chat completion; check that propose.base_url ends where the API begins.",
            maybe_billed=True,
        )
    # Half of a surrogate pair is legal in JSON, and can be neither stored nor sent on.
    text = text.encode("utf-8", "replace").decode() if isinstance(text, str) else ""
    return Reply(Answer(text, refused, reason == "length"), *counts)


def _count(value: object) -> int | None:
    """A number of tokens; one that no answer takes, and no database stores, was not reported."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40 else None
