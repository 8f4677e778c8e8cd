"""`broden:DIR`: Broden's own layout, the dataset of Network Dissection (Bau et al. 2017, section 2.1).

``index.csv`` has one row for each image: its file below ``images/``, a split (ours are made anew), the size
of the image (``ih``, ``iw``) and of its masks (``sh``, ``sw``), and one column for each category of
``category.csv``. A cell lists, between semicolons, PNGs below ``images/`` whose pixels are label numbers
R + 256 G, and label numbers that hold for the whole image. Several PNGs give a pixel several labels; 0 is no
label. An empty cell means that nobody annotated the category on this image, so that absence is not known.

``label.csv`` names the numbers, ``c_<category>.csv`` says which of them occur in a category. The suffixes
"-c" of colours and "-s" of scenes are Broden's own and are taken off; its category "color" is "colour" here.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from labeler.errors import ProbeError
from labeler.printable import is_printable
from labeler.probes.decode import decode_image, decode_mask
from labeler.probes.files import LONGEST_NAME, directory, hash_files, in_short, list_files
from labeler.records import Kind
from labeler.seams import Annotation, Concept, ProbeImage
from labeler.storage import file_sha256, fingerprint

_SIZES: Final = ("ih", "iw", "sh", "sw")
_KIND_OF_CATEGORY: Final = {"color": "colour"}
_SUFFIXES: Final = {"colour": "-c", "scene": "-s"}
_SPELLING: Final = {("grey", "colour"): ("gray", ("grey",))}  # the name that labeler gives the pixels itself
_COUNTED: Final = re.compile(r"(.+)\(\d+\)")  # "object(4532)": the category and in how many images


@dataclass(frozen=True)
class _Row:
    """One annotated image of index.csv: PNGs and whole-image labels by category, empty cells left out."""

    image: str
    image_size: tuple[int, int]  # (width, height)
    mask_size: tuple[int, int]
    masks: tuple[tuple[str, str], ...]  # (category, PNG)
    labels: tuple[tuple[str, int], ...]  # (category, number)

    @property
    def categories(self) -> frozenset[str]:
        return frozenset(category for category, _ in (*self.masks, *self.labels))


class BrodenProbe:
    """The images of a Broden directory, in the order of its index.

    Args:
        root: the directory with ``images``, ``index.csv``, ``label.csv``, ``category.csv`` and ``c_*.csv``.
        name: how the source is called in image paths.

    Raises:
        ProbeError: when a file is missing or broken, a row names a PNG that is not there, or a name leads
            out of ``images``.
    """

    def __init__(self, root: str | Path, name: str) -> None:
        self.name = name
        root = directory(root, "Broden")
        self._images_root = directory(root / "images", "Broden image")
        categories = _categories(root)
        self.concepts, self._concept_of = _concepts(root, categories)
        self._rows = _read_index(root / "index.csv", categories)
        # Only names that were listed are ever opened, so a path in the index cannot lead elsewhere.
        pngs = list_files(self._images_root, frozenset({".png"}))
        listed = set(pngs)
        for row in self._rows:
            for _, png in row.masks:
                if png not in listed:
                    raise ProbeError(
                        f"{root / 'index.csv'} names the mask {in_short(png)}, which is not in "
                        f"{self._images_root}; unpack the whole of Broden."
                    )
        used = sorted({png for row in self._rows for _, png in row.masks})
        hashes = hash_files(self._images_root / row.image for row in self._rows)
        self.images = tuple(
            ProbeImage(position, f"{name}/images/{row.image}", sha256, sha256)
            for position, (row, sha256) in enumerate(zip(self._rows, hashes, strict=True))
        )
        tables = ["index.csv", "label.csv", *(f"c_{category}.csv" for category in categories)]
        self.fingerprint = fingerprint(
            "broden",
            [(image.path, image.sha256) for image in self.images],
            list(zip(used, hash_files(self._images_root / png for png in used), strict=True)),
            [(table, file_sha256(root / table)) for table in tables],
        )

    def image(self, image_id: int) -> Image:
        """The decoded RGB image."""
        return decode_image(self._images_root / self._rows[image_id].image, self.images[image_id].path)

    def annotation(self, image_id: int, image: Image) -> Annotation | None:
        """The masks in every category whose cell is filled, enlarged to the image by nearest neighbour."""
        row = self._rows[image_id]
        if not row.categories:
            return None
        if image.size != row.image_size:
            raise ProbeError(
                f"The image {self.images[image_id].path} is {_size(image.size)} pixels, "
                f"index.csv says {_size(row.image_size)}."
            )
        columns, rows = (
            np.arange(full) * small // full for full, small in zip(image.size, row.mask_size, strict=True)
        )
        masks: dict[int, NDArray[np.bool_]] = {}
        for category, number in row.labels:
            if number:
                concept = self._concept(category, number, "index.csv")
                masks[concept] = np.ones((image.height, image.width), dtype=np.bool_)
        for category, png in row.masks:
            numbers_hw = self._numbers(png, row.mask_size)
            for number in np.flatnonzero(np.bincount(numbers_hw.ravel())).tolist():
                if number:
                    concept = self._concept(category, number, f"The mask {self.name}/images/{png}")
                    mask_hw = (numbers_hw == number)[rows[:, None], columns[None, :]]
                    masks[concept] = masks[concept] | mask_hw if concept in masks else mask_hw
        concepts = sorted(masks)
        stacked = np.zeros((len(concepts), image.height, image.width), dtype=np.bool_)
        for position, concept in enumerate(concepts):
            stacked[position] = masks[concept]
        kinds = frozenset(_KIND_OF_CATEGORY.get(category, category) for category in row.categories)
        return Annotation(np.array(concepts, dtype=np.int64), stacked, kinds)

    def _concept(self, category: str, number: int, where: str) -> int:
        if (category, number) not in self._concept_of:
            raise ProbeError(
                f"{where} has label {number}, which is not one of category {category}: "
                f"see label.csv and c_{category}.csv."
            )
        return self._concept_of[category, number]

    def _numbers(self, png: str, size: tuple[int, int]) -> NDArray[np.uint16]:
        name = f"{self.name}/images/{png}"
        mask = decode_mask(self._images_root / png, name)
        if mask.mode not in ("RGB", "RGBA"):
            raise ProbeError(f"The mask {name} is not one of Broden's: its mode is {mask.mode}, not RGB.")
        if mask.size != size:
            raise ProbeError(f"The mask {name} is {_size(mask.size)} pixels, index.csv says {_size(size)}.")
        red_hw, green_hw = (np.asarray(mask)[..., channel].astype(np.uint16) for channel in range(2))
        numbers_hw: NDArray[np.uint16] = red_hw | (green_hw << np.uint16(8))
        return numbers_hw


def _categories(root: Path) -> tuple[str, ...]:
    """The names in category.csv, all of which are kinds of labels."""
    path = root / "category.csv"
    names = tuple(row["name"] for row in _table(path, ("name",)))
    for name in names:
        if _KIND_OF_CATEGORY.get(name, name) not in get_args(Kind):
            raise ProbeError(
                f"{path} has the category {in_short(name)!r}; known are {', '.join(get_args(Kind))}."
            )
    if not names or len(set(names)) < len(names):
        raise ProbeError(f"{path} must name each category once, and one at least.")
    return names


def _concepts(
    root: Path, categories: tuple[str, ...]
) -> tuple[tuple[Concept, ...], dict[tuple[str, int], int]]:
    """The concepts by category and number, and the position of each (category, number).

    A number may be in several categories, and is a concept in each; two numbers with one name are one.
    """
    labels = root / "label.csv"
    named: dict[int, tuple[str, tuple[str, ...]]] = {}
    pairs: set[tuple[str, int]] = set()
    for row in _table(labels, ("number", "name", "category")):
        number = _whole(row["number"], labels)
        words = [_clean(word) for word in (row.get("syns") or "").split(";")]
        named[number] = _clean(row["name"]), tuple(word for word in words if word)
        for entry in filter(None, row["category"].split(";")):
            counted = _COUNTED.fullmatch(entry.strip())
            pairs.add((counted[1] if counted else entry.strip(), number))
    for category in categories:
        path = root / f"c_{category}.csv"
        for row in _table(path, ("number",)):
            number = _whole(row["number"], path)
            if number and number not in named:  # 0 is Broden's "no label"
                raise ProbeError(f"{path} has the number {number}, which {labels} does not name.")
            pairs.add((category, number))
    position: dict[tuple[str, str], int] = {}
    concepts: list[Concept] = []
    concept_of: dict[tuple[str, int], int] = {}
    for category, number in sorted(pairs, key=lambda pair: (pair[1], pair[0])):
        if category in categories and number:
            concept = _concept(*named[number], _KIND_OF_CATEGORY.get(category, category))
            if (concept.name, concept.category) not in position:
                position[concept.name, concept.category] = len(concepts)
                concepts.append(concept)
            concept_of[category, number] = position[concept.name, concept.category]
    if not concepts:
        raise ProbeError(f"{labels} names no concept of the categories {', '.join(categories)}.")
    return tuple(concepts), concept_of


def _concept(name: str, synonyms: tuple[str, ...], kind: str) -> Concept:
    suffix = _SUFFIXES.get(kind, "")
    name = name.removesuffix(suffix)
    name, also = _SPELLING.get((name, kind), (name, ()))
    words = (*also, *(word.removesuffix(suffix) for word in synonyms))
    return Concept(name, kind, tuple(word for word in dict.fromkeys(words) if word != name))


def _read_index(path: Path, categories: tuple[str, ...]) -> tuple[_Row, ...]:
    rows = tuple(_row(cells, categories, path) for cells in _table(path, ("image", *_SIZES, *categories)))
    if not rows:
        raise ProbeError(f"{path} lists no image; unpack the whole of Broden.")
    if len({row.image for row in rows}) < len(rows):
        raise ProbeError(f"{path} lists an image twice; every image has one row.")
    return rows


def _row(cells: Mapping[str, str], categories: tuple[str, ...], path: Path) -> _Row:
    masks, labels = [], []
    for category in categories:
        for entry in filter(None, (part.strip() for part in cells[category].split(";"))):
            if entry.isdecimal():
                labels.append((category, _whole(entry, path)))
            else:
                masks.append((category, _inside(entry, path)))
    height, width, mask_height, mask_width = (_whole(cells[size], path) for size in _SIZES)
    if not (masks or labels) or min(height, width, mask_height, mask_width) > 0:
        return _Row(
            _inside(cells["image"], path), (width, height), (mask_width, mask_height),
            tuple(masks), tuple(labels),
        )  # fmt: skip
    raise ProbeError(f"{path} gives {in_short(cells['image'])!r} a size of 0 pixels.")


def _table(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a CSV file with a header, which must have the columns `needed`."""
    if not path.is_file():  # also keeps a pipe from blocking for ever
        raise ProbeError(f"There is no file {path}; unpack the whole of Broden.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            missing = [column for column in needed if column not in (reader.fieldnames or ())]
            if missing:
                raise ProbeError(f"{path} has no column {missing[0]!r}; it is not a table of Broden's.")
            return [{str(key): value for key, value in row.items() if key} for row in reader]
    except OSError as error:
        raise ProbeError(f"{path} cannot be read ({error.strerror}); unpack the whole of Broden.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ProbeError(f"{path} is not a CSV file: {in_short(error)}.") from error


def _whole(text: str, path: Path) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise ProbeError(f"{path} has {in_short(text)!r} where a whole number belongs.")
    return int(text)


def _inside(name: str, path: Path) -> str:
    """`name` when it stays below the directory that it is relative to."""
    parts = PurePosixPath(name).parts
    climbs = not parts or parts[0] == "/" or ".." in parts or "\\" in name
    if climbs or not is_printable(name) or len(name) > LONGEST_NAME:
        raise ProbeError(f"{path} names the file {in_short(name)!r}, which does not lie below images.")
    return PurePosixPath(name).as_posix()


def _clean(name: str) -> str:
    return " ".join(name.replace("_", " ").lower().split())


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
