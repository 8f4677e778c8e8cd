"""What a proposer asks, how it takes the answers, and what stays of them."""

from __future__ import annotations

import json

import pytest
from werkzeug import Request, Response

from labeler.errors import EndpointError, PausedError
from labeler.seams import Tried
from labeler.testing import MemoryLedger
from tests.propose.endpoint.loopback import (
    GOOD,
    Endpoint,
    completion,
    evidence,
    labels,
    many,
    picture_of,
    problem,
    scored,
    sheet,
)  # fmt: skip

BAD = json.dumps({"candidates": [{"label": "<b>dog</b>"}], "abstain": False})


def test_the_server_gets_the_picture_and_the_key_of_its_tiles(endpoint: Endpoint) -> None:
    seen, ledger = endpoint.script(completion(GOOD)), MemoryLedger()
    proposed = endpoint.proposer(ledger).propose(evidence())
    assert [(p.text, p.kind, p.facet) for p in proposed.proposals] == [("dog", "object", 0)]
    assert proposed.failure is None
    text = seen[0]["messages"][0]["content"][0]["text"]
    assert "1: A, facet 0: activation 2\n2: C: activation 0" in text
    assert "never an instruction" in text
    kind, picture = picture_of(seen[0])
    assert (kind, picture.size) == ("webp", (24, 16))
    assert picture.convert("RGB").getpixel((3, 3)) == (255, 0, 0)
    assert seen[0]["response_format"]["json_schema"]["strict"] is True
    probe, call = ledger.calls
    assert (probe.unit, probe.step, probe.outcome) == ("", "probe", "ok")
    assert (call.unit, call.round, call.step, call.outcome) == ("blocks.2:3", 1, "ask", "ok")
    assert (call.input_tokens, call.output_tokens, call.billing, call.cached) == (70, 7, "reported", False)


def test_each_kind_of_evidence_has_its_own_prompt(endpoint: Endpoint) -> None:
    seen = endpoint.script(completion(GOOD))
    tried = Tried("spaniel", 0, 0.2345, "12 of 30 misses.")
    proposer = endpoint.proposer()
    for item in (evidence(), evidence(facets=2), evidence((tried,), facets=2)):
        proposer.propose(item)
    one, several, later = (body["messages"][0]["content"][0]["text"] for body in seen)
    assert "candidate labels for facet 0" in one
    assert "the facets 0, 1" in several
    assert "round 2" in later
    assert 'facet 0: "spaniel" scored 0.23. 12 of 30 misses.' in later
    assert all("abstain" in text and "different generality" in text for text in (one, several, later))


def test_a_model_without_eyes_is_told_scored_words(endpoint: Endpoint) -> None:
    seen = endpoint.script(completion(GOOD))
    blind = endpoint.proposer(scorer=scored)
    assert (blind.name, blind.needs_sheet) == ("llm", False)
    assert [p.text for p in blind.propose(evidence()).proposals] == ["dog"]
    assert [part["type"] for part in seen[0]["messages"][0]["content"]] == ["text"]
    assert "- poodle: 3.50\n- spaniel: 3.25" in seen[0]["messages"][0]["content"][0]["text"]
    assert all("image_url" not in json.dumps(body) for body in endpoint.probes)


def test_an_invalid_answer_is_asked_for_once_more_with_the_error(endpoint: Endpoint) -> None:
    seen, ledger = endpoint.script(completion(BAD), completion(GOOD)), MemoryLedger()
    proposed = endpoint.proposer(ledger).propose(evidence())
    assert [p.text for p in proposed.proposals] == ["dog"]
    assert [(call.step, call.outcome) for call in ledger.calls[1:]] == [("ask", "invalid"), ("again", "ok")]
    first, said, ask = seen[1]["messages"]
    assert first == seen[0]["messages"][0]
    assert said == {"role": "assistant", "content": BAD}
    assert "markup" in ask["content"]


def test_an_answer_cut_off_gets_more_tokens(endpoint: Endpoint) -> None:
    seen = endpoint.script(completion(GOOD[:20], reason="length"), completion(GOOD))
    assert endpoint.proposer(max_tokens=100).propose(evidence()).failure is None
    assert [body["max_tokens"] for body in seen] == [100, 400]
    assert len(seen[1]["messages"]) == 1


@pytest.mark.parametrize(
    ("answer", "cause", "calls"),
    [
        (completion(GOOD[:20], reason="length"), "cut off", 3),
        (completion(BAD), "markup", 2),
        (completion(None, refusal="I cannot help."), "refused", 1),
        (completion("", reason="content_filter"), "refused", 1),
    ],
)
def test_a_failed_ladder_leaves_nothing_that_a_later_run_would_believe(
    endpoint: Endpoint, answer: Response, cause: str, calls: int
) -> None:
    seen, ledger = endpoint.script(*[answer] * calls, completion(GOOD)), MemoryLedger()
    proposed = endpoint.proposer(ledger).propose(evidence())
    assert cause in str(proposed.failure)
    assert not proposed.unanswered
    assert len(seen) == calls
    assert ledger.answers == {}
    assert [p.text for p in endpoint.proposer(ledger).propose(evidence()).proposals] == ["dog"]
    assert len(seen) == calls + 1


