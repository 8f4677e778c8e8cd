import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labeler.activations import BANDS, sample_bands

VALUES = hnp.arrays(
    np.float32, st.integers(1, 200), elements=st.sampled_from([0, 0, 0, 1, 2]) | st.floats(-5, 5, width=32)
)


def band_of(values):
    """The band of every image of one unit, as its position in BANDS: all are asked for."""
    count = len(values)
    chosen = sample_bands(np.array(values, dtype=np.float32)[:, None], np.arange(count), max(1, count), 0)[0]
    codes = np.full(count, -1)
    for code, ids in enumerate(chosen):
        assert (codes[ids[ids >= 0]] == -1).all()
        codes[ids[ids >= 0]] = code
    assert (codes >= 0).all()
    return codes


def names(values):
    return [BANDS[code] for code in band_of(values)]


def test_bands_of_a_continuous_unit_follow_its_percentiles():
    codes = band_of(np.random.default_rng(0).permutation(1000).astype(np.float32) - 2000)
    assert [int((codes == code).sum()) for code in range(5)] == [10, 90, 400, 400, 100]


def test_a_rectified_unit_rests_in_silence():
    found = names([0.0] * 70 + [1.0] * 20 + list(range(2, 12)))
    assert found[:70] == ["silent"] * 70
    assert found[70:90] == ["mid"] * 20
    assert found[90:] == ["high"] * 9 + ["top"]


def test_constant_and_sparse_units():
    assert set(names([3.0] * 50)) == {"silent"}
    assert set(names([1e-7 * (i % 9) for i in range(50)])) == {"silent"}
    sparse = names([0.0] * 198 + [1.0, 2.0])
    assert sparse[:198] == ["silent"] * 198
    assert sparse[198:] == ["top", "top"]
    assert len(band_of(np.empty(0, dtype=np.float32))) == 0


@settings(max_examples=100, deadline=None)
@given(VALUES, st.randoms(use_true_random=False))
def test_bands_are_ordered_and_a_function_of_the_value(values, random):
    codes = band_of(values)
    order = list(range(len(values)))
    random.shuffle(order)
    np.testing.assert_array_equal(band_of(values[order]), codes[order])
    assert (np.diff(codes[np.argsort(values, kind="stable")]) <= 0).all()
    assert codes[values.argmin()] == BANDS.index("silent")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 120), st.integers(1, 6), st.integers(0, 3), st.randoms(use_true_random=False))
def test_samples_come_from_their_band_whatever_the_order(images, per_band, seed, random):
    rng = np.random.default_rng(images)
    activations_nu = np.maximum(rng.standard_normal((images, 3)), [[-9, 0, 1.5]]).astype(np.float32)
    ids_n = np.sort(rng.choice(10_000, images, replace=False))
    chosen = sample_bands(activations_nu, ids_n, per_band, seed)
    assert chosen.shape == (3, 5, per_band)
    for unit in range(3):
        codes = band_of(activations_nu[:, unit])
        for code in range(5):
            members, got = ids_n[codes == code], chosen[unit, code]
            kept = got[got >= 0]
            assert len(set(kept)) == len(kept) == min(per_band, len(members))
            assert set(kept) <= set(members)
    order = list(range(images))
    random.shuffle(order)
    np.testing.assert_array_equal(sample_bands(activations_nu[order], ids_n[order], per_band, seed), chosen)


def test_seed_changes_the_choice():
    values = np.arange(400, dtype=np.float32)[:, None]
    first, second = (sample_bands(values, np.arange(400), 5, seed) for seed in (0, 1))
    assert not np.array_equal(first, second)
