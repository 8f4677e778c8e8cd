"""Scores and probabilities of a calibration of two numbers, worked out on paper."""

import math

import pytest

from labeler.checks.calibration import Calibration, Domain, Example, Line, expected_precision_cut, refit
from labeler.checks.features import FEATURES
from tests.checks.gate_doubles import CALIBRATION, DOMAIN, NOT_APPLICABLE, ONLY_PREDICTION, check

ALONE = {"prediction": check(0.5, 0.25, z=3.0, n=150)}  # specificity 3 / (3 + 3), and no more than 150 images


def of(weights, missing=None, patterns=None, intercept=0.0):
    return Calibration(
        intercept=intercept, weights=weights, missing=missing or {}, patterns=patterns or {}, domain=DOMAIN
    )


def test_a_logit_adds_what_applies_and_what_is_missing():
    assert of({}, intercept=-2.0).logit(ALONE) == -2.0
    assert of({"prediction": 4.0, "specificity": 8.0}, intercept=-2.0).logit(ALONE) == -2 + 4 * 0.25 + 8 * 0.5
    found = of({"prediction": 4.0, "iou": 16.0}, {"iou": 0.75, "prediction": 32.0, "unheard of": 64.0})
    assert found.logit(ALONE) == 4 * 0.25 + 0.75
    assert found.logit({**ALONE, "iou": NOT_APPLICABLE}) == 4 * 0.25 + 0.75
    assert found.logit({**ALONE, "iou": check(0.5, 0.25)}) == 4 * 0.25 + 16 * 0.25
    absent = of({}, dict.fromkeys(FEATURES, 1.0))
    assert absent.logit({}) == len(FEATURES)
    assert absent.logit(ALONE) == len(FEATURES) - 3


@pytest.mark.parametrize(
    ("logit", "score"),
    [(0.0, 0.5), (math.log(3), 0.75), (-math.log(3), 0.25), (-700.0, 0.0), (-1e6, 0.0), (700.0, 1.0)],
)
def test_a_score_is_the_share_that_a_logit_stands_for(logit, score):
    assert of({}, intercept=logit).score(ALONE) == pytest.approx(score, rel=1e-12, abs=1e-300)
    assert of({}, intercept=-400.0).score(ALONE) == pytest.approx(math.exp(-400), rel=1e-12)


def test_a_probability_is_that_of_the_line_of_its_pattern():
    line = Line(intercept=-1.0, slope=3.0, right=200, wrong=200)
    found = of({"prediction": 4.0}, patterns={ONLY_PREDICTION: line})
    assert found.probability(ALONE) == pytest.approx(1 / (1 + math.exp(1 - 3)))
    assert found.probability({**ALONE, "iou": check(0.5)}) is None
    assert found.probability({"prediction": check(0.5, 0.25, judge="open_clip:ViT-B-32")}) is None


def test_a_domain_holds_for_targets_by_the_beginning_of_their_name():
    assert CALIBRATION.covers("toy", "scenes", [])
    assert not CALIBRATION.covers("a toy", "scenes", ["annotations"])
    assert not CALIBRATION.covers("toy", "scenes-2", ["annotations"])


def test_a_calibration_of_one_run_holds_for_no_other():
    domain = Domain(target="", probe="scenes", judges=("annotations",), fitted_on="one run", run="4f3a")
    assert domain.run is not None
    own = CALIBRATION.model_copy(update={"domain": domain})
    assert own.covers("toy", "scenes", ["annotations"]) is False


def test_a_refit_keeps_the_weights_and_draws_one_line_for_all_patterns():
    weak, strong = {"prediction": check(0.2, 0.1)}, {"prediction": check(0.9, 0.8), "iou": check(0.5, 0.4)}
    examples = [Example(weak, False)] * 30 + [Example(weak, True)] * 10
    examples += [Example(strong, True)] * 30 + [Example(strong, False)] * 10
    domain = Domain(target="mine", probe="mine", judges=("annotations",), fitted_on="a person", run="7c")
    found = refit(CALIBRATION, examples, domain)
    assert (found.intercept, found.weights, found.missing) == (
        CALIBRATION.intercept, CALIBRATION.weights, CALIBRATION.missing
    )  # fmt: skip
    assert found.domain == domain
    assert sorted(found.patterns) == [ONLY_PREDICTION, "annotations: prediction iou"]
    (line,) = set(found.patterns.values())
    assert (line.right, line.wrong) == (40, 40)
    # Platt's targets, 41/42 and 1/42, pull 3 in 4 to (30 · 41/42 + 10 · 1/42) / 40 = 31/42, 1 in 4 to 11/42
    assert found.probability(strong) == pytest.approx(31 / 42, abs=1e-3)
    assert found.probability(weak) == pytest.approx(11 / 42, abs=1e-3)
    weighty = [Example(one.checks, one.right, 3.0 if one.right else 1.0) for one in examples]
    heavy = refit(CALIBRATION, weighty, domain)
    weighted = (30 * 3 * 41 / 42 + 10 * 1 / 42) / (30 * 3 + 10)
    assert heavy.probability(strong) == pytest.approx(weighted, abs=1e-3)
    for one_sided in ([], examples[:30]):
        with pytest.raises(ValueError, match="both right and wrong"):
            refit(CALIBRATION, one_sided, domain)


def test_labels_are_expected_to_be_right_as_often_as_asked():
    assert expected_precision_cut([0.6, 1.0, 0.8], 0.8) == 0.6
    assert expected_precision_cut([0.6, 1.0, 0.8], 0.81) == 0.8
    assert expected_precision_cut([0.6, 1.0, 0.8], 0.91) == 1.0
    assert expected_precision_cut([0.6, 0.6, 1.0], 0.8) == 1.0  # of equals all or none
    assert expected_precision_cut([0.6, 0.6], 0.6) == 0.6
    assert expected_precision_cut([0.6, 0.5], 0.7) == math.inf
    assert expected_precision_cut([], 0.7) == math.inf
