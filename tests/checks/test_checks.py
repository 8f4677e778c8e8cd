"""The whole gate on a simulated layer."""

import time

import numpy as np
import pytest
import torch

from labeler.checks import (
    CHECKS,
    Dissection,
    EncoderJudge,
    PictureData,
    check_labels,
    choose_decoys,
    decide,
    decoy_cut,
    layer_agreements,
    unit_agreement,
)
from labeler.config import ChecksConfig
from labeler.records import Formula, Label, UnitId
from tests.checks.gate_doubles import CALIBRATION, GATE

SETTINGS = ChecksConfig()


def run_gate(layer, units, candidates, seed=0):
    """Candidates and decoys of `units` through all checks, the cut and the verdicts."""
    labels = {unit: tuple(Label(text=text) for text in candidates(unit)) for unit in units}
    decoys = choose_decoys(labels, lambda first, second: False, GATE.settings.decoys, seed)

    def judge(by_unit):
        pairs = [(unit, label) for unit in units for label in by_unit[unit]]
        checks = check_labels(
            layer.data, pairs, [layer.judge], pictures=None, dissection=None, settings=SETTINGS, seed=seed
        )
        judged = {unit: [] for unit in units}
        for (unit, label), found in zip(pairs, checks, strict=True):
            checked = label.model_copy(update={"checks": found})
            judged[unit].append(GATE.judge(checked, len(labels[unit])))
        return judged

    targets, wrong = judge(labels), judge(decoys)
    cut = decoy_cut(
        [item.cut_score for items in targets.values() for item in items],
        [item.cut_score for items in wrong.values() for item in items],
        GATE.settings.precision,
    )
    images = len(layer.data.image_ids_n)
    return cut, {unit: decide(targets[unit], cut, test_images=images, min_test_images=150) for unit in units}


def test_planted_units_are_accepted_and_noise_is_not(layer):
    generator = np.random.default_rng(1)
    names = [concept.name for concept in layer.judge.concepts]
    units = [*range(24), *range(40, 64)]

    def candidates(unit):
        guesses = generator.choice(names, 3, replace=False).tolist()
        return list(dict.fromkeys([layer.truth[unit], *guesses] if unit in layer.truth else guesses))

    cut, decisions = run_gate(layer, units, candidates)
    right = [
        unit
        for unit in layer.truth
        if layer.truth[unit] in [label.text for label in decisions[unit].accepted]
    ]
    assert len(right) >= 22
    noise = [unit for unit in units if unit not in layer.truth]
    assert sum(decisions[unit].verdict in ("accepted", "polysemantic") for unit in noise) <= 1
    assert sum(decisions[unit].verdict == "uninterpretable" for unit in noise) >= 20
    assert cut.error <= 0.1
    assert all(len(decisions[unit].accepted) <= 1 for unit in units)


def test_a_layer_of_noise_gets_no_label(layer_factory):
    layer = layer_factory(seed=2, planted=0)
    names = [concept.name for concept in layer.judge.concepts]
    generator = np.random.default_rng(3)
    _, decisions = run_gate(
        layer, list(range(48)), lambda unit: generator.choice(names, 4, replace=False).tolist()
    )
    assert sum(decision.verdict == "accepted" for decision in decisions.values()) <= 1


def pairs_of(layer, count=6):
    return [
        (unit, Label(text=f"concept{(unit + shift) % 24:02d}")) for unit in range(count) for shift in (0, 1)
    ]


def check(layer, pairs, **options):
    given = {"pictures": None, "dissection": None, "settings": SETTINGS, "seed": 0, **options}
    return check_labels(layer.data, pairs, [layer.judge], **given)


def test_every_check_is_there_and_says_where_it_does_not_apply(layer):
    found = check(layer, [(0, Label(text="concept00")), (0, Label(text="a thing without a name"))])
    assert all(tuple(checks) == CHECKS for checks in found)
    assert [name for name in CHECKS if found[0][name].status == "ok"] == ["prediction", "auprc", "real"]
    assert {check.status for check in found[1].values()} == {"not_applicable"}
    assert found[1]["prediction"].why == "no judge knows this label"
    assert all(check.value is None for check in found[1].values())


def test_the_order_of_pairs_and_who_else_is_asked_change_nothing(layer):
    pairs = pairs_of(layer)
    whole = check(layer, pairs)
    backwards = check(layer, pairs[::-1])[::-1]
    for first, second, pair in zip(whole, backwards, pairs, strict=True):
        alone = check(layer, [pair])[0]
        for name in ("prediction", "auprc", "real"):
            assert second[name].value == pytest.approx(first[name].value, abs=1e-12)
            assert alone[name].value == pytest.approx(first[name].value, abs=1e-12)
            assert alone[name].significance.p == pytest.approx(first[name].significance.p, rel=1e-6)


