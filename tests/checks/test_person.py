"""Which labels a person is shown, what the answers say, and what the gate learns from them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labeler.checks.calibration import Example, refit
from labeler.checks.person import (
    BANDS,
    DECOYS,
    Pair,
    Share,
    agreement,
    blinded_sample,
    examples,
    fit_to_person,
    lacking,
)
from labeler.records import Judgement, Label
from tests.checks.gate_doubles import CALIBRATION, DOMAIN, check, full

OURS = DOMAIN.model_copy(update={"run": "abc"})
POOLS = st.lists(
    st.tuples(
        st.integers(0, 5), st.integers(0, 9), st.floats(0, 1), st.sampled_from(["accepted", "refused"])
    ),
    unique_by=lambda row: row[:2],
    max_size=60,
)


def pool(own: list[tuple[int, int, float, str]], decoys: list[tuple[int, int, float, str]]) -> list[Pair]:
    made = [Pair(f"a:{u}", Label(text=f"word {w}", score=score), source) for u, w, score, source in own]
    return made + [Pair(f"a:{u}", Label(text=f"decoy {w}", score=s), "decoy") for u, w, s, _ in decoys]


def bands(pairs: list[Pair], of: list[Pair]) -> list[int]:
    scores = [pair.label.score or 0.0 for pair in of]
    low, high = min(scores), max(scores)
    counts = [0] * BANDS
    for pair in pairs:
        share = ((pair.label.score or 0.0) - low) / (high - low) if high > low else 0.0
        counts[min(BANDS - 1, int(BANDS * share))] += 1
    return counts


@given(POOLS, POOLS, st.integers(1, 80), st.integers(0, 3), st.randoms(use_true_random=False))
def test_no_pair_twice_decoys_in_their_share_and_every_band_filled(own, decoys, count, seed, random) -> None:
    pairs = pool(own, decoys)
    sample = blinded_sample(pairs, count, seed)
    assert len({pair.key for pair in sample}) == len(sample) <= count
    assert set(sample_keys(sample)) <= {pair.key for pair in pairs}
    drawn = [pair for pair in sample if pair.source == "decoy"]
    assert len(drawn) <= DECOYS * count
    assert len(drawn) <= DECOYS * len(sample) + 1
    if count <= len(own) and len(decoys) >= count:
        assert len(sample) == count
        assert len(drawn) == math.floor(DECOYS * count)
    for decoy in (False, True):
        of = [pair for pair in pairs if (pair.source == "decoy") == decoy]
        if not of:
            continue
        taken = bands([pair for pair in sample if (pair.source == "decoy") == decoy], of)
        there = bands(of, of)
        fullest = max(taken)
        assert all(some >= min(fullest - 1, many) for some, many in zip(taken, there, strict=True))
    random.shuffle(pairs)
    assert sample_keys(blinded_sample(pairs, count, seed)) == sample_keys(sample)
    assert set(sample_keys(sample)) <= set(sample_keys(blinded_sample(pairs, count + 7, seed)))


def sample_keys(sample: list[Pair]) -> list[tuple[str, str]]:
    return [pair.key for pair in sample]


def test_the_seed_chooses_and_orders() -> None:
    rows = [(u, w, (u * 10 + w) / 60, "refused") for u in range(6) for w in range(10)]
    first, second = (sample_keys(blinded_sample(pool(rows, rows), 20, seed)) for seed in (0, 1))
    assert first != second
    assert set(first) != set(second)
    everything = [sample_keys(blinded_sample(pool(rows, rows), 80, seed)) for seed in (0, 1)]
    assert everything[0] != everything[1]


@given(st.integers(0, 200), st.integers(0, 200))
def test_wilsons_interval_holds_the_share_and_solves_its_equation(yes: int, no: int) -> None:
    share = Share(yes, yes + no)
    if not yes + no:
        assert share.value is None
        assert share.interval is None
        return
    low, high = share.interval or (0.0, 0.0)
    assert 0 <= low <= share.value + 1e-12
    assert share.value - 1e-12 <= high <= 1
    for end in (low, high):  # at an end p the share lies 1.96 standard errors of p away
        distance = 1.959964**2 * end * (1 - end) / (yes + no)
        assert (share.value - end) ** 2 == pytest.approx(distance, abs=1e-9)


def answers(source: str, said: str, unit: str = "a:0") -> list[Judgement]:
    return [
        Judgement(unit=unit, text=f"{source} {i}", source=source, answer=one) for i, one in enumerate(said)
    ]


def test_agreement_counts_definite_answers_by_what_was_drawn() -> None:
    said = answers("accepted", "yyn") + answers("refused", "nnu") + answers("decoy", "uyn")
    found = agreement(said)
    assert {name: (share.yes, share.definite) for name, share in found.items()} == {
        "accepted": (2, 3), "refused": (0, 2), "decoy": (1, 2),
    }  # fmt: skip


def test_only_definite_answers_about_the_runs_own_labels_are_fitted_to() -> None:
    said = answers("accepted", "yu") + answers("refused", "n") + answers("decoy", "nnn")
    labels = {
        ("a:0", f"{source} 0"): Label(text="x", checks=full()) for source in ("accepted", "refused", "decoy")
    }
    assert [example.right for example in examples(said, labels)] == [True, False]
    assert examples(said, {}) == []


@pytest.mark.parametrize(
    ("right", "wrong", "needed"),
    [
        (30, 9, ["1 more y or n", "1 more n"]),
        (4, 50, ["6 more y"]),
        (0, 0, ["40 more", "10 more y", "10 more n"]),
    ],
)
def test_too_few_answers_are_refused_with_how_many_are_needed(
    right: int, wrong: int, needed: list[str]
) -> None:
    found = [Example(full(), True)] * right + [Example(full(), False)] * wrong
    assert all(part in lacking(found) for part in needed)
    assert fit_to_person(CALIBRATION, found, OURS) is None


def test_the_fit_keeps_the_weights_and_gives_probabilities_to_the_patterns_seen() -> None:
    found = [Example(full(0.2 + 0.01 * i), right=i >= 25) for i in range(50)]
    assert lacking(found) == ""
    fitted = fit_to_person(CALIBRATION, found, OURS)
    assert fitted is not None
    assert (fitted.weights, fitted.missing, fitted.intercept) == (
        CALIBRATION.weights, CALIBRATION.missing, CALIBRATION.intercept,
    )  # fmt: skip
    assert fitted.score(full()) == CALIBRATION.score(full())
    low, high = fitted.probability(full(0.2)), fitted.probability(full(0.7))
    assert low is not None
    assert high is not None
    assert low < 0.2
    assert high > 0.8
    assert fitted.probability({"prediction": check(0.6)}) is None  # nobody rated such a label
    assert not fitted.covers(DOMAIN.target, DOMAIN.probe, DOMAIN.judges)  # another run on the same probe


def test_answers_of_one_kind_cannot_be_fitted() -> None:
    with pytest.raises(ValueError, match="both"):
        refit(CALIBRATION, [Example(full(), True)] * 50, OURS)
