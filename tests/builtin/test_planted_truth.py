"""What planted units are drawn to do, and how it is measured whether they do it."""

from __future__ import annotations

from collections import Counter
from itertools import combinations_with_replacement, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from labeler.builtin.planted.network import UNITS
from labeler.builtin.scenes import CONCEPTS
from labeler.builtin.training.planted_measure import LEAST_OF_RIVAL, compare, decoy_auroc
from labeler.builtin.training.planted_truth import COUNTS, LEARNABLE, RARE, Wanted, draw_truth, holds

NAMES = [concept.name for concept in CONCEPTS]
SEEDS = st.integers(0, 10**6)


class Drawn:
    """Made-up scenes and the truth drawn from them."""

    def __init__(self, seed: int, scenes: int = 600) -> None:
        generator = np.random.default_rng(seed)
        share_c = generator.choice([0.005, 0.05, 0.1, 0.15, 0.4, 0.7], len(CONCEPTS))
        self.present_nc = generator.random((scenes, len(CONCEPTS))) < share_c
        self.auroc_c = generator.uniform(0.9, 1, len(CONCEPTS))
        self.allowed = {name for name in NAMES if generator.random() < 0.8}
        self.preferred = {name for name in NAMES if generator.random() < 0.2}
        self.units = self.draw(seed)

    def draw(self, seed: int) -> list[Wanted]:
        return draw_truth(
            self.present_nc, self.auroc_c, self.allowed.__contains__, self.preferred.__contains__,
            np.random.default_rng(seed),
        )  # fmt: skip

    def of(self, *kinds: str) -> list[tuple[int, ...]]:
        return [unit.terms for unit in self.units if unit.kind in kinds]

    def usable(self, concept: int) -> bool:
        seen = self.auroc_c[concept] >= LEARNABLE and self.present_nc[:, concept].mean() >= RARE
        return bool(seen and NAMES[concept] in self.allowed)


def test_the_counts_fill_the_layer() -> None:
    assert sum(COUNTS.values()) == UNITS


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_every_unit_has_a_kind_and_only_what_can_be_seen_and_may_be_planted_is(seed: int) -> None:
    drawn = Drawn(seed)
    counts = Counter(unit.kind for unit in drawn.units)
    assert len(drawn.units) == UNITS
    assert all(counts[kind] <= COUNTS[kind] for kind in COUNTS if kind != "dead")
    assert counts["decoy"] == COUNTS["decoy"]
    assert counts["dead"] >= COUNTS["dead"]
    sizes = {"single": 1, "duplicate": 1, "not": 1, "or": 2, "and": 2, "context": 2, "decoy": 0, "dead": 0}
    assert all(len(set(unit.terms)) == len(unit.terms) == sizes[unit.kind] for unit in drawn.units)
    assert all(drawn.usable(concept) for unit in drawn.units for concept in unit.terms)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_singles_are_different_and_preferred_ones_are_among_them(seed: int) -> None:
    drawn = Drawn(seed)
    singles = [terms[0] for terms in drawn.of("single")]
    usable = [c for c in range(len(CONCEPTS)) if drawn.usable(c)]
    assert len(set(singles)) == len(singles) == min(COUNTS["single"], len(usable))
    first = [c for c in usable if NAMES[c] in drawn.preferred]
    assert len(first) > COUNTS["single"] or set(first) <= set(singles)
    duplicates = drawn.of("duplicate")
    assert len(set(duplicates)) == len(duplicates)
    assert set(duplicates) <= set(drawn.of("single"))


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_a_truth_of_two_can_be_told_from_a_truth_of_one(seed: int) -> None:
    drawn = Drawn(seed)
    share_c = drawn.present_nc.mean(axis=0)

    def joint(a: int, b: int) -> float:
        return float((drawn.present_nc[:, a] & drawn.present_nc[:, b]).mean())

    for a, b in drawn.of("or"):  # seldom together, and neither is most of it
        assert joint(a, b) <= 0.25 * min(share_c[a], share_c[b]) + 1e-9
        assert max(share_c[a], share_c[b]) <= min(0.3, 4 * min(share_c[a], share_c[b])) + 1e-9
    for a, b in drawn.of("and", "context"):  # often enough together, and oftener apart
        assert joint(a, b) >= 0.03 - 1e-9
        assert joint(a, b) <= 0.5 * min(share_c[a], share_c[b]) + 1e-9
    for (a,) in drawn.of("not"):
        assert 0.2 <= share_c[a] <= 0.8
    for kind in ("or", "and", "context"):
        pairs = drawn.of(kind)
        assert len({frozenset(pair) for pair in pairs}) == len(pairs)
        assert max(Counter(concept for pair in pairs for concept in pair).values(), default=0) <= 2


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_the_same_draws_give_the_same_truth_and_others_another(seed: int) -> None:
    drawn = Drawn(seed)
    assert drawn.draw(seed) == drawn.units
    assert drawn.draw(seed + 1) != drawn.units


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("single", [0, 0, 1, 1]),
        ("duplicate", [0, 0, 1, 1]),
        ("not", [1, 1, 0, 0]),
        ("or", [0, 1, 1, 1]),
        ("and", [0, 0, 0, 1]),
        ("context", [0, 0, 0, 1]),
    ],
)
def test_a_unit_should_fire_where_its_formula_holds(kind: str, expected: list[int]) -> None:
    present_nc = np.array(list(product([False, True], repeat=2)))
    terms = (0, 1) if kind in ("or", "and", "context") else (0,)
    assert holds(Wanted(kind, terms), present_nc).astype(int).tolist() == expected  # type: ignore[arg-type]


