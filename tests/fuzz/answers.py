"""Hostile answers of a model through what reads them: `python -m tests.fuzz.answers`.

The way of an answer: the body of a chat completion (`decode`), the cache (`Answer.dump` and `load`), the text
in it (`parse_answer`). A batch's line (`_result`) and ``Retry-After`` come from the same server.
"""

from __future__ import annotations

import json
import math
import random
import unicodedata
from types import SimpleNamespace
from typing import Any

from pydantic import SecretStr

from labeler.propose.endpoint import batch
from labeler.propose.endpoint.http import clean, retry_after
from labeler.propose.endpoint.wire import Answer, Failed, Question, Reply, decode
from labeler.propose.schema import InvalidAnswer, clean_label, parse_answer
from labeler.records import KINDS
from labeler.seams import Proposal
from tests.fuzz.harness import GOOD, Case, Figures, fuzz, main, run_case
from tests.fuzz.mutate import TEXTS, mutated, other_data

COUNT = 100_000
LIMIT = 1.0
"""Seconds, for answers of 10 MB too."""
FACETS, MOST = (0, 1), 4
KEY = SecretStr("sk-not-a-key")
TEN_MB = 10_000_000
_WORDS = (
    "dog",
    "striped fabric",
    "красный цвет",
    "犬の頭",
    "कुत्ता",
    "كلب",
    "red-and-white 🎏",
    "café",
    "l'eau",
    "A4 paper",
)
_AROUND = (
    "",
    "Sure! ",
    "```json\n",
    "<think>It is {a dog}.</think>",
    "\ufeff",
    "\x00",
    "{",
    "}{",
    "[",
    '{"a": {',
    "\u202e",
)
_REASONS = ("stop", "length", "content_filter", None, 5, "", ["stop"])
_WAITS = (
    "1",
    "-1",
    "nan",
    "inf",
    "1e400",
    "9" * 400,
    "soon",
    "",
    "\x00",
    "Wed, 21 Oct 2015 07:28:00 GMT",
    "Mon, 99999999999 Jan 2020 00:00:00 GMT",
    "Mon, 01 Jan 0001 00:00:00 -0000",
    "1 Jan 1 00:00 +9999",
    "Wed, 21 Oct 2015 07:28:99999999999999999999 GMT",
    "Wed, 21 Oct 9999 23:59:59 -2359",
)


def answer(rng: random.Random) -> dict[str, Any]:
    """An answer in the form that is asked for."""
    entries = []
    for _ in range(rng.randint(1, 5)):
        op = rng.choice(("none", "none", "or", "and", "not"))
        terms = rng.sample(_WORDS, {"none": 0, "not": 1}.get(op, 2))
        entries.append(
            {
                "label": rng.choice(_WORDS),
                "kind": rng.choice(KINDS),
                "facet": rng.choice(FACETS),
                "formula": {"op": op, "terms": terms},
            }
        )
    return {"candidates": entries, "abstain": rng.random() < 0.1}


def hostile_text(rng: random.Random) -> tuple[str, str]:
    """What a model may say, and what is wrong with it."""
    data: Any = answer(rng)
    choice = rng.randrange(10)
    if choice < 4:
        for _ in range(rng.randint(1, 3)):
            data = other_data(rng, data)
    if choice == 4:
        entry = rng.choice(data["candidates"])
        entry["label"] = hostile_label(rng)
        if rng.random() < 0.5:
            entry["formula"] = {"op": "or", "terms": [hostile_label(rng), hostile_label(rng)]}
    text = json.dumps(data, ensure_ascii=rng.random() < 0.5)
    if choice == 5:
        key = rng.choice(('"label"', '"candidates"', '"abstain"', '"facet"'))
        text = text.replace(key, f"{key}: {json.dumps(rng.choice(TEXTS))}, {key}", 1)
        return "duplicate key", text
    if choice == 6:
        raw = text.encode("utf-8", "surrogatepass")
        change, raw = mutated(rng, raw, [raw])
        return f"bytes, {change}", raw.decode("utf-8", rng.choice(("replace", "surrogateescape")))
    if choice == 7:
        return "truncated", text[: rng.randint(0, len(text))]
    if choice == 8:
        deep = rng.choice(('{"a":', "[", '{"candidates":[')) * rng.choice((10, 900, 5000, 100_000))
        return "nested", rng.choice((deep, deep + text, text + deep, text[:-1] + ',"x":' + deep))
    if choice == 9:
        return "framed", rng.choice(_AROUND) + text + rng.choice(_AROUND)
    return ("data", "data", "data", "data", "label")[choice], text


