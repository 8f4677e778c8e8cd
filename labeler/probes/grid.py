"""Masks in the target's view: what of a concept lies under the cells of an activation map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labeler.seams import Annotation

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class PartialAnnotation(Annotation):
    """An annotation that says nothing about some concepts of categories that it does annotate.

    When sources with different vocabularies are one probe, "object" is annotated on all of their images, but
    an object that only the second source names is unknown, not absent, on the images of the first.
    """

    unknown: NDArray[np.int64]  # ascending concept indices


def annotation_on_grid(annotation: Annotation, box: Box, grid: int) -> NDArray[np.bool_]:
    """The masks inside `box`, sampled at the centres of ``grid × grid`` equal cells.

    Args:
        annotation: masks ``(c, h, w)`` at the resolution of the image.
        box: (left, top, right, bottom) in pixels of the image: `Target.view_box`.
        grid: cells along each side.

    Returns:
        ``(c, grid, grid)``. Cells whose centre lies outside of the image are False.
    """
    height, width = annotation.masks.shape[1:]
    rows, inside_rows = _centres(box[1], box[3], grid, height)
    columns, inside_columns = _centres(box[0], box[2], grid, width)
    sampled_cgg = annotation.masks[:, rows[:, None], columns[None, :]]
    return sampled_cgg & (inside_rows[:, None] & inside_columns[None, :])


def concept_areas(
    annotation: Annotation | None,
    box: Box,
    concept_count: int,
    categories_of_concepts: Sequence[str],
    grid: int,
) -> NDArray[np.float32]:
    """The share of the view, in [0, 1], that each concept of the probe covers.

    Args:
        annotation: of one image; None where it has none.
        box: as in `annotation_on_grid`.
        concept_count: the number of concepts of the probe.
        categories_of_concepts: the category of each of them.
        grid: cells along each side; a share is a multiple of ``1 / grid²``.

    Returns:
        ``(concept_count,)``; NaN where the image says nothing about the concept.
    """
    areas = np.full(concept_count, np.nan, dtype=np.float32)
    if annotation is None:
        return areas
    known = np.fromiter((c in annotation.categories for c in categories_of_concepts), np.bool_, concept_count)
    areas[known] = 0
    areas[annotation.concepts] = annotation_on_grid(annotation, box, grid).mean(axis=(1, 2))
    if isinstance(annotation, PartialAnnotation):
        areas[annotation.unknown] = np.nan
    return areas


def _centres(start: float, stop: float, grid: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Pixel positions under the cell centres, clipped to 0..size-1, and which were inside before."""
    centres = start + (np.arange(grid) + 0.5) * ((stop - start) / grid)
    positions = np.floor(centres).astype(np.int64)
    inside = (positions >= 0) & (positions < size)
    return positions.clip(0, size - 1), inside
