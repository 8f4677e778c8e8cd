import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.checks.gate import WEIGHTS, choose_decoys, decoy_cut, eligible, features, judge_label, score
from labeler.config import GateConfig
from labeler.records import CheckResult, Formula, Label, Null, SpecificityNull

GATE = GateConfig()


def check(value, low=None, p=1e-6, z=6.0, n=600, units=90):
    return CheckResult(
        status="ok", value=value, low=low, n=n, judge="annotations",
        significance=Null(z=5.0, p=p), specificity=SpecificityNull(z=z, p=0.01, units=units),
    )  # fmt: skip


def full(prediction=0.6):
    return {
        "prediction": check(prediction, prediction - 0.05),
        "auprc": check(0.7, 0.4, n=6),
        "real": check(2.0, 1.5, n=12),
        "synthetic": check(1.0, n=2),
        "agreement": check(0.97, n=12),
        "iou": check(0.15, 0.1),
    }


NOT_APPLICABLE = CheckResult.not_applicable("no pictures")


def test_features_are_effect_sizes_in_the_unit_interval_and_ignore_z_and_p():
    found = features(full())
    assert set(found) == set(WEIGHTS)
    assert all(0 <= value <= 1 for value in found.values())
    louder = {
        name: c.model_copy(update={"significance": Null(z=99.0, p=1e-12)}) for name, c in full().items()
    }
    assert features(louder) == found


def test_an_auprc_at_its_base_rate_and_an_agreement_by_chance_are_worth_nothing():
    checks = {"prediction": check(0.3, 0.2, n=600), "auprc": check(0.01, 0.01, n=6), "agreement": check(0.5)}
    found = features(checks)
    assert found["auprc"] == pytest.approx(0, abs=1e-9)
    assert found["agreement"] == 0


@given(st.sampled_from(sorted(WEIGHTS)), st.floats(-1, 1), st.floats(-1, 1))
@settings(max_examples=60, deadline=None)
def test_better_evidence_never_lowers_the_score(name, first, second):
    low, high = sorted((first, second))
    worse, better = dict(full()), dict(full())
    worse[name], better[name] = check(low, low), check(high, high)
    assert score(worse) <= score(better) + 1e-12


def test_a_missing_check_is_not_a_zero():
    without = {**full(), "synthetic": NOT_APPLICABLE, "iou": NOT_APPLICABLE}
    zero = {**full(), "synthetic": check(0.0), "iou": check(0.0)}
    assert score(without) > score(zero)
    only = {"prediction": check(0.6, 0.55), "real": NOT_APPLICABLE}
    assert score(only) == pytest.approx(0.55)
    assert score({"prediction": NOT_APPLICABLE}) == 0.0


def test_a_good_label_is_eligible_and_says_why():
    found = eligible(full(), GATE, tests=4)
    assert found.state == "passes"
    assert "prediction 0.60 (at least 0.55) on 600 images" in found.reason


@pytest.mark.parametrize(
    ("prediction", "tests", "state", "words"),
    [
        (CheckResult.not_applicable("no judge knows this label"), 1, "unknown", "no judge knows"),
        (check(0.2, 0.1, p=0.02), 1, "passes", ""),
        (check(0.2, 0.1, p=0.02), 4, "not_significant", "p = 0.02"),  # Bonferroni
        (check(0.2, -0.01), 1, "not_significant", ""),
        (check(0.4, 0.3, z=1.5), 1, "refused", "true but common: 1.5"),
        (check(0.4, 0.3, z=None, units=12), 1, "unknown", "only 12 other live units"),
    ],
)
def test_conditions(prediction, tests, state, words):
    found = eligible({"prediction": prediction}, GATE, tests)
    assert found.state == state
    assert words in found.reason


@pytest.mark.parametrize(
    ("name", "weak", "words"),
    [
        ("iou", check(0.03), "0.04 is needed"),
        ("iou", check(0.2, z=1.0), "common in the layer"),
        ("iou", check(0.2, p=0.3), "not significant"),
        ("agreement", check(0.8), "0.9 is needed"),
        ("agreement", check(0.95, p=0.3), "not significant"),
        ("real", check(-0.2), "0 is needed"),
    ],
)
def test_required_checks_hold_wherever_they_apply(name, weak, words):
    strict = GateConfig(require=(name,))
    assert eligible(full(), strict, 1).state == "passes"
    found = eligible({**full(), name: weak}, strict, 1)
    assert found.state == "refused"
    assert words in found.reason
    assert eligible({**full(), name: weak}, GATE, 1).passes  # never a veto unless asked for
    assert eligible({**full(), name: NOT_APPLICABLE}, strict, 1).passes
    failed = CheckResult(status="failed", why="no embedding")
    assert eligible({**full(), name: failed}, strict, 1).state == "refused"


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
        assert cut.error < cut.cautious_error
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


def test_a_label_that_may_not_be_accepted_never_beats_the_cut():
    bad = judge_label(Label(text="x", checks={"prediction": check(0.9, 0.8, z=0.1)}), GATE, 1)
    assert bad.cut_score == -math.inf
    assert bad.label.score == pytest.approx(0.8)
    good = judge_label(Label(text="x", checks=full()), GATE, 1)
    assert good.cut_score == good.label.score
    assert np.isfinite(good.cut_score)
