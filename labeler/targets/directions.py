"""Named directions in a layer's space, from a .npy file and, for their names, a .json beside it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from labeler.errors import TargetError
from labeler.weight_files import read_array


@dataclass(frozen=True, eq=False)
class Directions:
    """Projections ``⟨direction, vector⟩`` at every position.

    Rows are used as they are: a row of norm 1 gives the length along it, in the layer's own scale, and one of
    norm 2 twice that. Labels do not depend on the norm, as they are checked by rank and correlation.
    """

    weights_dc: torch.Tensor

    @property
    def units(self) -> int:
        """How many directions there are."""
        return len(self.weights_dc)

    def to(self, device: torch.device) -> Directions:
        """The same directions on a device."""
        return Directions(self.weights_dc.to(device))

    def __call__(self, maps_buhw: torch.Tensor) -> torch.Tensor:
        """Projections ``(b, d, h, w)``, float32, differentiable, of a layer's maps."""
        projected_bhwd = functional.linear(maps_buhw.permute(0, 2, 3, 1), self.weights_dc).float()
        return projected_bhwd.permute(0, 3, 1, 2)


def read_directions(path: Path, channels: int, layer: str) -> Directions:
    """The directions ``(d, channels)`` in a .npy file, on the CPU, float32.

    Args:
        path: the file; it may hold any real numbers, and no pickled objects.
        channels: of the layer in whose space they lie.
        layer: that layer, for the errors.

    Raises:
        TargetError: when the file cannot be read, has another shape, or holds what is not a finite number.
    """
    if not path.is_file():
        raise TargetError(f"There is no file of directions at {path}; correct target.directions.")
    array = read_array(path)
    if array is None:
        raise TargetError(f"{path} is no .npy file of numbers; save directions with numpy.save.")
    if not isinstance(array, np.ndarray):
        raise TargetError(f"{path} holds several arrays; save one with numpy.save, a direction a row.")
    if array.dtype.kind not in "fiu" or array.ndim != 2 or not len(array):
        raise TargetError(
            f"{path} holds {array.dtype} of shape {list(array.shape)}; save real numbers, a direction a row."
        )
    if array.shape[1] != channels:
        raise TargetError(
            f"The directions in {path} have {array.shape[1]} numbers each, but layer {layer} has {channels} "
            "channels; give directions in this layer's space."
        )
    weights_dc = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(weights_dc).all():
        raise TargetError(f"{path} holds numbers that are not finite; save the directions again.")
    return Directions(torch.from_numpy(weights_dc))


def read_names(path: Path) -> tuple[str, ...]:
    """The names of the directions in `path`: a list of texts in the .json beside it, () where there is none.

    Raises:
        TargetError: when the list is not one name for each direction.
    """
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return ()
    try:
        names = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise TargetError(f"{beside} is not readable JSON; write a list of names, or delete it.") from None
    count = len(np.load(path, mmap_mode="r", allow_pickle=False))
    if not isinstance(names, list) or len(names) != count or not all(_is_name(name) for name in names):
        raise TargetError(f"{beside} must be a list of {count} names, one line for each direction.")
    return tuple(names)


def _is_name(name: object) -> bool:
    return isinstance(name, str) and bool(name.strip()) and name.isprintable()
