import math
from dataclasses import replace

from labeler.checks.decoys import Cut
from labeler.checks.verdict import decide, same_words
from labeler.records import CheckResult, Formula, Label
from tests.checks.gate_doubles import GATE, check

CUT = Cut(0.3, 1, 20, 160, 40)


def judged(text, value=0.6, facet=0, z=6.0, p=1e-6, prediction=None, formula=None, probability=None):
    """A judged label; its score is `value`, so that a test can say which label is better."""
    found = prediction or check(value, value - 0.05, p=p, z=z, units=90 if z is not None else 9)
    checks = {"prediction": found, "rivals": check(0.1, 0.06)}  # a compound has to lead its terms
    item = GATE.judge(Label(text=text, facet=facet, formula=formula, checks=checks), 1)
    return replace(item, label=item.label.model_copy(update={"score": value, "probability": probability}))


def either(*terms, **given):
    return judged(" or ".join(terms), formula=Formula(op="or", terms=terms), **given)


def verdict(*items, cut=CUT, images=600, dead=False):
    return decide(items, cut, test_images=images, min_test_images=150, dead=dead)


def test_the_best_label_of_a_facet_is_accepted_and_the_others_are_candidates():
    found = verdict(judged("dog", 0.5), judged("animal", 0.6), judged("sky", p=0.5))
    assert found.verdict == "accepted"
    assert [label.text for label in found.accepted] == ["animal"]
    assert {label.text for label in found.refused} == {"dog", "sky"}
    assert "animal: prediction 0.60" in found.reason
    assert "cut 0.30" in found.reason


def test_two_facets_with_different_labels_are_polysemantic_with_the_same_label_accepted():
    assert verdict(judged("dog"), judged("sky", facet=1)).verdict == "polysemantic"
    assert verdict(judged("dog"), judged("sky", facet=0)).verdict == "accepted"
    assert verdict(judged("dog"), judged("Dogs", facet=1)).verdict == "accepted"


def test_significant_but_refused_is_rejected():
    common = verdict(judged("dark", z=1.0), judged("sky", p=0.5))
    assert common.verdict == "rejected"
    assert "true but common" in common.reason
    weak = verdict(judged("dog", 0.25))
    assert weak.verdict == "rejected"
    assert "below the decoys' cut 0.30" in weak.reason
    assert weak.accepted == ()


def test_what_is_significant_but_next_to_nothing_is_uninterpretable():
    """On a thousand images a correlation of 0.08 is sure, and no name of the unit."""
    found = verdict(judged("heart", prediction=check(0.08, 0.03)), judged("sky", p=0.5))
    assert found.verdict == "uninterpretable"
    assert verdict(judged("heart", prediction=check(0.12, 0.03, z=1.0))).verdict == "rejected"


def test_nothing_significant_is_uninterpretable_and_untestable_is_abstained():
    unread = CheckResult.not_applicable("no judge knows this label")
    assert verdict(judged("dog", p=0.5), judged("sky", p=0.9)).verdict == "uninterpretable"
    assert verdict(judged("dog", p=0.5), judged("x", prediction=unread)).verdict == "uninterpretable"
    untested = verdict(judged("x", prediction=unread))
    assert untested.verdict == "abstained"
    assert "no judge knows this label" in untested.reason
    alone = verdict(judged("dog", z=None), judged("sky", p=0.5))
    assert alone.verdict == "abstained"
    assert "only 9 other live units" in alone.reason


def test_dead_few_images_no_labels_no_decoys():
    assert verdict(judged("dog"), dead=True).verdict == "dead"
    few = verdict(judged("dog"), images=149)
    assert (few.verdict, few.reason) == ("abstained", "Only 149 test images; 150 are needed to decide.")
    assert verdict().verdict == "abstained"
    uncontrolled = verdict(judged("dog"), cut=Cut(math.inf, 0, 0, 0, 1))
    assert uncontrolled.verdict == "abstained"
    assert "No decoy" in uncontrolled.reason


def test_an_infinite_cut_accepts_nothing():
    found = verdict(judged("dog", 0.99), cut=Cut(math.inf, 0, 0, 160, 40))
    assert found.verdict == "rejected"
    assert found.accepted == ()


