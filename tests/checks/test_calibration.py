import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.checks.calibration import (
    MIN_OF_EACH,
    MIN_PAIRS,
    Calibration,
    Example,
    expected_precision_cut,
    fit,
    shipped,
)
from labeler.checks.features import FEATURES, features, pattern
from tests.checks.gate_doubles import CALIBRATION, DOMAIN, NOT_APPLICABLE, check, full

UNIT = st.floats(0, 1)


def checks_of(prediction, rivals=None, real=None, agreement=None, z=3.0, judge="annotations"):
    """Checks with these lower bounds; those not given do not apply."""
    given = {"rivals": rivals, "real": real, "agreement": agreement}
    return {
        "prediction": check(prediction, prediction, z=z, judge=judge),
        **{name: NOT_APPLICABLE if v is None else check(v, v) for name, v in given.items()},
    }


def odds_of(checks):
    """The truth that labels are drawn from: *agreement* tells nothing, and a missing *rivals* is bad news."""
    found = features(checks)
    evidence = 5 * found["prediction"] + 3 * found.get("rivals", 0.2) + 2 * found["specificity"]
    return evidence + 2 * found.get("real", 0.3) - 5.5


def draw_examples(count, seed):
    generator = np.random.default_rng(seed)
    examples, true = [], []
    for _ in range(count):
        known, seen = generator.random() < 0.6, generator.random() < 0.7
        checks = checks_of(
            generator.beta(2, 3), generator.normal(0, 0.2) if known else None,
            generator.gamma(2, 0.5) if known else None, generator.random() if seen else None,
            z=generator.gamma(2, 1.5), judge="annotations" if known else "axes",
        )  # fmt: skip
        true.append(1 / (1 + math.exp(-odds_of(checks))))
        examples.append(Example(checks, generator.random() < true[-1]))
    return examples, np.array(true)


@pytest.fixture(scope="module")
def fitted():
    return fit(draw_examples(6000, seed=0)[0], DOMAIN)


def calibration_error(found_n, right_n, bins=10):
    """Expected calibration error over bins of equal size (Nixon et al. 2019)."""
    parts = np.array_split(np.argsort(found_n, kind="stable"), bins)
    return sum(abs(found_n[p].mean() - right_n[p].mean()) * len(p) for p in parts) / len(found_n)


def test_a_fit_on_a_known_model_is_calibrated_on_fresh_labels(fitted):
    fresh, true_n = draw_examples(6000, seed=1)
    found_n = np.array([fitted.probability(example.checks) for example in fresh])
    right_n = np.array([example.right for example in fresh], dtype=float)
    assert calibration_error(found_n, right_n) < 0.025  # 600 labels a bin: 0.016 is chance for a perfect one
    assert np.abs(found_n - true_n).mean() < 0.03
    for key in {pattern(example.checks) for example in fresh}:
        rows = np.array([pattern(example.checks) == key for example in fresh])
        assert found_n[rows].mean() == pytest.approx(right_n[rows].mean(), abs=0.05)


def test_what_tells_nothing_gets_little_weight_and_what_tells_most_gets_most(fitted):
    spread = {"prediction": 0.2, "agreement": 0.4}  # deviation of the effects as drawn
    weight = {name: fitted.weights[name] * sd for name, sd in spread.items()}
    assert weight["agreement"] < 0.15 * weight["prediction"]


def test_a_check_that_the_fit_never_saw_changes_no_score(fitted):
    """Neither its weight nor its absence may have taken over what belongs to the rest."""
    checks = checks_of(0.5, 0.1, 1.0, 0.9)
    for value in (0.0, 1.0):
        with_it = {**checks, "intervention": check(value, value)}
        assert fitted.logit(with_it) == pytest.approx(fitted.logit(checks), abs=0.05)
        assert fitted.probability(with_it) is None


