"""What stands in for a language model, and how the rounds are summed up."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labeler.config import ProposeConfig
from labeler.exemplars.images import encode_webp
from labeler.exemplars.sheets import (
    FALSE_ALARM,
    LOOK_ALIKE,
    MISS,
    TOP,
    SheetSection,
    SheetTile,
    contact_sheet,
)
from labeler.propose.endpoint import EndpointProposer
from labeler.propose.endpoint.connect import make_exchange
from labeler.propose.schema import parse_answer
from labeler.propose.templates import Template
from labeler.records import UnitId
from labeler.seams import Evidence, FacetEvidence, Tried
from labeler.suites import suite_module
from labeler.testing import FakeEncoder, MemoryLedger

rounds, seeing, loopback = (suite_module(name) for name in ("rounds", "seeing", "loopback"))
planted = suite_module("planted")
reading = suite_module("sheet_reading")
TRIED = '- facet 0: "red" scored 0.30. Its correlation with the activation is 0.50 on 90 other images.'
FAILS = " The best so far: sections D and E show where it fails."
COLOURS = {"red": (230, 0, 0), "green": (0, 160, 0), "blue": (0, 0, 255), "yellow": (250, 240, 0)}


class Eyes(FakeEncoder):
    """Knows colours only; every other word lies equally far from all."""


@pytest.fixture(scope="module")
def model() -> Any:
    return seeing.SeeingModel(Eyes(), wrong=0.0)


def test_the_control_stops_after_as_many_calls() -> None:
    costs = {0: (2, 10), 1: (48, 900), 2: (30, 500), 3: (20, 400)}
    assert [rounds.as_many(costs, calls, 3) for calls in (1, 50, 51, 80, 81, 100, 101)] == [
        0,
        1,
        2,
        2,
        3,
        3,
        3,
    ]
    assert rounds.as_many(costs, 101, 5) == 5


def tiles(*colours: str, activation: float = 1.5) -> list[SheetTile]:
    note = f"activation {activation:g}"
    return [SheetTile(Image.new("RGB", (64, 64), COLOURS[colour]), note) for colour in colours]


def body(*sections: SheetSection, tried: str = "") -> dict[str, Any]:
    drawn = contact_sheet(sections)
    url = f"data:image/webp;base64,{base64.b64encode(encode_webp(drawn.image)).decode()}"
    content = [
        {"type": "text", "text": f"{drawn.key}\n{tried}"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    return {"messages": [{"role": "user", "content": content}]}


def said(answer: str) -> list[str]:
    return [entry["label"] for entry in json.loads(answer)["candidates"]]


def test_it_names_what_fires_and_not_what_does_not(model: Any) -> None:
    sheet = [
        SheetSection(TOP, tiles("red", "red", "red"), 0),
        SheetSection(LOOK_ALIKE, tiles("green", "blue")),
    ]
    assert said(model(body(*sheet)))[0] == "red"


def test_failing_images_change_its_mind(model: Any) -> None:
    first = [SheetSection(TOP, tiles("red", "red", "green"), 0), SheetSection(LOOK_ALIKE, tiles("blue"))]
    plain = said(model(body(*first, tried=TRIED)))
    shown = said(model(body(*first, SheetSection(MISS, tiles("yellow", "yellow")), tried=f"{TRIED}{FAILS}")))
    assert "red or yellow" in shown
    assert "red or yellow" not in plain
    alarmed = said(model(body(*first, SheetSection(FALSE_ALARM, tiles("red")), tried=f"{TRIED}{FAILS}")))
    assert "red" not in alarmed
    assert any(label.startswith("red and ") for label in alarmed)
    unlike = f"{TRIED}{FAILS}".replace("0.50", "0.05")
    dropped = said(model(body(*first, SheetSection(MISS, tiles("yellow", "yellow")), tried=unlike)))
    assert not any(label.startswith("red") for label in dropped)


def test_a_miss_counts_as_far_as_it_fires(model: Any) -> None:
    """The sheet's key says how much: the best of the rest is no miss."""
    first = [SheetSection(TOP, tiles("red", "red"), 0), SheetSection(LOOK_ALIKE, tiles("blue", activation=0))]
    alarm = SheetSection(FALSE_ALARM, tiles("red", activation=0))
    for activation, expected in ((1.4, "red or yellow"), (0.1, "red and ")):
        missed = SheetSection(MISS, tiles("yellow", "yellow", activation=activation))
        found = said(model(body(*first, missed, alarm, tried=f"{TRIED}{FAILS}")))
        assert next(label for label in found if label.startswith("red ")).startswith(expected)


def test_what_was_right_in_part_before_is_thought_of_first(model: Any) -> None:
    first = [SheetSection(TOP, tiles("red", "red"), 0), SheetSection(LOOK_ALIKE, tiles("blue", activation=0))]
    missed = SheetSection(MISS, tiles("yellow", "yellow"))
    green = TRIED.replace('"red"', '"green"')
    found = said(model(body(*first, missed, tried=f"{green}\n{TRIED}{FAILS}")))
    assert {"red or green", "red or yellow"} <= set(found)
    assert "red or green" not in said(model(body(*first, missed, tried=f"{TRIED}{FAILS}")))


