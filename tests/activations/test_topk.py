import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labeler.activations.topk import RunningTopK
from labeler.errors import ActivationError

# Few distinct values make ties; the extremes and both zeros are where packing could go wrong.
VALUES = st.sampled_from(
    [-np.inf, -3.4e38, -2.0, -1.0, -1e-45, -0.0, 0.0, 1e-45, 0.5, 1.0, 3.4e38, np.inf, np.nan]
)


def brute_force(values_nu, ids_n, k):
    """Top k by (value desc, id asc), NaN left out."""
    units = values_nu.shape[1]
    values_uk = np.full((units, k), -np.inf, dtype=np.float32)
    ids_uk = np.full((units, k), -1, dtype=np.int64)
    for unit in range(units):
        pairs = [(v, i) for v, i in zip(values_nu[:, unit], ids_n, strict=True) if not np.isnan(v)]
        for place, (value, image) in enumerate(sorted(pairs, key=lambda pair: (-pair[0], pair[1]))[:k]):
            values_uk[unit, place], ids_uk[unit, place] = value, image
    return values_uk, ids_uk


def assert_result(running, values_nu, ids_n, k):
    values_uk, ids_uk = running.result()
    expected_values, expected_ids = brute_force(values_nu, ids_n, k)
    np.testing.assert_array_equal(values_uk.numpy(), expected_values)
    np.testing.assert_array_equal(ids_uk.numpy(), expected_ids)
    assert values_uk.dtype == torch.float32
    assert ids_uk.dtype == torch.int64


@st.composite
def data(draw):
    images, units = draw(st.integers(0, 40)), draw(st.integers(1, 4))
    values = draw(hnp.arrays(np.float32, (images, units), elements=VALUES | st.floats(-4, 4, width=32)))
    ids = draw(st.lists(st.integers(0, 2**32 - 1), min_size=images, max_size=images, unique=True))
    return values, np.array(ids, dtype=np.int64)


@settings(max_examples=150, deadline=None)
@given(data(), st.integers(1, 50), st.integers(1, 16), st.integers(1, 9), st.randoms(use_true_random=False))
def test_any_sharding_order_and_batch_size_equals_brute_force(case, k, shards, batch, random):
    values_nu, ids_n = case
    order = list(range(len(ids_n)))
    random.shuffle(order)
    parts = [RunningTopK(values_nu.shape[1], k) for _ in range(shards)]
    for first in range(0, len(order), batch):
        rows = order[first : first + batch]
        random.choice(parts).add(torch.tensor(values_nu[rows]), torch.tensor(ids_n[rows]))
    while len(parts) > 1:  # merged two and two, in any tree
        random.shuffle(parts)
        parts[-2].merge(parts.pop())
    assert_result(parts[0], values_nu, ids_n, k)


@pytest.mark.parametrize("k", [1, 7, 100])
def test_many_images_with_ties_and_negatives(k):
    generator = np.random.default_rng(k)
    values_nu = np.round(generator.standard_normal((3000, 5)), 1).astype(np.float32)
    values_nu[:, 1] = -1.0
    values_nu[:, 2] -= 10.0
    values_nu[::2, 3] = np.nan
    ids_n = generator.permutation(3000)
    running = RunningTopK(5, k)
    for first in range(0, 3000, 77):
        running.add(torch.tensor(values_nu[first : first + 77]), torch.tensor(ids_n[first : first + 77]))
    assert_result(running, values_nu, ids_n, k)


@settings(max_examples=40, deadline=None)
@given(data(), st.integers(1, 12), st.integers(0, 40))
def test_state_survives_the_disk_and_goes_on(case, k, cut):
    values_nu, ids_n = case
    running = RunningTopK(values_nu.shape[1], k)
    running.add(torch.tensor(values_nu[:cut]), torch.tensor(ids_n[:cut]))
    running = RunningTopK.from_state_dict(running.state_dict())
    running.add(torch.tensor(values_nu[cut:]), torch.tensor(ids_n[cut:]))
    assert_result(running, values_nu, ids_n, k)


