"""`coco_panoptic:DIR`: images with COCO's panoptic annotations (Kirillov et al. 2019; Lin et al. 2014).

``DIR/images`` holds the images, ``DIR/panoptic`` a PNG for each annotated one, whose pixels are segment ids
R + 256 G + 65536 B, and ``DIR/panoptic.json`` says which category every segment has.

All categories, things and stuff, are "object" concepts, as in Broden, which files sky, road and grass under
objects as well. A surface such as "cardboard" or "sand" is not called a material: COCO marks it only where it
is a region of its own, so its absence would not mean that nothing in the image is made of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from labeler.errors import ProbeError
from labeler.probes.decode import decode_image, decode_mask
from labeler.probes.files import directory, hash_files, in_short, list_files, list_images
from labeler.seams import Annotation, Concept
from labeler.storage import file_sha256, fingerprint

_CATEGORY: Final = "object"
_NAMING_VERSION: Final = 1

# COCO writes "-merged" and "-other" where it joined classes of COCO-Stuff, "-stuff" where a thing has the
# same name.
_ENDINGS: Final = ("-merged", "-other", "-stuff")
# "wall-brick" is a brick wall, but "window-blind" is a window blind.
_SURFACES: Final = ("wall", "floor", "ceiling")
_SPELLING: Final = {"playingfield": "playing field", "tv": "television", "hair drier": "hair dryer"}

# COCO's classes exclude each other ("wall-other" is every wall but those of brick, stone, tile and wood),
# words do not: a pixel of the first is also one of the second, or a true label would be wrong there.
_IS_ALSO: Final[Mapping[str, tuple[str, ...]]] = {
    "dining table": ("table",),
    "house": ("building",),
    "sea": ("water",),
    "river": ("water",),
    "banana": ("fruit", "food"),
    "apple": ("fruit", "food"),
    "orange": ("fruit", "food"),
    "fruit": ("food",),
    **dict.fromkeys(
        ("sandwich", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake"),
        ("food",),
    ),
}
_SYNONYMS: Final[Mapping[str, tuple[str, ...]]] = {
    "person": ("people", "human"),
    "bicycle": ("bike",),
    "car": ("automobile",),
    "motorcycle": ("motorbike",),
    "airplane": ("aeroplane", "plane", "aircraft"),
    "couch": ("sofa",),
    "cell phone": ("mobile phone", "cellphone"),
    "donut": ("doughnut",),
    "cow": ("cattle",),
    "refrigerator": ("fridge",),
    "potted plant": ("houseplant",),
    "remote": ("remote control",),
    "mouse": ("computer mouse",),
    "sports ball": ("ball",),
    "railroad": ("railway", "railway track"),
    "pavement": ("sidewalk",),
    "rug": ("carpet",),
    "rock": ("stone",),
    "sea": ("ocean",),
    "road": ("street",),
    "stairs": ("staircase",),
    "dirt": ("soil",),
}


@dataclass(frozen=True)
class _Segments:
    """The PNG of one image, relative to DIR/panoptic, and the category of each segment id in it."""

    png: str
    categories: tuple[tuple[int, int], ...]  # (segment id, category id)


class CocoPanopticProbe:
    """The images of a COCO panoptic directory. Images without a PNG have no annotation.

    Args:
        root: the directory with ``images``, ``panoptic`` and ``panoptic.json``.
        name: how the source is called in image paths.

    Raises:
        ProbeError: when a part is missing, the JSON is broken, or no image is annotated.
    """

    def __init__(self, root: str | Path, name: str) -> None:
        self.name = name
        self._root = directory(root, "COCO panoptic")
        self._images_root = directory(self._root / "images", "COCO image")
        self._png_root = directory(self._root / "panoptic", "COCO panoptic PNG")
        self.images, self._names = list_images(
            self._images_root, f"{name}/images", "put the COCO images there."
        )
        path = self._root / "panoptic.json"
        categories, segments = _read_json(path)
        self.concepts, self._concepts_of_category = _concepts(categories)
        pngs = list_files(self._png_root, frozenset({".png"}))
        # Only names that were listed are ever opened, so a path in the JSON cannot lead elsewhere.
        listed = set(pngs)
        self._segments = {image: found for image, found in segments.items() if found.png in listed}
        if not self._segments.keys() & set(self._names):
            raise ProbeError(
                f"No image in {self._images_root} has a panoptic PNG that {path} names; check the three."
            )
        hashes = hash_files(self._png_root / png for png in pngs)
        self.fingerprint = fingerprint(
            "coco_panoptic",
            _NAMING_VERSION,
            [(image.path, image.sha256) for image in self.images],
            list(zip(pngs, hashes, strict=True)),
            file_sha256(path),
        )

    def image(self, image_id: int) -> Image:
        """The decoded RGB image."""
        return decode_image(self._images_root / self._names[image_id], self.images[image_id].path)

    def annotation(self, image_id: int, image: Image) -> Annotation | None:
        """The masks of every category in the image, in category "object"."""
        segments = self._segments.get(self._names[image_id])
        if segments is None:
            return None
        name = f"{self.name}/panoptic/{segments.png}"
        ids_hw = _segment_ids(self._png_root / segments.png, name, image)
        concepts = sorted(
            {c for _, category in segments.categories for c in self._concepts_of_category[category]}
        )
        row = {concept: index for index, concept in enumerate(concepts)}
        masks_chw = np.zeros((len(concepts), *ids_hw.shape), dtype=np.bool_)
        known_hw = ids_hw == 0
        for segment, category in segments.categories:
            segment_hw = ids_hw == segment
            known_hw |= segment_hw
            for concept in self._concepts_of_category[category]:
                masks_chw[row[concept]] |= segment_hw
        if not known_hw.all():
            # Without a category these pixels would count as proof that a concept is absent.
            segment = ids_hw[~known_hw][0]
            raise ProbeError(f"The annotation {name} has segment {segment}, not listed in panoptic.json.")
        return Annotation(np.array(concepts, dtype=np.int64), masks_chw, frozenset({_CATEGORY}))


def readable_name(original: str) -> str:
    """COCO's category name as people say it: "wall-brick" is "brick wall", "sky-other-merged" is "sky"."""
    name = original.lower()
    while name.endswith(_ENDINGS):
        name = name.rpartition("-")[0]
    head, dash, tail = name.partition("-")
    if dash:
        name = f"{tail} {head}" if head in _SURFACES else f"{head} {tail}"
    name = name.replace("-", " ").replace("_", " ")
    return _SPELLING.get(name, name)