def hostile_label(rng: random.Random) -> str:
    """Text that may not enter a catalogue, or looks as if it may not."""
    start = rng.choice(_WORDS)
    letters = "".join(chr(rng.choice((rng.randrange(0x250), rng.randrange(0x110000)))) for _ in range(3))
    return rng.choice(
        (
            start + rng.choice(TEXTS),
            letters + start,
            start + letters,
            start * rng.choice((8, 9, 2000)),
            "ΐ" * rng.randint(70, 90),
            "\u0301\u0323" * rng.choice((20, 40_000)),
            " " * 90 + start,
            "\u1100\u1161" * 60,
        )
    )


def hostile_body(rng: random.Random) -> tuple[str, bytes]:
    """The body of a chat completion, and what is wrong with it."""
    what, text = hostile_text(rng)
    message = {"role": "assistant", "content": text, "refusal": rng.choice((None, None, None, "no", 5))}
    usage = {"prompt_tokens": 10, "completion_tokens": 2}
    data: Any = {"choices": [{"message": message, "finish_reason": rng.choice(_REASONS)}], "usage": usage}
    if rng.random() < 0.3:
        what, data = "body", other_data(rng, data)
    raw = json.dumps(data).encode()
    if rng.random() < 0.1:
        change, raw = mutated(rng, raw, [raw])
        what = f"body, {change}"
    return what, raw


def outcome(raw: bytes) -> str:
    """What is made of a body: proposals that keep the schema, or a typed failure with its cause."""
    found = decode(raw)
    if isinstance(found, Failed):
        return check_failed(found)
    _check_reply(found)
    return parsed(Answer.load(found.answer.dump()).text)


def _check_reply(found: Reply) -> None:
    for count in (found.input_tokens, found.output_tokens):
        assert count is None or 0 <= count < 2**63, count  # what SQLite stores
    found.answer.text.encode()
    assert "sk-" not in found.answer.text
    Question("what", turns=()).again(found.answer.text, "why").key("u", "m", 0.0)


def check_failed(found: Failed) -> str:
    """A failure with a cause that can be shown."""
    assert found.cause.isprintable(), found.cause
    assert 0 < len(found.cause) < 500, found.cause
    return "Failed"


def parsed(text: str) -> str:
    """What `parse_answer` makes of a text."""
    try:
        found = parse_answer(text, FACETS, MOST)
    except InvalidAnswer as error:
        return check_invalid(error)
    assert len(found.proposals) <= MOST
    for proposal in found.proposals:
        check_proposal(proposal)
    return GOOD if found.proposals else "abstains"


def check_invalid(error: InvalidAnswer) -> str:
    """Why an answer cannot be used, in words of our own."""
    assert 0 < len(str(error)) <= 200, str(error)
    assert str(error).isprintable(), str(error)
    return "InvalidAnswer"


def check_proposal(proposal: Proposal) -> None:
    """What every proposal keeps."""
    formula = proposal.formula
    for text in (proposal.text, *(formula.terms if formula else ())):
        assert 0 < len(text) <= 80, len(text)
        assert not set(text) & set("<>`{}[]"), text
        assert not any(unicodedata.category(c)[0] == "C" for c in text), ascii(text)
        assert not any(
            unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
            for c in text
        )
        assert text == clean_label(text), ascii(text)
        text.encode()
    assert proposal.kind in KINDS
    assert type(proposal.facet) is int
    assert proposal.facet in FACETS
    assert formula is None or (len(formula.terms) == 1) == (formula.op == "not")


