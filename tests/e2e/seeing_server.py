"""A vision-language model for tests: an OpenAI-compatible server that looks at the sheet it is sent.

It embeds the numbered tiles with `builtin:scenes-clip` and answers with the words nearest to what fires and
furthest from what does not. It sees nothing but the request.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from werkzeug import Request, Response

from labeler.seams import Encoder
from labeler.suites import suite_module

reading, loopback = suite_module("sheet_reading"), suite_module("loopback")
NONSENSE = "flibbertigibbet"
ABSURD = "tree"
WRONG_EVERYWHERE = (NONSENSE, ABSURD)


@dataclass(frozen=True)
class Asked:
    """One request, as the server understood it."""

    shown: Any
    authorisation: str

    @property
    def sheet(self) -> bytes:
        return self.shown.sheet

    @property
    def prompt(self) -> str:
        return self.shown.prompt

    @property
    def tiles(self) -> tuple[Any, ...]:
        return self.shown.tiles

    @property
    def tried(self) -> tuple[str, ...]:
        return tuple(tried.text for tried in self.shown.tried)

    def count(self, section: str) -> int:
        return len(self.shown.of(section))


@dataclass
class SeeingServer:
    """Handles chat completions. `asked` grows by every request; `broken` says which ones fail; `words` gives
    the labels of a facet, by default those that it sees."""

    eyes: Encoder
    broken: Callable[[Asked], bool] = lambda asked: False
    words: Callable[[Asked, int], list[str]] | None = None
    asked: list[Asked] = field(default_factory=list)
    probes: int = 0
    complaints: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def handle(self, request: Request) -> Response:
        with self._lock:
            try:
                body = json.loads(request.get_data())
                if loopback.is_probe(body):
                    self.probes += 1
                    return _completion('{"left": "red", "right": "blue", "cells": 2}')
                asked = Asked(reading.read_request(body), request.headers.get("Authorization", ""))
                self.asked.append(asked)
                if self.broken(asked):
                    return _error(500, "the model fell over")
                return _completion(json.dumps(self._answer(asked, _schema(body))))
            except Exception as problem:  # what the double cannot read must fail the test, not hang it
                self.complaints.append(repr(problem))
                return _error(400, repr(problem))

    def _answer(self, asked: Asked, schema: dict[str, Any]) -> dict[str, Any]:
        candidates = []
        for facet in asked.shown.facets:
            words = self.words or (lambda asked, facet: [*self._seen(asked, facet)[:2], *WRONG_EVERYWHERE])
            candidates += [
                {"label": word, "kind": "other", "facet": facet, "formula": {"op": "none", "terms": []}}
                for word in words(asked, facet)
            ]
        answer = {"candidates": candidates, "abstain": False}
        assert set(answer) == set(schema["required"])
        entry = schema["properties"]["candidates"]["items"]
        assert all(set(candidate) == set(entry["required"]) for candidate in candidates)
        assert all("other" in entry["properties"]["kind"]["enum"] for _ in candidates)
        return answer

    def _seen(self, asked: Asked, facet: int) -> list[str]:
        fires = [t for t in asked.tiles if t.section == "D" or (t.section == "A" and t.facet == facet)]
        silent = asked.shown.of("C", "E")
        direction = self._mean(fires) - (self._mean(silent) if silent else 0)
        words = [word for word in self.eyes.vocabulary if word not in asked.tried]
        order = np.argsort(-self.eyes.embed_texts(words) @ direction, kind="stable")
        return [words[index] for index in order]

    def _mean(self, tiles: list[Any]) -> NDArray[np.float32]:
        pixels = torch.stack([self.eyes.prepare(tile.look) for tile in tiles])
        return self.eyes.embed_images(pixels).mean(axis=0)


def _schema(body: dict[str, Any]) -> dict[str, Any]:
    form = body["response_format"]
    assert form["type"] == "json_schema"
    schema: dict[str, Any] = form["json_schema"]["schema"]
    return schema


def _completion(text: str) -> Response:
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "toy",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 900, "completion_tokens": 60, "total_tokens": 960},
    }
    return Response(json.dumps(body), content_type="application/json")


def _error(status: int, message: str) -> Response:
    return Response(
        json.dumps({"error": {"message": message}}), status=status, content_type="application/json"
    )
