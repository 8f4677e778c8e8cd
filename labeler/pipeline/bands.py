"""Which images show a unit over the rest of its range: a few of each band below top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from labeler.activations import BANDS, sample_bands
from labeler.pipeline.inputs import Inputs
from labeler.records import BandName, UnitId

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from labeler.activations import Activations

_TOGETHER = 1024  # units; the bands of a layer of any width take little memory


def images_by_band(
    inputs: Inputs, activations: Activations, of_split: NDArray[np.bool_]
) -> dict[UnitId, dict[int, BandName]]:
    """The images that stand for each band below top, by id, for every unit of the run.

    Bands are those of the unit's own activations on the images given; one of its images that gave no finite
    value has none.

    Args:
        of_split: which rows of the dense matrices may be shown. ``(n,)``.
    """
    found: dict[UnitId, dict[int, BandName]] = {unit: {} for unit in inputs.units}
    ids_n, rows_n = activations.indexed_ids[of_split], np.flatnonzero(of_split)
    if not len(ids_n) or not inputs.config.exemplars.per_band:
        return found
    for side in dict.fromkeys(unit.side for unit in inputs.units):
        units = [unit for unit in inputs.units if unit.side == side]
        for start in range(0, len(units), _TOGETHER):
            part = units[start : start + _TOGETHER]
            columns_u = np.array([unit.index for unit in part], dtype=np.int64)
            values_nu = activations.layers[side].maxima[np.ix_(rows_n, columns_u)]
            found |= _choose(part, values_nu, ids_n, inputs)
    return found


def _choose(
    units: Sequence[UnitId], values_nu: NDArray[np.float32], ids_n: NDArray[np.int64], inputs: Inputs
) -> dict[UnitId, dict[int, BandName]]:
    finite_nu = np.isfinite(values_nu)
    whole_u = finite_nu.all(axis=0)
    groups = [(np.flatnonzero(whole_u), np.ones(len(ids_n), dtype=bool))]
    groups += [(np.array([column]), finite_nu[:, column]) for column in np.flatnonzero(~whole_u)]
    found: dict[UnitId, dict[int, BandName]] = {}
    for columns, rows in groups:
        if not rows.any():
            continue
        chosen = sample_bands(
            values_nu[np.ix_(rows, columns)],
            ids_n[rows],
            inputs.config.exemplars.per_band,
            inputs.config.seed,
        )  # (u, 5, per_band)
        for column, of_unit in zip(columns.tolist(), chosen, strict=True):
            found[units[column]] = {
                image_id: band
                for band, ids in zip(BANDS, of_unit.tolist(), strict=True)
                for image_id in ids
                if band != "top" and image_id >= 0
            }
    return found
