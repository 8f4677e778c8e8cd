"""Dissection within a run: every layer against the probe's annotated concepts, on the images of one split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch

from labeler.activations import image_maps
from labeler.baselines import network_dissection
from labeler.checks import Dissection
from labeler.pipeline.bench import Bench
from labeler.probes import PartialAnnotation, annotation_on_grid
from labeler.records import DissectedConcept, SplitName, UnitId
from labeler.seams import Annotation, Progress
from labeler.storage import hash_order

FEW = 4
"""Images that a concept needs on `feedback`, which only guides and is a quarter of `test`."""


def dissected_images(bench: Bench, split: SplitName) -> list[int]:
    """Ids of the annotated images of a split, hash-chosen where there are more than `checks.iou_images`."""
    readable = bench.activations.readable_ids.tolist()
    of_split = [image for image in readable if bench.evidence.splits[image] == split]
    annotated = [image for image in of_split if np.isfinite(bench.activations.areas[image]).any()]
    order = hash_order(annotated, bench.inputs.config.seed, "dissection")
    return sorted(annotated[place] for place in order[: bench.inputs.config.checks.iou_images])


def dissect(bench: Bench, progress: Progress, split: SplitName = "test") -> dict[str, Dissection]:
    """The dissection of every layer over a split's annotated images, hash-chosen where there are many."""
    settings, inputs = bench.inputs.config.checks, bench.inputs
    chosen = dissected_images(bench, split)
    if not chosen:
        return {}
    units = {layer: bench.live_units(layer) for layer in inputs.target.layers}
    categories = [concept.category for concept in inputs.probe.concepts]
    found = {
        layer: Dissection(
            live,
            bench.activations.layers[layer].threshold[live],
            categories,
            [unit.index for unit in inputs.units if unit.side == layer],
            settings.min_concept_images if split == "test" else FEW,
        )
        for layer, live in units.items()
    }
    done = 0
    for ids_b, images, maps in image_maps(
        inputs.target, inputs.probe, chosen, inputs.target.layers,
        batch_size=inputs.config.activations.batch_size, workers=inputs.config.executor.workers,
        decoding=inputs.config.executor.decoding,
    ):  # fmt: skip
        masks_bcgg = np.zeros((len(ids_b), len(categories), settings.iou_grid, settings.iou_grid), dtype=bool)
        known = []
        for row, (image_id, image) in enumerate(zip(ids_b.tolist(), images, strict=True)):
            annotation = inputs.probe.annotation(image_id, image)
            known.append(_known_categories(annotation, categories))
            if annotation is not None:
                box = inputs.target.view_box(*image.size)
                masks_bcgg[row, annotation.concepts] = annotation_on_grid(annotation, box, settings.iou_grid)
        for layer, dissection in found.items():
            live = torch.from_numpy(units[layer]).to(maps[layer].device)
            dissection.add(maps[layer][:, live], torch.from_numpy(masks_bcgg), known)
        done += len(ids_b)
        progress(done, len(chosen))
    return found


def _known_categories(annotation: Annotation | None, categories: Sequence[str]) -> frozenset[str]:
    """The categories in which an image says something about every concept, so that absence is absence."""
    if annotation is None:
        return frozenset()
    unknown = annotation.unknown.tolist() if isinstance(annotation, PartialAnnotation) else []
    return annotation.categories - {categories[concept] for concept in unknown}


def best_concepts(
    bench: Bench, dissections: Mapping[str, Dissection]
) -> dict[UnitId, tuple[DissectedConcept, ...]]:
    """The concept of highest IoU in every category, best first, for each live unit of the run.

    Network Dissection's labels (`labeler.baselines.network_dissection`), beside which the gate's verdict can
    be read. Categories without a concept in enough images are left out.
    """
    concepts, found = bench.inputs.probe.concepts, {}
    for layer, dissection in dissections.items():
        by_category = network_dissection(dissection)
        del by_category[""]  # the best of all is the best of its category
        row_of = {int(unit): row for row, unit in enumerate(dissection.live_units)}
        for unit in bench.inputs.units:
            if unit.side != layer or unit.index not in row_of:
                continue
            row = row_of[unit.index]
            best = [(of.iou_u[row], int(of.concepts_u[row])) for of in by_category.values()]
            found[unit] = tuple(
                DissectedConcept(
                    category=concepts[concept].category,
                    concept=concepts[concept].name,
                    iou=round(float(iou), 6),
                    images=dissection.concept_images(concept),
                )
                for iou, concept in sorted(best, key=lambda pair: (-pair[0], pair[1]))
                if concept >= 0
            )
    return found
