"""Quantiles of a few values, worked out on paper."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labeler.activations import quantiles
from labeler.activations.quantiles import ABSOLUTE_ERROR, RELATIVE_ERROR, RunningQuantile
from labeler.errors import ActivationError


def seen(*values, dtype=torch.float32):
    running = RunningQuantile(1)
    running.add(torch.tensor([values], dtype=dtype))
    return running


def at(running, *shares):
    return running.quantile(torch.tensor(shares, dtype=torch.float64))[0].tolist()


def columns(running):
    return running.state_dict()["counts.0"].shape[1]


def test_the_bound_is_the_one_that_is_promised():
    assert (RELATIVE_ERROR, ABSOLUTE_ERROR) == (1 / 64, 2.0**-20)


@given(st.integers(-20, 127), st.floats(1, 1.9375, width=32))
def test_every_power_of_two_up_to_the_greatest_takes_64_counts(power, mantissa):
    """Beside one for zero and one for what is smaller than 2^-20, on each side of it."""
    value = float(np.float32(2.0**power) * np.float32(mantissa))
    side = 1 + 64 * (power + 21)
    assert columns(seen(value)) == columns(seen(-value)) == 1 + side
    assert columns(seen(value, -value)) == 1 + 2 * side
    assert columns(seen(0.0)) == 1
    assert columns(seen(2.0**-21, 0.0)) == 2


def test_equal_values_next_to_a_power_of_two_have_counts_of_their_own():
    state = seen(1.0, 1.0, 1 + 1 / 64, 2 - 1 / 64, 2 - 1 / 128).state_dict()
    assert state["counts.0"][0, -64:].tolist() == [2, 1] + [0] * 61 + [2]
    assert state["lows"].tolist() == [0]
    negative = seen(-1.0, -1.0, -1 - 1 / 64).state_dict()
    assert negative["counts.0"][0, :64].tolist() == [0] * 62 + [1, 2]
    assert negative["lows"].tolist() == [-(1 + 64 * 21)]


def test_ranks_are_interpolated_between_the_extremes_inside_a_count():
    running = seen(1.0, 1.001, 1.001, 1.01)  # all in one count: from 1 to 1 + 1/64
    expected = [1 + share * 0.01 for share in (0.25, 0.25, 0.5, 0.75, 1.0)]
    assert at(running, 0.0, 0.25, 0.5, 0.75, 1.0) == pytest.approx(expected, rel=1e-6)
    assert at(seen(-1.0, -1.001, -1.001, -1.01), 0.25, 0.5) == pytest.approx([-1.0075, -1.005], rel=1e-6)


def test_ranks_are_interpolated_between_the_ends_of_a_count_where_others_are_around():
    running = seen(0.5, 1.002, 1.004, 3.0)
    assert at(running, 0.375, 0.5, 0.75) == pytest.approx([1 + 0.25 / 64, 1 + 0.5 / 64, 1 + 1 / 64], rel=1e-6)
    assert at(seen(-3.0, -1.002, -1.004, -0.5), 0.5, 0.75) == pytest.approx([-1 - 0.5 / 64, -1.0], rel=1e-6)


def test_a_rank_between_two_values_is_a_part_of_the_next_ones_count():
    assert at(seen(0.5, 1.002, 3.0), 0.5, 2 / 3) == pytest.approx([1 + 0.5 / 64, 1 + 1 / 64], rel=1e-6)


def test_the_first_count_after_the_tiny_ones_begins_where_they_end():
    first = 2.0**-20
    running = seen(0.0, first * 1.001, first * 1.002, 1.0)
    assert at(running, 0.5, 0.75) == pytest.approx([first * (1 + 0.5 / 64), first * (1 + 1 / 64)], rel=1e-6)


def test_a_rank_at_the_end_of_a_count_is_in_it():
    running = seen(0.0, 0.0, 8.0, 8.0)
    assert at(running, 0.25, 0.5, 0.5001, 1.0) == pytest.approx([0.0, 0.0, 8.0, 8.0], abs=1e-3)


def test_what_is_smaller_than_the_range_is_between_zero_and_it():
    tiny = 2.0**-21
    assert at(seen(tiny, tiny, 1.0), 0.3)[0] == pytest.approx(tiny, abs=2.0**-20)
    assert at(seen(0.0, tiny, tiny, 1.0), 0.75) == pytest.approx([2.0**-20])
    assert at(seen(-1.0, -tiny, -tiny, 0.0), 0.5) == pytest.approx([-(2.0**-21)])
    assert at(seen(-1.0, 0.0, 0.0, 1.0), 0.5) == [0.0]


def test_the_greatest_float_does_not_become_infinite():
    most = float(np.finfo(np.float32).max)
    assert at(seen(-most, most), 1.0) == [most]
    assert at(seen(-most, most), 0.0)[0] == pytest.approx(-most, rel=RELATIVE_ERROR)
    assert np.isfinite(at(seen(-most, -most, most, most), 0.25, 0.75)).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_values_of_any_precision_are_taken(dtype):
    running = seen(1.0, 2.0, 2.0, dtype=dtype)
    assert at(running, 1.0) == [2.0]
    assert running.quantile(torch.tensor([0.5])).dtype == running.min.dtype == torch.float32


def test_what_was_not_seen_changes_nothing():
    running = RunningQuantile(2)
    running.add(torch.zeros(0, 2, 3, 3))
    running.add(torch.zeros(2, 0))
    assert running.count.tolist() == [0, 0]
    assert (running.min.tolist(), running.max.tolist()) == ([np.inf] * 2, [-np.inf] * 2)
    running.add(torch.tensor([[5.0, np.nan], [np.nan, np.inf]]))
    assert running.count.tolist() == [1, 0]
    answer = running.quantile(torch.tensor([0.5]))
    assert answer[0, 0] == 5.0
    assert answer[1].isnan().all()


def test_no_units_have_no_quantiles():
    none = RunningQuantile(0)
    none.merge(RunningQuantile(0))
    assert none.quantile(torch.tensor([0.1, 0.9])).shape == (0, 2)
    assert RunningQuantile.from_state_dict(none.state_dict()).units == 0


@pytest.mark.parametrize("shape", [(3,), (3, 3, 3), (3, 4, 1, 1), (4, 3), (1, 3, 1, 1, 1)])
def test_only_maps_and_rows_of_as_many_units_are_taken(shape):
    with pytest.raises(ActivationError, match="do not fit 3 units"):
        RunningQuantile(3).add(torch.zeros(shape))


def test_counts_take_four_bytes_until_they_need_eight():
    most = 2**31 - 1

    def of(count):
        return RunningQuantile.from_state_dict(
            {
                "min": torch.zeros(1), "max": torch.zeros(1), "count": torch.tensor([count]),
                "lows": torch.tensor([0]), "counts.0": torch.tensor([[count]], dtype=torch.int32),
            }
        )  # fmt: skip

    full = of(most - 1)
    full.add(torch.zeros(1, 1))
    assert full.state_dict()["counts.0"].dtype == torch.int32
    full.add(torch.zeros(1, 1))
    assert full.state_dict()["counts.0"].dtype == torch.int64
    assert full.state_dict()["counts.0"].tolist() == [[most + 1]]
    merged = of(most)
    merged.merge(of(0))
    assert merged.state_dict()["counts.0"].dtype == torch.int32
    merged.merge(of(1))
    assert merged.state_dict()["counts.0"].tolist() == [[most + 1]]


def test_a_state_that_goes_on_leaves_the_one_that_was_kept():
    running = seen(1.0, 2.0)
    state = running.state_dict()
    kept = {name: values.clone() for name, values in state.items()}
    RunningQuantile.from_state_dict(state).add(torch.tensor([[1.5, -9.0]]))
    assert all(torch.equal(state[name], kept[name]) for name in kept)


def test_the_state_of_many_units_is_cut_into_pieces(monkeypatch):
    """Growing one copies that piece alone: a unit of another size makes no room for the others."""
    monkeypatch.setattr(quantiles, "_CHUNK_UNITS", 2)
    running = RunningQuantile(5)
    running.add(torch.tensor([[0.0], [0.0], [1.0], [0.0], [-1.0]]))
    side = 1 + 64 * 21
    shapes = [tuple(running.state_dict()[f"counts.{number}"].shape) for number in range(3)]
    assert shapes == [(2, 1), (2, 1 + side), (1, 1 + side)]
    assert running.state_dict()["lows"].tolist() == [0, 0, -side]
    other = RunningQuantile.from_state_dict(running.state_dict())
    other.merge(running)
    assert other.count.tolist() == [2] * 5
    assert other.quantile(torch.tensor([0.5])).flatten().tolist() == [0.0, 0.0, 1.0, 0.0, -1.0]


def test_the_unit_with_the_most_values_says_how_many_bytes_a_count_takes():
    most = 2**31 - 1
    running = RunningQuantile.from_state_dict(
        {
            "min": torch.zeros(2), "max": torch.zeros(2), "count": torch.tensor([most, 1]),
            "lows": torch.tensor([0]), "counts.0": torch.tensor([[most], [1]], dtype=torch.int32),
        }
    )  # fmt: skip
    running.add(torch.tensor([[0.0], [np.nan]]))
    assert running.count.tolist() == [most + 1, 1]
    assert running.state_dict()["counts.0"].tolist() == [[most + 1], [1]]
