import numpy as np
import pytest

from labeler.checks.auprc import Positives, average_precisions, check_auprc
from labeler.checks.data import LayerData, Pairs, Readings
from labeler.checks.nulls import subset_draws
from labeler.checks.prediction import check_prediction, correlations


def layer_of(activations_nu, weights_n=None, correlated=0.7):
    images, units = activations_nu.shape
    order = np.argsort(-activations_nu, axis=0)
    return LayerData(
        layer="block",
        live_units=np.arange(units),
        activations_nu=activations_nu.astype(np.float32),
        image_ids_n=np.arange(images),
        weights_n=np.ones(images) if weights_n is None else weights_n,
        p99_u=np.quantile(activations_nu, 0.98, axis=0).astype(np.float32),
        exemplar_ids={unit: order[:10, unit].tolist() for unit in range(units)},
        correlated=correlated,
    )


def predict(activations_nu, scores_nl, pairs, weights_n=None, min_images=10, min_units=2):
    readings = Readings(scores_nl, ("annotations",) * scores_nl.shape[1])
    units, labels = np.array(pairs).T
    return check_prediction(
        layer_of(activations_nu, weights_n), readings, Pairs(units, labels), min_images, min_units
    )


def precise(activations_nu, scores_nl, pairs, min_units=2):
    readings = Readings(scores_nl, ("annotations",) * scores_nl.shape[1])
    units, labels = np.array(pairs).T
    draw = subset_draws(500, 60, seed=0)
    return check_auprc(layer_of(activations_nu), readings, Pairs(units, labels), 10, min_units, draw)


def test_correlation_is_numpys_and_weights_count_copies():
    generator = np.random.default_rng(0)
    activations, scores = generator.standard_normal((50, 4)) + 100, generator.standard_normal((50, 3))
    weights = generator.integers(1, 4, 50).astype(float)
    np.testing.assert_allclose(
        correlations(activations, scores, np.ones(50)),
        np.corrcoef(activations.T, scores.T)[:4, 4:],
        atol=1e-12,
    )
    copies = np.repeat(np.arange(50), weights.astype(int))
    np.testing.assert_allclose(
        correlations(activations, scores, weights),
        np.corrcoef(activations[copies].T, scores[copies].T)[:4, 4:],
        atol=1e-12,
    )


def test_correlation_leaves_out_the_images_that_a_label_cannot_be_read_on():
    generator = np.random.default_rng(1)
    activations, scores = generator.standard_normal((80, 3)), generator.standard_normal((80, 2))
    scores[generator.random((80, 2)) < 0.4] = np.nan
    scores[:, 1] += 1e3
    found = correlations(activations, scores, np.ones(80))
    for label in range(2):
        usable = np.isfinite(scores[:, label])
        expected = np.corrcoef(activations[usable].T, scores[usable, label])[:3, 3]
        np.testing.assert_allclose(found[:, label], expected, atol=1e-9)


def test_correlation_of_a_constant_is_no_number():
    assert np.isnan(correlations(np.ones((20, 1)), np.arange(20.0)[:, None], np.ones(20))).all()
    assert np.isnan(correlations(np.arange(20.0)[:, None], np.full((20, 1), 0.3), np.ones(20))).all()


def test_average_precision_is_scikit_learns_with_ties_and_weights():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = np.random.default_rng(2)
    positive = generator.random((60, 5)) < np.array([0.02, 0.1, 0.3, 0.6, 0.0])
    positive[0, 0] = True
    weights = generator.random(60) + 0.1
    for scores in (generator.standard_normal(60), generator.integers(0, 3, 60).astype(float), np.eye(60)[3]):
        found = average_precisions(Positives.of(positive).rows_uk, scores, weights)
        for unit in range(4):
            expected = metrics.average_precision_score(positive[:, unit], scores, sample_weight=weights)
            assert found[unit] == pytest.approx(expected, abs=1e-12)
        assert np.isnan(found[4])


def planted(generator, images=600, rate=0.1):
    present = generator.random(images) < rate
    activations = generator.standard_normal((images, 50)) ** 2
    activations[:, 0] += 3 * present
    return activations, present


def test_a_label_that_misses_half_or_claims_too_much_scores_lower():
    generator = np.random.default_rng(3)
    activations, present = planted(generator)
    missing, extra = present.astype(float), present.astype(float)
    missing[np.flatnonzero(present)[::2]] = 0
    extra[generator.choice(np.flatnonzero(~present), 150, replace=False)] = 1
    scores = np.stack([present.astype(float), missing, extra], axis=1)
    right, less, more = (check.value for check in predict(activations, scores, [(0, 0), (0, 1), (0, 2)]))
    assert less < right - 0.05
    assert more < right - 0.05
    right, less, more = (check.value for check in precise(activations, scores, [(0, 0), (0, 1), (0, 2)]))
    assert more < right
    assert less < right


