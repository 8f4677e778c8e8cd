import numpy as np
import pytest
import torch

from labeler.activations import merge_shards, run_pass, run_shard
from labeler.activations.extract import indexed_subset, pool
from labeler.activations.shards import PassShard
from labeler.activations.store import Activations
from labeler.config import ActivationsConfig
from labeler.errors import ActivationError
from labeler.testing import fake_probe, toy_target
from tests.activations.activation_doubles import CountingProbe, HashEncoder, PixelTarget, pictures

COUNT, UNREADABLE, BROKEN = 37, (11, 12, 36), (5, 20)


def probe():
    return CountingProbe(pictures(COUNT, UNREADABLE, BROKEN))


def measure(image_id, image):
    return np.array([image_id, np.asarray(image).mean()], dtype=np.float32)


def run(batch_size=8, **options):
    settings = ActivationsConfig(batch_size=batch_size, top_k=6, tail=0.05, **options.pop("settings", {}))
    return run_pass(PixelTarget(), probe(), {"e": HashEncoder()}, settings, measure=measure, **options)


def truth():
    """(ids, {layer: maps (n, u, h, w)}) of the readable images, one by one."""
    target, images = PixelTarget(), probe()
    ids = [i for i in range(COUNT) if i not in UNREADABLE]
    maps = [target.maps(target.prepare(images.image(i))[None], target.layers) for i in ids]
    return np.array(ids), {name: torch.cat([m[name] for m in maps]).numpy() for name in target.layers}


def assert_same(left: Activations, right: Activations):
    assert left.status == right.status
    assert left.nonfinite == right.nonfinite
    np.testing.assert_array_equal(left.indexed_ids, right.indexed_ids)
    np.testing.assert_array_equal(left.areas, right.areas)
    assert left.embeddings.keys() == right.embeddings.keys()
    for name, embeddings in left.embeddings.items():
        np.testing.assert_array_equal(embeddings, right.embeddings[name])
    assert list(left.layers) == list(right.layers)
    for name, layer in left.layers.items():
        for part in ("topk_values", "topk_ids", "threshold", "minimum", "maximum", "maxima", "means"):
            np.testing.assert_array_equal(
                getattr(layer, part), getattr(right.layers[name], part), err_msg=part
            )
            assert getattr(layer, part).dtype == getattr(right.layers[name], part).dtype


@pytest.mark.parametrize("batch_size", [1, 5, 8, 64])
@pytest.mark.parametrize("workers", [0, 3])
def test_pass_equals_brute_force(batch_size, workers):
    result = run(batch_size, workers=workers)
    ids, maps = truth()
    assert result.readable_ids.tolist() == result.indexed_ids.tolist() == ids.tolist()
    assert result.coverage == 1.0
    assert [i for i, status in enumerate(result.status) if status == "unreadable"] == list(UNREADABLE)
    assert result.nonfinite == tuple(("b", 1, i) for i in BROKEN)
    for name, layer in result.layers.items():
        for unit in range(maps[name].shape[1]):
            good = np.isfinite(maps[name][:, unit]).all((1, 2))
            values = maps[name][good, unit]
            maxima = values.max((1, 2))
            order = np.lexsort((ids[good], -maxima))[:6]
            np.testing.assert_array_equal(layer.topk_ids[unit], ids[good][order])
            np.testing.assert_array_equal(layer.topk_values[unit], maxima[order])
            np.testing.assert_array_equal(layer.maxima[good, unit], maxima)
            np.testing.assert_allclose(layer.means[good, unit], values.mean((1, 2)), rtol=1e-5, atol=1e-7)
            assert (layer.minimum[unit], layer.maximum[unit]) == (maxima.min(), maxima.max())
            exact = np.quantile(values, 0.95, method="inverted_cdf")
            assert abs(layer.threshold[unit] - exact) <= abs(exact) / 64 + 2**-20


def test_excluded_pairs_are_finite_and_never_exemplars():
    layer = run().layers["b"]
    assert np.isfinite(layer.maxima).all()
    assert np.isfinite(layer.means).all()
    assert not set(BROKEN) & set(layer.topk_ids[1].tolist())
    rows = np.isin(np.setdiff1d(np.arange(COUNT), UNREADABLE), BROKEN)
    assert (layer.maxima[rows, 1] == layer.maxima[~rows, 1].min()).all()


def test_embeddings_and_measures_keep_their_ids():
    result, images = run(), probe()
    encoder = HashEncoder()
    for image_id, status in enumerate(result.status):
        if status == "unreadable":
            assert not result.embeddings["e"][image_id].any()
            assert np.isnan(result.areas[image_id]).all()
        else:
            image = images.image(image_id)
            expected = encoder.embed_images(encoder.prepare(image)[None])[0]
            np.testing.assert_array_equal(result.embeddings["e"][image_id], expected)
            np.testing.assert_array_equal(result.areas[image_id], measure(image_id, image))


