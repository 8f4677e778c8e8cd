"""Network Dissection (Bau et al. 2017, sec. 2.3): a unit is labelled with the concept of highest IoU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labeler.checks.iou import Dissection, best

DETECTOR_IOU = 0.04
"""Least IoU at which a unit counts as a detector of its concept: Bau et al. 2017, sec. 2.3."""


@dataclass(frozen=True)
class UnitConcepts:
    """The best concept of every unit, in the order of the dissection's `live_units`."""

    concepts_u: NDArray[np.int64]
    """``(u,)`` index of the concept; -1 where none is in enough images."""
    iou_u: NDArray[np.float64]
    """``(u,)`` its IoU in [0, 1]; NaN where there is none."""
    detector_u: NDArray[np.bool_]
    """``(u,)`` whether the IoU is above the detector threshold."""


def network_dissection(dissection: Dissection, threshold: float = DETECTOR_IOU) -> dict[str, UnitConcepts]:
    """The concept of highest IoU of all units, over all concepts (key ``""``) and within each category.

    Ties go to the first concept.
    """
    iou_uc = dissection.iou()
    return {
        category: _of(iou_uc, concepts_u, threshold)
        for category, concepts_u in best(iou_uc, dissection.categories).items()
    }


def _of(iou_uc: NDArray[np.float64], concepts_u: NDArray[np.int64], threshold: float) -> UnitConcepts:
    padded_uc = np.pad(iou_uc, ((0, 0), (0, 1)), constant_values=np.nan)  # column -1: no concept
    iou_u = np.take_along_axis(padded_uc, concepts_u[:, None], axis=1)[:, 0]
    return UnitConcepts(concepts_u, iou_u, iou_u > threshold)
