from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.propose import compound
from labeler.propose.compound import BEAM, MIN_GAIN, CompoundProposer, best_compounds, proposals
from labeler.records import UnitId
from labeler.seams import Evidence, Tried

OPS = ("or", "and", "not")
WORDS = [(f"word{index}", "object") for index in range(20)]


def draw(seed=0, images=500, words=20, units=6, share=0.2):
    """Words that come and go independently, and units that answer to none."""
    generator = np.random.default_rng(seed)
    scores_nt = (generator.random((images, words)) < share).astype(np.float32)
    activations_nu = generator.standard_normal((images, units)).astype(np.float32) ** 2
    return activations_nu, scores_nt


def correlation(x, y):
    return float(np.corrcoef(x, y)[0, 1]) if np.ptp(x) > 0 and np.ptp(y) > 0 else 0.0


def by_brute_force(activation_n, scores_nt, beam=BEAM):
    """Every compound with a word of one unit's beam and its gain, one after another in double precision."""
    filled_nt = np.where(np.isnan(scores_nt), np.nanmean(scores_nt, axis=0), scores_nt).astype(np.float64)
    values = [correlation(activation_n, filled_nt[:, t]) for t in range(filled_nt.shape[1])]
    best = sorted(range(len(values)), key=lambda t: -values[t])[:beam]
    lowest = int(np.argmin(values))
    found = {("not", (lowest,)): -values[lowest] - max(values)}
    for a, b in combinations(range(len(values)), 2):
        if not {a, b} & set(best):
            continue
        for op, join in (("or", np.maximum), ("and", np.minimum)):
            joined = correlation(activation_n, join(filled_nt[:, a], filled_nt[:, b]))
            found[op, (a, b)] = joined - max(values)
    return found


def named(found, row):
    """A row of `Compounds` by what each compound is; places that no compound fills have gain -inf."""
    listed = {}
    for op, first, second, gain in zip(
        found.op[row], found.first[row], found.second[row], found.gain[row], strict=True
    ):
        if gain == -np.inf:
            continue
        terms = (int(first),) if OPS[op] == "not" else (min(first, second), max(first, second))
        assert (second == -1) == (OPS[op] == "not")
        key = OPS[op], tuple(int(term) for term in terms)
        assert key not in listed
        listed[key] = float(gain)
    return listed


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(1, 12), st.integers(1, 5), st.sampled_from([0.0, 0.2]), st.booleans()
)  # fmt: skip
def test_equals_one_pair_after_another(seed, words, units, unknown, graded):
    generator = np.random.default_rng(seed)
    activations_nu, scores_nt = draw(seed, images=80, words=words, units=units)
    if graded:
        scores_nt = generator.standard_normal(scores_nt.shape).astype(np.float32)
    scores_nt[generator.random(scores_nt.shape) < unknown] = np.nan
    found = best_compounds(activations_nu, scores_nt, keep=1000)
    for row in range(units):
        expected = by_brute_force(activations_nu[:, row], scores_nt)
        assert named(found, row) == pytest.approx(expected, abs=1e-4)
        assert (found.gain[row][1:] <= found.gain[row][:-1]).all()
    fewer = best_compounds(activations_nu, scores_nt, keep=3)
    assert all(
        np.array_equal(getattr(fewer, name), getattr(found, name)[:, :3])
        for name in ("op", "first", "second", "gain")
    )


@pytest.mark.parametrize("op", OPS)
def test_planted_compounds_are_found_first(op):
    activations_nu, scores_nt = draw(seed=1, images=1500, share=0.3)
    truths = {0: (3, 7), 1: (11, 12), 2: (0, 19)}
    for unit, (a, b) in truths.items():
        parts_nt = scores_nt[:, [a, b]]
        fires = {"or": parts_nt.max(axis=1), "and": parts_nt.min(axis=1), "not": 1 - parts_nt[:, 0]}[op]
        activations_nu[:, unit] = 4 * fires + 0.3 * activations_nu[:, unit]
    found = best_compounds(activations_nu, scores_nt, keep=3)
    for unit, terms in truths.items():
        proposed = proposals(found, unit, WORDS)
        assert proposed[0].formula.op == op
        assert set(proposed[0].formula.terms) == {WORDS[term][0] for term in terms[: 1 if op == "not" else 2]}


@pytest.mark.parametrize("images", [300, 1500])
def test_where_one_word_says_more_nothing_is_proposed(images):
    """Also no pair of other words that is better than its parts by chance: it has to beat the best word."""
    activations_nu, scores_nt = draw(seed=2, images=images)
    activations_nu = scores_nt[:, :6] + 0.5 * activations_nu
    found = best_compounds(activations_nu, scores_nt, keep=5)
    assert all(proposals(found, unit, WORDS) == [] for unit in range(6))
    assert found.gain.max() < MIN_GAIN


def test_gains_by_chance_vanish_with_the_images():
    found = best_compounds(*draw(seed=9, images=20_000), keep=5)
    assert found.gain.max() < MIN_GAIN