def test_the_prompt_of_a_later_round_can_be_read() -> None:
    shown = Tried("a", 0, 0.07, "Its correlation with the activation is 0.64 on 9 other images.")
    best = replace(shown, text="b", outcome=f"{shown.outcome} The best so far: {FAILS.strip()}")
    untested = Tried("c", 0, 0.0, "Could not be tested: no judge knows it.")
    given = Evidence(UnitId("a", 0), 2, (), b"", "1: A, facet 0: activation 1", (shown, best, untested))
    prompt = Template.of(given, sees=True).render(given, 4)
    read = reading.read_shown(prompt, encode_webp(contact_sheet([SheetSection(TOP, tiles("red"), 0)]).image))
    assert [(tried.text, tried.score, tried.correlation) for tried in read.tried] == [
        ("a", 0.07, 0.64), ("b", 0.07, 0.64), ("c", 0.0, 0.0),
    ]  # fmt: skip
    assert read.failing is not None
    assert read.failing.text == "b"


def test_every_answer_has_the_form_that_is_asked_for(model: Any) -> None:
    sheet = [SheetSection(TOP, tiles("red"), 0), SheetSection(TOP, tiles("blue"), 1)]
    parsed = parse_answer(model(body(*sheet)), (0, 1), 8)
    assert parsed.dropped == 0
    assert {proposal.facet for proposal in parsed.proposals} == {0, 1}


def test_it_is_wrong_in_the_share_of_its_answers_that_was_asked_for() -> None:
    wrong = seeing.SeeingModel(Eyes(), wrong=0.4)
    requests = [
        body(SheetSection(TOP, tiles("red", "red"), 0), SheetSection(LOOK_ALIKE, tiles("blue")), tried=f"{n}")
        for n in range(150)
    ]
    answers = [said(wrong(request)) for request in requests]
    assert 0.3 < wrong.wrong_answers / 150 < 0.5
    assert sum("red" not in answer for answer in answers) == wrong.wrong_answers
    assert answers == [said(wrong(request)) for request in requests]  # the same request, the same answer
    for answer in answers:
        assert answer
        assert len(set(answer)) == len(answer)


def test_the_loopback_endpoint_is_one(model: Any) -> None:
    """The real client understands it, and it sees what the client sends."""
    drawn = contact_sheet([SheetSection(TOP, tiles("blue", "blue"), 0)])
    empty = np.zeros((0, 4), np.float32)
    evidence = Evidence(
        UnitId("a", 0), 1, (FacetEvidence(0, (), (), empty),), encode_webp(drawn.image), drawn.key
    )
    with loopback.serving(model) as url:
        settings = ProposeConfig(kind=("vlm",), model="seeing", base_url=url, retries=0)
        ledger = MemoryLedger()
        proposer = EndpointProposer(settings, make_exchange(settings, ledger), ledger)
        assert proposer.propose(evidence).proposals[0].text == "blue"
    assert [call.input_tokens for call in ledger.calls] == [loopback.INPUT_TOKENS] * 2


def outcome(network: str, kind: str, accepted: bool, right: bool) -> Any:
    return planted.Outcome(network, kind, "accepted" if accepted else "rejected", right, right, "x", "x")


def test_figures_are_shares_of_the_units_that_can_be_named() -> None:
    def after(*rights: bool) -> list[Any]:
        known = [outcome("n", "single", right, right) for right in rights]
        return [*known, outcome("n", "decoy", True, False), outcome("n", "dead", False, False)]

    measured = [
        rounds.Measured(
            {("refined", 1): after(True, False, False, False), ("refined", 2): after(True, True, True, False),
             ("control", 2): after(True, True, False, False)},
            {("refined", 1): 4, ("refined", 2): 3, ("control", 1): 4, ("control", 2): 4},
            {("refined", 1): 40, ("refined", 2): 30, ("control", 1): 40, ("control", 2): 40},
        )
    ]  # fmt: skip
    result = rounds.summarise(measured, 2)
    assert result.units == 4
    assert result.figures == {
        "right_round_1": 0.25, "right_last": 0.75, "right_control": 0.5, "wrong_accepted": 0.25,
        "gain": 0.5, "lead": 0.25, "or_right": None, "decoys_uninterpretable": 0.0,
    }  # fmt: skip
    assert "refined  2       4         3      1      7      70" in result.text


def test_or_units_and_decoys_have_figures_of_their_own() -> None:
    ends = ((True, True), (True, False), (False, False), (True, True))
    found = [outcome("n", "or", accepted, right) for accepted, right in ends]
    decoy = outcome("n", "decoy", False, False)
    found += [decoy, replace(decoy, verdict="uninterpretable")]
    keys = (("refined", 1), ("refined", 2), ("control", 2))
    result = rounds.summarise([rounds.Measured(dict.fromkeys(keys, found), {}, {})], 2)
    assert result.figures["or_right"] == 0.5
    assert result.figures["decoys_uninterpretable"] == 0.5
    (row,) = [line.split() for line in result.text.splitlines() if line.startswith("or ")]
    assert row == ["or", "4", *["2", "1", "0"] * 3]


@pytest.mark.slow
def test_the_suite_runs_from_end_to_end(tmp_path: Any) -> None:
    from labeler.suites import run_suite

    small = [
        "probe.images=400",
        "visualise.enabled=false",
        "checks.interventions=0",
        "checks.permutations=200",
    ]
    settings = [word for value in small for word in ("--set", value)]
    arguments = ["--networks", "fitted", "--count", "1", "--rounds", "2", *settings]
    result = run_suite("rounds", arguments, run=tmp_path)
    assert set(result.figures) >= {"right_round_1", "right_last", "right_control", "wrong_accepted"}
    again = run_suite("rounds", arguments, run=tmp_path)
    assert again.figures == result.figures


def test_a_sheet_that_is_none_is_told() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (1016, 300), (255, 255, 255)).save(stream, "WEBP")
    with pytest.raises(ValueError, match="not 1 tiles"):
        suite_module("sheet_reading").read_shown("1: A, facet 0: activation 1", stream.getvalue())