def test_a_ladder_that_was_left_in_the_middle_goes_on_there(endpoint: Endpoint) -> None:
    seen = endpoint.script(completion(BAD), problem(500), completion(GOOD))
    ledger = MemoryLedger()
    assert "status 500" in str(endpoint.proposer(ledger).propose(evidence()).failure)
    assert endpoint.proposer(ledger).propose(evidence()).failure is None
    assert [len(body["messages"]) for body in seen] == [1, 3, 3]
    assert endpoint.proposer(ledger).propose(evidence()).failure is None  # both steps from the cache
    assert len(seen) == 3
    assert [call.cached for call in ledger.calls[-2:]] == [True, True]


def test_abstaining_is_no_failure(endpoint: Endpoint) -> None:
    endpoint.script(completion('{"candidates": [], "abstain": true}'))
    proposed = endpoint.proposer().propose(evidence())
    assert (proposed.proposals, proposed.failure) == ((), None)


def test_a_known_request_makes_no_call_and_another_one_does(endpoint: Endpoint) -> None:
    ledger = MemoryLedger()
    seen = endpoint.script(completion(GOOD))
    first = endpoint.proposer(ledger).propose(evidence())
    assert endpoint.proposer(ledger, timeout=3, retries=2, concurrency=4).propose(evidence()) == first
    assert len(seen) == len(endpoint.probes) == 1
    for other in (
        lambda: endpoint.proposer(ledger).propose(evidence(picture=sheet((0, 0, 9)))),
        lambda: endpoint.proposer(ledger, temperature=1.0).propose(evidence()),
        lambda: endpoint.proposer(ledger, max_tokens=99).propose(evidence()),
        lambda: endpoint.proposer(ledger, candidates=3).propose(evidence()),
    ):
        before = len(seen)
        other()
        assert len(seen) == before + 1
    assert len(endpoint.probes) == 1


def test_another_version_of_a_prompt_is_another_request(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    from labeler.propose import templates

    ledger, seen = MemoryLedger(), endpoint.script(completion(GOOD))
    one = endpoint.proposer(ledger)
    one.propose(evidence())
    monkeypatch.setattr(templates, "_sha256", lambda name: "other")
    two = endpoint.proposer(ledger)
    two.propose(evidence())
    assert len(seen) == 2
    assert seen[0]["messages"] == seen[1]["messages"]
    assert one.fingerprint != two.fingerprint


def test_units_are_answered_in_their_order_and_asked_at_once(endpoint: Endpoint) -> None:
    """Later units are answered first; evidence is taken as it is needed, not all at the start."""
    import threading

    taken: list[int] = []
    late = threading.Event()

    def answer(request: Request) -> Response:
        red = picture_of(json.loads(request.get_data()))[1].convert("RGB").getpixel((0, 0))[0]
        if red == 0:
            late.wait(10)
        elif red == 3:
            late.set()
        return completion(labels(f"thing {red}"))

    def evidences() -> object:
        for number, item in enumerate(many(40)):
            taken.append(number)
            yield item

    endpoint.script(answer)
    found = endpoint.proposer(concurrency=4).propose_all(evidences())
    first = next(found)
    assert first.proposals[0].text == "thing 0"
    assert len(taken) < 40
    rest = [proposed.proposals[0].text for proposed in found]
    assert rest == [f"thing {number}" for number in range(1, 40)]


def test_whoever_stops_reading_ends_the_asking(endpoint: Endpoint) -> None:
    import time

    seen = endpoint.script(completion(GOOD))
    found = endpoint.proposer(concurrency=2).propose_all(many(200))
    next(found)
    found.close()
    settled = len(seen)
    time.sleep(0.2)
    assert len(seen) == settled < 200


def test_evidence_that_cannot_be_made_is_told_to_the_reader(endpoint: Endpoint) -> None:
    def evidences() -> object:
        yield evidence()
        raise EndpointError("There is no such picture.")

    endpoint.script(completion(GOOD))
    with pytest.raises(EndpointError, match="no such picture"):
        list(endpoint.proposer().propose_all(evidences()))


def test_twenty_identical_failures_pause_the_run(endpoint: Endpoint) -> None:
    numbers = iter(range(1000))
    seen = endpoint.script(lambda request: problem(500, f"out of memory (request {next(numbers)}ab)"))
    found = endpoint.proposer().propose_all(many(100))
    with pytest.raises(PausedError, match=r"20 identical failures in a row .*out of memory"):
        list(found)
    assert len(seen) == 20


def test_a_success_between_failures_does_not_pause(endpoint: Endpoint) -> None:
    endpoint.script(*([problem(500)] * 19), completion(GOOD), *([problem(500)] * 19), completion(GOOD))
    found = list(endpoint.proposer().propose_all(many(60)))
    assert sum(proposed.failure is not None for proposed in found) == 38


@pytest.mark.parametrize(("status", "hint"), [(401, "OPENAI_API_KEY"), (403, "'toy'"), (404, "'toy'")])
def test_a_wrong_key_or_model_stops_the_run_at_once(endpoint: Endpoint, status: int, hint: str) -> None:
    seen = endpoint.script(problem(status))
    with pytest.raises(EndpointError, match=hint) as caught:
        endpoint.proposer(retries=3).propose(evidence())
    assert not isinstance(caught.value, PausedError)
    assert len(seen) == 1


@pytest.mark.parametrize(
    "answer", [problem(402, "pay first"), problem(429, "You exceeded", "insufficient_quota")]
)
def test_an_account_that_is_used_up_pauses_the_run(endpoint: Endpoint, answer: Response) -> None:
    seen = endpoint.script(answer)
    with pytest.raises(PausedError, match="used up"):
        list(endpoint.proposer(retries=3).propose_all(many(5)))
    assert len(seen) == 1
