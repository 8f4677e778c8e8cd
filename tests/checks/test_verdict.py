import math
from dataclasses import replace

from labeler.checks.decoys import Cut
from labeler.checks.verdict import decide
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
