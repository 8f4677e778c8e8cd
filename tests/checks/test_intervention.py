"""Choosing what to alter, and what the altered images say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.checks.data import LayerData
from labeler.checks.intervention import (
    AREA,
    MIN_SOURCES,
    Interventions,
    Trial,
    check_intervention,
    effects,
    plan_trials,
)
from labeler.checks.nulls import sign_flip_null

CATEGORIES = ("colour", "colour", "colour", "texture", "texture", "scene")


def areas(seed=0, images=300):
    generator = np.random.default_rng(seed)
    shown_nc = generator.random((images, len(CATEGORIES))) < 0.25
    areas_nc = np.where(shown_nc, generator.uniform(0.01, 0.7, shown_nc.shape), 0.0).astype(np.float32)
    areas_nc[::17] = np.nan  # images that are not annotated
    return areas_nc


def plan(areas_nc, concepts=(0, 1, 2, 3, 4), count=12, ids=None, groups=None):
    ids = np.arange(len(areas_nc)) if ids is None else ids
    groups = groups or [str(index) for index in range(len(areas_nc))]
    return plan_trials(areas_nc, ids, groups, CATEGORIES, concepts, count, 0.01, 0)


def test_sources_show_the_concept_and_backgrounds_lack_it_and_the_wrong_one():
    areas_nc = areas()
    trials = plan(areas_nc)
    assert len(trials) == 5 * 12
    for trial in trials:
        area = areas_nc[trial.source, trial.concept]
        assert 0.01 <= area <= AREA
        assert areas_nc[trial.background, trial.concept] < 0.01
        assert areas_nc[trial.background, trial.wrong] < 0.01
        assert areas_nc[trial.wrong_source, trial.concept] < 0.01
        assert trial.wrong != trial.concept
        assert 0.5 <= areas_nc[trial.wrong_source, trial.wrong] / area <= 2
        if CATEGORIES[trial.wrong] != CATEGORIES[trial.concept]:  # only where none of its own fits
            same = [c for c, name in enumerate(CATEGORIES) if name == CATEGORIES[trial.concept]]
            beside = [c for c in same if areas_nc[trial.background, c] < 0.01]
            fits_nc = (areas_nc >= max(0.01, area / 2)) & (areas_nc <= area * 2)
            assert not fits_nc[areas_nc[:, trial.concept] < 0.01][:, beside].any()
    assert sum(CATEGORIES[trial.wrong] == CATEGORIES[trial.concept] for trial in trials) > 40
    for concept in range(5):
        assert len({trial.source for trial in trials if trial.concept == concept}) == 12


def test_only_the_given_images_are_used_and_one_of_each_group():
    areas_nc = areas()
    test_ids = np.arange(0, 300, 2)
    groups = [str(index // 20) for index in range(300)]
    trials = plan(areas_nc, ids=test_ids, groups=groups)
    used = {image for t in trials for image in (t.source, t.background, t.wrong_source) if image is not None}
    assert used <= set(test_ids.tolist())
    for concept in range(5):
        sources = [groups[trial.source] for trial in trials if trial.concept == concept]
        assert len(set(sources)) == len(sources)


def test_a_trial_does_not_depend_on_what_else_is_asked_for():
    areas_nc = areas()
    alone = plan(areas_nc, concepts=(3,))
    assert alone == [trial for trial in plan(areas_nc) if trial.concept == 3]
    assert plan(areas_nc, concepts=(3,), count=5) == alone[:5]


def test_where_nothing_fits_beside_it_a_concept_is_only_erased():
    areas_nc = np.zeros((100, len(CATEGORIES)), np.float32)
    areas_nc[:, 0] = 0.2  # everywhere, so there is no background without it
    trials = plan(areas_nc, concepts=(0, 5))
    assert {trial.concept for trial in trials} == {0}
    assert all(trial.background is None and trial.wrong is None for trial in trials)


def layer(seed=0, images=100, units=40):
    generator = np.random.default_rng(seed)
    activations_nu = generator.exponential(size=(images, units)).astype(np.float32)
    return LayerData(
        "block", np.arange(units), activations_nu, np.arange(images), np.ones(images),
        np.quantile(activations_nu, 0.99, axis=0).astype(np.float32), {},
    )  # fmt: skip


def altered(data, seed, strength, sources=12, swapped=False):
    """Altered images of concept 0: unit 0 follows it, the others do not."""
    generator = np.random.default_rng(seed)
    made = Interventions()
    firing = np.argsort(-data.activations_nu[:, 0])[:sources].tolist()
    silent = np.argsort(data.activations_nu[:, 0])[:sources].tolist()
    kinds = ["concept pasted", "wrong pasted", "control erased", "concept erased"]
    if swapped:
        kinds = [kinds[1], kinds[0], kinds[3], kinds[2]]
    for source, background in zip(firing, silent, strict=True):
        trial = Trial(0, source, background, 1, 99)
        for index, kind in enumerate(kinds):
            maxima_u = generator.exponential(size=len(data.live_units)).astype(np.float32)
            maxima_u[0] += strength * (index % 2 == 0)
            made.add(trial, kind, maxima_u)
    return made


def check(data, made, unit=0, concept=0):
    return check_intervention(data, made, np.array([unit]), [concept], 8)[0]


def test_a_unit_that_follows_the_concept_stands_out_and_others_do_not():
    data = layer()
    made = altered(data, 1, 4.0)
    found = check(data, made)
    assert found.status == "ok"
    assert found.n == 12
    assert found.value > 0.5
    assert 0 < found.low < found.value
    assert found.significance.p == pytest.approx(1 / 4096)
    assert found.specificity.z > 3
    others = [check(data, made, unit) for unit in range(1, 40)]
    measured = [other for other in others if other.status == "ok"]
    assert len(measured) > 20
    assert abs(np.mean([other.value for other in measured])) < 0.1
    assert np.mean([other.significance.p < 0.05 for other in measured]) < 0.2


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.floats(-50, 50))
def test_effects_are_bounded_and_change_sign_with_concept_and_control_swapped(seed, strength):
    data = layer(seed % 7)
    one = effects(data, altered(data, seed, strength).seen[0])
    other = effects(data, altered(data, seed, strength, swapped=True).seen[0])
    assert np.nanmax(np.abs(one)) <= 1
    assert np.array_equal(one, -other, equal_nan=True)
    values = [check(data, altered(data, seed, strength, swapped=swapped)) for swapped in (False, True)]
    assert values[0].value == -values[1].value
    assert -1 <= values[0].low <= values[0].value


def test_only_silent_backgrounds_and_firing_sources_count():
    data = layer()
    order = np.argsort(data.activations_nu[:, 0])
    loud, quiet = int(order[-1]), int(order[0])
    shown = dict.fromkeys(["concept pasted", "concept erased"], np.full(40, 1.0, np.float32))
    shown |= dict.fromkeys(["wrong pasted", "control erased"], np.full(40, 2.0, np.float32))
    (neither,) = effects(data, {Trial(0, quiet, loud, 1, 5): shown})
    (pasted,) = effects(data, {Trial(0, quiet, quiet, 1, 5): shown})
    (erased,) = effects(data, {Trial(0, loud, loud, 1, 5): shown})
    assert np.isnan(neither[0])
    assert pasted[0] < 0 < erased[0]
    (both,) = effects(data, {Trial(0, loud, quiet, 1, 5): shown})
    assert both[0] == pytest.approx((pasted[0] + erased[0]) / 2)


def test_too_few_sources_and_labels_without_a_concept_are_not_applicable():
    data = layer()
    few = check(data, altered(data, 1, 4.0, sources=MIN_SOURCES - 1))
    assert few.status == "not_applicable"
    assert few.value is None
    assert "4 test images" in few.why
    assert "no image was altered" in check(data, altered(data, 1, 4.0), concept=3).why
    assert "no annotated concept" in check(data, altered(data, 1, 4.0), concept=None).why
    constant = LayerData(
        "block", np.arange(2), np.ones((100, 2), np.float32), np.arange(100), np.ones(100),
        np.ones(2, np.float32), {},
    )  # fmt: skip
    assert check(constant, altered(constant, 1, 4.0)).status == "not_applicable"


@given(st.lists(st.floats(-1, 1, width=32).filter(lambda x: abs(x) > 1e-3), min_size=1, max_size=10))
def test_the_sign_flip_null_counts_every_flip(values):
    values = np.array(values)
    flips = np.array(np.meshgrid(*[[-1, 1]] * len(values))).reshape(len(values), -1)
    reached = (values @ flips >= values.sum() - 1e-9).mean()
    null = sign_flip_null(values)
    assert null.p == pytest.approx(reached)
    assert null.z == pytest.approx(values.sum() / np.sqrt((values**2).sum()))


def test_the_sign_flip_null_of_many_values_is_the_normal_tail():
    generator = np.random.default_rng(0)
    values = generator.normal(0.4, size=16)
    assert sign_flip_null(np.append(values, 1e-9)).p == pytest.approx(sign_flip_null(values).p, rel=0.2)
    assert sign_flip_null(np.zeros(6)).p is None
