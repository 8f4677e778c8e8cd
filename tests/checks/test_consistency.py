import numpy as np
import pytest

from labeler.checks.consistency import check_real, check_synthetic, measure_agreement
from labeler.checks.data import LayerData, Pairs, PictureData, Readings
from labeler.checks.judges import EncoderJudge
from labeler.records import Label, UnitId

UNITS, IMAGES, KINDS = 48, 480, 24


class KindEncoder:
    """One axis for each kind of thing; it knows their numbers as words."""

    dim = KINDS

    def covers(self, text):
        return text.isdigit()

    def embed_texts(self, texts):
        return np.eye(KINDS, dtype=np.float32)[[int(text) for text in texts]]


def unit_norm(values):
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def world(seed=0, honest=True, per_unit=3, pictured=24):
    """Unit u fires for kind u % KINDS; FVs have an offset of their own, and show that kind where `honest`."""
    generator = np.random.default_rng(seed)
    kind_n = np.arange(IMAGES) % KINDS
    photographs = 1.0 * np.eye(KINDS)[kind_n] + 0.3 * generator.standard_normal((IMAGES, KINDS)) + 1.0
    activations = generator.standard_normal((IMAGES, UNITS))
    for unit in range(UNITS):
        activations[:, unit] += 4.0 * (kind_n == unit % KINDS)
    order = np.argsort(-activations, axis=0)
    data = LayerData(
        "block", np.arange(UNITS), activations.astype(np.float32), np.arange(IMAGES), np.ones(IMAGES),
        np.quantile(activations, 0.99, axis=0), {unit: order[:10, unit].tolist() for unit in range(UNITS)},
    )  # fmt: skip
    owners = np.repeat(np.arange(pictured), per_unit)
    shown = owners % KINDS if honest else generator.permutation(owners) % KINDS
    offset = 5 * generator.standard_normal(KINDS)
    embeddings = np.eye(KINDS)[shown] + 0.3 * generator.standard_normal((len(owners), KINDS)) + offset
    pictures = PictureData(tuple(UnitId("block", int(u)) for u in owners), {"kinds": unit_norm(embeddings)})
    return data, pictures, EncoderJudge("kinds", KindEncoder(), unit_norm(photographs))


def test_real_is_the_standardised_mean_difference_of_held_out_exemplars():
    data, _, judge = world()
    scores = judge.read([Label(text="3"), Label(text="4")])
    scores_nl = np.stack([reading.scores_n for reading in scores], axis=1).astype(np.float64)
    scores_nl[7] = np.nan
    readings = Readings(scores_nl, ("kinds", "kinds"))
    right, wrong = check_real(data, readings, Pairs(np.array([3, 3]), np.array([0, 1])), 100, 20)
    kept = np.delete(scores_nl[:, 0], 7)
    chosen = scores_nl[list(data.exemplar_ids[3]), 0]
    assert right.value == pytest.approx((chosen.mean() - kept.mean()) / kept.std(), abs=1e-6)
    assert right.n == 10
    assert right.low < right.value
    assert right.significance.p < 1e-6
    assert right.specificity.z > 5
    assert wrong.significance.p > 0.05
    assert wrong.specificity.z < 3


def test_real_needs_five_exemplars_that_can_be_read():
    data, _, judge = world()
    scores_n = judge.read([Label(text="3")])[0].scores_n.astype(np.float64)
    scores_n[list(data.exemplar_ids[3])[:6]] = np.nan
    (check,) = check_real(
        data, Readings(scores_n[:, None], ("kinds",)), Pairs(np.array([3]), np.array([0])), 100, 20
    )
    assert check.status == "not_applicable"
    assert "only 4" in check.why


def test_real_of_labels_that_say_nothing_is_seldom_significant():
    data, _, _ = world()
    scores_nl = (np.random.default_rng(1).random((IMAGES, 40)) < 0.05).astype(float)
    pairs = Pairs(np.tile(np.arange(20), 40), np.repeat(np.arange(40), 20))
    checks = check_real(data, Readings(scores_nl, ("annotations",) * 40), pairs, 100, 20)
    p = np.array([check.significance.p for check in checks])
    assert (p <= 0.01).mean() < 0.02


def test_agreement_finds_pictures_that_are_of_one_kind_with_the_photographs():
    data, pictures, judge = world()
    found = measure_agreement(data, pictures, judge, 20)
    assert found.why == ""
    assert set(found.checks) == set(range(24))
    assert np.mean([check.value for check in found.checks.values()]) > 0.95
    check = found.checks[5]
    assert check.significance.p < 0.01
    assert check.specificity.units == 47
    assert check.specificity.z > 3
    assert check.n == 10


def test_a_judge_that_cannot_read_pictures_here_may_not_speak_of_them():
    data, pictures, judge = world(honest=False)
    found = measure_agreement(data, pictures, judge, 20)
    assert "kinds does not find units' exemplars" in found.why
    assert "mean percentile 0." in found.why
    assert {check.status for check in found.checks.values()} == {"not_applicable"}
    pairs = Pairs(np.array([5]), np.array([0]))
    (check,) = check_synthetic(data, [Label(text="5")], pairs, pictures, [(judge, found)], 20)
    assert (check.status, check.why) == ("not_applicable", found.why)


def test_too_few_pictured_units_to_know_whether_the_judge_reads_pictures():
    data, pictures, judge = world(pictured=11)
    found = measure_agreement(data, pictures, judge, 20)
    assert "on 11 units only; 12 are needed" in found.why


def test_judges_without_skill_are_seldom_let_through():
    passed = sum(
        measure_agreement(d, p, j, 20).why == "" for d, p, j in (world(s, honest=False) for s in range(60))
    )
    assert passed <= 3


def test_synthetic_reads_the_label_from_the_units_own_pictures():
    data, pictures, judge = world(pictured=36)
    seeing = [(judge, measure_agreement(data, pictures, judge, 20))]
    labels = [Label(text="5"), Label(text="6"), Label(text="cloud")]
    pairs = Pairs(np.array([5, 5, 5, 40]), np.array([0, 1, 2, 0]))
    right, wrong, unknown, blank = check_synthetic(data, labels, pairs, pictures, seeing, 20)
    assert right.value > 1
    assert right.n == 3
    assert right.significance.p < 0.01
    assert right.specificity.z > 3
    assert wrong.value < right.value / 2
    assert unknown.status == "not_applicable"
    assert blank.why == "the unit has no synthetic picture"


def test_pictures_are_centred_apart_from_photographs():
    data, pictures, judge = world()
    moved = pictures.embeddings["kinds"] + 3 * np.ones(KINDS, np.float32)
    again = measure_agreement(data, PictureData(pictures.owners, {"kinds": moved}), judge, 20)
    before = measure_agreement(data, pictures, judge, 20)
    for unit, check in before.checks.items():
        assert again.checks[unit].value == pytest.approx(check.value, abs=1e-6)
