"""The unit-vectors stage: what each unit's exemplars look like to the encoder, to find units like a unit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from labeler.errors import CatalogueError
from labeler.pipeline.evidence import ProbeEvidence
from labeler.records import UnitId
from labeler.storage import MANIFEST, fingerprint, stage_directory

if TYPE_CHECKING:
    from numpy.typing import NDArray

STAGE = "unit-vectors"
_UNITS, _VECTORS = "units.json", "vectors.npy"
_ROWS = 8192  # units that are in memory at once


def unit_vectors_stage(run: Path, evidence: ProbeEvidence) -> Path:
    """Build or find the stage: for every unit with exemplars the mean embedding of its activating regions.

    Means are centred over the run's units, as what all photographs share says nothing about any unit, and
    have unit norm: ``vectors.npy`` ``(u, dim)`` float32, row i of the unit i of ``units.json``.
    """

    def build(directory: Path) -> None:
        found = [item for item in evidence.units.values() if len(item.embeddings_kd)]
        means_ud = (
            np.stack([item.embeddings_kd.mean(axis=0) for item in found]) if found else np.zeros((0, 0))
        )
        centred_ud = means_ud - means_ud.mean(axis=0) if len(found) > 1 else means_ud
        norms_u1 = np.linalg.norm(centred_ud, axis=1, keepdims=True)
        vectors_ud = centred_ud / np.where(norms_u1 > 1e-12, norms_u1, np.inf)
        (directory / _UNITS).write_text(json.dumps([str(item.unit) for item in found]))
        np.save(directory / _VECTORS, vectors_ud.astype(np.float32))

    return stage_directory(run, STAGE, fingerprint(STAGE, 1, evidence.key), build)


def similar_units(run: Path, unit: UnitId, k: int) -> list[tuple[UnitId, float]]:
    """The `k` other units whose exemplars are most like those of `unit`, with the cosines, nearest first.

    Raises:
        CatalogueError: when the run has no such stage, or the unit has no exemplars.
    """
    stages = sorted(run.glob(f"stages/{STAGE}-????????????/{MANIFEST}"))
    if not stages:
        raise CatalogueError(f"{run} has no vectors of its units; the same labeler run command makes them.")
    names = json.loads((stages[-1].parent / _UNITS).read_text())
    vectors_ud: NDArray[np.float32] = np.load(stages[-1].parent / _VECTORS, mmap_mode="r", allow_pickle=False)
    if str(unit) not in names:
        raise CatalogueError(f"{unit} has no exemplars to compare; it is dead, or not a unit of {run}.")
    own = names.index(str(unit))
    cosines_u = np.concatenate(
        [vectors_ud[start : start + _ROWS] @ vectors_ud[own] for start in range(0, len(names), _ROWS)]
    )
    order = np.argsort(-cosines_u, kind="stable")[: k + 1]
    return [(UnitId.parse(names[i]), float(cosines_u[i])) for i in order.tolist() if i != own][:k]
