import numpy as np
import pytest

from labeler.activations import image_maps, run_pass, unit_maps
from labeler.config import ActivationsConfig
from labeler.errors import UnknownNameError, UnreadableImageError
from labeler.testing import fake_probe, toy_target
from tests.activations.activation_doubles import CountingProbe, PixelTarget, pictures


def test_maxima_of_revisited_maps_equal_the_pass():
    target, probe = toy_target(), fake_probe(22)
    result = run_pass(target, probe, {}, ActivationsConfig(batch_size=8, top_k=5))
    wanted = {
        name: [(unit, int(i)) for unit, ids in enumerate(layer.topk_ids) for i in ids]
        for name, layer in result.layers.items()
    }
    seen = {name: {} for name in wanted}
    for name, unit, image_id, map_hw in unit_maps(target, probe, wanted, batch_size=8):
        assert map_hw.dtype == np.float32
        assert map_hw.ndim == 2
        seen[name][unit, image_id] = map_hw.max()
    for name, layer in result.layers.items():
        assert set(seen[name]) == set(wanted[name])
        for unit, ids in enumerate(layer.topk_ids):
            for value, image_id in zip(layer.topk_values[unit], ids, strict=True):
                assert seen[name][unit, int(image_id)] == value


def test_each_image_is_decoded_once_and_forwarded_as_far_as_needed():
    target, probe = PixelTarget(), CountingProbe(pictures(12))
    seen = []
    wanted = {"a": [(0, 3), (1, 3), (0, 5), (0, 5)], "b": iter([(2, 5), (0, 9)])}
    found = list(
        unit_maps(
            target, probe, wanted, batch_size=4, progress=lambda done, total: seen.append((done, total))
        )
    )
    assert sorted(probe.decoded) == [3, 5, 9]
    assert sorted(target.calls) == [(4, ("a",)), (4, ("a", "b")), (4, ("b",))]
    pairs = sorted((layer, unit, image) for layer, unit, image, _ in found)
    assert pairs == [("a", 0, 3), ("a", 0, 5), ("a", 1, 3), ("b", 0, 9), ("b", 2, 5)]
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("batch_size", [1, 4, 50])
def test_image_maps_keep_order_and_drop_the_padding(batch_size):
    target, probe = PixelTarget(), CountingProbe(pictures(12))
    asked = [7, 2, 11, 0, 5]
    got = []
    for ids_b, images, maps in image_maps(target, probe, asked, ["a"], batch_size=batch_size):
        assert len(ids_b) == len(images) == len(maps["a"])
        for image_id, image, map_uhw in zip(ids_b.tolist(), images, maps["a"], strict=True):
            got.append(image_id)
            np.testing.assert_array_equal(map_uhw, target.prepare(image) - 0.5)
    assert got == asked


def test_errors_reach_the_caller():
    target, probe = PixelTarget(), CountingProbe(pictures(4, unreadable=(2,)))
    with pytest.raises(UnreadableImageError):
        list(unit_maps(target, probe, {"a": [(0, 2)]}))
    with pytest.raises(UnknownNameError, match="layer named 'c'"):
        list(unit_maps(target, probe, {"c": [(0, 1)]}))
    assert list(unit_maps(target, probe, {})) == []
