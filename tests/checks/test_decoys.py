import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.checks.decoys import Cut, choose_decoys, decoy_cut
from labeler.checks.gate import Eligibility, Judged
from labeler.records import Formula, Label
from tests.checks.gate_doubles import full

SCORES = st.lists(st.one_of(st.just(-math.inf), st.floats(0, 1)), min_size=1, max_size=30)


@given(SCORES, SCORES, st.floats(0.55, 0.99))
@settings(max_examples=80, deadline=None)
def test_the_cut_is_the_smallest_that_keeps_the_share_of_decoys(targets, decoys, precision):
    cut = decoy_cut(targets, decoys, precision)

    def kept(threshold):
        accepted = sum(score >= threshold for score in targets)
        wrong = sum(score >= threshold for score in decoys)
        return accepted > 0 and wrong / len(decoys) <= (1 - precision) * accepted / len(targets) + 1e-12

    allowed = [score for score in targets if score > -math.inf and kept(score)]
    assert cut.threshold == (min(allowed) if allowed else math.inf)
    assert cut.targets_accepted == sum(score >= cut.threshold for score in targets)
    assert cut.decoys_accepted == sum(score >= cut.threshold for score in decoys)
    if allowed:
        assert cut.error <= 1 - precision + 1e-9
    shuffled = decoy_cut(targets[::-1], decoys[::-1], precision)
    assert shuffled == cut


@given(SCORES, SCORES, st.integers(0, 29), st.floats(0, 1))
@settings(max_examples=80, deadline=None)
def test_a_better_decoy_never_lowers_the_cut(targets, decoys, index, gain):
    index %= len(decoys)
    better = [*decoys]
    better[index] = max(decoys[index], gain)
    assert decoy_cut(targets, better, 0.9).threshold >= decoy_cut(targets, decoys, 0.9).threshold


@given(SCORES, SCORES, st.floats(0.55, 0.95))
@settings(max_examples=80, deadline=None)
def test_more_precision_never_lowers_the_cut(targets, decoys, precision):
    assert (
        decoy_cut(targets, decoys, precision + 0.04).threshold
        >= decoy_cut(targets, decoys, precision).threshold
    )


def test_without_decoys_nothing_is_controlled_and_nothing_accepted():
    assert decoy_cut([0.9, 0.8], [], 0.9).threshold == math.inf
    assert decoy_cut([], [0.1], 0.9).threshold == math.inf
    assert decoy_cut([-math.inf], [-math.inf] * 8, 0.9).threshold == math.inf


def labels(*texts):
    return tuple(Label(text=text) for text in texts)


def never(first, second):
    return False


def test_decoys_are_labels_of_other_units_unlike_the_units_own():
    own = {0: labels("stripes", "red"), 1: labels("Stripe", "dog"), 2: labels("crimson", "cat")}
    found = choose_decoys(own, lambda a, b: {a, b} == {"red", "crimson"}, 8, seed=0)
    assert {label.text for label in found[0]} == {"dog", "cat"}
    assert {label.text for label in found[1]} == {"red", "crimson", "cat"}
    formula = Label(text="red or dog", formula=Formula(op="or", terms=("red", "dog")))
    found = choose_decoys({0: labels("dogs"), 1: (formula,), 2: labels("sky")}, never, 8, seed=0)
    assert {label.text for label in found[0]} == {"sky"}


def test_labels_of_correlated_units_are_no_decoys_and_the_vocabulary_fills_up():
    own = {0: labels("dog"), 1: labels("wolf"), 2: labels("sky")}
    found = choose_decoys(
        own, never, 3, seed=0, related={0: {0, 1}}, spare=labels("grass", "dog", "sky", "sea")
    )
    assert found[0][0].text == "sky"
    assert {label.text for label in found[0]} == {"sky", "grass", "sea"}
    alone = choose_decoys({0: labels("dog")}, never, 2, seed=0, spare=labels("grass", "sea", "sky"))
    assert len(alone[0]) == 2


def test_decoys_are_repeatable_and_seldom_change_with_the_units_asked_for():
    own = {unit: labels(f"word {unit}") for unit in range(60)}
    before = choose_decoys(own, never, 8, seed=3)
    assert before == choose_decoys(dict(reversed(own.items())), never, 8, seed=3)
    assert before != choose_decoys(own, never, 8, seed=4)
    after = choose_decoys({**own, 60: labels("word 60")}, never, 8, seed=3)
    words = [{unit: {label.text for label in found[unit]} for unit in own} for found in (before, after)]
    changed = sum(words[0][unit] != words[1][unit] for unit in own)
    assert changed < 25  # 8 in 60 are expected, one decoy each
    assert all(len(words[0][unit] - words[1][unit]) <= 1 for unit in own)


def test_decoys_carry_no_numbers_of_the_unit_that_they_came_from():
    donor = Label(text="dog", checks=full(), score=0.9, facet=2)
    (decoy,) = choose_decoys({0: labels("sky"), 1: (donor,)}, never, 1, seed=0)[0]
    assert decoy.checks == {}
    assert decoy.score is None


def compound(op, *terms):
    return Label(text=f" {op} ".join(terms), formula=Formula(op=op, terms=terms))


def test_a_compound_with_a_term_of_the_unit_is_no_decoy_and_one_written_both_ways_is_one():
    own = {
        0: (compound("or", "red", "dog"),),
        1: (compound("and", "dogs", "sky"), compound("or", "sea", "sky")),
        2: (compound("or", "sky", "sea"), compound("and", "sea", "sky")),
    }
    found = choose_decoys(own, never, 8, seed=0)[0]
    assert sorted((label.formula.op, sorted(label.formula.terms)) for label in found) == [
        ("and", ["sea", "sky"]),
        ("or", ["sea", "sky"]),
    ]


def test_a_cut_accepts_what_is_eligible_above_the_decoys_and_probable_where_that_is_known():
    def item(score, probability, state="passes"):
        return Judged(Label(text="x", score=score, probability=probability), Eligibility(state, ""))

    cut = Cut(0.5, 1, 20, 160, 40, least_probability=0.7)
    assert cut.accepts(item(0.5, 0.7))
    assert cut.accepts(item(0.5, None))  # outside the domain the decoys decide alone
    assert not cut.accepts(item(0.49, 0.99))
    assert not cut.accepts(item(0.9, 0.69))
    assert not cut.accepts(item(None, 0.99))
    for state in ("refused", "not_significant", "unknown"):
        assert not cut.accepts(item(0.9, 0.99, state))
    assert Cut(0.5, 1, 20, 160, 40).accepts(item(0.5, 0.01))
    nothing = Cut(0.5, 1, 20, 160, 40, least_probability=math.inf)
    assert not nothing.accepts(item(0.9, 1.0))
    assert nothing.accepts(item(0.9, None))


def test_a_share_of_decoys_just_at_the_limit_is_enough():
    """3 of 30 decoys for 10 of 10 targets is a tenth, whatever 1 - 0.9 is in binary."""
    cut = decoy_cut([0.9] * 10, [0.95] * 3 + [0.1] * 27, 0.9)
    assert (cut.threshold, cut.error) == (0.9, pytest.approx(0.1))