def test_a_part_of_an_accepted_compound_is_no_label_of_its_own():
    whole, part = either("red", "blue", value=0.7), judged("Reds", 0.6, facet=1)
    found = verdict(whole, part)
    assert found.verdict == "accepted"
    assert [label.text for label in found.accepted] == ["red or blue"]
    assert [label.text for label in found.refused] == ["Reds"]
    assert verdict(whole, judged("green", 0.6, facet=1)).verdict == "polysemantic"


def test_a_compound_of_the_same_terms_is_a_part_and_one_with_a_new_term_is_not():
    whole = either("red", "blue", value=0.7)
    assert verdict(whole, either("blue", "red", value=0.6, facet=1)).verdict == "accepted"
    assert verdict(whole, either("red", "green", value=0.6, facet=1)).verdict == "polysemantic"


def test_a_part_is_never_accepted_in_place_of_a_compound_that_leads_it():
    """Though the part scores higher, and the compound has too little probability."""
    whole, part = either("red", "blue", value=0.6), judged("red", 0.9)
    assert [label.text for label in verdict(part, whole).accepted] == ["red or blue"]
    unlikely = either("red", "blue", value=0.6, probability=0.7)
    found = verdict(judged("red", 0.9, probability=0.9), unlikely, cut=replace(CUT, least_probability=0.8))
    assert found.verdict == "rejected"
    assert found.reason.startswith("red or blue: ")


def test_the_simple_label_beside_a_compound_is_accepted_where_the_compound_fails():
    failed = either("red", "blue", value=0.7, p=0.5)
    found = verdict(failed, judged("red", 0.6))
    assert found.verdict == "accepted"
    assert [label.text for label in found.accepted] == ["red"]
    assert [label.text for label in found.refused] == ["red or blue"]


def test_too_little_probability_is_rejected_in_so_many_words():
    strict = replace(CUT, least_probability=0.8)
    found = verdict(judged("dog", probability=0.7), cut=strict)
    assert found.verdict == "rejected"
    assert "0.70 is too little probability of being right" in found.reason
    enough = verdict(judged("dog", probability=0.8), cut=strict)
    assert enough.verdict == "accepted"
    assert "0.80 is enough probability of being right" in enough.reason
    assert verdict(judged("dog"), cut=strict).verdict == "accepted"  # unknown: the decoys decide


def test_labels_are_ordered_by_score_and_equal_ones_by_name():
    found = verdict(judged("zebra", 0.7), judged("dog", 0.6), judged("cat", 0.6))
    assert [label.text for label in (*found.accepted, *found.refused)] == ["zebra", "cat", "dog"]
    unscored = judged("ant", 0.6)
    unscored = replace(unscored, label=unscored.label.model_copy(update={"score": None}))
    found = verdict(unscored, judged("dog", 0.31), judged("bee", 0.0), dead=True)
    assert [label.text for label in found.refused] == ["dog", "ant", "bee"]


def test_as_many_test_images_as_are_needed_are_enough():
    assert verdict(judged("dog"), images=150).verdict == "accepted"
    alive = decide([judged("dog")], CUT, test_images=150, min_test_images=150)
    assert alive.verdict == "accepted"


def test_the_candidates_stay_whatever_the_verdict():
    unread = CheckResult.not_applicable("no judge knows this label")
    for found in (
        verdict(judged("dog"), dead=True),
        verdict(judged("dog"), images=1),
        verdict(judged("dog", z=1.0)),
        verdict(judged("dog", 0.2)),
        verdict(judged("dog", p=0.5)),
        verdict(judged("dog", z=None)),
        verdict(judged("dog", prediction=unread)),
        verdict(judged("dog"), cut=Cut(math.inf, 0, 0, 0, 1)),
    ):
        assert found.accepted == ()
        assert [label.text for label in found.refused] == ["dog"]


def test_a_polysemantic_unit_names_its_labels_best_first():
    found = verdict(judged("dog", 0.5), judged("sky", 0.7, facet=1), judged("cat", 0.4, facet=0))
    assert found.reason == "2 facets pass with different labels: sky, dog."
    assert [label.text for label in found.accepted] == ["sky", "dog"]
    assert [label.text for label in found.refused] == ["cat"]


