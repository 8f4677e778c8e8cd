import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.checks.calibration import shipped
from labeler.checks.gate import MIN_GAIN, Gate, eligible, leads
from labeler.config import GateConfig
from labeler.records import CheckResult, Formula, Label
from tests.checks.gate_doubles import CALIBRATION, GATE, NOT_APPLICABLE, SETTINGS, check, full

EITHER = Formula(op="or", terms=("dog", "cat"))


def simple(checks):
    return Label(text="dog", checks=checks)


def compound(rivals):
    return Label(text="dog or cat", formula=EITHER, checks={**full(), "rivals": rivals})


def score(checks):
    return GATE.judge(simple(checks), 1).label.score


@given(st.sampled_from(sorted(full())), st.floats(-1, 1), st.floats(-1, 1))
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


def test_a_good_label_is_eligible_and_says_why():
    found = eligible(simple(full()), SETTINGS, tests=4)
    assert found.state == "passes"
    assert "prediction 0.60 (at least 0.55) on 600 images" in found.reason


@pytest.mark.parametrize(
    ("prediction", "tests", "state", "words"),
    [
        (CheckResult.not_applicable("no judge knows this label"), 1, "unknown", "no judge knows"),
        (check(0.2, 0.1, p=0.02), 1, "passes", ""),
        (check(0.2, 0.1, p=0.02), 4, "not_significant", "p = 0.02"),  # Bonferroni
        (check(0.2, -0.01), 1, "not_significant", ""),
        (check(0.08, 0.03), 1, "not_significant", "says next to nothing of the unit: 0.1 is needed"),
        (check(0.4, 0.3, z=1.5), 1, "refused", "true but common: 1.5"),
        (check(0.4, 0.3, z=None, units=12), 1, "unknown", "only 12 other live units"),
    ],
)
def test_conditions(prediction, tests, state, words):
    found = eligible(simple({"prediction": prediction}), SETTINGS, tests)
    assert found.state == state
    assert words in found.reason


def test_a_label_without_checks_is_unknown():
    assert eligible(Label(text="dog"), SETTINGS, 1).state == "unknown"


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
    assert eligible(simple(full()), strict, 1).state == "passes"
    found = eligible(simple({**full(), name: weak}), strict, 1)
    assert found.state == "refused"
    assert words in found.reason
    assert eligible(simple({**full(), name: weak}), SETTINGS, 1).passes  # never a veto unless asked for
    assert eligible(simple({**full(), name: NOT_APPLICABLE}), strict, 1).passes
    failed = CheckResult(status="failed", why="no embedding")
    assert eligible(simple({**full(), name: failed}), strict, 1).state == "refused"


@pytest.mark.parametrize(
    ("rivals", "ahead", "state"),
    [
        (check(0.1, 0.05), True, "passes"),
        (check(MIN_GAIN, 0.001), True, "passes"),
        (check(MIN_GAIN - 0.001, 0.001), False, "refused"),  # the simpler name wins a tie
        (check(0.1, -0.05, p=0.03), True, "refused"),  # ahead, but of 4 tests not significantly
        (check(-0.1, -0.2, p=1.0), False, "refused"),
        (CheckResult.not_applicable("only 3 other words to compare with"), True, "unknown"),
    ],
)
def test_a_compound_label_must_lead_its_rivals(rivals, ahead, state):
    label = compound(rivals)
    assert leads(label.checks) is ahead
    assert eligible(label, SETTINGS, 4).state == state
    judged = GATE.judge(label, 4)
    assert (judged.label.score is not None) is ahead
    assert (judged.cut_score > -math.inf) is (state == "passes")


def test_a_compound_label_that_is_refused_names_its_better_rival():
    behind = check(-0.1, -0.2, p=0.98, why="the best other word is dog, 0.71")
    assert "leads by only -0.10 (p = 0.98): the best other word is dog, 0.71" in (
        eligible(compound(behind), SETTINGS, 1).reason
    )


def test_a_simple_label_behind_a_rival_is_refused_where_no_probability_speaks_for_it():
    behind = {**full(), "rivals": check(-0.1, -0.2, p=1.0, why="the best other word is cat, 0.7")}
    judged = GATE.judge(simple(behind), 1)
    assert judged.eligibility.state == "refused"
    assert "another word may say as much: the best other word is cat, 0.7" in judged.eligibility.reason
    known = replace(GATE, calibrated=True).judge(simple(behind), 1)
    assert known.eligibility.passes
    assert judged.label.score == known.label.score < score(full())


