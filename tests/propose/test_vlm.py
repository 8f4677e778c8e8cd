import base64
import io
import json
import logging
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from labeler.config import ProposeConfig
from labeler.errors import EndpointError, PausedError
from labeler.propose.client import safe_url
from labeler.propose.vlm import VlmProposer
from labeler.records import UnitId
from labeler.seams import Evidence, FacetEvidence, Tried

PATH = "/v1/chat/completions"
CANARY = "sk-canary-0123456789abcdef"
GOOD = json.dumps({"candidates": [{"label": "dog", "kind": "object", "facet": 0}], "abstain": False})


class Memory:
    """A `ResponseCache` in memory."""

    def __init__(self) -> None:
        self.rows: dict[str, str] = {}

    def get(self, key: str) -> str | None:
        return self.rows.get(key)

    def put(self, key: str, answer: str) -> None:
        self.rows[key] = answer


def completion(text: str | None, reason: str = "stop", refusal: str | None = None) -> Response:
    message = {"role": "assistant", "content": text, "refusal": refusal}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "toy",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": {"prompt_tokens": 70, "completion_tokens": 7, "total_tokens": 77},
    }
    return Response(json.dumps(body), content_type="application/json")


def problem(status: int, message: str = "no", **headers: str) -> Response:
    body = json.dumps({"error": {"message": message}})
    return Response(body, status=status, headers=headers, content_type="application/json")


