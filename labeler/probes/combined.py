"""A list of sources as one probe dataset."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

import numpy as np
from PIL.Image import Image

from labeler.probes.grid import PartialAnnotation
from labeler.seams import Annotation, Concept, ProbeDataset
from labeler.storage import fingerprint


class CombinedProbe:
    """Several probes, one after the other: ids go on counting, concepts with equal name and category are one.

    A concept that a source does not name is unknown on that source's images, not absent, even where the
    source annotates the category: their annotations are `PartialAnnotation`.

    Args:
        parts: the probes; their names differ.
    """

    def __init__(self, parts: Sequence[ProbeDataset]) -> None:
        self._parts = tuple(parts)
        self.name = "+".join(part.name for part in parts)
        self.fingerprint = fingerprint("combined", [part.fingerprint for part in parts])
        self._starts = list(accumulate((len(part.images) for part in parts), initial=0))
        self.images = tuple(
            replace(image, id=start + image.id)
            for part, start in zip(parts, self._starts, strict=False)
            for image in part.images
        )
        self.concepts = _merge([part.concepts for part in parts])
        position = {(concept.name, concept.category): i for i, concept in enumerate(self.concepts)}
        self._positions = [
            np.array([position[concept.name, concept.category] for concept in part.concepts], dtype=np.int64)
            for part in parts
        ]

    def image(self, image_id: int) -> Image:
        """The decoded RGB image."""
        part, local = self._locate(image_id)
        return self._parts[part].image(local)

    def annotation(self, image_id: int, image: Image) -> Annotation | None:
        """The masks of the image's own source, under the merged concepts."""
        part, local = self._locate(image_id)
        own = self._parts[part].annotation(local, image)
        if own is None:
            return None
        positions = self._positions[part]
        named = positions
        if isinstance(own, PartialAnnotation):
            named = np.delete(positions, own.unknown)
        unknown = np.setdiff1d(np.arange(len(self.concepts)), named)
        merged = positions[own.concepts]
        order = np.argsort(merged)
        return PartialAnnotation(merged[order], own.masks[order], own.categories, unknown)

    def _locate(self, image_id: int) -> tuple[int, int]:
        if not 0 <= image_id < len(self.images):
            raise IndexError(f"There is no image {image_id} among {len(self.images)}.")
        part = bisect_right(self._starts, image_id) - 1
        return part, image_id - self._starts[part]


def _merge(groups: Sequence[Sequence[Concept]]) -> tuple[Concept, ...]:
    """Concepts in the order of their first appearance, with the synonyms of all."""
    merged: dict[tuple[str, str], Concept] = {}
    for concept in (concept for group in groups for concept in group):
        known = merged.setdefault((concept.name, concept.category), concept)
        synonyms = tuple(dict.fromkeys(known.synonyms + concept.synonyms))
        merged[concept.name, concept.category] = replace(known, synonyms=synonyms)
    return tuple(merged.values())
