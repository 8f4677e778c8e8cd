import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labeler.propose.schema import LONGEST, WIRE, InvalidAnswer, clean_label, parse_answer
from labeler.records import Formula

HOSTILE = [
    "<b>dog</b>",
    "<script>alert(1)</script>",
    "`rm -rf`",
    "{{ config }}",
    "[link](x)",
    "dog\u202egnp",
    "do\u200bg",
    "dog\x00",
    "dog\ncat",
    "dog\u2028cat",
    "\ufeffdog",
    "dog\u3164",
    "x" * 10_000,
    "x" * 81,
    "see https://example.test/a",
    "www.example.test",
    "example.com",
    "javascript:alert",
    "\U000e0041dog",
    "",
    "   ",
    "...",
]


def answer(*candidates: object, abstain: object = False) -> str:
    return json.dumps({"candidates": candidates, "abstain": abstain})


@pytest.mark.parametrize("label", HOSTILE)
def test_hostile_labels_never_pass(label: str) -> None:
    with pytest.raises(InvalidAnswer) as caught:
        parse_answer(answer({"label": label}), (0,), 4)
    assert len(str(caught.value)) < 120
    formula = {"op": "or", "terms": ["cat", label]}
    with pytest.raises(InvalidAnswer):
        parse_answer(answer({"label": "dog", "formula": formula}), (0,), 4)


@given(st.text())
def test_whatever_passes_keeps_every_promise(text: str) -> None:
    try:
        label = clean_label(text)
    except ValueError:
        return
    assert 1 <= len(label) <= LONGEST
    assert label == label.strip() == unicodedata.normalize("NFC", label)
    assert not set(label) & set("<>`{}[]\n\r\t")
    assert all(unicodedata.category(c)[0] != "C" for c in label)
    assert clean_label(label) == label


@given(st.text(max_size=300))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    try:
        parse_answer(text, (0,), 4)
    except InvalidAnswer:
        return
    assert "{" in text


def test_a_good_label_is_normalised() -> None:
    found = parse_answer(answer({"label": "  cafe\u0301  table ", "kind": "object", "facet": 1}), (0, 1), 4)
    (proposal,) = found.proposals
    assert (proposal.text, proposal.kind, proposal.facet) == ("caf\u00e9 table", "object", 1)


@pytest.mark.parametrize(
    "around",
    [
        "{}",
        "```json\n{}\n```",
        "Here it is: {} Hope this helps {{}}!",
        '<think>maybe {{"candidates": [{{"label": "cat"}}], "abstain": false}}</think>\n{}',
    ],
)
def test_json_is_found_where_models_put_it(around: str) -> None:
    found = parse_answer(around.format(answer({"label": "dog"})), (0,), 4)
    assert [p.text for p in found.proposals] == ["dog"]


def test_abstaining_is_a_success_without_proposals() -> None:
    assert parse_answer(answer(abstain=True), (0,), 4).proposals == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dog",
        "[1, 2]",
        "{",
        "{" * 5000,
        '{"a": 1}',
        '{"candidates": "dog", "abstain": false}',
        '{"candidates": ' + "[" * 100_000,
        answer(),
        answer("dog"),
        answer({"label": 5}),
        answer({"kind": "object"}),
        answer({"label": "dog", "facet": 7}),
    ],
)
def test_other_answers_are_invalid(text: str) -> None:
    with pytest.raises(InvalidAnswer):
        parse_answer(text, (0,), 4)


def test_bad_candidates_are_dropped_and_duplicates_folded() -> None:
    text = answer({"label": "dog"}, {"label": "Dog "}, {"label": "<i>"}, {"label": "cat", "kind": "felid"})
    found = parse_answer(text, (0,), 4)
    assert [(p.text, p.kind) for p in found.proposals] == [("dog", "other"), ("cat", "other")]
    assert found.dropped == 1


def test_no_more_candidates_than_asked_for() -> None:
    found = parse_answer(answer(*({"label": f"thing {i}"} for i in range(1000))), (0,), 3)
    assert [p.text for p in found.proposals] == ["thing 0", "thing 1", "thing 2"]


def test_formulas() -> None:
    def formula(op: str, *terms: str) -> Formula | None:
        entry = {"label": "x", "formula": {"op": op, "terms": terms}}
        return parse_answer(answer(entry), (0,), 4).proposals[0].formula

    assert formula("none") is None
    assert formula("or", "dog", "car") == Formula(op="or", terms=("dog", "car"))
    assert formula("not", "sky") == Formula(op="not", terms=("sky",))
    for op, *terms in (
        ["or", "dog"],
        ["not", "a", "b"],
        ["xor", "a", "b"],
        ["and", "a", "A"],
        ["or", *"abcde"],
    ):
        with pytest.raises(InvalidAnswer):
            formula(op, *terms)


def test_the_wire_schema_is_plain_and_strict() -> None:
    """Servers' grammars differ in what they know; types, enums and required keys they all know."""
    allowed = {"type", "properties", "items", "required", "enum", "additionalProperties"}

    def check(node: dict[str, object]) -> None:
        assert set(node) <= allowed
        if node["type"] == "object":
            properties = node["properties"]
            assert isinstance(properties, dict)
            assert node["required"] == list(properties)
            assert node["additionalProperties"] is False
            for child in properties.values():
                check(child)
        if node["type"] == "array":
            check(node["items"])  # type: ignore[arg-type]

    check(WIRE)
