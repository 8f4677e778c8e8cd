import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.checks.features import FEATURES, FEW_IMAGES, LEAD, MANY_IMAGES, SHARE, features, pattern
from labeler.records import CheckResult, Null
from tests.checks.gate_doubles import NOT_APPLICABLE, check, full

NUMBERS = st.floats(-1e6, 1e6)


def test_features_are_effect_sizes_in_the_unit_interval_and_ignore_z_and_p():
    found = features(full())
    assert set(found) == set(FEATURES)
    assert all(0 <= value <= 1 for value in found.values())
    louder = {
        name: c.model_copy(update={"significance": Null(z=99.0, p=1e-12)}) for name, c in full().items()
    }
    assert features(louder) == found


@given(st.dictionaries(st.sampled_from(sorted(full())), st.tuples(NUMBERS, NUMBERS, st.integers(0, 10**7))))
def test_any_numbers_give_effects_in_the_unit_interval(numbers):
    found = features({name: check(value, low, n=n) for name, (value, low, n) in numbers.items()})
    assert set(numbers) <= set(found) <= set(FEATURES)
    assert all(0 <= value <= 1 for value in found.values())


@given(st.sampled_from(sorted(full())), NUMBERS, NUMBERS)
@settings(max_examples=60)
def test_a_better_bound_never_lowers_an_effect(name, first, second):
    low, high = sorted((first, second))
    worse = features({**full(), name: check(low, low)})
    better = features({**full(), name: check(high, high)})
    assert worse[name] <= better[name]
    assert {n: v for n, v in worse.items() if n != name} == {n: v for n, v in better.items() if n != name}


def test_the_lower_bound_counts_where_there_is_one():
    assert features({"prediction": check(0.6, 0.2)})["prediction"] == pytest.approx(0.2)
    assert features({"prediction": check(0.6)})["prediction"] == pytest.approx(0.6)


def test_an_auprc_at_its_base_rate_and_an_agreement_by_chance_are_worth_nothing():
    checks = {"prediction": check(0.3, 0.2, n=600), "auprc": check(0.01, 0.01, n=6), "agreement": check(0.5)}
    found = features(checks)
    assert found["auprc"] == pytest.approx(0, abs=1e-9)
    assert found["agreement"] == 0


def test_a_lead_over_the_rivals_goes_from_nothing_to_all_about_zero():
    for name, width in (("rivals", LEAD), ("location", SHARE)):
        found = [features({name: check(lead, lead)})[name] for lead in (-1, -width, 0, width, 1)]
        assert found[0] < 0.01
        assert found[1:4] == pytest.approx([0.5 - math.tanh(1) / 2, 0.5, 0.5 + math.tanh(1) / 2])
        assert found[4] > 0.99


def test_groups_as_far_apart_as_two_deviations_are_a_correlation_of_root_half():
    assert features({"real": check(2.0, 2.0)})["real"] == pytest.approx(0.5**0.5)


@pytest.mark.parametrize(("z", "effect"), [(-2.0, 0.0), (0.0, 0.0), (3.0, 0.5), (9.0, 0.75)])
def test_specificity_is_half_at_three_deviations(z, effect):
    assert features({"prediction": check(0.3, 0.2, z=z)})["specificity"] == pytest.approx(effect)


@pytest.mark.parametrize(
    ("images", "effect"), [(0, 0), (FEW_IMAGES, 0), (1500, 0.5), (MANY_IMAGES, 1), (10**6, 1)]
)
def test_images_count_by_their_logarithm(images, effect):
    assert features({"prediction": check(0.3, 0.2, n=images)})["images"] == pytest.approx(effect)


def test_what_does_not_apply_or_failed_or_was_not_compared_has_no_effect():
    failed = CheckResult(status="failed", why="no embedding")
    assert features({}) == {}
    found = features({"prediction": check(0.3, z=None), "real": failed, "iou": NOT_APPLICABLE})
    assert set(found) == {"prediction", "images"}
    assert set(features({**full(), "prediction": NOT_APPLICABLE})) == {
        "rivals", "auprc", "real", "iou", "location", "intervention", "synthetic", "agreement"
    }  # fmt: skip


def test_a_pattern_names_the_kind_of_judge_and_the_checks_that_apply_in_one_order():
    everything = "prediction rivals auprc real iou location intervention synthetic agreement"
    assert pattern(full()) == f"annotations: {everything}"
    assert pattern(dict(reversed(full().items()))) == pattern(full())
    seen = {**full(), "prediction": check(0.4, judge="builtin:scenes-clip-judge"), "iou": NOT_APPLICABLE}
    assert pattern(seen) == f"image-text: {everything.replace('iou ', '')}"
    other = {**seen, "prediction": check(0.4, judge="open_clip:ViT-B-32")}
    assert pattern(other) == pattern(seen)
