import numpy as np
import pytest

from labeler.activations import ActivationIndex, EmbeddingIndex, LayerActivations, run_pass
from labeler.config import ActivationsConfig
from labeler.errors import ActivationError, CatalogueError
from tests.activations.activation_doubles import CountingProbe, HashEncoder, PixelTarget, pictures

COUNT = 60


@pytest.fixture(scope="module")
def activations():
    probe = CountingProbe(pictures(COUNT, unreadable=(7,), levels=3))
    return run_pass(PixelTarget(), probe, {"e": HashEncoder()}, ActivationsConfig(batch_size=16, top_k=40))


@pytest.mark.parametrize("stored", [None, "float32", "float16"])
def test_one_hot_equals_streaming_top_k(activations, stored, tmp_path):
    """Every unit, every k: ties, a constant unit and an always negative one are among them."""
    for layer in activations.layers.values():
        index = ActivationIndex(layer, activations.indexed_ids)
        if stored:
            index.save(tmp_path, half=stored == "float16")
            index = ActivationIndex(layer, activations.indexed_ids, directory=tmp_path)
        for unit in range(len(layer.topk_ids)):
            for k in (1, 2, 9, 40):
                values, ids = index.top_by_unit(unit, k)
                np.testing.assert_array_equal(ids, layer.topk_ids[unit, :k])
                np.testing.assert_array_equal(values, layer.topk_values[unit, :k])
    assert (activations.layers["b"].topk_values[2] < 0).all()


def test_more_than_there_are_gives_all(activations):
    index = ActivationIndex(activations.layers["b"], activations.indexed_ids)
    values, ids = index.top_by_unit(3, 1000)
    assert ids.tolist() == activations.indexed_ids.tolist()
    assert set(values.tolist()) == {0.25}


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_direction_equals_brute_force(activations, pooling):
    layer = activations.layers["b"]
    index = ActivationIndex(layer, activations.indexed_ids)
    direction = np.array([0.3, -1.0, 2.0, 0.1])
    values, ids = index.top_by_direction(direction, 12, pooling)
    scores = (layer.means if pooling == "mean" else layer.maxima) @ direction.astype(np.float32)
    np.testing.assert_allclose(values, np.sort(scores)[::-1][:12], rtol=1e-5)
    np.testing.assert_allclose(scores[np.searchsorted(activations.indexed_ids, ids)], values, rtol=1e-5)


def test_similar_images_by_cosine(activations):
    layer = activations.layers["a"]
    values, ids = ActivationIndex(layer, activations.indexed_ids).similar_images(9, 5)
    unit = layer.maxima / np.linalg.norm(layer.maxima, axis=1, keepdims=True)
    cosines = unit @ unit[np.searchsorted(activations.indexed_ids, 9)]
    cosines[np.searchsorted(activations.indexed_ids, 9)] = -2
    assert 9 not in ids
    np.testing.assert_allclose(values, np.sort(cosines)[::-1][:5], rtol=1e-5)


def test_partial_index_answers_units_from_the_stream(activations):
    layer = activations.layers["a"]
    index = ActivationIndex(layer, activations.indexed_ids[:5], coverage=5 / 59)
    np.testing.assert_array_equal(index.top_by_unit(0, 9)[1], layer.topk_ids[0, :9])
    with pytest.raises(CatalogueError, match="Only the top 40"):
        index.top_by_unit(0, 41)


def test_embedding_search(activations, tmp_path):
    embeddings = activations.embeddings["e"]
    index = EmbeddingIndex(embeddings, np.arange(COUNT))
    index.save(tmp_path)
    for one in (index, EmbeddingIndex(embeddings, np.arange(COUNT), directory=tmp_path)):
        cosines, ids = one.search(embeddings[[3, 20]], 4)
        assert ids[:, 0].tolist() == [3, 20]
        np.testing.assert_allclose(cosines[0], np.sort(embeddings @ embeddings[3])[::-1][:4], rtol=1e-5)
        single, single_ids = one.search(embeddings[20], 1000)
        assert len(single_ids) == COUNT - 1
        assert 7 not in single_ids
        assert (np.diff(single) <= 0).all()


def test_equal_embeddings_come_by_id():
    rows = np.tile(np.array([[0.6, 0.8]], dtype=np.float32), (50, 1))
    ids = np.random.default_rng(0).permutation(50)
    assert EmbeddingIndex(rows, ids).search(rows[0], 7)[1].tolist() == list(range(7))