@given(
    st.lists(
        st.tuples(st.booleans(), UNIT, st.one_of(st.none(), st.floats(-1, 1)), st.floats(0.1, 5)),
        min_size=4, max_size=20,
    )
)  # fmt: skip
@settings(max_examples=10, deadline=None)
def test_weights_are_never_negative_and_slopes_positive_whatever_the_labels(rows):
    """Also where the evidence speaks against the truth, and where one number separates right from wrong."""
    examples = [Example(checks_of(value, rivals), right, weight) for right, value, rivals, weight in rows]
    if len({example.right for example in examples}) < 2:
        with pytest.raises(ValueError, match="right and wrong"):
            fit(examples, DOMAIN)
        return
    found = fit(examples * (1 + MIN_PAIRS // len(rows)), DOMAIN)
    assert set(found.weights) == set(found.missing) == set(FEATURES)
    assert all(weight >= 0 and math.isfinite(weight) for weight in found.weights.values())
    assert all(math.isfinite(indicator) for indicator in found.missing.values())
    assert all(line.slope > 0 and math.isfinite(line.intercept) for line in found.patterns.values())


def test_evidence_that_speaks_against_the_truth_gets_no_weight():
    generator = np.random.default_rng(3)
    values = generator.random(600)
    found = fit([Example(checks_of(v), generator.random() > v) for v in values.tolist()], DOMAIN)
    assert found.weights["prediction"] == pytest.approx(0, abs=1e-2)
    for value in (0.0, 1.0):
        assert found.probability(checks_of(value)) == pytest.approx(0.5, abs=0.06)


@given(st.sampled_from(sorted(full())), st.floats(-3, 3), st.floats(-3, 3))
@settings(max_examples=80)
def test_more_evidence_never_lowers_score_or_probability(name, first, second):
    low, high = sorted((first, second))
    worse, better = {**full(), name: check(low, low)}, {**full(), name: check(high, high)}
    assert CALIBRATION.score(worse) <= CALIBRATION.score(better)
    assert CALIBRATION.probability(worse) <= CALIBRATION.probability(better)


@given(UNIT, UNIT, st.floats(-1, 1), st.floats(-1, 1), st.floats(0, 9), st.floats(0, 9))
@settings(max_examples=80)
def test_nor_does_it_with_a_fit(fitted, a, b, c, d, e, f):
    worse = checks_of(min(a, b), min(c, d), 1.0, z=min(e, f))
    better = checks_of(max(a, b), max(c, d), 1.0, z=max(e, f))
    assert fitted.score(worse) <= fitted.score(better)
    assert 0 <= fitted.probability(worse) <= fitted.probability(better) <= 1


def test_more_images_alone_are_no_evidence_against_a_label(fitted):
    few, many = ({"prediction": check(0.5, 0.4, n=n)} for n in (150, 15_000))
    assert fitted.score(few) <= fitted.score(many)


def separate(right, wrong, judge="annotations"):
    return [
        Example(checks_of(0.8 if i < right else 0.2, judge=judge), i < right) for i in range(right + wrong)
    ]


@pytest.mark.parametrize(
    ("right", "wrong", "known"),
    [
        (MIN_OF_EACH, MIN_PAIRS - MIN_OF_EACH, True),
        (MIN_PAIRS - MIN_OF_EACH, MIN_OF_EACH, True),
        (MIN_OF_EACH, MIN_PAIRS - MIN_OF_EACH - 1, False),
        (MIN_OF_EACH - 1, 4 * MIN_PAIRS, False),
        (4 * MIN_PAIRS, MIN_OF_EACH - 1, False),
    ],
)
def test_a_pattern_with_too_few_pairs_has_no_probability(right, wrong, known):
    found = fit([*separate(right, wrong), *separate(200, 200, judge="axes")], DOMAIN)
    checks = checks_of(0.8)
    assert (found.probability(checks) is not None) is known
    assert 0 < found.score(checks) < 1
    assert found.probability(checks_of(0.8, judge="axes")) is not None
    if known:
        line = found.patterns[pattern(checks)]
        assert (line.right, line.wrong) == (right, wrong)


def test_labels_that_are_told_apart_wholly_are_still_not_certain():
    found = fit(separate(150, 150), DOMAIN)
    assert 0.9 < found.probability(checks_of(0.8)) < 1
    assert 0 < found.probability(checks_of(0.2)) < 0.1


def test_a_weight_counts_as_so_many_labels():
    generator = np.random.default_rng(5)
    drawn = [
        Example(checks_of(v, rivals=v - 0.3), generator.random() < v) for v in generator.random(150).tolist()
    ]
    thrice = fit([Example(e.checks, e.right, 3.0 if i < 50 else 1.0) for i, e in enumerate(drawn)], DOMAIN)
    copied = fit([*drawn[:50] * 3, *drawn[50:]], DOMAIN)
    for value in (0.1, 0.5, 0.9):
        checks = checks_of(value, rivals=0.1)
        assert thrice.logit(checks) == pytest.approx(copied.logit(checks), abs=0.01)


def test_the_order_of_the_examples_does_not_matter():
    drawn = draw_examples(400, seed=6)[0]
    forwards, backwards = fit(drawn, DOMAIN), fit(drawn[::-1], DOMAIN)
    for example in drawn[:20]:
        assert forwards.logit(example.checks) == pytest.approx(backwards.logit(example.checks), abs=0.01)


def test_the_domain_is_a_probe_and_the_judges_of_the_fit():
    assert CALIBRATION.covers("toy-3", "scenes", ["annotations", "axes"])
    assert CALIBRATION.covers("toy-3", "scenes", ["axes"])
    assert not CALIBRATION.covers("toy-3", "photographs", ["annotations"])
    assert not CALIBRATION.covers("resnet50", "scenes", ["annotations"])
    assert not CALIBRATION.covers("toy-3", "scenes", ["annotations", "open_clip:ViT-B-32"])


def test_a_calibration_survives_its_file(fitted):
    again = Calibration.model_validate_json(fitted.model_dump_json())
    assert again == fitted
    for example in draw_examples(20, seed=7)[0]:
        assert again.probability(example.checks) == fitted.probability(example.checks)


def test_the_shipped_calibration_knows_every_feature_and_holds_none_against_a_label():
    found = shipped()
    assert set(found.weights) == set(found.missing) == set(FEATURES)
    assert all(weight >= 0 for weight in found.weights.values())
    assert all(line.slope > 0 for line in found.patterns.values())
    assert 0 < found.score(full()) < 1
    assert found.score(full(prediction=0.2)) <= found.score(full(prediction=0.9))


SIXTY_FOURTHS = st.integers(0, 64).map(lambda k: k / 64)  # their sums are exact


@given(st.lists(SIXTY_FOURTHS, max_size=30), SIXTY_FOURTHS, st.randoms(use_true_random=False))
def test_the_precision_cut_is_the_lowest_whose_labels_are_right_often_enough(found, precision, order):
    def mean_above(cut):
        above = [value for value in found if value >= cut]
        return sum(above) / len(above)

    allowed = [cut for cut in found if mean_above(cut) >= precision]
    cut = expected_precision_cut(found, precision)
    assert cut == min(allowed, default=math.inf)
    shuffled = found[:]
    order.shuffle(shuffled)
    assert expected_precision_cut(shuffled, precision) == cut


@given(st.lists(UNIT, min_size=1, max_size=30), UNIT, st.floats(0, 0.3))
def test_more_precision_never_lowers_the_precision_cut(found, precision, more):
    assert expected_precision_cut(found, precision + more) >= expected_precision_cut(found, precision)


@pytest.mark.parametrize(
    ("found", "cut"),
    [
        ([], math.inf),
        ([0.5, 0.89], math.inf),
        ([0.9], 0.9),
        ([1.0, 0.8], 0.8),
        ([1.0, 0.8, 0.8], 1.0),  # both or neither: equal labels are treated alike
        ([0.99, 0.97, 0.95, 0.7, 0.2], 0.7),
    ],
)
def test_precision_cuts_at_nine_in_ten(found, cut):
    assert expected_precision_cut(found, 0.9) == cut


@given(st.integers(1, 400), st.sampled_from([0.55, 0.7, 0.9, 0.95, 0.99]))
def test_labels_exactly_as_probable_as_asked_are_enough_however_many(count, precision):
    """Adding them up rounds; rounding must not decide."""
    assert expected_precision_cut([precision] * count, precision) == precision
