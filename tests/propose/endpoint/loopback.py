"""A scripted endpoint on loopback, and the questions that it is asked."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from labeler.config import ProposeConfig
from labeler.propose.endpoint import EndpointProposer, Limit
from labeler.propose.endpoint.connect import make_exchange
from labeler.records import UnitId
from labeler.seams import CallLedger, Evidence, FacetEvidence, Scored, Scorer, Tried
from labeler.testing import MemoryLedger

PATH = "/v1/chat/completions"
GOOD = json.dumps({"candidates": [{"label": "dog", "kind": "object", "facet": 0}], "abstain": False})
HALVES = json.dumps({"left": "red", "right": "blue", "cells": 2})
Answering = Response | Callable[[Request], Response]


def labels(*texts: str) -> str:
    """A usable answer."""
    return json.dumps({"candidates": [{"label": text} for text in texts], "abstain": False})


def completion(
    text: str | None,
    reason: str = "stop",
    refusal: str | None = None,
    usage: tuple[int, int] | None = (70, 7),
) -> Response:
    message = {"role": "assistant", "content": text, "refusal": refusal}
    body: dict[str, Any] = {
        "id": "1", "object": "chat.completion", "created": 1, "model": "toy",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
    }  # fmt: skip
    if usage is not None:
        body["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
    return Response(json.dumps(body), content_type="application/json")


def problem(status: int, message: str = "no", code: str | None = None, **headers: str) -> Response:
    body = json.dumps({"error": {"message": message, "code": code}})
    return Response(body, status=status, headers=headers, content_type="application/json")


def is_probe(body: dict[str, Any]) -> bool:
    """Whether a request asks what the endpoint understands."""
    return "two halves" in json.dumps(body["messages"]) or "ripe tomato" in json.dumps(body["messages"])


def sheet(colour: tuple[int, int, int] = (255, 0, 0)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (24, 16), colour).save(stream, "WEBP", lossless=True)
    return stream.getvalue()


def picture_of(body: dict[str, Any]) -> tuple[str, Image.Image]:
    """The picture's kind and pixels in a request."""
    url = body["messages"][0]["content"][1]["image_url"]["url"]
    head, _, data = url.partition(";base64,")
    return head.removeprefix("data:image/"), Image.open(io.BytesIO(base64.b64decode(data)))


def evidence(
    history: tuple[Tried, ...] = (), facets: int = 1, picture: bytes | None = None, unit: int = 3
) -> Evidence:
    empty = np.zeros((0, 4), np.float32)
    return Evidence(
        UnitId("blocks.2", unit),
        round=1 + bool(history),
        facets=tuple(FacetEvidence(index, (), (), empty) for index in range(facets)),
        sheet=sheet() if picture is None else picture,
        sheet_key="1: A, facet 0: activation 2\n2: C: activation 0",
        history=history,
    )


def many(count: int) -> list[Evidence]:
    """As many units, each with a sheet of its own."""
    return [evidence(picture=sheet((n % 256, n // 256, 7)), unit=n) for n in range(count)]


class Endpoint:
    """A scripted endpoint on loopback. `seen` are the bodies of all questions but those about itself."""

    def __init__(self, server: HTTPServer) -> None:
        self.server = server
        self.seen: list[dict[str, Any]] = []
        self.probes: list[dict[str, Any]] = []
        self.probed: Callable[[dict[str, Any]], Response] = lambda body: completion(HALVES)

    def script(self, *answers: Answering) -> list[dict[str, Any]]:
        """Answer with `answers` in turn, the last one for ever."""

        def handle(request: Request) -> Response:
            body = json.loads(request.get_data())
            if is_probe(body):
                self.probes.append(body)
                return self.probed(body)
            self.seen.append(body)
            answer = answers[min(len(self.seen), len(answers)) - 1]
            return answer if isinstance(answer, Response) else answer(request)

        self.server.expect_request(PATH, method="POST").respond_with_handler(handle)
        return self.seen

    def settings(self, **settings: Any) -> ProposeConfig:
        url = self.server.url_for("/v1")
        given = {"retries": 0, "timeout": 10, "candidates": 2, "concurrency": 1, **settings}
        return ProposeConfig(kind=("vlm",), model="toy", base_url=url, **given)

    def proposer(
        self,
        ledger: CallLedger | None = None,
        limit: Limit | None = None,
        scorer: Scorer | None = None,
        **settings: Any,
    ) -> EndpointProposer:
        config, ledger = self.settings(**settings), ledger or MemoryLedger()
        return EndpointProposer(config, make_exchange(config, ledger), ledger, limit, scorer)


def scored(evidence: Evidence) -> list[Scored]:
    return [Scored("poodle", 0, 3.5), Scored("spaniel", 0, 3.25)]