def test_state_does_not_grow_with_images():
    running = RunningTopK(3, 10)
    size = running._keys_uk.numel()
    for first in range(0, 5000, 50):
        running.add(torch.randn(50, 3), torch.arange(first, first + 50))
    assert running._keys_uk.numel() == size


def test_misfits_are_refused():
    running = RunningTopK(3, 2)
    with pytest.raises(ActivationError, match="do not fit 3 units"):
        running.add(torch.zeros(2, 4), torch.arange(2))
    with pytest.raises(ActivationError, match="ids must lie"):
        running.add(torch.zeros(1, 3), torch.tensor([-1]))
    with pytest.raises(ActivationError, match="cannot join"):
        running.merge(RunningTopK(3, 4))
    with pytest.raises(ActivationError, match="at least 1"):
        RunningTopK(3, 0)


@pytest.mark.parametrize("ids", [[0, -1], [-1, 5], [2**32, 0], [7, 2**32]])
def test_one_id_out_of_range_is_enough_to_refuse_a_batch(ids):
    running = RunningTopK(1, 2)
    with pytest.raises(ActivationError, match="ids must lie"):
        running.add(torch.ones(2, 1), torch.tensor(ids))
    assert running.result()[1].tolist() == [[-1, -1]]
    running.add(torch.ones(2, 1), torch.tensor([2**32 - 1, 0]))
    assert running.result()[1].tolist() == [[0, 2**32 - 1]]
    running.add(torch.ones(0, 1), torch.tensor([], dtype=torch.int64))


def test_the_state_holds_a_few_more_than_k_and_no_more_the_longer_k_is():
    assert RunningTopK(2, 1)._keys_uk.shape == (2, 65)
    assert RunningTopK(2, 1000)._keys_uk.shape == (2, 2000)


def test_what_joins_must_have_the_same_k_and_the_same_units():
    for other in (RunningTopK(3, 3), RunningTopK(2, 2), RunningTopK(2, 3)):
        with pytest.raises(ActivationError, match="cannot join"):
            RunningTopK(3, 2).merge(other)
    with pytest.raises(ActivationError, match="do not fit 3 units"):
        RunningTopK(3, 2).add(torch.zeros(2, 3), torch.arange(3))


def test_one_of_each_unit_is_kept_where_k_is_one():
    running = RunningTopK(2, 1)
    running.add(torch.tensor([[1.0, -5.0], [3.0, -6.0]]), torch.tensor([4, 2]))
    values_uk, ids_uk = running.result()
    assert (values_uk.tolist(), ids_uk.tolist()) == ([[3.0], [-5.0]], [[2], [4]])


def test_what_joined_another_stays_as_it_was():
    one, other = RunningTopK(1, 2), RunningTopK(1, 2)
    other.add(torch.tensor([[1.0], [2.0], [3.0]]), torch.arange(3))
    one.merge(other)
    one.add(torch.tensor([[9.0]]), torch.tensor([9]))
    assert [part.result()[1].tolist() for part in (one, other)] == [[[9, 2]], [[2, 1]]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_values_of_any_precision_are_ranked(dtype):
    running = RunningTopK(1, 2)
    running.add(torch.tensor([[0.5], [-1.0], [2.0]], dtype=dtype), torch.arange(3, dtype=torch.int32))
    values_uk, ids_uk = running.result()
    assert (values_uk.tolist(), ids_uk.tolist()) == ([[2.0, 0.5]], [[2, 0]])
    assert values_uk.dtype == torch.float32


def test_nothing_is_counted_twice_where_the_best_come_last():
    running = RunningTopK(1, 3)
    for image in range(200):
        running.add(torch.tensor([[float(image)]]), torch.tensor([image]))
        assert running.result()[1].tolist() == [[image, max(image - 1, -1), max(image - 2, -1)]]