def test_parts_are_proposed_with_their_compound_and_keep_their_kind():
    activations_nu, scores_nt = draw(seed=3, images=1500)
    activations_nu[:, 0] += 6 * scores_nt[:, [2, 5]].max(axis=1)
    activations_nu[:, 1] += 6 * (1 - scores_nt[:, 4])
    words = [(name, "colour" if index == 5 else kind) for index, (name, kind) in enumerate(WORDS)]
    found = best_compounds(activations_nu, scores_nt, keep=1)
    whole, *parts = proposals(found, 0, words)
    assert whole.formula.op == "or"
    assert whole.text == " or ".join(whole.formula.terms)
    assert {(part.text, part.kind, part.formula) for part in parts} == {
        ("word2", "object", None), ("word5", "colour", None)
    }  # fmt: skip
    (negated,) = proposals(found, 1, words)  # a unit that fires without word4 is none of word4
    assert (negated.text, negated.formula.op, negated.formula.terms) == ("not word4", "not", ("word4",))


@pytest.mark.parametrize("elements", [1, 5000, 10**9])
def test_how_much_is_held_at_once_changes_nothing(monkeypatch, elements):
    activations_nu, scores_nt = draw(seed=4, images=60, words=15, units=33)
    scores_nt[::7, 3] = np.nan
    whole = best_compounds(activations_nu, scores_nt, keep=9)
    monkeypatch.setattr(compound, "_ELEMENTS", elements)
    parts = best_compounds(activations_nu, scores_nt, keep=9)
    assert np.array_equal(parts.op, whole.op)
    assert np.array_equal(parts.first, whole.first)
    assert np.array_equal(parts.second, whole.second)
    np.testing.assert_allclose(parts.gain, whole.gain, atol=1e-6)


def test_a_unit_gets_the_same_compounds_whoever_else_is_asked():
    activations_nu, scores_nt = draw(seed=5, units=12)
    together = best_compounds(activations_nu, scores_nt, keep=4)
    alone = best_compounds(activations_nu[:, 7:8], scores_nt, keep=4)
    assert named(alone, 0) == pytest.approx(named(together, 7), abs=1e-5)


def test_words_and_units_that_never_change_are_harmless():
    activations_nu, scores_nt = draw(seed=6, images=1500)
    activations_nu[:, 0] = 2.5
    activations_nu[:, 1] += 6 * scores_nt[:, [2, 5]].max(axis=1)
    expected = named(best_compounds(activations_nu, scores_nt, keep=1), 1)
    idle_nt = np.concatenate([scores_nt, np.ones_like(scores_nt[:, :1])], axis=1)
    found = best_compounds(activations_nu, idle_nt, keep=1)
    assert np.isfinite(found.gain).all()
    assert found.gain[0].max() < MIN_GAIN
    assert named(found, 1) == pytest.approx(expected, abs=1e-5)


def test_a_compound_that_holds_nowhere_gains_nothing():
    activations_nu, scores_nt = draw(seed=7, units=1)
    scores_nt[:, 1] = (1 - scores_nt[:, 0]) * scores_nt[:, 1]
    activations_nu[:, 0] = 3 * scores_nt[:, 0] + 2.9 * scores_nt[:, 1]
    found = named(best_compounds(activations_nu, scores_nt, keep=1000), 0)
    assert found["and", (0, 1)] < -0.5
    assert found["or", (0, 1)] > 0.1


def test_the_second_part_of_an_and_may_say_little_alone():
    """Where a holds in few images, most of b are without it: b is far from the best words."""
    activations_nu, scores_nt = draw(seed=10, images=3000, units=1)
    scores_nt[:, 1] = np.random.default_rng(11).random(3000) < 0.9
    activations_nu[:, 0] = 3 * scores_nt[:, [0, 1]].min(axis=1) + 0.3 * activations_nu[:, 0]
    whole = proposals(best_compounds(activations_nu, scores_nt, keep=1), 0, WORDS)[0]
    assert (whole.formula.op, set(whole.formula.terms)) == ("and", {"word0", "word1"})


UNIT = UnitId("block", 3)


def proposer():
    activations_nu, scores_nt = draw(seed=8, images=1500, units=1)
    activations_nu[:, 0] += 6 * scores_nt[:, [2, 5]].max(axis=1)
    compounds = best_compounds(activations_nu, scores_nt, keep=2)
    return CompoundProposer({UNIT: proposals(compounds, 0, WORDS)})


def evidence(unit, *tried):
    return Evidence(unit, 1 + len(tried), (), history=tuple(Tried(text, 0, 0.1, "") for text in tried))


def test_the_proposer_offers_what_is_not_tried_yet():
    texts = [p.text for p in proposer().propose(evidence(UNIT)).proposals]
    assert set(texts[0].split(" or ")) == {"word2", "word5"}
    assert set(texts[1:3]) == {"word2", "word5"}
    second = [p.text for p in proposer().propose(evidence(UNIT, "Word5", texts[0])).proposals]
    assert texts[0] not in second
    assert "word5" not in second
    assert "word2" in second
    assert all(p.facet == 0 for p in proposer().propose(evidence(UNIT)).proposals)


def test_a_unit_without_compounds_gets_no_proposal_and_no_failure():
    answer = proposer().propose(evidence(UnitId("block", 4)))
    assert answer.proposals == ()
    assert answer.failure is None


def test_other_compounds_are_another_proposer():
    assert proposer().fingerprint == proposer().fingerprint
    assert proposer().fingerprint != CompoundProposer({}).fingerprint
