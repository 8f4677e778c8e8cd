"""Exact retrieval on the activations of a real network, with negative values and ties."""

import numpy as np
import pytest

from labeler.activations import ActivationIndex, Activations, run_pass
from labeler.builtin.scenes import render_scene
from labeler.config import ActivationsConfig, TargetConfig
from labeler.targets import load_target
from labeler.testing import FakeProbe

K = 12


@pytest.fixture(scope="module")
def activations() -> Activations:
    pictures = [render_scene(3, index, 64).image for index in range(40)]
    pictures += [pictures[7], pictures[7], pictures[21], pictures[3]]  # equal images: every unit has ties
    target = load_target(
        TargetConfig(model="builtin:efficientnet-lite0", layers=("blocks.2", "blocks.4", "blocks.6")), seed=0
    )
    return run_pass(target, FakeProbe(pictures), {}, ActivationsConfig(batch_size=4, top_k=K), workers=0)


def test_the_data_has_negative_activations_and_ties(activations: Activations) -> None:
    for layer in activations.layers.values():
        assert (layer.maxima < 0).any() or layer.layer == "blocks.2"
        np.testing.assert_array_equal(layer.maxima[7], layer.maxima[40])
    assert any((layer.topk_values[:, -1] < 0).any() for layer in activations.layers.values())


def test_a_one_hot_query_is_the_streaming_top_k_for_every_unit(activations: Activations) -> None:
    for layer in activations.layers.values():
        index = ActivationIndex(layer, activations.indexed_ids)
        for unit in range(layer.topk_ids.shape[0]):
            values, ids = index.top_by_unit(unit, K)
            np.testing.assert_array_equal(ids, layer.topk_ids[unit])
            np.testing.assert_array_equal(values, layer.topk_values[unit])


def test_the_streaming_top_k_is_the_brute_force_one_for_every_unit(activations: Activations) -> None:
    ids = activations.indexed_ids
    for layer in activations.layers.values():
        for unit in range(layer.topk_ids.shape[0]):
            order = np.lexsort((ids, -layer.maxima[:, unit]))[:K]
            np.testing.assert_array_equal(layer.topk_ids[unit], ids[order])


def test_a_direction_is_answered_exactly_by_the_mean(activations: Activations) -> None:
    layer = activations.layers["blocks.4"]
    direction = np.random.default_rng(0).normal(size=layer.means.shape[1]).astype(np.float32)
    _, ids = ActivationIndex(layer, activations.indexed_ids).top_by_direction(direction, 5)
    responses = np.round(layer.means @ direction, 4)
    expected = np.lexsort((activations.indexed_ids, -responses))[:5]
    np.testing.assert_array_equal(np.sort(responses[ids]), np.sort(responses[expected]))