@pytest.fixture
def server(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> HTTPServer:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return httpserver


def script(server: HTTPServer, *answers: Response | Callable[[Request], Response]) -> list[dict[str, Any]]:
    """Answer with `answers` in turn, the last one for ever; what is returned grows by each body received."""
    seen: list[dict[str, Any]] = []

    def handle(request: Request) -> Response:
        seen.append(json.loads(request.get_data()))
        answer = answers[min(len(seen), len(answers)) - 1]
        return answer if isinstance(answer, Response) else answer(request)

    server.expect_request(PATH, method="POST").respond_with_handler(handle)
    return seen


def proposer(server: HTTPServer, cache: Memory | None = None, **settings: Any) -> VlmProposer:
    settings = {"retries": 0, "timeout": 10, "candidates": 2, **settings}
    config = ProposeConfig(kind=("vlm",), model="toy", base_url=server.url_for("/v1"), **settings)
    return VlmProposer(config, cache)


def sheet(colour: tuple[int, int, int] = (255, 0, 0)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (24, 16), colour).save(stream, "WEBP", lossless=True)
    return stream.getvalue()


def evidence(history: tuple[Tried, ...] = (), facets: int = 1, picture: bytes | None = None) -> Evidence:
    empty = np.zeros((0, 4), np.float32)
    return Evidence(
        UnitId("blocks.2", 3),
        round=1 + bool(history),
        facets=tuple(FacetEvidence(index, (), (), empty) for index in range(facets)),
        sheet=sheet() if picture is None else picture,
        sheet_key="1: photograph, facet 0\n2: near miss",
        history=history,
    )


def test_the_server_gets_the_picture_and_the_key_of_its_tiles(server: HTTPServer) -> None:
    seen = script(server, completion(GOOD))
    proposed = proposer(server).propose(evidence())
    assert [(p.text, p.kind, p.facet) for p in proposed.proposals] == [("dog", "object", 0)]
    assert proposed.failure is None
    text, image = seen[0]["messages"][0]["content"]
    assert "1: photograph, facet 0\n2: near miss" in text["text"]
    assert "never an instruction" in text["text"]
    head, _, data = image["image_url"]["url"].partition(",")
    assert head == "data:image/webp;base64"
    picture = Image.open(io.BytesIO(base64.b64decode(data)))
    assert picture.size == (24, 16)
    assert picture.convert("RGB").getpixel((3, 3)) == (255, 0, 0)
    assert seen[0]["response_format"]["json_schema"]["strict"] is True
    (call,) = proposed.calls
    assert (call.outcome, call.input_tokens, call.output_tokens, call.cached) == ("ok", 70, 7, False)


def test_a_later_round_shows_what_was_tried(server: HTTPServer) -> None:
    seen = script(server, completion(GOOD))
    tried = Tried("spaniel", 0, 0.2345, "12 of 30 misses.")
    proposer(server).propose(evidence((tried,), facets=2))
    text = seen[0]["messages"][0]["content"][0]["text"]
    assert 'facet 0: "spaniel" scored 0.23. 12 of 30 misses.' in text
    assert "round 2" in text
    assert "(0, 1)" in text


def test_text_only_evidence_sends_no_picture(server: HTTPServer) -> None:
    seen = script(server, completion(GOOD))
    proposer(server).propose(evidence(picture=b""))
    assert [part["type"] for part in seen[0]["messages"][0]["content"]] == ["text"]


def test_a_server_without_json_schema_is_asked_in_words_from_then_on(server: HTTPServer) -> None:
    def pick(request: Request) -> Response:
        if "response_format" in json.loads(request.get_data()):
            return problem(400, "response_format of type json_schema is not supported")
        return completion(f"```json\n{GOOD}\n```")

    seen = script(server, pick)
    vlm = proposer(server)
    for colour in ((1, 2, 3), (4, 5, 6)):
        assert vlm.propose(evidence(picture=sheet(colour))).proposals[0].text == "dog"
    assert ["response_format" in body for body in seen] == [True, False, False]


def test_a_server_that_wants_max_completion_tokens_gets_it(server: HTTPServer) -> None:
    def pick(request: Request) -> Response:
        body = json.loads(request.get_data())
        if "max_tokens" in body:
            return problem(400, "Unsupported parameter: use 'max_completion_tokens' instead of 'max_tokens'.")
        return problem(400, "temperature must be 1") if "temperature" in body else completion(GOOD)

    seen = script(server, pick)
    assert proposer(server, max_tokens=321).propose(evidence()).failure is None
    assert seen[-1]["max_completion_tokens"] == 321


def test_an_invalid_answer_is_asked_for_once_more(server: HTTPServer) -> None:
    bad = json.dumps({"candidates": [{"label": "<b>dog</b>"}], "abstain": False})
    seen = script(server, completion(bad), completion(GOOD))
    proposed = proposer(server).propose(evidence())
    assert [p.text for p in proposed.proposals] == ["dog"]
    assert [call.outcome for call in proposed.calls] == ["invalid", "ok"]
    first, said, ask = seen[1]["messages"]
    assert first == seen[0]["messages"][0]
    assert said == {"role": "assistant", "content": bad}
    assert "markup" in ask["content"]


@pytest.mark.parametrize(
    "label", ["<script>x</script>", "dog\u202e", "x" * 10_000, "https://example.test", "a{{b}}"]
)
def test_hostile_labels_end_as_a_failure(server: HTTPServer, label: str) -> None:
    seen = script(server, completion(json.dumps({"candidates": [{"label": label}], "abstain": False})))
    proposed = proposer(server).propose(evidence())
    assert proposed.proposals == ()
    assert proposed.failure is not None
    assert label not in proposed.failure
    assert len(seen) == 2


def test_an_answer_cut_off_gets_twice_the_tokens(server: HTTPServer) -> None:
    seen = script(server, completion(GOOD[:20], reason="length"), completion(GOOD))
    proposed = proposer(server, max_tokens=100).propose(evidence())
    assert proposed.failure is None
    assert [body["max_tokens"] for body in seen] == [100, 200]
    assert len(seen[1]["messages"]) == 1


def test_an_answer_always_cut_off_fails_after_three_attempts(server: HTTPServer) -> None:
    seen = script(server, completion(GOOD[:20], reason="length"))
    proposed = proposer(server).propose(evidence())
    assert "cut off" in str(proposed.failure)
    assert len(seen) == len(proposed.calls) == 3


@pytest.mark.parametrize(
    "answer", [completion(None, refusal="I cannot help."), completion("", reason="content_filter")]
)
def test_a_refusal_is_a_typed_failure(server: HTTPServer, answer: Response) -> None:
    script(server, answer)
    proposed = proposer(server).propose(evidence())
    assert proposed.failure == "refused"
    assert [call.outcome for call in proposed.calls] == ["refused"]


def test_abstaining_is_no_failure(server: HTTPServer) -> None:
    script(server, completion('{"candidates": [], "abstain": true}'))
    proposed = proposer(server).propose(evidence())
    assert (proposed.proposals, proposed.failure) == ((), None)


@pytest.mark.parametrize(
    "first", [problem(500), problem(429, **{"Retry-After": "0"}), problem(503), problem(408), problem(409)]
)
def test_what_can_succeed_is_tried_again(server: HTTPServer, first: Response) -> None:
    seen = script(server, first, completion(GOOD))
    assert proposer(server, retries=1).propose(evidence()).failure is None
    assert len(seen) == 2


def test_other_refusals_are_not_tried_again(server: HTTPServer) -> None:
    seen = script(server, problem(400, "the image is too large"))
    proposed = proposer(server, retries=3).propose(evidence())
    assert "the image is too large" in str(proposed.failure)
    assert len(seen) == 1


@pytest.mark.parametrize(("status", "hint"), [(401, "OPENAI_API_KEY"), (403, "'toy'"), (404, "'toy'")])
def test_a_wrong_key_or_model_stops_the_run(server: HTTPServer, status: int, hint: str) -> None:
    seen = script(server, problem(status))
    with pytest.raises(EndpointError, match=hint):
        proposer(server, retries=3).propose(evidence())
    assert len(seen) == 1


def test_a_server_that_hangs_times_out(server: HTTPServer) -> None:
    released = threading.Event()

    def hang(request: Request) -> Response:
        released.wait(5)
        return completion(GOOD)

    script(server, hang)
    start = time.monotonic()
    proposed = proposer(server, timeout=0.3).propose(evidence())
    assert time.monotonic() - start < 3
    released.set()
    assert "0.3 seconds" in str(proposed.failure)
    assert proposed.calls[0].outcome == "error"


def test_nobody_there_is_a_failure(server: HTTPServer) -> None:
    config = ProposeConfig(kind=("vlm",), model="toy", base_url="http://127.0.0.1:9/v1", retries=0, timeout=2)
    assert "could not be reached" in str(VlmProposer(config).propose(evidence()).failure)


def test_an_answer_without_end_is_not_read(server: HTTPServer) -> None:
    script(server, Response((b" " * 100_000 for _ in range(1000)), content_type="application/json"))
    assert "1 MB" in str(proposer(server).propose(evidence()).failure)


@pytest.mark.parametrize(
    "body", ["<html>", "[]", '{"choices": []}', '{"choices": [{"message": 3}]}', "[" * 100_000]
)
def test_what_is_no_completion_is_a_failure(server: HTTPServer, body: str) -> None:
    script(server, Response(body, content_type="application/json"))
    assert "base_url" in str(proposer(server).propose(evidence()).failure)


def test_a_known_request_makes_no_call(server: HTTPServer) -> None:
    cache = Memory()
    seen = script(server, completion("nonsense"), completion(GOOD))
    first = proposer(server, cache).propose(evidence())
    again = proposer(server, cache).propose(evidence())
    assert again.proposals == first.proposals
    assert len(seen) == 2
    assert [call.cached for call in again.calls] == [True, True]
    proposer(server, cache).propose(evidence(picture=sheet((0, 0, 9))))
    proposer(server, cache, temperature=1.0).propose(evidence())
    assert len(seen) == 4


def test_broken_unicode_is_neither_kept_nor_sent_on(server: HTTPServer) -> None:
    cache = Memory()
    script(server, completion("dog \ud800"), completion(GOOD))
    assert proposer(server, cache).propose(evidence()).failure is None
    assert "".join(cache.rows.values()).encode().isascii()


def test_errors_are_not_kept(server: HTTPServer) -> None:
    cache = Memory()
    script(server, problem(500), completion(GOOD))
    vlm = proposer(server, cache)
    assert vlm.propose(evidence()).failure is not None
    assert vlm.propose(evidence()).failure is None


def test_twenty_identical_failures_pause_the_run(server: HTTPServer) -> None:
    numbers = iter(range(100))
    seen = script(server, lambda request: problem(500, f"out of memory (request {next(numbers)}ab)"))
    vlm = proposer(server)
    for _ in range(19):
        assert vlm.propose(evidence()).failure is not None
    with pytest.raises(PausedError, match="out of memory"):
        vlm.propose(evidence())
    assert len(seen) == 20


def test_a_success_between_failures_does_not_pause(server: HTTPServer) -> None:
    script(server, *([problem(500)] * 19), completion(GOOD), problem(500))
    vlm = proposer(server)
    for _ in range(30):
        vlm.propose(evidence())


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
def test_the_key_reaches_the_server_and_nothing_else(
    server: HTTPServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    sent: list[str] = []

    def echo(request: Request) -> Response:
        sent.append(request.headers["Authorization"])
        return completion(f"{GOOD} {CANARY}") if status == 200 else problem(status, f"bad key {CANARY}")

    script(server, echo)
    cache = Memory()
    vlm = proposer(server, cache)
    said = [repr(vlm), str(vars(vlm)), repr(vars(vlm._client)), vlm.fingerprint]
    if status in (401, 404):
        with pytest.raises(EndpointError) as caught:
            vlm.propose(evidence())
        said += [str(caught.value), "".join(traceback.format_exception(caught.value))]
        assert caught.value.__context__ is None
    else:
        said.append(repr(vlm.propose(evidence())))
    assert sent == [f"Bearer {CANARY}"]
    assert CANARY not in "".join(said) + repr(cache.rows) + caplog.text


def test_a_remote_endpoint_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(EndpointError, match="Set the environment variable OPENAI_API_KEY"):
        VlmProposer(ProposeConfig(kind=("vlm",), model="toy"))
    monkeypatch.setenv("OTHER", "clé\n")
    with pytest.raises(EndpointError, match="OTHER") as caught:
        VlmProposer(ProposeConfig(kind=("vlm",), model="toy", api_key_env="OTHER"))
    assert "cl" not in str(caught.value).replace("include", "")


def test_addresses_are_stored_without_secrets() -> None:
    assert safe_url("http://[::1]:8000/v1/?key=1#x") == "http://[::1]:8000/v1"
    for wrong in ("localhost:8000", "file:///etc/passwd", "http://", "http://host:port"):
        with pytest.raises(EndpointError, match="http://localhost:8000/v1"):
            safe_url(wrong)
    with pytest.raises(EndpointError, match="user name") as caught:
        safe_url("https://me:secret@host/v1")
    assert "secret" not in str(caught.value)


def test_the_fingerprint_is_of_what_decides_the_answer(server: HTTPServer) -> None:
    one = proposer(server)
    assert one.fingerprint == proposer(server, timeout=3).fingerprint
    assert one.fingerprint != proposer(server, temperature=1.0).fingerprint
    assert one.needs_sheet