@pytest.mark.parametrize("count", range(1, 17))
def test_any_number_of_shards_equals_one_pass(count, tmp_path):
    settings = ActivationsConfig(batch_size=4, top_k=6, tail=0.05)
    target = toy_target()
    encoders = {"e": HashEncoder()}
    images = fake_probe(30)
    whole = run_pass(target, images, encoders, settings)
    shards = []
    for number in reversed(range(count)):
        shard = run_shard(target, images, encoders, settings, shard=(number, count), workers=1)
        shard.save(tmp_path / str(number))
        shards.append(PassShard.load(tmp_path / str(number)))
    assert_same(merge_shards(shards), whole)


def test_shards_join_over_unreadable_and_broken_images():
    settings = ActivationsConfig(batch_size=3, top_k=6, tail=0.05)
    arguments = (PixelTarget(), probe(), {"e": HashEncoder()}, settings)
    shards = [run_shard(*arguments, shard=(i, 7), measure=measure) for i in (3, 0, 6, 1, 5, 2, 4)]
    assert_same(merge_shards(shards), run(3))


def test_shards_that_do_not_fit_are_refused():
    settings = ActivationsConfig(batch_size=4)
    arguments = (PixelTarget(), probe(), {})
    first, second, third = (run_shard(*arguments, settings, shard=(i, 3)) for i in range(3))
    with pytest.raises(ActivationError, match="are missing"):
        merge_shards([first, third])
    with pytest.raises(ActivationError, match="are missing"):
        merge_shards([first, second])
    with pytest.raises(ActivationError, match="given twice"):
        merge_shards([first, second, second, third])
    with pytest.raises(ActivationError, match="different passes"):
        merge_shards([first, second, run_shard(*arguments, ActivationsConfig(top_k=7), shard=(2, 3))])
    with pytest.raises(ActivationError, match="no shards"):
        merge_shards([])
    with pytest.raises(ActivationError, match="does not exist"):
        run_shard(*arguments, settings, shard=(3, 3))


def test_over_the_budget_a_subset_is_indexed_and_the_rest_still_counts():
    per_image = 2 * 4 * 7
    small = run(settings={"memory_gb": 10 * per_image / 1e9}, seed=3)
    whole = run()
    assert set(small.indexed_ids) == set(indexed_subset(PixelTarget(), COUNT, 10 * per_image / 1e9, 3)) - set(
        UNREADABLE
    )
    assert 0 < small.coverage == len(small.indexed_ids) / (COUNT - len(UNREADABLE)) < 1
    rows = np.isin(whole.indexed_ids, small.indexed_ids)
    for name, layer in small.layers.items():
        np.testing.assert_array_equal(layer.topk_ids, whole.layers[name].topk_ids)
        np.testing.assert_array_equal(layer.threshold, whole.layers[name].threshold)
        np.testing.assert_array_equal(layer.means[:, 0], whole.layers[name].means[rows, 0])


def test_every_block_has_the_same_size_and_every_image_is_decoded_once():
    target, images = PixelTarget(), probe()
    seen = []
    settings = ActivationsConfig(batch_size=8)
    run_pass(
        target,
        images,
        {"e": HashEncoder()},
        settings,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert {size for size, _ in target.calls} == {8}
    assert sorted(images.decoded) == list(range(COUNT))
    assert seen == [(8, 37), (16, 37), (24, 37), (32, 37), (37, 37)]


def test_bfloat16_is_recorded_in_float32():
    settings = ActivationsConfig(batch_size=8, top_k=4, precision="bfloat16")
    layer = run_pass(toy_target(), fake_probe(9), {}, settings).layers["conv2"]
    exact = run_pass(toy_target(), fake_probe(9), {}, ActivationsConfig(batch_size=8, top_k=4)).layers[
        "conv2"
    ]
    assert layer.maxima.dtype == layer.topk_values.dtype == np.float32
    assert not np.array_equal(layer.maxima, exact.maxima)
    np.testing.assert_allclose(layer.maxima, exact.maxima, atol=0.05)


def test_no_readable_image_is_an_error():
    with pytest.raises(ActivationError, match="None of the 3 images"):
        run_pass(PixelTarget(), CountingProbe([None] * 3), {}, ActivationsConfig())


def test_other_errors_are_not_swallowed():
    def broken(image_id, image):
        raise ZeroDivisionError(image_id)

    with pytest.raises(ZeroDivisionError):
        run_pass(PixelTarget(), probe(), {}, ActivationsConfig(batch_size=4), measure=broken)


def test_a_network_that_is_mostly_broken_stops_the_pass(monkeypatch):
    monkeypatch.setattr("labeler.activations.extract.MOST_NONFINITE", 1)
    with pytest.raises(ActivationError, match="More than 1 activations are NaN or infinite, for example b:1"):
        run()


def test_a_mean_that_overflows_does_not_break_finite_maps():
    maxima, means, broken = pool(torch.full((1, 2, 3, 3), 3e38))
    assert broken is None
    assert maxima.tolist() == means.tolist() == torch.full((1, 2), 3e38).tolist()


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_one_bad_position_marks_its_map(value):
    maps = torch.zeros(2, 3, 4, 4)
    maps[1, 2, 3, 0] = value
    maxima, means, broken = pool(maps)
    assert broken.nonzero().tolist() == [[1, 2]]
    assert maxima.isnan().equal(broken)
    assert means.isnan().equal(broken)
