"""The suites `planted`, `gate` and `calibrate`, on made-up outcomes and pairs with known answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.checks.calibration import Domain, fit
from labeler.records import CheckResult, Formula, Label, Null, SpecificityNull, UnitId
from labeler.suites import suite_module

planted, gate, calibrate = (suite_module(name) for name in ("planted", "gate", "calibrate"))
pairs, rightness, runs = (suite_module(name) for name in ("gate_pairs", "rightness", "planted_runs"))


def outcome(kind, verdict="accepted", right=True, network="planted-5"):
    return planted.Outcome(network, kind, verdict, right, right, "x" if verdict == "accepted" else "", "y")


def test_each_figure_counts_its_own_units():
    none = ("uninterpretable", False)
    rows = [("single",), ("single", "accepted", False), ("duplicate",), ("single", "rejected", False)]
    rows += [("or",), ("or", "accepted", False), ("and",), ("not", *none), ("decoy", *none)]
    rows += [("decoy", "accepted", False), ("dead", "dead", False)]
    found = planted.summarise([outcome(*row) for row in rows])
    assert found.figures["single_right"] == pytest.approx(2 / 3)
    assert found.figures["single_accepted"] == pytest.approx(3 / 4)
    assert found.figures["or_right"] == 0.5
    assert found.figures["and_not_right"] == 1.0
    assert found.figures["decoys_accepted"] == 0.5
    assert found.figures["dead_found"] == 1.0
    assert found.figures["context_right"] is None
    assert found.units == 11


def test_intervals_are_wider_where_networks_differ():
    names = [f"planted-{n}" for n in (5, 6, 7, 8)]
    alike = [outcome("single", right=i % 4 > 0, network=name) for name in names for i in range(40)]
    apart = [outcome("single", right=name != names[0], network=name) for name in names for i in range(40)]
    low, high = planted.summarise(alike).intervals["single_right"]
    wide_low, wide_high = planted.summarise(apart).intervals["single_right"]
    assert high - low < 0.2 < wide_high - wide_low


@pytest.mark.parametrize(
    ("text", "formula", "kind", "terms", "expected"),
    [
        ("car", None, "single", ("car",), True),
        ("wheel", None, "single", ("car",), False),
        ("car", None, "or", ("car", "sky"), True),  # the name of one facet
        ("car", None, "and", ("car", "sky"), None),  # too broad: neither
        ("sky", None, "context", ("car", "sky"), None),
        ("boat", None, "and", ("car", "sky"), False),
        ("car or sky", ("or", ("car", "sky")), "or", ("sky", "car"), True),
        ("car or boat", ("or", ("car", "boat")), "or", ("sky", "car"), False),
        ("car and sky", ("and", ("car", "sky")), "context", ("car", "sky"), True),
        ("not car", ("not", ("car",)), "not", ("car",), True),
        ("car", None, "not", ("car",), False),
        ("car", None, "decoy", (), False),
    ],
)
def test_when_one_label_is_right(text, formula, kind, terms, expected):
    label = Label(text=text, formula=None if formula is None else Formula(op=formula[0], terms=formula[1]))
    truth = rightness.Truth(" ".join(terms), terms, kind)
    assert pairs.is_right(label, truth) is expected


def test_the_truth_of_a_planted_network_is_read_by_unit():
    truth = runs.planted_truth("planted-1")
    assert len(truth) == 96
    assert {unit.layer for unit in truth} == {"units"}
    negated = [item for item in truth.values() if item.kind == "not"]
    assert negated
    assert all(item.label == f"not {item.terms[0]}" for item in negated)


def check(value, judge="annotations"):
    return CheckResult(
        status="ok", value=value, low=value, n=900, judge=judge,
        significance=Null(z=3.0, p=0.001), specificity=SpecificityNull(z=5.0, p=0.01, units=90),
    )  # fmt: skip


def made_up(count, network, seed):
    """Pairs that are right the oftener the greater *prediction* is."""
    generator = np.random.default_rng(seed)
    value_n = generator.random(count)
    right_n = generator.random(count) < 1 / (1 + np.exp(-10 * (value_n - 0.6)))
    checks = [{"prediction": check(float(v)), "iou": check(float(v) / 3)} for v in value_n]
    rows = zip(checks, right_n.tolist(), strict=True)
    return [pairs.Pair(network, UnitId("units", i), "x", ok, found) for i, (found, ok) in enumerate(rows)]


@pytest.fixture(scope="module")
def fitted():
    known = [pair for n in range(4) for pair in made_up(500, f"planted-{n}", n)]
    domain = Domain(target="toy", probe="scenes", judges=("annotations",), fitted_on="numbers made up here")
    return fit(calibrate.variants(known), domain)


def test_a_calibration_fitted_here_holds_on_other_networks(fitted):
    fresh = [pair for n in range(5, 9) for pair in made_up(600, f"planted-{n}", n)]
    found = gate.summarise(fresh, fitted)
    assert found.figures["auc"] > 0.85
    assert found.figures["ece"] < 0.05
    for request in (80, 90):
        low, high = found.intervals[f"precision_at_{request}"]
        assert low <= request / 100 + 0.03
        assert high >= request / 100 - 0.03
    assert "2400 pairs" in found.text


def test_every_pattern_of_missing_checks_is_fitted_once(fitted):
    assert set(fitted.patterns) == {"annotations: prediction iou", "annotations: prediction"}
    (pair,) = made_up(1, "planted-1", 0)
    applies = [
        sorted(name for name, found in example.checks.items() if found.status == "ok")
        for example in calibrate.variants([pair])
    ]
    assert applies == [["iou", "prediction"], ["prediction"]]


ROWS = st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.9]), st.booleans()), min_size=1, max_size=30)


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_auc_is_the_share_of_pairs_in_the_right_order(drawn):
    rows = np.array([(value, float(right)) for value, right in drawn])
    right = [value for value, ok in drawn if ok]
    wrong = [value for value, ok in drawn if not ok]
    if right and wrong:
        wins = [(a > b) + 0.5 * (a == b) for a in right for b in wrong]
        assert gate._auc(rows) == pytest.approx(np.mean(wins))
    else:
        assert np.isnan(gate._auc(rows))


@given(ROWS)
@settings(max_examples=60, deadline=None)
def test_reliability_bins_hold_every_pair_once(drawn):
    rows = np.array([(value, float(right)) for value, right in drawn])
    bins = gate.reliability(rows)
    assert sum(count for _, _, count in bins) == len(rows)
    assert sum(right * count for _, right, count in bins) == pytest.approx(rows[:, 1].sum())
