"""Hostile datasets through `load_probe`, every image and every mask: `python -m tests.fuzz.annotations`."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from labeler.config import ProbeConfig
from labeler.errors import LabelerError, ProbeError, UnreadableImageError
from labeler.probes import load_probe
from labeler.seams import ProbeDataset
from tests.fuzz.harness import GOOD, Case, Figures, fuzz, main, sentence
from tests.fuzz.mutate import TEXTS, mutated, other_data
from tests.probes.broden_files import write_broden
from tests.probes.probe_files import panoptic_png, save

COUNT = 20_000
LIMIT = 10.0
SOURCES = ("coco_panoptic", "masks", "broden", "webdataset", "folder")
_NAMES = (
    "../../secret.jpg",
    "/etc/passwd.png",
    "a/../../secret.jpg",
    "./a.jpg",
    "a\\b.jpg",
    "a\nb.jpg",
    "\udcff.jpg",
    "x" * 300 + ".jpg",
    "c.jpg",
    "b.jpg",
    "..",
    "secret.png",
)
_KINDS = (
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.FIFOTYPE,
    tarfile.DIRTYPE,
    tarfile.CONTTYPE,
    tarfile.GNUTYPE_SPARSE,
    tarfile.XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    b"?",
)


def write_datasets(root: Path) -> None:
    """A small whole dataset of every kind, each in a folder called like it."""
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (8, 12, 3)) for _ in range(3)]
    ids_hw = np.repeat([[1, 7, 70_000, 0]], 8, axis=0).repeat(3, axis=1)
    for name, image in zip("abc", pixels, strict=True):
        for source in ("coco_panoptic", "masks"):
            save(root / source / "images" / f"{name}.jpg", image)
        save(root / "folder" / f"{name}.jpg", image)
    for name in "ab":
        save(root / "coco_panoptic" / "panoptic" / f"{name}.png", panoptic_png(ids_hw))
        save(root / "masks" / "masks" / f"{name}.png", ids_hw % 256)
    (root / "coco_panoptic" / "panoptic.json").write_text(json.dumps(_panoptic()))
    names = {
        "1": "tree",
        "7": "sky",
        "112": {"name": "brick", "category": "material", "synonyms": ["bricks"]},
    }
    (root / "masks" / "classes.json").write_text(json.dumps(names))
    (root / "broden").mkdir()
    write_broden(root / "broden")
    (root / "webdataset").mkdir()
    members = [
        (f"{name}.{kind}", _jpeg(image))
        for name, image in zip("abc", pixels, strict=True)
        for kind in ("jpg", "cls")
    ]
    (root / "webdataset" / "x.tar").write_bytes(tar_of([(plain(name, data), data) for name, data in members]))


def _panoptic() -> dict[str, object]:
    segments = [
        {"id": 1, "category_id": 1},
        {"id": 7, "category_id": 175},
        {"id": 70_000, "category_id": 199},
    ]
    return {
        "images": [{"id": i, "file_name": f"{n}.jpg"} for i, n in enumerate("ab")],
        "categories": [
            {"id": 1, "name": "person"},
            {"id": 175, "name": "wall-brick"},
            {"id": 199, "name": "wall-other-merged"},
        ],
        "annotations": [
            {"image_id": i, "file_name": f"{n}.png", "segments_info": segments} for i, n in enumerate("ab")
        ],
    }


def _jpeg(pixels_hwc: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels_hwc.astype(np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def plain(name: str, data: bytes) -> tarfile.TarInfo:
    """The header of an ordinary member."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info


