"""Which labels of the rounds are opened on `test`."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from labeler.pipeline.verdicts import FINALISTS, _finals
from labeler.records import Formula, Label, RoundRecord


def label(text: str, score: float | None, facet: int = 0) -> Label:
    terms = tuple(text.split(" or "))
    formula = Formula(op="or", terms=terms) if len(terms) > 1 else None
    return Label(text=text, score=score, facet=facet, formula=formula, split="feedback")


def finals(*labels: Label) -> list[str]:
    """One round for each label."""
    return [x.text for x in _finals([RoundRecord(round=i + 1, labels=(x,)) for i, x in enumerate(labels)])]


def test_the_best_labels_of_each_facet_are_opened_best_first() -> None:
    assert finals(label("red", 0.3), label("dog", 0.5), label("sky", 0.6, facet=1)) == ["sky", "dog", "red"]
    many = [label(f"word {number}", number / 10) for number in range(7)]
    assert finals(*many) == ["word 6", "word 5", "word 4"]


def test_labels_without_a_score_are_not_opened_unless_there_are_no_others() -> None:
    assert finals(label("red", 0.7), label("red or blue", None)) == ["red"]
    assert finals(label("red or blue", None)) == []
    assert finals(label("red or blue", None), label("red", None), label("blue", None)) == ["red"]


def test_where_only_compounds_lead_the_best_simple_label_stands_beside_them() -> None:
    compounds = [label("red or blue", 0.9), label("red or dog", 0.8), label("red or sky", 0.7)]
    assert finals(*compounds, label("red", 0.2), label("blue", 0.1))[-1] == "red"
    assert finals(compounds[0], label("red", 0.2)) == ["red or blue", "red"]


def test_a_text_that_leads_several_facets_is_opened_once_for_the_one_it_fits_best() -> None:
    rounds = [RoundRecord(round=1, labels=(label("Red", 0.4), label("red", 0.6, facet=1)))]
    (only,) = _finals(rounds)
    assert (only.text, only.facet) == ("red", 1)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["red", "blue", "red or blue", "dog", "dog or red"]),
            st.none() | st.floats(0, 1),
            st.integers(0, 2),
        ),
        max_size=8,
    )
)
def test_no_facet_opens_many_labels_and_no_text_is_opened_twice(
    drawn: list[tuple[str, float | None, int]],
) -> None:
    labels = [label(*item) for item in drawn]
    found = _finals([RoundRecord(round=1, labels=tuple(labels))])
    texts = [item.text for item in found]
    assert len(set(texts)) == len(texts)
    scores = [item.score or 0.0 for item in found]
    assert scores == sorted(scores, reverse=True)
    assert len(found) == 1 or all(item.score is not None for item in found)
    for facet in {item.facet for item in found}:
        inside = [item for item in found if item.facet == facet]
        assert len(inside) <= FINALISTS + 1
    if any(item.score is not None for item in labels):
        best = max(item.score for item in labels if item.score is not None)
        assert found[0].score == best
