"""`masks:DIR`: images with PNG masks of class indices, in the style of ADE20K's challenge, CamVid and VOC.

``DIR/images/a/b.jpg`` is annotated by ``DIR/masks/a/b.png``, whose pixels are indices (grey or palette) that
`labeler.probes.class_names` explains. 0 and 255 mean unlabelled where the class file does not name them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from labeler.errors import ProbeError
from labeler.probes.class_names import read_class_names
from labeler.probes.decode import decode_image, decode_mask
from labeler.probes.files import directory, hash_files, list_files, list_images
from labeler.seams import Annotation
from labeler.storage import file_sha256, fingerprint

_UNLABELLED: Final = (0, 255)  # ADE20K's and VOC's conventions
_INDEX_MODES: Final = ("L", "P", "1", "I", "I;16", "I;16B")


class IndexMaskProbe:
    """The images of a directory with index masks. Images without a mask have no annotation.

    Args:
        root: the directory with ``images``, ``masks`` and the class file.
        name: how the source is called in image paths.

    Raises:
        ProbeError: when a part is missing, the class file is broken, or no image has a mask.
    """

    def __init__(self, root: str | Path, name: str) -> None:
        self.name = name
        root = directory(root, "index mask")
        self._images_root = directory(root / "images", "image")
        self._masks_root = directory(root / "masks", "mask")
        self.images, self._names = list_images(self._images_root, f"{name}/images", "put the images there.")
        class_file, classes = read_class_names(root)
        self.concepts = tuple(dict.fromkeys(c for _, c in sorted(classes.items()) if c is not None))
        self._categories = frozenset(concept.category for concept in self.concepts)
        position = {concept: index for index, concept in enumerate(self.concepts)}
        self._concept_of_index: dict[int, int | None] = dict.fromkeys(_UNLABELLED) | {
            index: None if concept is None else position[concept] for index, concept in classes.items()
        }
        masks = list_files(self._masks_root, frozenset({".png"}))
        mask_of_stem = {_stem(mask): mask for mask in masks}
        self._masks = [mask_of_stem.get(_stem(image)) for image in self._names]
        if not any(self._masks):
            raise ProbeError(
                f"No image in {self._images_root} has a mask in {self._masks_root}; "
                "images/a/b.jpg needs masks/a/b.png."
            )
        hashes = hash_files(self._masks_root / mask for mask in masks)
        self.fingerprint = fingerprint(
            "masks",
            [(image.path, image.sha256) for image in self.images],
            list(zip(masks, hashes, strict=True)),
            (class_file.name, file_sha256(class_file)),
        )

    def image(self, image_id: int) -> Image:
        """The decoded RGB image."""
        return decode_image(self._images_root / self._names[image_id], self.images[image_id].path)

    def annotation(self, image_id: int, image: Image) -> Annotation | None:
        """The masks of the classes in the image, in all categories of the class file."""
        mask = self._masks[image_id]
        if mask is None:
            return None
        name = f"{self.name}/masks/{mask}"
        indices_hw = _indices(self._masks_root / mask, name, image)
        indices_of_concept: dict[int, list[int]] = {}
        for index in np.flatnonzero(np.bincount(indices_hw.ravel())).tolist():
            if index not in self._concept_of_index:
                raise ProbeError(f"The mask {name} has index {index}, which the class file does not name.")
            concept = self._concept_of_index[index]
            if concept is not None:
                indices_of_concept.setdefault(concept, []).append(index)
        concepts = np.array(sorted(indices_of_concept), dtype=np.int64)
        masks_chw = np.zeros((len(concepts), *indices_hw.shape), dtype=np.bool_)
        for mask_hw, concept in zip(masks_chw, concepts.tolist(), strict=True):
            for index in indices_of_concept[concept]:
                mask_hw |= indices_hw == index
        return Annotation(concepts, masks_chw, self._categories)


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _indices(path: Path, name: str, image: Image) -> NDArray[np.uint16]:
    mask = decode_mask(path, name)
    if mask.mode not in _INDEX_MODES:
        raise ProbeError(f"The mask {name} is in colour ({mask.mode}); its pixels must be class indices.")
    if mask.size != image.size:
        raise ProbeError(f"The mask {name} is {_size(mask)} pixels, its image is {_size(image)}.")
    return np.asarray(mask).astype(np.uint16)


def _size(image: Image) -> str:
    return f"{image.width} x {image.height}"
