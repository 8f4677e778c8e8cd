"""`folder:DIR`: a directory of images without annotations."""

from __future__ import annotations

from pathlib import Path

from PIL.Image import Image

from labeler.probes.decode import decode_image
from labeler.probes.files import directory, list_images
from labeler.seams import Annotation, Concept
from labeler.storage import fingerprint


class FolderProbe:
    """All images under `root`, recursively, sorted by their relative path.

    Args:
        root: the directory.
        name: how the source is called in image paths.

    Raises:
        ProbeError: when the directory is missing or holds no image.
    """

    concepts: tuple[Concept, ...] = ()

    def __init__(self, root: str | Path, name: str) -> None:
        self.name = name
        self._root = directory(root, "image")
        self.images, self._names = list_images(self._root, name, "point probe.source at a folder of images.")
        self.fingerprint = fingerprint("folder", [(image.path, image.sha256) for image in self.images])

    def image(self, image_id: int) -> Image:
        """The decoded RGB image."""
        return decode_image(self._root / self._names[image_id], self.images[image_id].path)

    def annotation(self, image_id: int, image: Image) -> Annotation | None:
        """None: a folder has no annotations."""
        return None