@given(st.floats(-1, 1))
def test_outside_the_domain_a_label_has_to_lead_all_other_words_for_sure(low):
    found = GATE.judge(simple({**full(), "rivals": check(1.0, low)}), 1)
    assert found.eligibility.passes is (low > 0)
    seen = check(low, -1.0, judge="open_clip:ViT-B-32")  # of thousands of words none leads for sure
    assert GATE.judge(simple({**full(), "rivals": seen}), 1).eligibility.passes is (low > 0)
    unasked = {**full(), "rivals": CheckResult.not_applicable("its judge has no list of words")}
    assert GATE.judge(simple(unasked), 1).eligibility.passes


def test_a_label_that_may_not_be_accepted_never_beats_the_cut():
    bad = GATE.judge(simple({"prediction": check(0.9, 0.8, z=0.1)}), 1)
    assert bad.cut_score == -math.inf
    assert bad.label.score == pytest.approx(CALIBRATION.score({"prediction": check(0.9, 0.8, z=0.1)}))
    good = GATE.judge(simple(full()), 1)
    assert good.cut_score == good.label.score
    assert 0 < good.cut_score < 1


def test_only_inside_the_domain_of_the_calibration_is_there_a_probability():
    assert GATE.judge(simple(full()), 1).label.probability is None
    inside = Gate(SETTINGS, calibrated=True, calibration=CALIBRATION)
    found = inside.judge(simple(full()), 1).label
    assert found.probability == CALIBRATION.probability(full())
    assert found.score == score(full())
    unseen = {**full(), "iou": NOT_APPLICABLE}
    assert inside.judge(simple(unseen), 1).label.probability is None
    assert inside.judge(simple(unseen), 1).label.score == score(unseen)


def test_judging_again_forgets_the_numbers_of_another_split():
    stale = simple(full()).model_copy(update={"score": 0.99, "probability": 0.99})
    found = GATE.judge(stale, 1).label
    assert (found.score, found.probability) == (score(full()), None)
    idle = compound(check(-0.1)).model_copy(update={"score": 0.99})
    assert GATE.judge(idle, 1).label.score is None


@pytest.mark.parametrize(
    ("prediction", "state"),
    [
        (check(0.2, 0.1, p=0.05), "passes"),
        (check(0.2, 0.1, p=0.0501), "not_significant"),
        (check(0.2, 0.001), "passes"),
        (check(0.2, 0.0), "not_significant"),
        (check(0.2), "not_significant"),  # a bound that is not known is none
        (check(0.2, 0.1, p=None), "not_significant"),
        (check(0.1, 0.05), "passes"),
        (check(0.0999, 0.05), "not_significant"),
        (check(0.2, 0.1, z=3.0), "passes"),
        (check(0.2, 0.1, z=2.99), "refused"),
        (check(0.2, 0.1).model_copy(update={"specificity": None}), "unknown"),
        (check(0.2, 0.1).model_copy(update={"significance": None}), "not_significant"),
        (CheckResult(status="ok", n=600, why="nothing to correlate"), "unknown"),
        (CheckResult(status="failed", value=0.9, low=0.8, why="no embedding"), "unknown"),
    ],
)
def test_each_condition_holds_from_its_bound_on(prediction, state):
    assert eligible(simple({"prediction": prediction}), SETTINGS, 1).state == state
    assert eligible(simple({"prediction": prediction}), SETTINGS, 0).state == state  # as for one label


def test_a_reason_is_what_is_known_and_no_more():
    def reason(prediction):
        return eligible(simple({"prediction": prediction} if prediction else {}), SETTINGS, 1).reason

    assert reason(CheckResult(status="failed", why="no embedding")) == "no embedding"
    assert reason(CheckResult(status="failed")) == reason(None) == "prediction was not measured"
    assert reason(check(0.2)) == "prediction 0.20 on 600 images is not significant at 0.05 (p = 1e-06)"
    assert reason(check(0.2, 0.1, p=None)).endswith(
        "(at least 0.10) on 600 images is not significant at 0.05"
    )
    unasked = check(0.2, 0.1).model_copy(update={"specificity": None})
    assert "only 0 other live units" in reason(unasked)