def scenes_and_unit(seed: int, concepts: int = 6) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A unit that answers to some concepts a little, often exactly 0, and which concepts scenes show."""
    generator = np.random.default_rng(seed)
    share_c = generator.choice([0.05, 0.2, 0.5], concepts)
    present_nc = generator.random((400, concepts)) < share_c
    weight_c = generator.normal(0, 1, concepts) * (generator.random(concepts) < 0.5)
    pooled_n = np.maximum(present_nc @ weight_c + generator.standard_normal(400), 0)
    return pooled_n.round(1).astype(np.float32), present_nc


def area(pooled_n: NDArray[np.float32], truth_n: NDArray[np.bool_], least: int) -> float:
    held = int(truth_n.sum())
    return float(roc_auc_score(truth_n, pooled_n)) if least <= held <= len(truth_n) - least else 0.5


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.sampled_from([1, 20, 100]))
def test_a_decoy_is_measured_against_every_formula_of_two(seed: int, least: int) -> None:
    pooled_n, present_nc = scenes_and_unit(seed)
    literals = [*present_nc.T, *~present_nc.T]
    away = [
        abs(area(pooled_n, rule(a, b), least) - 0.5)
        for a, b in combinations_with_replacement(literals, 2)
        for rule in (np.logical_and, np.logical_or)
    ]
    assert decoy_auroc(pooled_n, present_nc, least) == pytest.approx(0.5 + max(away), abs=1e-9)


def correlation(pooled_n: NDArray[np.float32], truth_n: NDArray[np.bool_]) -> float:
    held = int(truth_n.sum())
    enough = LEAST_OF_RIVAL <= held <= len(truth_n) - LEAST_OF_RIVAL
    return float(np.corrcoef(pooled_n, truth_n)[0, 1]) if enough and np.ptp(pooled_n) > 0 else 0.0


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.sampled_from(["single", "duplicate", "or", "and", "context", "not"]))
def test_a_truth_is_measured_against_every_other_formula(seed: int, kind: str) -> None:
    pooled_n, present_nc = scenes_and_unit(seed)
    terms = (2, 4) if kind in ("or", "and", "context") else (2,)
    own = {"context": "and", "single": "is", "duplicate": "is"}.get(kind, kind), frozenset(terms)
    rivals = {}
    for a, b in combinations_with_replacement(range(present_nc.shape[1]), 2):
        for name, rule in (("and", np.logical_and), ("or", np.logical_or)):
            key = ("is" if a == b else name), frozenset({a, b})
            rivals[key] = correlation(pooled_n, rule(present_nc[:, a], present_nc[:, b]))
        rivals["not", frozenset({a})] = -correlation(pooled_n, present_nc[:, a])
    told = compare(pooled_n, present_nc, Wanted(kind, terms))  # type: ignore[arg-type]
    assert told.own == pytest.approx(rivals.pop(own), abs=1e-5)
    assert told.rival == pytest.approx(max(rivals.values()), abs=1e-5)
    best = {key for key, value in rivals.items() if value > told.rival - 1e-5}
    words = {
        (f"not {NAMES[min(t)]}" if op == "not" else f" {op} ".join(NAMES[c] for c in sorted(t)))
        for op, t in best
    }
    if told.rival > 0:
        assert told.words in words
