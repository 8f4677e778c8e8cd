"""Servers that understand different things, found by asking them; one double for each known dialect."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from werkzeug import Response

from labeler.errors import EndpointError, PausedError
from labeler.propose.endpoint.dialect import Dialect
from labeler.testing import MemoryLedger
from tests.propose.endpoint.loopback import (
    GOOD,
    HALVES,
    Endpoint,
    completion,
    evidence,
    many,
    picture_of,
    problem,
    scored,
)  # fmt: skip

Body = dict[str, Any]


def kind_of(body: Body) -> str:
    return picture_of(body)[0] if "image_url" in json.dumps(body) else "none"


def form_of(body: Body) -> str:
    return body.get("response_format", {"type": "text"})["type"]


def openai_new(body: Body) -> Response | None:
    """OpenAI's reasoning models."""
    if "max_tokens" in body:
        return problem(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    if "temperature" in body:
        return problem(400, "Unsupported value: 'temperature' does not support 0.2 with this model.")
    return None


def vllm(body: Body) -> Response | None:
    return None


def llama_cpp(body: Body) -> Response | None:
    """stb_image decodes no WebP; the words are those of the server."""
    return problem(400, "Failed to load image or audio file") if kind_of(body) == "webp" else None


def ollama(body: Body) -> Response | None:
    """Takes any form and does not keep it; its decoder knows no WebP and says little."""
    if kind_of(body) == "webp":
        return problem(400, "invalid message content")
    return completion("left red, right blue" if is_asking(body) else GOOD)


def lm_studio(body: Body) -> Response | None:
    """Takes a schema and keeps it; knows no json_object."""
    if form_of(body) == "json_object":
        return problem(400, "'response_format.type' must be 'json_schema' or 'text'")
    return problem(400, "Invalid 'content': only PNG and JPEG images") if kind_of(body) == "webp" else None


def old(body: Body) -> Response | None:
    """Knows json_object, but no schema."""
    if form_of(body) == "json_schema":
        return problem(400, "response_format of type json_schema is not supported")
    return completion('{"a": "red", "b": "blue"}' if is_asking(body) else GOOD)


def mute(body: Body) -> Response | None:
    """Refuses everything but the plainest request, and never says why."""
    plain = "response_format" not in body and kind_of(body) == "jpeg" and "max_completion_tokens" in body
    return None if plain and "temperature" not in body else problem(400, "Bad Request")


def is_asking(body: Body) -> bool:
    return "two halves" in json.dumps(body["messages"])


SERVERS: dict[Callable[[Body], Response | None], tuple[Dialect, int]] = {
    openai_new: (Dialect(tokens="max_completion_tokens", temperature=False), 3),
    vllm: (Dialect(), 1),
    llama_cpp: (Dialect(picture="jpeg"), 2),
    ollama: (Dialect(structured="text", picture="jpeg"), 4),
    lm_studio: (Dialect(picture="jpeg"), 2),
    old: (Dialect(structured="json_object"), 2),
    mute: (Dialect("text", "jpeg", "max_completion_tokens", False), 5),
}


@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.__name__)
def test_each_server_is_understood_and_then_asked_in_its_dialect(
    endpoint: Endpoint, server: Callable[[Body], Response | None]
) -> None:
    dialect, questions = SERVERS[server]
    endpoint.probed = lambda body: server(body) or completion(HALVES)
    seen = endpoint.script(lambda request: server(json.loads(request.get_data())) or completion(GOOD))
    ledger = MemoryLedger()
    found = list(endpoint.proposer(ledger, max_tokens=321, concurrency=4).propose_all(many(6)))
    assert [proposed.failure for proposed in found] == [None] * 6
    assert [Dialect.load(note) for note in ledger.notes.values()] == [dialect]
    assert len(endpoint.probes) == questions
    assert len(seen) == 6  # nobody pays for finding out again
    for body in seen:
        assert form_of(body) == dialect.structured
        assert kind_of(body) == dialect.picture
        assert body[dialect.tokens] == 321
        assert ("temperature" in body) == dialect.temperature
    endpoint.proposer(ledger).propose(evidence(unit=9, picture=b""))
    assert len(endpoint.probes) == questions  # known from the ledger


def test_a_model_without_eyes_is_no_vlm_but_can_be_an_llm(endpoint: Endpoint) -> None:
    endpoint.probed = lambda body: (
        problem(500, "image input is not supported - hint: you may need to provide the mmproj")
        if kind_of(body) != "none"
        else completion(HALVES)
    )
    seen = endpoint.script(completion(GOOD))
    with pytest.raises(EndpointError, match=r"takes no pictures.*mmproj.*llm") as caught:
        endpoint.proposer().propose(evidence())
    assert not isinstance(caught.value, PausedError)
    assert seen == []
    assert endpoint.proposer(scorer=scored).propose(evidence()).failure is None


def test_a_server_that_is_down_pauses_before_any_unit_is_asked_for(endpoint: Endpoint) -> None:
    endpoint.probed = lambda body: problem(503, "loading the model")
    seen = endpoint.script(completion(GOOD))
    with pytest.raises(PausedError, match=r"status 503: loading the model; run again"):
        list(endpoint.proposer(retries=1).propose_all(many(3)))
    assert len(endpoint.probes) == 2
    assert seen == []


def test_a_server_that_changes_its_mind_is_followed(endpoint: Endpoint) -> None:
    """Noted to keep schemas, it was replaced by an older version."""

    def pick(request: Any) -> Response:
        if "response_format" in json.loads(request.get_data()):
            return problem(400, "response_format is not supported")
        return completion(f"```json\n{GOOD}\n```")

    seen = endpoint.script(pick)
    proposer = endpoint.proposer()
    assert [proposer.propose(item).failure for item in many(2)] == [None, None]
    assert [form_of(body) for body in seen] == ["json_schema", "json_object", "text", "text"]


def test_other_refusals_are_not_tried_again(endpoint: Endpoint) -> None:
    seen = endpoint.script(problem(400, "the image is too large"))
    assert "the image is too large" in str(endpoint.proposer(retries=3).propose(evidence()).failure)
    assert len(seen) == 1


def test_the_picture_of_the_question_is_as_large_as_a_sheet(endpoint: Endpoint) -> None:
    endpoint.script(completion(GOOD))
    endpoint.proposer(sheet_side=640).propose(evidence())
    assert picture_of(endpoint.probes[0])[1].size == (640, 640)
