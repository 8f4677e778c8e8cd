"""The k highest activations of every unit, exactly, whatever the order, batch size or sharding."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from labeler.errors import ActivationError

_EMPTY = -(2**63)  # below the key of every value, also of -inf
_LOW_WORD = 0xFFFFFFFF
_MANTISSA_AND_EXPONENT = 0x7FFFFFFF
_LEAST_BUFFER = 64


class RunningTopK:
    """The `k` highest values of each of `units` units with the ids of their images.

    Order is (value descending, id ascending), so equal values are settled by id and the result is a function
    of the set of (value, id) pairs alone. Values and ids are packed into one int64 key each, because
    ``torch.topk`` promises nothing about the order of equal values and unique keys have none. NaN is left
    out; infinities are values like others; -0 equals 0. State is ``O(units × k)``.

    Args:
        units: number of units, u.
        k: how many to keep per unit, at least 1.
        device: where the state lives and values are expected.
    """

    def __init__(self, units: int, k: int, device: torch.device | str = "cpu") -> None:
        if k < 1:
            raise ActivationError(f"A top-k needs k of at least 1; it is {k}.")
        self.units, self.k = units, k
        # Rows collect keys until full and are then cut to k: one selection per several batches.
        self._capacity = k + max(k, _LEAST_BUFFER)
        self._keys_uk = torch.full((units, self._capacity), _EMPTY, dtype=torch.int64, device=device)
        self._filled = 0

    def add(self, values_bu: Tensor, ids_b: Tensor) -> None:
        """Take in a batch. An (id, unit) pair may be added once only.

        Args:
            values_bu: pooled activations ``(b, u)``; NaN marks a value to leave out.
            ids_b: image ids ``(b,)``, integers in 0..2^32-1.

        Raises:
            ActivationError: when shapes or ids do not fit.
        """
        if values_bu.shape != (len(ids_b), self.units):
            raise ActivationError(
                f"Values {tuple(values_bu.shape)} and {len(ids_b)} ids do not fit {self.units} units."
            )
        if len(ids_b) and (int(ids_b.min()) < 0 or int(ids_b.max()) > _LOW_WORD):
            raise ActivationError("Image ids must lie in 0..2^32-1.")
        self._push(_pack(values_bu, ids_b.to(values_bu.device, torch.int64)[:, None]).T)

    def merge(self, other: RunningTopK) -> None:
        """Take in what `other` has seen: associative and commutative.

        Raises:
            ActivationError: when `other` has another number of units or another k.
        """
        if (self.units, self.k) != (other.units, other.k):
            raise ActivationError(
                f"Top-{other.k} of {other.units} units cannot join top-{self.k} of {self.units} units."
            )
        self._push(other._keys_uk[:, : other._filled].to(self._keys_uk.device))

    def result(self) -> tuple[Tensor, Tensor]:
        """Values ``(u, k)`` float32 and ids ``(u, k)`` int64; -inf and -1 where there were fewer than k."""
        keys_uk = torch.full((self.units, self.k), _EMPTY, dtype=torch.int64, device=self._keys_uk.device)
        best = self._keys_uk[:, : self._filled].sort(dim=1, descending=True).values[:, : self.k]
        keys_uk[:, : best.shape[1]] = best
        return _unpack(keys_uk)

    def state_dict(self) -> dict[str, Tensor]:
        """The state as plain tensors ``values`` and ``ids``, both ``(u, k)``."""
        values_uk, ids_uk = self.result()
        return {"values": values_uk, "ids": ids_uk}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], device: torch.device | str = "cpu") -> RunningTopK:
        """The accumulator that gave `state`; it can go on adding."""
        values_uk, ids_uk = state["values"].to(device), state["ids"].to(device)
        running = cls(values_uk.shape[0], values_uk.shape[1], device)
        keys_uk = _pack(values_uk, ids_uk.clamp(min=0)).masked_fill(ids_uk < 0, _EMPTY)
        running._push(keys_uk)
        return running

    def _push(self, keys_ub: Tensor) -> None:
        while keys_ub.shape[1]:
            if self._filled == self._capacity:
                self._shrink()
            taken = min(keys_ub.shape[1], self._capacity - self._filled)
            self._keys_uk[:, self._filled : self._filled + taken] = keys_ub[:, :taken]
            self._filled += taken
            keys_ub = keys_ub[:, taken:]

    def _shrink(self) -> None:
        self._keys_uk[:, : self.k] = self._keys_uk.topk(self.k, dim=1, sorted=False).values
        self._filled = self.k


def _pack(values: Tensor, ids: Tensor) -> Tensor:
    """Keys that sort like (value ascending, id descending). `ids` broadcasts to `values`."""
    bits = (values.to(torch.float32) + 0.0).view(torch.int32)  # + 0.0 turns -0 into 0
    ordered = (bits ^ ((bits >> 31) & _MANTISSA_AND_EXPONENT)).to(torch.int64)
    return ((ordered << 32) | (_LOW_WORD - ids)).masked_fill_(values.isnan(), _EMPTY)


def _unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    ordered = (keys >> 32).to(torch.int32)
    values = (ordered ^ ((ordered >> 31) & _MANTISSA_AND_EXPONENT)).view(torch.float32)
    ids = _LOW_WORD - (keys & _LOW_WORD)
    empty = keys == _EMPTY
    return values.masked_fill(empty, -torch.inf), ids.masked_fill(empty, -1)
