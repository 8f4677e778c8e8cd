import math

from labeler.checks.gate import Cut, judge_label
from labeler.checks.verdict import decide
from labeler.config import GateConfig
from labeler.records import CheckResult, Label, Null, SpecificityNull

GATE = GateConfig()
CUT = Cut(0.3, 1, 20, 160, 40)


def judged(text, value=0.6, facet=0, z=6.0, p=1e-6, prediction=None):
    units = 90 if z is not None else 9
    check = prediction or CheckResult(
        status="ok", value=value, low=value - 0.05, n=600, judge="annotations",
        significance=Null(z=5.0, p=p), specificity=SpecificityNull(z=z, p=0.01, units=units),
    )  # fmt: skip
    return judge_label(Label(text=text, facet=facet, checks={"prediction": check}), GATE, 1)


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
    weak = verdict(judged("dog", 0.3))
    assert weak.verdict == "rejected"
    assert "below the decoys' cut 0.30" in weak.reason
    assert weak.accepted == ()


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
