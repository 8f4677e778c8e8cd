"""What a question is to the cache: every part of the request, and nothing else."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labeler.propose.endpoint.caller import Caller
from labeler.propose.endpoint.connect import make_exchange
from labeler.propose.endpoint.wire import Answer, Question, Turn
from labeler.testing import MemoryLedger
from tests.propose.endpoint.loopback import Endpoint

ASKED = Question("What is it?", b"RIFF", 400, "t1", (Turn("a dog", "Not JSON."),), {"type": "object"}, "form")
PLACE = ("http://localhost:1/v1", "toy", 0.5)
URL, MODEL, TEMPERATURE = PLACE
OTHERS = {
    "prompt": replace(ASKED, prompt="What is it"),
    "picture": replace(ASKED, picture=b"RIFG"),
    "no picture": replace(ASKED, picture=b""),
    "turns": replace(ASKED, turns=(Turn("a dog", "Not JSON!"),)),
    "what was said": replace(ASKED, turns=(Turn("a cat", "Not JSON."),)),
    "no turns": replace(ASKED, turns=()),
    "one more turn": ASKED.again("a dog", "still no JSON"),
}
UNSEEN = {
    "max_tokens": replace(ASKED, max_tokens=401),
    "template": replace(ASKED, template="t2"),
    "schema": replace(ASKED, schema={"type": "array"}),
}


def sha256(data: object) -> str:
    plain = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(plain.encode()).hexdigest()


@pytest.mark.parametrize("part", [*OTHERS, *UNSEEN])
def test_every_part_of_a_request_is_in_its_key(part: str) -> None:
    other = {**OTHERS, **UNSEEN}[part]
    assert other.key(*PLACE) != ASKED.key(*PLACE)
    assert (other.content != ASKED.content) is (part in OTHERS)  # the rest is shown to no model


@pytest.mark.parametrize(
    "place", [("http://localhost:2/v1", MODEL, TEMPERATURE), (URL, "toys", TEMPERATURE), (URL, MODEL, 0.0)]
)
def test_the_same_question_to_another_model_is_another_request(place: tuple[str, str, float]) -> None:
    assert ASKED.key(*place) != ASKED.key(*PLACE)


def test_no_two_of_the_requests_share_a_key() -> None:
    keys = [question.key(*PLACE) for question in (ASKED, *OTHERS.values(), *UNSEEN.values())]
    assert len({*keys, ASKED.key(MODEL, URL, TEMPERATURE)}) == len(keys) + 1


def test_what_a_question_is_about_is_no_part_of_it() -> None:
    assert replace(ASKED, about="layer:3 round 1").key(*PLACE) == ASKED.key(*PLACE)


def test_answers_that_were_paid_for_stay_found() -> None:
    """The key is what it was when they were stored: another one would ask for them all again."""
    turns = [{"said": "a dog", "told": "Not JSON."}]
    content = sha256(["content", "What is it?", hashlib.sha256(b"RIFF").hexdigest(), turns])
    assert ASKED.content == content
    assert ASKED.key(*PLACE) == sha256(["chat", 2, *PLACE, 400, content, {"type": "object"}, "t1"])


@given(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5), st.text(max_size=5))
def test_text_that_moves_from_one_part_to_the_next_is_another_request(
    one: str, two: str, three: str, four: str
) -> None:
    first = Question(one, template=two, turns=(Turn(three, four),))
    second = Question(one + two, template="", turns=(Turn(three + four, ""),))
    assert (first.key(*PLACE) == second.key(*PLACE)) is (first == second)


def test_the_key_of_a_cache_row_holds_no_secret(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever changes the endpoint's key, or an address' query, finds the answers of before."""
    keys = set()
    for secret, query in (("sk-one", ""), ("sk-two", "?key=sk-three")):
        monkeypatch.setenv("OPENAI_API_KEY", secret)
        settings = endpoint.settings(temperature=0.5)
        settings = settings.model_copy(update={"base_url": f"{settings.base_url}/{query}"})
        ledger = MemoryLedger()
        exchange = make_exchange(settings, ledger)
        keys.add(Caller(settings, exchange, ledger, budget=None, sees=True).key(ASKED))  # type: ignore[arg-type]
    assert keys == {ASKED.key(endpoint.settings().base_url, MODEL, TEMPERATURE)}


def test_asking_again_shows_the_answer_and_what_was_wrong_with_it() -> None:
    again = ASKED.again("x" * 5000, "it is no JSON")
    assert again.turns[:1] == ASKED.turns
    assert again.turns[1].said == "x" * 4000
    assert "it is no JSON" in again.turns[1].told
    assert replace(again, turns=ASKED.turns) == ASKED
    assert ASKED.again("", "it is empty").turns[1].said == "(nothing)"


def test_a_longer_answer_is_asked_for_with_the_same_words() -> None:
    assert ASKED.longer(4) == replace(ASKED, max_tokens=1600)
    assert ASKED.longer(4).content == ASKED.content


def test_all_text_that_is_sent_counts() -> None:
    assert ASKED.words == len("What is it?") + len("a dog") + len("Not JSON.")


def test_a_question_in_a_log_shows_no_picture() -> None:
    assert "RIFF" not in repr(ASKED)
    assert "object" not in repr(ASKED)


def test_a_question_is_text_alone_unless_more_is_given() -> None:
    plain = Question("dog?")
    assert (plain.picture, plain.max_tokens, plain.template, plain.turns) == (b"", 800, "", ())
    assert (plain.schema["type"], plain.schema_name, plain.about) == ("object", "labels", "")


@given(st.text(max_size=8), st.booleans(), st.booleans())
def test_an_answer_comes_back_from_the_cache_as_it_went_in(text: str, refused: bool, cut: bool) -> None:
    assert Answer.load(Answer(text, refused, cut).dump()) == Answer(text, refused, cut)
    assert Answer(text) == Answer(text, refused=False, cut=False)
