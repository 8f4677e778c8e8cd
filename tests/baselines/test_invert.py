import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from labeler.baselines import auroc, explain


def draw(seed, images, units, concepts, levels, unknown):
    """Activations with few distinct values, so with many ties, and presence with unannotated images."""
    rng = np.random.default_rng(seed)
    activations_nu = rng.integers(0, levels, (images, units)).astype(np.float32)
    presence_nc = (rng.random((images, concepts)) < rng.random(concepts)).astype(np.float32)
    category_c = rng.integers(0, 2, concepts)
    for category in (0, 1):
        hidden_n = rng.random(images) < unknown
        presence_nc[np.ix_(hidden_n, category_c == category)] = np.nan
    return activations_nu, presence_nc


def reference(values_n, present_n):
    known_n = np.isfinite(present_n)
    if len(set(present_n[known_n])) < 2:
        return np.nan
    return roc_auc_score(present_n[known_n], values_n[known_n])


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6), st.integers(2, 60), st.integers(1, 5), st.integers(1, 6),
    st.sampled_from([1, 2, 5, 1000]), st.sampled_from([0.0, 0.3, 0.95]),
)  # fmt: skip
def test_auroc_is_that_of_scikit_learn_with_ties_and_missing_annotations(
    seed, images, units, concepts, levels, unknown
):
    activations_nu, presence_nc = draw(seed, images, units, concepts, levels, unknown)
    found_uc = auroc(torch.from_numpy(activations_nu), torch.from_numpy(presence_nc)).numpy()
    expected_uc = [
        [reference(activations_nu[:, u], presence_nc[:, c]) for c in range(concepts)] for u in range(units)
    ]
    np.testing.assert_allclose(found_uc, expected_uc, atol=1e-9)


def every_formula(presence_nc, most_fraction, min_images):
    """(text, where it holds, with NaN where it is unknown) of every formula that may be a label."""
    present_c, absent_c = np.nansum(presence_nc, axis=0), np.nansum(1 - presence_nc, axis=0)
    concepts = np.flatnonzero((present_c >= min_images) & (absent_c >= min_images))
    literals = [(f"c{c}", presence_nc[:, c], c) for c in concepts]
    literals += [(f"NOT c{c}", 1 - presence_nc[:, c], c) for c in concepts]
    formulas = [(text, holds_n) for text, holds_n, _ in literals]
    for (one, a_n, first), (two, b_n, second) in itertools.permutations(literals, 2):
        if first != second:
            formulas += [(f"{one} AND {two}", a_n * b_n), (f"{one} OR {two}", a_n + b_n - a_n * b_n)]
    for text, holds_n in formulas:
        known_n = np.isfinite(holds_n)
        count, known = holds_n[known_n].sum(), known_n.sum()
        if min_images <= count <= most_fraction * known and known - count >= min_images:
            yield text, holds_n


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([3, 1000]), st.sampled_from([0.0, 0.2]))
def test_with_a_full_beam_the_formula_is_the_best_of_all(seed, levels, unknown):
    activations_nu, presence_nc = draw(seed, 40, 3, 4, levels, unknown)
    found = explain(torch.from_numpy(activations_nu), torch.from_numpy(presence_nc), beam=4, min_images=2)
    allowed = dict(every_formula(presence_nc, 0.5, 2))
    names = [f"c{c}" for c in range(4)]
    for unit, text in enumerate(found.texts(names)):
        scores = {name: reference(activations_nu[:, unit], holds_n) for name, holds_n in allowed.items()}
        if not scores:
            assert text == ""
            continue
        assert found.auroc[unit] == pytest.approx(max(scores.values()), abs=1e-9)
        assert scores[text] == pytest.approx(found.auroc[unit], abs=1e-9)
        assert found.fraction[unit] == pytest.approx(np.nanmean(allowed[text]))


def planted(images=400, seed=3):
    rng = np.random.default_rng(seed)
    presence_nc = (rng.random((images, 12)) < 0.25).astype(np.float32)
    a_n, b_n = presence_nc[:, 2] > 0, presence_nc[:, 7] > 0
    truths = [a_n, a_n & b_n, a_n | b_n, a_n & ~b_n]
    noise_nu = rng.random((images, len(truths))) * 0.9
    return np.stack(truths, axis=1) + noise_nu.astype(np.float32), presence_nc


def test_planted_formulas_are_found_and_a_single_concept_stays_single():
    activations_nu, presence_nc = planted()
    found = explain(torch.from_numpy(activations_nu), torch.from_numpy(presence_nc))
    texts = [set(text.split(" ")) for text in found.texts([f"c{c}" for c in range(12)])]
    assert texts == [{"c2"}, {"c2", "AND", "c7"}, {"c2", "OR", "c7"}, {"c2", "AND", "NOT", "c7"}]
    np.testing.assert_allclose(found.auroc, 1.0)


def test_not_is_a_label_only_where_the_concept_is_usual():
    rng = np.random.default_rng(0)
    presence_nc = (rng.random((300, 2)) < [0.8, 0.2]).astype(np.float32)
    activations_nu = torch.from_numpy(1 - presence_nc)
    found = explain(activations_nu, torch.from_numpy(presence_nc))
    usual, rare = found.texts(["usual", "rare"])
    assert usual == "NOT usual"
    assert rare != "NOT rare"
    assert (found.fraction <= 0.5).all()


def test_without_a_concept_in_enough_images_there_is_no_formula():
    presence_nc = torch.zeros(50, 3)
    presence_nc[:4] = 1
    found = explain(torch.randn(50, 2), presence_nc)
    assert found.texts(["a", "b", "c"]) == ["", ""]
    assert np.isnan(found.auroc).all()
    nothing = explain(torch.randn(50, 2), torch.zeros(50, 0))
    assert nothing.texts([]) == ["", ""]
