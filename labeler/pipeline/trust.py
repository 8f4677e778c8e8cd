"""How far each unit's pictures may be trusted: the signals of a layer gathered, and judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from labeler.checks import (
    EncoderJudge,
    Informativeness,
    LayerData,
    PathSignals,
    PictureData,
    crest_auroc,
    informativeness,
    judge_picture,
    known,
    mean_pictures,
    unit_agreement,
)
from labeler.pipeline.bench import Bench
from labeler.pipeline.opening import OpenLayer
from labeler.pipeline.pictures import Pictures
from labeler.records import Trust, UnitId
from labeler.storage import hash_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

CREST_IMAGES = 5000
"""Photographs on which crests are looked at, hash-chosen."""
_NO_PICTURE = PathSignals(why="the unit has no synthetic picture")


def trust_in_pictures(
    bench: Bench, pictures: Pictures, paths: Mapping[UnitId, PathSignals], layers: Mapping[str, OpenLayer]
) -> dict[UnitId, Trust]:
    """The trust in the pictures of every unit of the run."""
    found: dict[UnitId, Trust] = {}
    rows = _crest_rows(bench)
    for layer, opened in layers.items():
        units = [unit for unit in bench.inputs.units if unit.side == layer and bench.alive(unit)]
        told = _informativeness(bench, opened.data, opened.pictures, units)
        crests = _crests(bench, layer, units, rows)
        for unit in units:
            first = [item for item in pictures.visualisations.get(unit, ()) if not item.second]
            activations = [item.activation for item in first if item.activation is not None]
            agreed = unit_agreement(opened.agreements, unit.index)
            of_judge = opened.agreements.get(agreed.judge or "")
            found[unit] = judge_picture(
                agreed,
                paths.get(unit, _NO_PICTURE),
                activations,
                bench.natural_range(unit),
                told.get(unit),
                of_judge.usual if of_judge else None,
                crests[unit],
            )
    dead = Trust(verdict="not_applicable", reason="A dead unit has no picture.")
    return {unit: found.get(unit, dead) for unit in bench.inputs.units}


def _crest_rows(bench: Bench) -> NDArray[np.int64]:
    """The same photographs for every layer, as rows of the pooled maxima, ascending."""
    ids = [int(image) for image in bench.activations.indexed_ids]
    return np.sort(hash_order(ids, bench.inputs.config.seed, "crests")[:CREST_IMAGES])


def _crests(
    bench: Bench, layer: str, units: Sequence[UnitId], rows: NDArray[np.int64]
) -> dict[UnitId, float | None]:
    """By all encoders of the run together."""
    activations, inputs = bench.activations, bench.inputs
    maxima_nu = np.asarray(activations.layers[layer].maxima[rows][:, [unit.index for unit in units]])
    seen_n = activations.indexed_ids[rows]
    found_u = crest_auroc(maxima_nu, [activations.embeddings[name][seen_n] for name in inputs.encoders])
    return {unit: known(value) for unit, value in zip(units, found_u.tolist(), strict=True)}


def _informativeness(
    bench: Bench, data: LayerData, pictures: PictureData, units: Sequence[UnitId]
) -> dict[UnitId, Informativeness]:
    """By the first judge that sees; empty where none does."""
    judge = next((judge for judge in bench.judges if isinstance(judge, EncoderJudge)), None)
    if judge is None or judge.name not in pictures.embeddings:
        return {}
    indices = [unit.index for unit in units]
    drawn_u = informativeness(data, judge, indices, mean_pictures(data.layer, indices, pictures, judge.name))
    photographed_u = informativeness(data, judge, indices, _mean_exemplars(bench, judge, units))
    return {
        unit: Informativeness(judge.name, drawn, photographed)
        for unit, drawn, photographed in zip(units, drawn_u.tolist(), photographed_u.tolist(), strict=True)
    }


def _mean_exemplars(bench: Bench, judge: EncoderJudge, units: Sequence[UnitId]) -> NDArray[np.float64]:
    """Mean centred embedding of the exemplars that proposers saw, ``(p, d)``; NaN without any."""
    shown = bench.inputs.config.exemplars.shown
    means = []
    for unit in units:
        ids = [exemplar.image for exemplar in bench.evidence.units[unit].exemplars[:shown]]
        embeddings_kd = judge.photographs_nd[ids].astype(np.float64)
        known_kd = embeddings_kd[np.isfinite(embeddings_kd).all(axis=1)]
        means.append(known_kd.mean(axis=0) if len(known_kd) else np.full(embeddings_kd.shape[1], np.nan))
    return np.array(means).reshape(len(units), -1)