def _concepts(categories: Mapping[int, str]) -> tuple[tuple[Concept, ...], dict[int, tuple[int, ...]]]:
    """The concepts, and the positions of those that a category's pixels belong to."""
    names_of_category = {}
    originals: dict[str, list[str]] = {}
    for category, original in categories.items():
        name = readable_name(original)
        head, dash, _ = original.lower().partition("-")
        general = (head,) if dash and head in _SURFACES and head != name else ()
        names_of_category[category] = (name, *general, *_IS_ALSO.get(name, ()))
        originals.setdefault(name, []).append(original.lower())
    names = list(dict.fromkeys(name for group in names_of_category.values() for name in group))
    concepts = tuple(Concept(name, _CATEGORY, _synonyms(name, originals.get(name, []))) for name in names)
    position = {name: index for index, name in enumerate(names)}
    return concepts, {
        category: tuple(position[name] for name in group) for category, group in names_of_category.items()
    }


def _synonyms(name: str, originals: list[str]) -> tuple[str, ...]:
    return tuple(word for word in dict.fromkeys((*originals, *_SYNONYMS.get(name, ()))) if word != name)


def _read_json(path: Path) -> tuple[dict[int, str], dict[str, _Segments]]:
    """Category names by id, and segments by the image's file name."""
    if not path.is_file():  # also keeps a pipe from blocking for ever
        raise ProbeError(f"There is no file {path}; put COCO's panoptic annotations there.")
    try:
        data: Any = json.loads(path.read_bytes())
        categories = {int(category["id"]): str(category["name"]) for category in data["categories"]}
        files = {image["id"]: str(image["file_name"]) for image in data["images"]}
        segments = {
            files[annotation["image_id"]]: _Segments(
                str(annotation["file_name"]),
                tuple((int(part["id"]), int(part["category_id"])) for part in annotation["segments_info"]),
            )
            for annotation in data["annotations"]
        }
    except OSError as error:
        raise ProbeError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ProbeError(
            f"{path} is not a COCO panoptic annotation file: {type(error).__name__} ({in_short(error)})."
        ) from error
    for file_name, found in segments.items():
        unknown = {category for _, category in found.categories} - categories.keys()
        if unknown:
            raise ProbeError(
                f"{path} gives {in_short(file_name)} the category {in_short(min(unknown))}, which it "
                "does not define."
            )
    return categories, segments


def _segment_ids(path: Path, name: str, image: Image) -> NDArray[np.uint32]:
    mask = decode_mask(path, name)
    if mask.mode not in ("RGB", "RGBA"):
        raise ProbeError(f"The annotation {name} is not a panoptic PNG: its mode is {mask.mode}, not RGB.")
    if mask.size != image.size:
        raise ProbeError(
            f"The annotation {name} is {mask.width} x {mask.height} pixels, "
            f"its image {image.width} x {image.height}."
        )
    red_hw, green_hw, blue_hw = (np.asarray(mask)[..., channel].astype(np.uint32) for channel in range(3))
    ids_hw: NDArray[np.uint32] = red_hw | (green_hw << np.uint32(8)) | (blue_hw << np.uint32(16))
    return ids_hw
