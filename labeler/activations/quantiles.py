"""Quantiles of every unit over all spatial positions, from counts that merge exactly."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from labeler.errors import ActivationError

_MANTISSA_BITS = 6
_PER_OCTAVE = 1 << _MANTISSA_BITS
_SHIFT = 23 - _MANTISSA_BITS  # float32 has 23 mantissa bits
_TINY_EXPONENT = -20  # 2^-20 ≈ 1e-6, the range below which a unit counts as dead
_BELOW_FIRST = ((127 + _TINY_EXPONENT) << _MANTISSA_BITS) - 2  # code 1: tiny; code 2: starts at 2^-20
_CHUNK_UNITS = 4096  # bounds the copy made when a window grows
_PIECE = 1 << 19  # values handled at once: the temporaries stay in the processor's cache
_INT32_MAX = 2**31 - 1

RELATIVE_ERROR = 2.0**-_MANTISSA_BITS
ABSOLUTE_ERROR = 2.0**_TINY_EXPONENT


class RunningQuantile:
    """Quantiles of each of `units` units over any number of values.

    A histogram of integer counts whose buckets are the float32's sign, exponent and six leading mantissa
    bits: 64 buckets per power of two. Zero has a bucket of its own, as have the values below 2^-20 in
    magnitude of either sign. Only the powers of two that occur are stored, so merging is exact, associative
    and commutative, and the state does not depend on the order of additions.

    An answer lies in the bucket of the exact order statistic x(⌈qn⌉), hence within
    ``RELATIVE_ERROR·|x| + ABSOLUTE_ERROR`` = |x|/64 + 2^-20 of it, usually far closer: ranks are interpolated
    inside the bucket, between the unit's exact extremes. A constant unit is answered exactly.

    Values that are not finite are not counted.
    """

    def __init__(self, units: int, device: torch.device | str = "cpu") -> None:
        self.units = units
        self.min = torch.full((units,), torch.inf, device=device)
        """Least finite value of each unit ``(u,)``; inf where there is none."""
        self.max = torch.full((units,), -torch.inf, device=device)
        """Greatest finite value of each unit ``(u,)``; -inf where there is none."""
        self.count = torch.zeros(units, dtype=torch.int64, device=device)
        """Number of finite values of each unit ``(u,)``."""
        self._chunks = [
            _Histogram(
                torch.zeros((min(_CHUNK_UNITS, units - first), 1), dtype=torch.int32, device=device), 0
            )
            for first in range(0, units, _CHUNK_UNITS)
        ]

    def add(self, values: Tensor) -> None:
        """Take in activation maps ``(b, u, h, w)``, or values ``(u, n)``.

        Raises:
            ActivationError: when the number of units differs.
        """
        if values.ndim not in (2, 4) or values.shape[0 if values.ndim == 2 else 1] != self.units:
            raise ActivationError(f"Values of shape {tuple(values.shape)} do not fit {self.units} units.")
        if values.numel() == 0:
            return
        values = values.to(torch.float32)
        if values.ndim == 2:
            values, axis = values.T[:, :, None], 1  # (n, u, 1)
        elif values.is_contiguous():
            values, axis = values.flatten(2), 1  # (b, u, p)
        else:  # channels_last
            values, axis = values.permute(0, 2, 3, 1).flatten(1, 2), 2  # (b, p, u)
        rows = max(1, _PIECE * len(values) // (values.numel() // self.units * min(self.units, _CHUNK_UNITS)))
        for number, chunk in enumerate(self._chunks):
            units = slice(number * _CHUNK_UNITS, number * _CHUNK_UNITS + len(chunk.counts))
            for piece in torch.split(values.narrow(axis, units.start, len(chunk.counts)), rows):
                self._add_piece(chunk, piece, units, axis)

    def merge(self, other: RunningQuantile) -> None:
        """Take in what `other` has seen.

        Raises:
            ActivationError: when `other` has another number of units.
        """
        if self.units != other.units:
            raise ActivationError(
                f"Quantiles of {other.units} units cannot join those of {self.units} units."
            )
        device = self.count.device
        self.min = torch.minimum(self.min, other.min.to(device))
        self.max = torch.maximum(self.max, other.max.to(device))
        self.count = self.count + other.count.to(device)
        total = int(self.count.max()) if self.units else 0
        for chunk, theirs in zip(self._chunks, other._chunks, strict=True):
            chunk.make_room(total, theirs.low, theirs.high)
            first = theirs.low - chunk.low
            chunk.counts[:, first : first + theirs.counts.shape[1]] += theirs.counts.to(device)

    def quantile(self, q: Tensor) -> Tensor:
        """The quantiles `q` ``(q,)``, each in [0, 1]: float32 ``(u, q)``; NaN for units without values."""
        q = q.to(self.count.device, torch.float64)
        answers = []
        for number, chunk in enumerate(self._chunks):
            units = slice(number * _CHUNK_UNITS, number * _CHUNK_UNITS + len(chunk.counts))
            answers.append(chunk.quantile(q, self.count[units], self.min[units], self.max[units]))
        return torch.cat(answers) if answers else torch.empty(0, len(q), device=q.device)

    def state_dict(self) -> dict[str, Tensor]:
        """The state as plain tensors: ``min``, ``max``, ``count``, ``lows``, and ``counts.i`` per chunk i."""
        counts = {f"counts.{number}": chunk.counts for number, chunk in enumerate(self._chunks)}
        lows = torch.tensor([chunk.low for chunk in self._chunks], dtype=torch.int64)
        return {"min": self.min, "max": self.max, "count": self.count, "lows": lows, **counts}

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Tensor], device: torch.device | str = "cpu"
    ) -> RunningQuantile:
        """The accumulator that gave `state`; it can go on adding."""
        running = cls(0, device)
        running.units = len(state["count"])
        running.min, running.max, running.count = (
            state[n].clone().to(device) for n in ("min", "max", "count")
        )
        running._chunks = [
            _Histogram(state[f"counts.{number}"].clone().to(device), int(low))
            for number, low in enumerate(state["lows"])
        ]
        return running

    def _add_piece(self, chunk: _Histogram, values: Tensor, units: slice, axis: int) -> None:
        others = (0, 3 - axis)
        least_u, greatest_u = values.amin(others), values.amax(others)
        finite = None
        if not bool((least_u.isfinite() & greatest_u.isfinite()).all()):  # NaN passes through amin and amax
            finite = values.isfinite()
            least_u = values.where(finite, torch.inf).amin(others)
            greatest_u = values.where(finite, -torch.inf).amax(others)
            values = values.where(finite, 0.0)
        each = values.numel() // values.shape[axis]
        self.count[units] += each if finite is None else finite.sum(others)
        self.min[units] = torch.minimum(self.min[units], least_u)
        self.max[units] = torch.maximum(self.max[units], greatest_u)
        # least_u and greatest_u of a unit without finite values are ±inf, which need no bucket.
        ends = (least_u.amin(), greatest_u.amax()) if finite is None else (values.amin(), values.amax())
        low, high = _codes(torch.stack(ends)).tolist()
        chunk.make_room(int(self.count[units].max()), low, high)
        chunk.count(values, axis, finite)


class _Histogram:
    """Counts ``(u, bucket)`` of the codes low..low + bucket - 1; the window always holds code 0."""

    def __init__(self, counts: Tensor, low: int) -> None:
        self.counts, self.low = counts, low

    @property
    def high(self) -> int:
        return self.low + self.counts.shape[1] - 1

    def make_room(self, total: int, low: int, high: int) -> None:
        """Widen the window, in whole powers of two, to hold low..high; the integers to hold `total`."""
        if total > _INT32_MAX and self.counts.dtype == torch.int32:
            self.counts = self.counts.to(torch.int64)
        low, high = -_whole_octaves(-low), _whole_octaves(high)
        left, right = max(0, self.low - low), max(0, high - self.high)
        if left or right:
            self.counts = torch.nn.functional.pad(self.counts, (left, right))
            self.low -= left

    def count(self, values: Tensor, axis: int, finite: Tensor | None) -> None:
        """Count `values` ``(b, ·, ·)`` with units on `axis`, those that `finite` marks where it is given."""
        units, buckets = self.counts.shape
        first_u = torch.arange(units, device=values.device) * buckets - self.low
        shape = [1, 1, 1]
        shape[axis] = units
        places = (_codes(values) + first_u.view(shape)).reshape(-1)
        if finite is None:
            weights = torch.ones(1, dtype=self.counts.dtype, device=values.device).expand(len(places))
        else:
            weights = finite.to(self.counts.dtype).reshape(-1)
        self.counts.view(-1).scatter_add_(0, places, weights)

    def quantile(self, q: Tensor, count_u: Tensor, min_u: Tensor, max_u: Tensor) -> Tensor:
        """Quantiles `q` (float64) of each unit: float32 ``(u, q)``."""
        up_to = self.counts.cumsum(1, dtype=torch.int64).to(torch.float64)  # (u, bucket)
        rank = (q[None] * count_u[:, None]).clamp(min=1.0)  # (u, q)
        bucket = torch.searchsorted(up_to, rank).clamp(max=self.counts.shape[1] - 1)
        inside = self.counts.gather(1, bucket).to(torch.float64)
        share = 1.0 - (up_to.gather(1, bucket) - rank) / inside.clamp(min=1.0)
        lower, upper = _edges(bucket + self.low)
        lower = torch.maximum(lower, min_u[:, None].to(torch.float64))
        upper = torch.minimum(upper, max_u[:, None].to(torch.float64))
        answer = (lower + share.clamp(0.0, 1.0) * (upper - lower)).to(torch.float32)
        return answer.masked_fill(count_u[:, None] == 0, torch.nan)


def _codes(values: Tensor) -> Tensor:
    """The bucket of each value, int32, ascending with the value; 0 is the code of zero."""
    codes = values.view(torch.int32) & 0x7FFFFFFF
    codes.bitwise_right_shift_(_SHIFT).sub_(_BELOW_FIRST).clamp_(min=1)
    return codes.mul_(values.sign().to(torch.int32))


def _edges(codes: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper end of buckets, float64."""
    size = codes.abs()
    inner = ((size + _BELOW_FIRST) << _SHIFT).to(torch.int32).view(torch.float32).to(torch.float64)
    # The last bucket of finite values ends at infinity.
    outer = ((size + 1 + _BELOW_FIRST) << _SHIFT).to(torch.int32).view(torch.float32).to(torch.float64)
    inner = inner.where(size > 1, 0.0)
    outer = outer.where(size > 0, 0.0)
    return torch.where(codes < 0, -outer, inner), torch.where(codes < 0, -inner, outer)


def _whole_octaves(code: int) -> int:
    """The last code of the power of two that `code` ≥ 0 falls in; 0 for codes up to 0."""
    if code <= 0:
        return 0
    return 1 + -(-(code - 1) // _PER_OCTAVE) * _PER_OCTAVE