def test_the_reason_is_that_of_the_best_candidate():
    assert verdict(judged("dog", 0.2), judged("sky", 0.25)).reason.startswith("sky: ")
    assert verdict(judged("dog", 0.4, z=1.0), judged("sky", z=1.0)).reason.startswith("sky: ")
    assert verdict(judged("dog", 0.4, z=None), judged("sky", z=None)).reason.startswith("sky: ")
    unread = CheckResult.not_applicable("no judge knows this label")
    found = verdict(judged("x", 0.7, prediction=unread), judged("sky", p=0.5), judged("dog", 0.5, p=0.5))
    assert "None of the 2 labels that could be tested (of 3)" in found.reason
    assert "the best: sky: prediction 0.60" in found.reason
    assert verdict(judged("x", prediction=unread)).reason.startswith("No label could be tested: x: no judge")


def test_a_reason_is_the_label_and_what_the_gate_says_of_it():
    for item, before in (
        (judged("dark", z=1.0), ""),
        (judged("dark", z=None), ""),
        (judged("dark", p=0.5), "None of the 1 labels that could be tested (of 1) says more than chance or "
         "next to nothing; the best: "),
    ):  # fmt: skip
        assert verdict(item).reason == f"{before}dark: {item.eligibility.reason}."


def test_a_candidate_just_at_the_cut_reaches_it():
    at = verdict(judged("dog", 0.3))
    assert at.verdict == "accepted"
    assert "its score 0.30 reaches the decoys' cut 0.30" in at.reason
    assert "its score 0.29 is below the decoys' cut 0.30" in verdict(judged("dog", 0.29)).reason


def test_a_unit_whose_only_measured_label_cannot_be_compared_is_abstained():
    """Though another was not significant: the one may be true of half the layer, or of this unit alone."""
    unread = CheckResult.not_applicable("no judge knows this label")
    found = verdict(judged("x", 0.9, prediction=unread), judged("dog", z=None), judged("sky", p=0.5))
    assert found.verdict == "abstained"
    assert found.reason.startswith("dog: ")
    unmeasured = replace(judged("y", prediction=unread), label=Label(text="y", score=0.8))
    assert verdict(unmeasured, judged("sky", p=0.5)).verdict == "uninterpretable"


def test_a_negation_says_nothing_of_its_term_in_full():
    negation = judged("not red", 0.7, formula=Formula(op="not", terms=("red",)))
    assert verdict(negation, judged("red", 0.6, facet=1)).verdict == "polysemantic"


def test_a_compound_says_nothing_of_one_with_another_operator():
    both = judged("red and blue", 0.6, facet=1, formula=Formula(op="and", terms=("red", "blue")))
    assert verdict(either("red", "blue", value=0.7), both).verdict == "polysemantic"


def test_a_wider_compound_says_all_of_a_narrower_one_and_not_the_other_way():
    wide, narrow = either("red", "blue", "green", value=0.5), either("blue", "red", value=0.9, facet=1)
    found = verdict(narrow, wide)
    assert found.verdict == "accepted"
    assert [label.text for label in found.accepted] == ["red or blue or green"]


def test_of_twins_the_better_is_kept():
    found = verdict(either("red", "blue", value=0.6), either("blue", "red", value=0.7, facet=1))
    assert [label.text for label in found.accepted] == ["blue or red"]
    assert [label.text for label in found.refused] == ["red or blue"]


def test_what_is_the_same_is_for_the_caller_to_say():
    pair = judged("dog", 0.7), judged("hound", 0.6, facet=1)
    settings = {"test_images": 600, "min_test_images": 150}
    assert decide(pair, CUT, **settings).verdict == "polysemantic"
    assert decide(pair, CUT, **settings, same=lambda one, other: True).verdict == "accepted"
    whole = either("dog", "cat", value=0.5)
    found = decide(
        [judged("hound", 0.6), whole], CUT, **settings, same=lambda one, other: "dog" in (one, other)
    )
    assert [label.text for label in found.accepted] == ["dog or cat"]
    assert same_words("T-Shirts", "t shirt")
    assert not same_words("dog", "cat")