def tar_of(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A tar file, whatever its headers say: `tarfile` itself refuses to write most of what is wrong."""
    found = b""
    for info, data in members:
        found += info.tobuf(tarfile.GNU_FORMAT, errors="surrogateescape") + data + bytes(-len(data) % 512)
    return found + bytes(1024)


def hostile_tar(rng: random.Random) -> bytes:
    """Members whose names, kinds, sizes or targets lie."""
    members = []
    for number in range(rng.randint(1, 4)):
        data = _jpeg(np.full((4, 4, 3), number))
        info = plain(rng.choice((f"{number}.jpg", rng.choice(_NAMES))), data)
        if rng.random() < 0.3:
            info.type, info.linkname = (
                rng.choice(_KINDS),
                rng.choice(("/etc/passwd", "../secret.jpg", "0.jpg")),
            )
        if rng.random() < 0.3:
            info.size = rng.choice((-1, -512, -1024, 0, 1, 2**20, 2**33, 2**62))
        if rng.random() < 0.2:
            info.pax_headers = {
                "size": rng.choice(("-512", "9" * 5000, "x", "1")),
                "path": rng.choice(_NAMES),
            }
            body = b"".join(_pax(key, value) for key, value in info.pax_headers.items())
            header = plain("././@PaxHeader", body)
            header.type = tarfile.XHDTYPE
            members.append((header, body))
        members.append((info, data))
    return tar_of(members)


def _pax(key: str, value: str) -> bytes:
    text = f" {key}={value}\n".encode("utf-8", "surrogateescape")
    length = len(text) + 1
    while len(str(length)) + len(text) != length:
        length = len(str(length)) + len(text)
    return str(length).encode() + text


def damage(rng: random.Random, path: Path, source: str) -> str:
    """A whole file of a dataset replaced by something else; what was done."""
    data = path.read_bytes()
    choice = rng.randrange(10)
    if source == "webdataset" and choice < 6:
        path.write_bytes(hostile_tar(rng))
        return "tar"
    if path.suffix == ".json" and choice < 8:
        changed = json.loads(data)
        for _ in range(rng.randint(1, 3)):
            changed = other_data(rng, changed)
        path.write_text(json.dumps(changed))
        return "json"
    if path.suffix == ".csv" and choice < 7:
        path.write_bytes(_other_cells(rng, data.decode()).encode("utf-8", "surrogatepass"))
        return "csv"
    if choice == 0:
        path.unlink()
        return "missing"
    if choice == 1:
        path.unlink()
        rng.choice(
            (os.mkfifo, Path.mkdir, lambda p: p.symlink_to(p.name), lambda p: p.symlink_to("/dev/zero"))
        )(path)
        return "special"
    if choice == 2 and path.suffix == ".png":
        side = rng.choice((1, 3, 8, 500))
        mode = rng.choice(("L", "RGB", "RGBA", "P", "1", "I;16"))
        Image.new(mode, (side, side), rng.randrange(2)).save(path)
        return "other mask"
    path.write_bytes(mutated(rng, data, [data])[1])
    return "bytes"


def _other_cells(rng: random.Random, text: str) -> str:
    lines = [line.split(",") for line in text.splitlines()]
    for _ in range(rng.randint(1, 3)):
        row = rng.choice(lines)
        row[rng.randrange(len(row))] = rng.choice(
            (*TEXTS, *_NAMES, "300", "-1", "9" * 40, "ade/a_object.png", "1;2;3")
        )
        if rng.random() < 0.2:
            lines.insert(rng.randrange(len(lines) + 1), list(rng.choice(lines)))
    return "\n".join(",".join(row) for row in lines)


def outcome(source: str) -> str:
    """What comes of a whole look at a dataset."""
    try:
        probe = load_probe(ProbeConfig(source=(source,), colours=False), seed=0)
    except LabelerError as error:
        return sentence(error)
    assert [image.id for image in probe.images] == list(range(len(probe.images)))
    assert all(len(image.sha256) == 64 for image in probe.images)
    for concept in probe.concepts:
        assert concept.name.isprintable(), concept
        assert 0 < len(concept.name) <= 200, concept
    said = [_look(probe, image.id) for image in probe.images]
    return next((found for found in said if found != GOOD), GOOD)


def _look(probe: ProbeDataset, image_id: int) -> str:
    try:
        image = probe.image(image_id)
    except UnreadableImageError as error:
        return sentence(error)
    try:
        found = probe.annotation(image_id, image)
    except ProbeError as error:
        return check_annotation_error(error)
    if found is not None:
        assert found.masks.shape == (len(found.concepts), image.height, image.width)
        assert (np.diff(found.concepts) > 0).all()
        assert not len(found.concepts) or 0 <= found.concepts[0] <= found.concepts[-1] < len(probe.concepts)
    return GOOD


def check_annotation_error(error: ProbeError) -> str:
    """A broken annotation is not an unreadable image."""
    assert not isinstance(error, UnreadableImageError)
    return sentence(error)


def drawer(folder: Path) -> Callable[[random.Random], Case]:
    """Draws a damaged dataset."""
    write_datasets(folder / "whole")

    def draw(rng: random.Random) -> Case:
        source = rng.choice(SOURCES)
        copy = folder / "copy"
        if copy.exists():
            shutil.rmtree(copy)
        shutil.copytree(folder / "whole" / source, copy)
        files = sorted(path for path in copy.rglob("*") if path.is_file())
        chosen = rng.sample(files, min(len(files), rng.choice((1, 1, 2))))
        done = [damage(rng, path, source) for path in chosen]
        where = f"{copy}/*.tar" if source == "webdataset" else str(copy)
        return f"{source} {done[0]}", lambda: outcome(f"{source}:{where}")

    return draw


def run(numbers: range, seed: int) -> Figures:
    """The damaged datasets `numbers`."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="fuzz-annotations-", dir=memory) as name:
        return fuzz("annotations", drawer(Path(name)), numbers, seed, LIMIT)


if __name__ == "__main__":
    main("annotations", run, COUNT)