class AxisEncoder:
    """Knows the words 'thing 0' to 'thing 23', one axis each; images have no axis of their own."""

    dim = 24

    def covers(self, text):
        return text.startswith("thing ")

    def embed_texts(self, texts):
        return np.eye(24, dtype=np.float32)[[int(text.split()[1]) for text in texts]]


def seeing_judge(layer, seed=0):
    """An image-text model that sees the concepts of the photographs, and pictures of what units are for."""
    generator = np.random.default_rng(seed)

    def unit_norm(values):
        return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)

    noise = 0.2 * generator.standard_normal(layer.present_nc.shape)
    judge = EncoderJudge("axes", AxisEncoder(), unit_norm(layer.present_nc + noise + 0.5))
    owners = np.repeat(np.arange(36), 2)
    shown = np.eye(24)[owners % 24] + 0.2 * generator.standard_normal((72, 24)) + 2.0
    return judge, PictureData(tuple(UnitId("block", int(u)) for u in owners), {"axes": unit_norm(shown)})


def test_all_checks_meet_in_one_call(layer):
    judge, pictures = seeing_judge(layer)
    concepts = layer.present_nc.shape[1]
    thresholds_u = np.quantile(layer.data.activations_nu, 0.9, axis=0)
    dissection = Dissection(layer.data.live_units, thresholds_u, ["texture"] * concepts, [2, 50])
    maps = torch.from_numpy(layer.data.activations_nu)[:, :, None, None].expand(-1, -1, 4, 4)
    masks = torch.from_numpy(layer.present_nc)[:, :, None, None].expand(-1, -1, 8, 8)
    dissection.add(maps, masks, [frozenset({"texture"})] * len(masks))
    pairs = [
        (2, Label(text="concept02")),
        (2, Label(text="thing 2")),
        (2, Label(text="thing 9")),
        (50, Label(text="concept02")),
    ]
    named, seen, wrong, other = check_labels(
        layer.data,
        pairs,
        [layer.judge, judge],
        pictures=pictures,
        dissection=dissection,
        settings=SETTINGS,
        seed=0,
    )
    assert named["prediction"].judge == "annotations"
    assert named["iou"].significance.p < 1e-3
    assert named["iou"].specificity.z > 3
    assert (
        named["synthetic"].status == "not_applicable"
    )  # annotations cannot see a picture, the judge not the word
    assert seen["prediction"].judge == "axes"
    assert seen["synthetic"].significance.p < 0.01
    assert wrong["synthetic"].value < seen["synthetic"].value
    assert wrong["prediction"].significance.p > 0.01
    assert (
        named["agreement"]
        == seen["agreement"]
        == unit_agreement(layer_agreements(layer.data, [layer.judge, judge], pictures, SETTINGS), 2)
    )
    assert named["agreement"].value > 0.9
    assert other["iou"].significance.p > 0.01
    assert other["agreement"].why == "the unit has no synthetic picture that a judge has seen"
    assert CALIBRATION.score(seen) > CALIBRATION.score(wrong)


def test_formulas_are_judged_as_formulas(layer):
    both = Formula(op="or", terms=("concept00", "concept01"))
    labels = [Label(text="concept00 or concept01", formula=both), Label(text="concept00")]
    compound, single = check(layer, [(0, label) for label in labels])
    assert 0.1 < compound["prediction"].value < single["prediction"].value
    assert compound["iou"].status == "not_applicable"


def test_feedback_has_fewer_images(layer_factory):
    layer = layer_factory(images=100)
    (strict,) = check(layer, [(0, Label(text="concept00"))])
    assert "only 100 images" in strict["prediction"].why
    (loose,) = check(layer, [(0, Label(text="concept00"))], min_images=50)
    assert loose["prediction"].status == "ok"


def test_a_run_of_48_units_takes_seconds(layer_factory):
    layer = layer_factory(units=320)
    generator = np.random.default_rng(0)
    pairs = [
        (unit, Label(text=f"concept{index:02d}"))
        for unit in range(48)
        for index in generator.choice(24, 13, replace=False)
    ]
    start = time.process_time()
    check(layer, pairs)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("alone", [0, 3])
def test_a_label_gets_the_same_numbers_whatever_else_is_in_the_batch(layer, alone):
    pairs = [(2, Label(text=f"concept{number:02d}")) for number in (2, 5, 7, 11)]
    together = check_labels(
        layer.data, pairs, [layer.judge], pictures=None, dissection=None, settings=SETTINGS, seed=0
    )
    (single,) = check_labels(
        layer.data, pairs[alone : alone + 1], [layer.judge], pictures=None, dissection=None,
        settings=SETTINGS, seed=0,
    )  # fmt: skip
    assert single == together[alone]
