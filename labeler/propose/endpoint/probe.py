"""What a server understands, found by asking it: a picture as large as a contact sheet, a form to fill in."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from labeler.propose.endpoint.dialect import Dialect, Structured
from labeler.propose.endpoint.wire import Answer, Failed, Question, Reply

FORM = "halves"
"""Name of the form that the question asks for; whoever plays a server knows the question by it."""
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"left": {"type": "string"}, "right": {"type": "string"}, "cells": {"type": "integer"}},
    "required": ["left", "right", "cells"],
    "additionalProperties": False,
}
# No word of these tells the keys: only a server that enforces the form gives an object with all of them.
_WORDS = "What are the colours of the two halves of the picture, the first one first? Answer in JSON."
_BLIND = "What are the colours of a ripe tomato and of the clear sky, the first one first? Answer in JSON."
_COLOURS = {"red": (205, 30, 30), "blue": (30, 40, 205)}
_GUESSES: tuple[dict[str, Any], ...] = (
    {"picture": "jpeg"},
    {"structured": "text"},
    {"picture": "jpeg", "structured": "text"},
    {"picture": "jpeg", "structured": "text", "tokens": "max_completion_tokens", "temperature": False},
)
"""What is tried, in order, where a refusal names nothing that could be left out."""
_MOST = 12

Ask = Callable[[Question, Dialect], Awaitable[Reply | Failed]]


@dataclass(frozen=True)
class Understood:
    """What an endpoint turned out to understand.

    Attributes:
        dialect: how it is to be asked.
        sees: whether it named the colours of the picture; None where it was not shown one.
        reported: whether it said how many tokens the answer took.
    """

    dialect: Dialect
    sees: bool | None
    reported: bool


async def find_dialect(ask: Ask, side: int) -> Understood | Failed:
    """Ask a server in the fullest dialect, and leave out what it refuses until it answers.

    A refusal's words say what to leave out; where they do not, `_GUESSES` are tried. A form that the server
    takes and does not enforce is not asked for any more. Mostly one question is enough; never more than 12.

    Args:
        ask: one question in one dialect.
        side: of the picture, in pixels, so that a server which cannot take a whole contact sheet says so; 0
            sends none.
    """
    question = Question(
        _WORDS if side else _BLIND, picture(side) if side else b"", 400, schema=_SCHEMA, schema_name=FORM
    )
    full = dialect = Dialect() if side else Dialect(picture="none")
    guesses = iter(_GUESSES)
    found = await ask(question, dialect)
    for _ in range(_MOST):
        if isinstance(found, Reply):
            return await _checked(ask, question, dialect, found)
        simpler = dialect.without(found.said, pictures=True) if _may_change(found) else None
        if simpler is not None:
            full = dialect = simpler
        elif found.status in (400, 413, 422) and (guess := next(guesses, None)) is not None:
            dialect = replace(full, **guess)
        else:
            return found
        if side and dialect.picture == "none":
            return replace(found, stop="error", cause=f"The model takes no pictures: {found.cause}")
        found = await ask(question, dialect)
    return found if isinstance(found, Failed) else await _checked(ask, question, dialect, found)


def _may_change(found: Failed) -> bool:
    """Servers also answer with 500 when they fall over a picture, as llama.cpp's without a projector."""
    return found.stop == "no" and found.status in (400, 413, 415, 422, 500, 501)


async def _checked(ask: Ask, question: Question, dialect: Dialect, reply: Reply) -> Understood | Failed:
    """Leave out a form that is not enforced; an answer that was cut off tells nothing about that."""
    while dialect.structured != "text" and not reply.answer.cut and not _keeps(reply.answer, dialect):
        simpler: Structured = "json_object" if dialect.structured == "json_schema" else "text"
        dialect = replace(dialect, structured=simpler)
        found = await ask(question, dialect)
        if isinstance(found, Reply):
            reply = found
        elif _may_change(found):  # LM Studio knows no json_object
            return _understood(replace(dialect, structured="text"), reply)
        else:
            return found
    return _understood(dialect, reply)


def _understood(dialect: Dialect, reply: Reply) -> Understood:
    said = reply.answer.text.casefold()
    sees = all(colour in said for colour in _COLOURS) if dialect.picture != "none" else None
    return Understood(dialect, sees, reply.reported)


def _keeps(answer: Answer, dialect: Dialect) -> bool:
    """Whether an answer has the form that was asked for."""
    try:
        value = json.loads(answer.text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and (
        dialect.structured == "json_object" or set(value) == set(_SCHEMA["required"])
    )


@functools.cache
def picture(side: int) -> bytes:
    """A red half and a blue half, WebP; it takes as many tokens as a contact sheet of that size."""
    from PIL import Image

    left, right = _COLOURS.values()
    image = Image.new("RGB", (side, side), left)
    image.paste(right, (side // 2, 0, side, side))
    stream = io.BytesIO()
    image.save(stream, format="WEBP", lossless=True)
    return stream.getvalue()