def hostile_line(rng: random.Random) -> bytes:
    """A line of a batch's results."""
    _, raw = hostile_body(rng)
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return raw
    row: Any = {
        "custom_id": "k",
        "response": {"status_code": rng.choice((200, 200, 400, 429, 503)), "body": body},
    }
    return json.dumps(other_data(rng, row) if rng.random() < 0.7 else row).encode()


def line_outcome(raw: bytes) -> str:
    """What is made of a line of a batch's results."""
    key, found = batch._result(raw, SimpleNamespace(key=KEY))  # type: ignore[arg-type]
    assert isinstance(key, str)
    if isinstance(found, Failed):
        return check_failed(found)
    _check_reply(found)
    return parsed(found.answer.text)


def waiting(header: str) -> str:
    """What is made of a Retry-After."""
    found = retry_after({"retry-after": header})
    assert found is None or 0 <= found < math.inf, found
    return GOOD if found is not None else "no wait"


def draw(rng: random.Random) -> Case:
    """An answer by any of the ways."""
    way = rng.random()
    if way < 0.7:
        what, raw = hostile_body(rng)
        return what, lambda: outcome(raw)
    if way < 0.85:
        what, text = hostile_text(rng)
        return f"text: {what}", lambda: parsed(text)
    if way < 0.97:
        line = hostile_line(rng)
        return "batch line", lambda: line_outcome(line)
    header = rng.choice(_WAITS)
    cut = rng.randint(0, len(header))
    return "Retry-After", lambda: waiting(header[:cut] + rng.choice(("", "9" * 30)) + header[cut:])


def large_texts() -> dict[str, str]:
    """Answers of 10 MB, each slow for some way of reading it."""
    entry = json.dumps(answer(random.Random(0)))
    return {
        "one letter": "x" * TEN_MB,
        "braces": "{" * TEN_MB,
        "brackets": '{"candidates":' + "[" * TEN_MB,
        "unclosed objects before a list": '{"a":' * 199 + "[" + "0," * (TEN_MB // 2),
        "unclosed objects before words": '{"a":' * 199 + "[" + '"ab",' * (TEN_MB // 5),
        "unclosed string": '{"a' * 199 + "x" * TEN_MB,
        "escapes": '{"candidates":[{"label":"' + "\\u0301\\u0323" * (TEN_MB // 12) + '"}]}',
        "accents": '{"candidates":[{"label":"a' + "\u0301\u0323" * (TEN_MB // 2) + '"}]}',
        "spaces": '{"candidates":[{"label":"' + " " * TEN_MB + '"}]}',
        "dots": '{"candidates":[{"label":"' + "a." * (TEN_MB // 2) + '"}]}',
        "digits": '{"candidates":[{"label":"dog","facet":' + "9" * TEN_MB + "}]}",
        "many answers": entry * (TEN_MB // len(entry)),
        "many candidates": '{"candidates":[' + '{"label":"<"},' * (TEN_MB // 14) + '{"label":"dog"}]}',
        "one key many times": "{" + '"candidates":1,' * (TEN_MB // 15) + '"abstain":true}',
        "answer at the end": " " * TEN_MB + entry,
        "answer at the start": entry + "}" * TEN_MB,
    }


def run_large(figures: Figures) -> None:
    """The answers of 10 MB, as a text and as the body of a chat completion; a server's long complaint."""
    for name, text in large_texts().items():
        run_case(figures, f"10 MB: {name}", "10 MB", lambda text=text: parsed(text))
        body = json.dumps({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}).encode()
        run_case(figures, f"10 MB body: {name}", "10 MB", lambda body=body: outcome(body))
        run_case(figures, f"10 MB complaint: {name}", "10 MB", lambda text=text: _complaint(text))


def _complaint(text: str) -> str:
    said = clean(text, KEY)
    assert len(said) <= 200
    assert said.isprintable()
    return GOOD


def run(numbers: range, seed: int) -> Figures:
    """The answers `numbers`, and, where they begin at 0, those of 10 MB."""
    figures = fuzz("answers", draw, numbers, seed, LIMIT)
    if numbers.start == 0:
        run_large(figures)
    return figures


if __name__ == "__main__":
    main("answers", run, COUNT)
