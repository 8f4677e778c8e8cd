"""Dissection over any images of a run, with the concepts' masks as they are or moved between images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from labeler.activations import image_maps
from labeler.checks import Dissection
from labeler.pipeline.bench import Bench
from labeler.probes import annotation_on_grid


@dataclass(frozen=True)
class Column:
    """One column of a dissection: a concept, and where it shows.

    `donors` gives, for every image that shows it, the image whose mask of the concept is shown there: itself
    for the annotation as it is. None: every image shows its own.
    """

    concept: int
    donors: Mapping[int, int] | None = None


def dissect(
    bench: Bench, image_ids: Sequence[int], columns: Sequence[Column], layers: Sequence[str]
) -> dict[str, Dissection]:
    """The dissection of `layers` over `image_ids`: live units × `columns`, for `Dissection.iou`."""
    inputs, grid = bench.inputs, bench.inputs.config.checks.iou_grid
    categories = [inputs.probe.concepts[column.concept].category for column in columns]
    live = {layer: bench.live_units(layer) for layer in layers}
    least = inputs.config.checks.min_concept_images
    found = {
        layer: Dissection(
            units, bench.activations.layers[layer].threshold[units], categories, [], min_images=least
        )
        for layer, units in live.items()
    }
    borrowed = _borrowed(bench, columns)
    for ids, images, maps in image_maps(
        inputs.target, inputs.probe, image_ids, list(layers),
        batch_size=inputs.config.activations.batch_size, workers=inputs.config.executor.workers,
    ):  # fmt: skip
        masks_bkgg = np.zeros((len(ids), len(columns), grid, grid), dtype=np.bool_)
        for row, (image_id, image) in enumerate(zip(ids.tolist(), images, strict=True)):
            own = _masks(bench, image_id, image)
            for place, column in enumerate(columns):
                donor = image_id if column.donors is None else column.donors.get(image_id)
                mask_gg = (
                    own.get(column.concept) if donor == image_id else borrowed.get((donor, column.concept))
                )
                if mask_gg is not None:
                    masks_bkgg[row, place] = mask_gg
        known = [_known_categories(bench, image_id) for image_id in ids.tolist()]
        for layer, dissection in found.items():
            units = torch.from_numpy(live[layer]).to(maps[layer].device)
            dissection.add(maps[layer][:, units], torch.from_numpy(masks_bkgg), known)
    return found


def _masks(bench: Bench, image_id: int, image: object) -> dict[int, NDArray[np.bool_]]:
    annotation = bench.inputs.probe.annotation(image_id, image)  # type: ignore[arg-type]
    if annotation is None:
        return {}
    box = bench.inputs.target.view_box(*image.size)  # type: ignore[attr-defined]
    masks_cgg = annotation_on_grid(annotation, box, bench.inputs.config.checks.iou_grid)
    return dict(zip(annotation.concepts.tolist(), masks_cgg, strict=True))


def _borrowed(bench: Bench, columns: Sequence[Column]) -> dict[tuple[int | None, int], NDArray[np.bool_]]:
    """The masks that are shown on another image than their own, by (donor, concept)."""
    wanted: dict[int, set[int]] = {}
    for column in columns:
        for image_id, donor in (column.donors or {}).items():
            if donor != image_id:
                wanted.setdefault(donor, set()).add(column.concept)
    found: dict[tuple[int | None, int], NDArray[np.bool_]] = {}
    for donor, concepts in wanted.items():
        own = _masks(bench, donor, bench.inputs.probe.image(donor))
        found.update({(donor, concept): own[concept] for concept in concepts if concept in own})
    return found


def _known_categories(bench: Bench, image_id: int) -> frozenset[str]:
    """The categories in which an image says something about every concept, so that absence is absence."""
    concepts = bench.inputs.probe.concepts
    unknown_c = np.isnan(bench.activations.areas[image_id])
    unknown = {concept.category for concept, missing in zip(concepts, unknown_c, strict=True) if missing}
    return frozenset(concept.category for concept in concepts) - unknown