def test_wrong_questions_are_refused(activations, tmp_path):
    index = ActivationIndex(activations.layers["a"], activations.indexed_ids)
    with pytest.raises(CatalogueError, match="units 0 to 2, not 3"):
        index.top_by_unit(3, 1)
    with pytest.raises(CatalogueError, match="3 finite numbers"):
        index.top_by_direction(np.zeros(4), 1)
    with pytest.raises(CatalogueError, match="3 finite numbers"):
        index.top_by_direction(np.array([0, np.nan, 1]), 1)
    with pytest.raises(CatalogueError, match="not in the index"):
        index.similar_images(7, 1)
    with pytest.raises(CatalogueError, match="5 dimensions"):
        EmbeddingIndex(activations.embeddings["e"], np.arange(COUNT)).search(np.zeros(4, np.float32), 1)
    with pytest.raises(ActivationError, match="missing or broken"):
        ActivationIndex(activations.layers["a"], activations.indexed_ids, directory=tmp_path).top_by_unit(
            0, 1
        )


@pytest.fixture(scope="module")
def spread():
    """A layer of 2,000 images and 64 units without ties, large and small values among them."""
    rng = np.random.default_rng(5)
    maxima = (rng.normal(size=(2000, 64)) * np.geomspace(1e-3, 1e3, 64)).astype(np.float32)
    means = rng.normal(size=(2000, 64)).astype(np.float32)
    order = np.lexsort((np.arange(2000)[:, None].repeat(64, 1), -maxima), axis=0)[:9].T
    return LayerActivations(
        "layer",
        np.take_along_axis(maxima.T, order, 1),
        order,
        maxima[0],
        maxima.min(0),
        maxima.max(0),
        maxima,
        means,
    )


@pytest.mark.parametrize("half", [False, True])
def test_a_stored_index_answers_what_a_fresh_one_does(spread, tmp_path, half):
    ids = np.arange(0, 4000, 2)
    fresh = ActivationIndex(spread, ids)
    fresh.save(tmp_path, half=half)
    stored = ActivationIndex(spread, ids, directory=tmp_path)
    direction = np.random.default_rng(1).normal(size=64)
    for ask in (
        lambda index: index.top_by_direction(direction, 20),
        lambda index: index.top_by_direction(direction, 20, "max"),
        lambda index: index.top_by_unit(60, 20),
        lambda index: index.similar_images(800, 20),
    ):
        values, found = ask(fresh)
        again, found_again = ask(stored)
        np.testing.assert_array_equal(found_again, found)
        np.testing.assert_allclose(again, values, rtol=2e-5)


def test_half_precision_takes_half_the_space(spread, tmp_path):
    for half in (False, True):
        ActivationIndex(spread, np.arange(2000)).save(tmp_path / str(half), half=half)
    size = {half: (tmp_path / str(half) / "max.faiss").stat().st_size for half in (False, True)}
    assert size[True] < 0.51 * size[False]


def test_values_beyond_float16_stay_finite(tmp_path):
    rows = np.array([[1e6, 1.0], [2e6, 0.5], [-3e6, 2.0]], dtype=np.float32)
    layer = LayerActivations("x", rows.T, np.zeros((2, 3), int), rows[0], rows[0], rows[0], rows, rows)
    index = ActivationIndex(layer, np.arange(3))
    index.save(tmp_path, half=True)
    values, ids = ActivationIndex(layer, np.arange(3), directory=tmp_path).top_by_unit(0, 3)
    assert ids.tolist() == [1, 0, 2]
    assert values.tolist() == [2e6, 1e6, -3e6]


@pytest.mark.parametrize("half", [False, True])
def test_a_stored_embedding_index_answers_what_a_fresh_one_does(tmp_path, half):
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(900, 12)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows[[0, 17, 899]] = 0
    fresh = EmbeddingIndex(rows, np.arange(900))
    fresh.save(tmp_path, half=half)
    stored = EmbeddingIndex(rows, np.arange(900), directory=tmp_path)
    query = rows[40]
    np.testing.assert_array_equal(stored.search(query, 30)[1], fresh.search(query, 30)[1])
    np.testing.assert_allclose(stored.search(query, 30)[0], fresh.search(query, 30)[0], rtol=1e-5)
    assert not {0, 17, 899} & set(stored.search(query, 900)[1].tolist())


@pytest.mark.parametrize("victim", ["max.faiss", "norms.npy"])
def test_a_torn_index_is_one_sentence(spread, tmp_path, victim):
    ActivationIndex(spread, np.arange(2000)).save(tmp_path)
    (tmp_path / victim).write_bytes((tmp_path / victim).read_bytes()[:100])
    with pytest.raises(ActivationError, match=f"{victim} is missing or broken"):
        ActivationIndex(spread, np.arange(2000), directory=tmp_path).similar_images(3, 5)
