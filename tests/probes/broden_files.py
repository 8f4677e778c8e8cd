"""A tiny Broden: its layout with numbers and pictures of our own."""

import csv

import numpy as np
from PIL import Image

COLUMNS = (
    "image",
    "split",
    "ih",
    "iw",
    "sh",
    "sw",
    "color",
    "object",
    "part",
    "material",
    "scene",
    "texture",
)
LABELS = [  # number, name, category, frequency, coverage, syns
    (1, "grey-c", "color(3)", 3, 1.0, ""),
    (2, "red-c", "color(2)", 2, 1.0, ""),
    (21, "fabric", "material(36);object(3)", 39, 4.2, "cloth;textile"),
    (300, "dog", "object(2)", 2, 0.5, "domestic_dog"),
    (301, "head", "part(2)", 2, 0.1, ""),
    (302, "eye", "part(2)", 2, 0.1, ""),
    (400, "street-s", "scene(1)", 1, 1.0, ""),
    (500, "dotted", "texture(1)", 1, 1.0, "polka-dotted"),
    (501, "striped", "texture(1)", 1, 1.0, ""),
]
BY_CATEGORY = {
    "color": (1, 2), "object": (21, 300), "part": (301, 302), "material": (21,), "scene": (400,),
    "texture": (500, 501),
}  # fmt: skip
SIZE, MASK = (12, 8), (6, 4)  # (width, height)


def write_mask(path, numbers_hw):
    numbers_hw = np.asarray(numbers_hw)
    rgb = np.stack([numbers_hw & 255, numbers_hw >> 8, np.zeros_like(numbers_hw)], axis=-1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb.astype(np.uint8)).save(path)


def write_table(path, header, rows):
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def row(image, **cells):
    """One row of index.csv; categories that are not given have empty cells."""
    sizes = {"ih": SIZE[1], "iw": SIZE[0], "sh": MASK[1], "sw": MASK[0]}
    filled = {"image": image, "split": "train", **sizes, **cells}
    return [filled.get(column, "") for column in COLUMNS]


def write_broden(root):
    """Three images: one with masks in four categories, one with whole-image labels, one with nothing."""
    for name in ("ade/a", "dtd/b", "bare"):
        path = root / "images" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE, (90, 90, 90)).save(path)
    left, top = np.zeros((4, 6), np.int64), np.zeros((4, 6), np.int64)
    left[:, :3] = 300
    left[:, 3:] = 21
    top[:2] = 301
    eye = np.zeros((4, 6), np.int64)
    eye[1, 2] = 302
    write_mask(root / "images/ade/a_color.png", np.ones((4, 6), np.int64))
    write_mask(root / "images/ade/a_object.png", left)
    write_mask(root / "images/ade/a_part_1.png", top)
    write_mask(root / "images/ade/a_part_2.png", eye)
    write_index(
        root,
        row(
            "ade/a.jpg",
            color="ade/a_color.png",
            object="ade/a_object.png",
            part="ade/a_part_1.png;ade/a_part_2.png",
            scene="400",
        ),
        row("dtd/b.jpg", texture="500;501"),
        row("bare.jpg"),
    )
    write_table(root / "label.csv", ("number", "name", "category", "frequency", "coverage", "syns"), LABELS)
    write_table(
        root / "category.csv",
        ("name", "first", "last", "count", "frequency"),
        [(name, min(numbers), max(numbers), len(numbers), 1) for name, numbers in BY_CATEGORY.items()],
    )
    names = {label[0]: label[1] for label in LABELS}
    for category, numbers in BY_CATEGORY.items():
        rows = [(0, 0, "-", 0, 0)] + [
            (code, number, names[number], 1, 1.0) for code, number in enumerate(numbers, 1)
        ]
        write_table(root / f"c_{category}.csv", ("code", "number", "name", "frequency", "coverage"), rows)
    return root


def write_index(root, *rows):
    write_table(root / "index.csv", COLUMNS, rows)