@pytest.mark.parametrize(
    ("name", "found", "passes"),
    [
        ("agreement", check(0.9), True),
        ("agreement", check(0.899), False),
        ("agreement", check(1.0, z=0.1), True),  # a percentile among units is specific already
        ("iou", check(0.04), False),
        ("iou", check(0.041), True),
        ("iou", check(0.2, z=3.0), True),
        ("iou", check(0.2, z=None, units=3), True),
        ("iou", check(0.2).model_copy(update={"specificity": None}), True),
        ("iou", check(0.2, p=0.05), True),
        ("real", check(0.0), False),
        ("real", check(0.001), True),
        ("real", CheckResult(status="ok", n=12, why="no number"), False),
        ("real", check(2.0).model_copy(update={"status": "failed"}), False),
    ],
)
def test_a_required_check_holds_from_its_bound_on(name, found, passes):
    strict = GateConfig(require=(name,))
    assert eligible(simple({**full(), name: found}), strict, 1).passes is passes
    missing = {other: value for other, value in full().items() if other != name}
    assert eligible(simple(missing), strict, 1).passes


def test_every_required_check_counts():
    both = GateConfig(require=("agreement", "iou"))
    assert eligible(simple(full()), both, 1).passes
    found = eligible(simple({**full(), "iou": check(0.01)}), both, 1)
    assert "the required iou is 0.01" in found.reason
    failed = {**full(), "iou": CheckResult(status="failed", why="no masks")}
    assert "the required iou failed: no masks" in eligible(simple(failed), both, 1).reason


def test_a_compound_leads_from_two_hundredths_on():
    assert eligible(compound(check(0.02, 0.01)), SETTINGS, 1).passes
    assert not eligible(compound(check(0.0199, 0.01)), SETTINGS, 1).passes
    assert leads({"rivals": check(0.02)})
    assert not leads({"rivals": check(0.0199)})
    assert leads({})
    unasked = {name: value for name, value in full().items() if name != "rivals"}
    label = Label(text="dog or cat", formula=EITHER, checks=unasked)
    assert eligible(label, SETTINGS, 1).state == "unknown"


def test_a_compound_has_to_lead_its_terms_in_the_domain_too():
    inside = replace(GATE, calibrated=True)
    assert inside.judge(compound(check(0.1, -0.1, p=0.5)), 1).eligibility.state == "refused"
    assert inside.judge(compound(check(-0.1, -0.2)), 1).label.score is None


def test_a_lead_without_a_bound_cannot_be_asked_of_a_simple_label():
    for unknown in (check(-0.1), check(None, -0.1), None):
        checks = {**full(), "rivals": unknown} if unknown else {"prediction": check(0.6, 0.5)}
        assert eligible(simple(checks), SETTINGS, 1, calibrated=False).passes
    behind = {**full(), "rivals": check(-0.1, -0.2)}
    assert eligible(simple(behind), SETTINGS, 1).passes  # inside the domain unless it is said
    assert not eligible(simple(behind), SETTINGS, 1, calibrated=False).passes


@pytest.mark.parametrize("calibrated", [False, True])
def test_a_label_without_prediction_has_neither_score_nor_probability(calibrated):
    gate = replace(GATE, calibrated=calibrated)
    for prediction in (CheckResult(status="failed", value=0.6, low=0.5, why="x"), NOT_APPLICABLE):
        found = gate.judge(simple({**full(), "prediction": prediction}), 1)
        assert (found.label.score, found.label.probability) == (None, None)
        assert found.cut_score == -math.inf
    assert gate.judge(Label(text="dog"), 1).label.score is None


def test_in_the_domain_a_pattern_that_the_fit_never_saw_is_unknown():
    inside = replace(GATE, calibrated=True)
    unseen = inside.judge(simple({**full(), "iou": NOT_APPLICABLE}), 1)
    assert unseen.eligibility.state == "unknown"
    assert "but the gate was never calibrated for annotations: prediction rivals auprc real location" in (
        unseen.eligibility.reason
    )
    assert GATE.judge(simple({**full(), "iou": NOT_APPLICABLE}), 1).eligibility.passes
    weak = {**full(), "prediction": check(0.6, 0.5, z=1.0), "iou": NOT_APPLICABLE}
    assert inside.judge(simple(weak), 1).eligibility.state == "refused"


def test_the_tests_of_a_unit_share_its_level():
    shared = {**full(), "prediction": check(0.6, 0.5, p=0.02)}
    assert [GATE.judge(simple(shared), tests).eligibility.passes for tests in (1, 2, 3)] == [
        True,
        True,
        False,
    ]


def test_a_gate_is_uncalibrated_and_as_shipped_unless_more_is_said():
    plain = Gate(SETTINGS)
    assert plain.calibration == shipped()
    assert not plain.calibrated
