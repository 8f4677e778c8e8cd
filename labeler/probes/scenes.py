"""`builtin:scenes`: rendered scenes with exact annotations, as many as asked for, of any size, by seed."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from PIL import Image

from labeler.builtin import scenes
from labeler.seams import Annotation, Concept, ProbeImage
from labeler.storage import file_sha256, fingerprint

if TYPE_CHECKING:
    from labeler.builtin.scenes import Scene

_KEPT: Final = 32
"""Scenes kept between `image` and `annotation`: a few for every thread that reads."""


class ScenesProbe:
    """`count` scenes of `size` × `size` pixels. The renderer annotates colour itself.

    Args:
        seed: of the endless series of scenes.
        count: how many of its first scenes.
        size: height and width in pixels.
    """

    name = "scenes"

    def __init__(self, *, seed: int, count: int, size: int) -> None:
        self._seed, self._size = seed, size
        self.concepts = tuple(
            Concept(concept.name, concept.category, tuple(w for w in concept.words if w != concept.name))
            for concept in scenes.CONCEPTS
        )
        self._categories = frozenset(concept.category for concept in self.concepts)
        # A hash of all pixels would render everything first; these values determine every pixel.
        renderer = _renderer_sha256()
        hashes = [fingerprint("scene", renderer, seed, index, size) for index in range(count)]
        # The group leaves the renderer out, so that splits outlive a change of its code.
        self.images = tuple(
            ProbeImage(index, f"scene-{index:06d}", sha256, f"scene-{seed}-{index}")
            for index, sha256 in enumerate(hashes)
        )
        names = [(concept.name, concept.category) for concept in self.concepts]
        self.fingerprint = fingerprint("scenes", names, hashes)
        self._lock = threading.Lock()
        self._recent: OrderedDict[int, Scene] = OrderedDict()

    def image(self, image_id: int) -> Image.Image:
        """The rendered image."""
        return Image.fromarray(self._scene(image_id).image)

    def annotation(self, image_id: int, image: Image.Image) -> Annotation:
        """The rendered masks, in every category."""
        scene = self._scene(image_id)
        return Annotation(scene.concepts, scene.masks, self._categories)

    def caption(self, image_id: int) -> str:
        """One sentence about the scene."""
        return self._scene(image_id).caption

    def _scene(self, image_id: int) -> Scene:
        with self._lock:
            if image_id in self._recent:
                self._recent.move_to_end(image_id)
                return self._recent[image_id]
        scene = scenes.render_scene(self._seed, self.images[image_id].id, self._size)
        with self._lock:
            self._recent[image_id] = scene
            while len(self._recent) > _KEPT:
                self._recent.popitem(last=False)
        return scene


@functools.cache
def _renderer_sha256() -> str:
    """Over the renderer's source: its version, which cannot be forgotten when the code changes."""
    files = sorted(Path(scenes.__file__).parent.glob("*.py"))
    return fingerprint([(file.name, file_sha256(file)) for file in files])
