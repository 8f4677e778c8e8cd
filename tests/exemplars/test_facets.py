import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import silhouette_score

from labeler.exemplars.facets import clarity, find_facets, polysemanticity, silhouette


def exemplars(concepts, count, within=0.7, dim=64, seed=0):
    """Exemplars of concepts in turn; two of one concept have a cosine of about `within`."""
    random = np.random.default_rng(seed)
    centres = np.linalg.qr(random.standard_normal((dim, concepts)))[0].T
    noise = random.standard_normal((count, dim)) / np.sqrt(dim)
    points = np.sqrt(within) * centres[np.arange(count) % concepts] + np.sqrt(1 - within) * noise
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("concepts", [2, 3, 4])
def test_clear_concepts_become_facets_in_the_order_of_the_strongest_exemplar(concepts):
    facets = find_facets(exemplars(concepts, 24), max_facets=4, seed=0)
    assert facets.labels.tolist() == [i % concepts for i in range(24)]
    assert len(facets.clarity) == concepts
    assert min(facets.clarity) > 0.5


def test_single_concepts_are_mostly_one_facet():
    split = [find_facets(exemplars(1, 15, 0.6, 32, seed), 4, 0).labels.max() > 0 for seed in range(20)]
    assert sum(split) <= 3


def test_outliers_are_no_facet_and_few_exemplars_are_one():
    points = np.concatenate([exemplars(1, 10), -exemplars(1, 10, seed=1)[:1]])
    assert find_facets(points, 4, 0).labels.max() == 0
    few = find_facets(exemplars(2, 4), 4, 0)
    assert (few.labels.tolist(), few.silhouettes) == ([0, 0, 0, 0], ())
    assert find_facets(exemplars(1, 1), 4, 0).clarity == (None,)


def test_the_code_of_the_layer_can_part_what_embeddings_do_not():
    points = exemplars(1, 16, within=0.9)
    codes = np.zeros((16, 40), dtype=bool)
    codes[::2, :20] = codes[1::2, 20:] = True
    assert find_facets(points, 4, 0).labels.max() == 0
    assert find_facets(points, 4, 0, codes_kc=codes).labels.tolist() == [0, 1] * 8


def test_codes_that_differ_at_random_part_nothing():
    for seed in range(10):
        codes = np.random.default_rng(seed).random((24, 200)) > 0.5
        assert find_facets(exemplars(1, 24, seed=seed), 4, 0, codes_kc=codes).labels.max() == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(1, 4), st.integers(0, 5))
def test_facets_are_deterministic_and_well_formed(data_seed, count, most, seed):
    points = np.random.default_rng(data_seed).standard_normal((count, 5)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    first, again = find_facets(points, most, seed), find_facets(points, most, seed)
    assert first.labels.tolist() == again.labels.tolist()
    assert (first.clarity, first.silhouettes) == (again.clarity, again.silhouettes)
    sizes = np.bincount(first.labels)
    assert len(sizes) == len(first.clarity) <= most
    assert sizes.min() >= min(3, count)
    assert [int((first.labels == f).argmax()) for f in range(len(sizes))] == sorted(
        int((first.labels == f).argmax()) for f in range(len(sizes))
    )


def test_identical_exemplars_are_one_clear_facet():
    facets = find_facets(np.tile(exemplars(1, 1), (9, 1)), 4, 0)
    assert facets.labels.tolist() == [0] * 9
    assert facets.clarity == (pytest.approx(1.0),)


def test_clarity_is_the_mean_pairwise_cosine():
    points = exemplars(2, 9)
    cosines = points @ points.T
    assert clarity(points) == pytest.approx(cosines[~np.eye(9, dtype=bool)].mean(), abs=1e-5)


def test_polysemanticity_is_low_for_one_concept_and_high_for_two():
    one, two = polysemanticity(exemplars(1, 20)), polysemanticity(exemplars(2, 20))
    assert one < 0.35 < 0.8 < two
    assert polysemanticity(exemplars(1, 1)) is None


def test_silhouette_is_the_published_one():
    points = exemplars(3, 20, within=0.5, dim=8).astype(np.float64)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    labels = np.array([0, 1, 2, 2] + [0, 1] * 8)
    assert silhouette(points @ points.T, labels) == pytest.approx(
        silhouette_score(points, labels, metric="cosine")
    )
