import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labeler.activations import quantiles
from labeler.activations.quantiles import ABSOLUTE_ERROR, RELATIVE_ERROR, RunningQuantile
from labeler.errors import ActivationError

QUANTILES = [0.0, 0.01, 0.5, 0.9, 0.995, 0.9999, 1.0]
ANY = st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e-30, -1e-30, 6.0, 3.4e38, -3.4e38, np.nan, np.inf, -np.inf])
VALUES = ANY | st.floats(-100, 100, width=32)


def assert_within_bound(running, values_un):
    answers = running.quantile(torch.tensor(QUANTILES, dtype=torch.float64)).numpy()
    for unit, values in enumerate(values_un):
        good = values[np.isfinite(values)]
        assert int(running.count[unit]) == len(good)
        if not len(good):
            assert np.isnan(answers[unit]).all()
            continue
        assert (running.min[unit], running.max[unit]) == (good.min(), good.max())
        ranks = np.maximum(np.ceil(np.array(QUANTILES) * len(good)), 1).astype(int)
        exact = np.sort(good)[ranks - 1].astype(np.float64)
        bound = RELATIVE_ERROR * np.abs(exact) + ABSOLUTE_ERROR
        assert (np.abs(answers[unit] - exact) <= bound * 1.0001).all()


@settings(max_examples=120, deadline=None)
@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 60)), elements=VALUES))
def test_error_bound_on_anything(values_un):
    running = RunningQuantile(len(values_un))
    running.add(torch.tensor(values_un))
    assert_within_bound(running, values_un)


DISTRIBUTIONS = {
    "heavy tailed": lambda rng, shape: rng.standard_cauchy(shape),
    "log-normal over many octaves": lambda rng, shape: rng.lognormal(0, 6, shape),
    "sparse": lambda rng, shape: rng.exponential(1, shape) * (rng.random(shape) < 0.004),
    "rectified": lambda rng, shape: np.maximum(rng.standard_normal(shape), 0),
    "saturating": lambda rng, shape: np.clip(4 * rng.standard_normal(shape), 0, 6),
    "negative": lambda rng, shape: -rng.exponential(1, shape) - 0.5,
    "small": lambda rng, shape: 1e-3 * rng.standard_normal(shape),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_error_bound_on_distributions(name):
    values_un = DISTRIBUTIONS[name](np.random.default_rng(0), (3, 20_000)).astype(np.float32)
    running = RunningQuantile(3)
    for part in np.array_split(values_un, 7, axis=1):
        running.add(torch.tensor(part))
    assert_within_bound(running, values_un)


def test_threshold_of_smooth_data_is_far_closer_than_the_bound():
    values_un = np.maximum(np.random.default_rng(1).standard_normal((4, 400_000)), 0).astype(np.float32)
    running = RunningQuantile(4)
    running.add(torch.tensor(values_un))
    answer = running.quantile(torch.tensor([0.995]))[:, 0].numpy()
    np.testing.assert_allclose(answer, np.quantile(values_un, 0.995, axis=1), rtol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.3, -7.7, 1e-9, 3e38])
def test_constant_unit_is_exact(value):
    running = RunningQuantile(1)
    running.add(torch.full((1, 1000), value))
    np.testing.assert_array_equal(
        running.quantile(torch.tensor([0.0, 0.5, 0.995])).numpy(), np.float32(value)
    )


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(np.float32, (5, 3, 2, 4), elements=VALUES),
    st.permutations(range(5)),
    st.lists(st.integers(0, 15), min_size=5, max_size=5),
    st.booleans(),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_state_is_a_function_of_the_values_alone(
    maps_buhw, order, owner, channels_last, through_disk, random
):
    """Any sharding, order of additions and of merging, memory layout or disk trip leaves the same tensors."""
    whole = RunningQuantile(3)
    whole.add(torch.tensor(maps_buhw.transpose(1, 0, 2, 3).reshape(3, -1)))
    shards = [RunningQuantile(3) for _ in range(16)]
    for image, shard in zip(order, owner, strict=True):
        maps = torch.tensor(maps_buhw[image : image + 1])
        shards[shard].add(maps.contiguous(memory_format=torch.channels_last) if channels_last else maps)
    while len(shards) > 1:  # merged two and two, in any tree
        random.shuffle(shards)
        part = shards.pop()
        shards[-1].merge(RunningQuantile.from_state_dict(part.state_dict()) if through_disk else part)
    ours, theirs = shards[0].state_dict(), whole.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name].dtype == theirs[name].dtype
        assert torch.equal(ours[name], theirs[name]), name


def test_many_units_are_counted_in_their_own_columns(monkeypatch):
    monkeypatch.setattr(quantiles, "_CHUNK_UNITS", 8)
    monkeypatch.setattr(quantiles, "_PIECE", 100)
    maps_buhw = torch.randn(6, 19, 3, 5, generator=torch.Generator().manual_seed(0))
    maps_buhw *= torch.arange(19).view(1, -1, 1, 1)
    for layout in (torch.contiguous_format, torch.channels_last):
        running = RunningQuantile(19)
        running.add(maps_buhw.contiguous(memory_format=layout))
        assert_within_bound(running, maps_buhw.transpose(0, 1).flatten(1).numpy())
    running = RunningQuantile(19)
    running.add(maps_buhw.transpose(0, 1).flatten(1))
    assert_within_bound(running, maps_buhw.transpose(0, 1).flatten(1).numpy())


def test_counts_beyond_int32_do_not_overflow():
    running = RunningQuantile(1)
    running.add(torch.zeros(1, 3))
    running.add(torch.ones(1, 1))
    for _ in range(30):  # doubles: 4 · 2^30 values
        running.merge(RunningQuantile.from_state_dict(running.state_dict()))
    assert int(running.count) == 2**32
    assert running.quantile(torch.tensor([0.74, 0.76])).tolist() == [[0.0, 1.0]]


def test_misfits_are_refused():
    with pytest.raises(ActivationError, match="do not fit 3 units"):
        RunningQuantile(3).add(torch.zeros(2, 5))
    with pytest.raises(ActivationError, match="cannot join"):
        RunningQuantile(3).merge(RunningQuantile(2))