def test_p_of_prediction_and_auprc_is_uniform_under_independence():
    generator = np.random.default_rng(4)
    activations = np.exp(generator.standard_normal((300, 40)))
    scores = (generator.random((300, 12)) < 0.05).astype(float)
    pairs = [(unit, label) for unit in range(40) for label in range(12)]
    p = np.array([check.significance.p for check in predict(activations, scores, pairs)])
    assert 0.02 <= (p <= 0.05).mean() <= 0.08
    assert (p <= 0.005).mean() <= 0.02
    # Six positives against a yes-or-no label take few distinct values: p is coarse, and never too small.
    p = np.array([check.significance.p for check in precise(activations, scores, pairs)])
    assert (p <= 0.05).mean() <= 0.08
    assert (p <= 0.3).mean() <= 0.4
    graded = generator.standard_normal((300, 12))
    p = np.array([check.significance.p for check in precise(activations, graded, pairs)])
    assert 0.02 <= (p <= 0.05).mean() <= 0.08


def test_a_common_label_is_true_but_not_specific():
    generator = np.random.default_rng(5)
    dark, ring = generator.random((2, 600)) < 0.2
    activations = generator.standard_normal((600, 60))
    activations += np.outer(dark, generator.uniform(0.6, 1.2, 60))  # half of everything likes dark images
    activations[:, 0] += 2 * ring
    common, own = predict(activations, np.stack([dark, ring], axis=1).astype(float), [(0, 0), (0, 1)])
    assert common.significance.p < 0.001
    assert common.specificity.z < 2
    assert own.significance.p < 1e-6
    assert own.specificity.z > 5
    assert own.specificity.units > 30


def test_units_that_are_as_good_as_the_same_leave_the_null():
    generator = np.random.default_rng(6)
    present = (generator.random(400) < 0.2).astype(float)
    activations = generator.standard_normal((400, 40))
    activations[:, :20] += 6 * present[:, None]  # twenty copies of one detector
    (check,) = predict(activations, present[:, None], [(0, 0)])
    assert check.specificity.units == 20
    assert check.specificity.z > 5


def test_the_lower_bound_covers_where_activations_are_heavy_tailed_and_labels_rare():
    generator = np.random.default_rng(7)

    def sample(images):
        present = generator.random(images) < 0.05
        return np.exp(generator.standard_normal(images)) + 2 * present * generator.random(images) * 4, present

    activation, present = sample(2_000_000)
    truth = np.corrcoef(activation, present)[0, 1]
    runs = 400
    draws = [sample(400) for _ in range(runs)]
    activations, scores = np.stack([d[0] for d in draws], axis=1), np.stack([d[1] for d in draws], axis=1)
    checks = predict(activations, scores.astype(float), [(run, run) for run in range(runs)])
    covered = np.mean([check.low <= truth for check in checks])
    assert covered > 0.88  # nominal 0.95; Fisher's bound alone:
    fisher = np.tanh([np.arctanh(check.value) - 1.645 / np.sqrt(397) for check in checks])
    assert np.mean(fisher <= truth) < 0.8


def test_permuting_images_or_units_changes_nothing():
    generator = np.random.default_rng(8)
    activations, present = planted(generator, images=200)
    scores = present[:, None].astype(float)
    (before,) = predict(activations, scores, [(0, 0)])
    order = generator.permutation(200)
    (after,) = predict(activations[order][:, ::-1], scores[order], [(49, 0)])
    assert after.value == pytest.approx(before.value, abs=1e-6)
    assert after.low == pytest.approx(before.low, abs=1e-6)
    assert after.specificity.z == pytest.approx(before.specificity.z, rel=1e-4)


def test_what_cannot_be_measured_is_not_applicable_with_its_reason():
    generator = np.random.default_rng(9)
    activations = generator.standard_normal((200, 5))
    activations[:, 4] = 1.0
    scores = np.full((200, 4), np.nan)
    scores[:20, 0] = generator.standard_normal(20)
    scores[:, 1] = 0.5
    scores[:, 2] = np.arange(200) < 3
    scores[:, 3] = generator.standard_normal(200)
    checks = predict(activations, scores, [(0, 0), (0, 1), (0, 2), (4, 3), (0, 3)], min_images=150)
    assert [check.status for check in checks] == ["not_applicable"] * 4 + ["ok"]
    assert "only 20 images" in checks[0].why
    assert "same on all 200" in checks[1].why
    assert "holds in only 3 of 200" in checks[2].why
    assert "constant" in checks[3].why
    assert all(check.value is None for check in checks[:4])


def test_auprc_counts_its_positives_and_needs_five():
    generator = np.random.default_rng(10)
    activations, present = planted(generator)
    (check,) = precise(activations, present[:, None].astype(float), [(0, 0)])
    assert check.n == 12  # two in a hundred of 600
    assert check.low < check.value
    assert check.significance.p < 0.01
    (few,) = precise(activations[:200], present[:200, None].astype(float), [(0, 0)])
    assert few.status == "not_applicable"
    assert "only 4 of 200" in few.why
