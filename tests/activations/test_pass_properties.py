"""Given identical activations, sharding, order and batch size change nothing in what a pass leaves."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labeler.activations import run_pass
from labeler.activations.extract import run_shard
from labeler.activations.shards import merge_shards
from labeler.config import ActivationsConfig
from labeler.testing import FakeProbe
from tests.activations.test_extract import assert_same

# Ties, both zeros, values that only float32's extremes hold, and what is no number.
VALUES = st.sampled_from([0.0, -0.0, 1.0, 1.0, 2.5, -1.0, -3.0, 3e38, np.nan, np.inf, -np.inf])


class GivenMaps:
    """A target whose activation maps are given, by image: the picture is the number of its map."""

    name = fingerprint = "given"
    layers = ("only",)
    input_size = (2, 3)
    device = torch.device("cpu")

    def __init__(self, maps_nuhw):
        self._maps_nuhw = torch.from_numpy(maps_nuhw)

    def unit_count(self, layer):
        return self._maps_nuhw.shape[1]

    def prepare(self, image):
        return torch.from_numpy(np.asarray(image, dtype=np.float32)[:1, :1].transpose(2, 0, 1).copy())

    def maps(self, images_bchw, layers):
        return {"only": self._maps_nuhw[images_bchw[:, 0, 0, 0].long()]}


@st.composite
def given_maps(draw):
    """Up to 30 images of 5 units: anything, anything, constant, negative everywhere, at rest but once."""
    count = draw(st.integers(1, 30))
    maps = draw(hnp.arrays(np.float32, (count, 5, 2, 3), elements=VALUES | st.floats(-8, 8, width=32)))
    maps[:, 2] = 0.75
    maps[:, 3] = -1 - np.abs(np.nan_to_num(maps[:, 3], posinf=4, neginf=-4, nan=0) % 5)
    maps[:, 4] = 0
    maps[draw(st.integers(0, count - 1)), 4, 1, 1] = 2
    return maps


@settings(max_examples=60, deadline=None)
@given(
    given_maps(),
    st.integers(1, 16),
    st.integers(1, 20),
    st.integers(1, 40),
    st.randoms(use_true_random=False),
)
def test_shards_order_and_batch_size_change_nothing(maps_nuhw, shards, batch, top_k, random):
    target = GivenMaps(maps_nuhw)
    pictures = [np.full((2, 3, 3), number, dtype=np.uint8) for number in range(len(maps_nuhw))]
    unreadable = random.randrange(2 * len(pictures))
    if 1 <= unreadable < len(pictures):  # the first is always there
        pictures[unreadable] = None
    probe = FakeProbe(pictures)

    def settings_of(size):
        return ActivationsConfig(batch_size=size, top_k=top_k, tail=0.05)

    whole = run_pass(target, probe, {}, settings_of(32), workers=0)
    parts = [
        run_shard(target, probe, {}, settings_of(batch), shard=(number, shards), workers=0)
        for number in range(shards)
    ]
    random.shuffle(parts)
    assert_same(merge_shards(parts), whole)

    layer = whole.layers["only"]
    broken_nu = ~np.isfinite(maps_nuhw).all(axis=(2, 3))
    reported = {(unit, image) for _, unit, image in whole.nonfinite}
    readable = set(whole.readable_ids.tolist())
    assert reported == {
        (int(u), int(i)) for i, u in zip(*np.nonzero(broken_nu), strict=True) if i in readable
    }
    for part in ("maxima", "means", "minimum", "maximum"):
        assert np.isfinite(getattr(layer, part)[..., 2:]).all()
    assert (layer.topk_values[3][layer.topk_ids[3] >= 0] < 0).all()
    assert (layer.topk_ids[3] >= 0).sum() == min(top_k, len(readable))
    assert layer.threshold[2] == layer.maximum[2] == 0.75
