"""Folders, and what every source has in common."""

import hashlib
import os
import shutil

import numpy as np
import pytest

from labeler.config import ProbeConfig
from labeler.errors import ProbeError, UnknownNameError, UnreadableImageError
from labeler.probes import load_probe

from .probe_files import save as save_picture


def save(path, value):
    save_picture(path, np.full((4, 5, 3), value))


def load(*sources, seed=0, **options):
    return load_probe(ProbeConfig(source=sources, **{"colours": False, **options}), seed=seed)


@pytest.fixture
def photos(tmp_path):
    root = tmp_path / "photos"
    for value, name in enumerate(["b.png", "a/z.PNG", "a/c.webp", "a.jpeg", "B.png"]):
        save(root / name, value * 20)
    save(root / ".hidden.png", 1)
    save(root / ".git" / "x.png", 1)
    (root / "notes.txt").write_text("not an image")
    return root


def test_ids_follow_the_sorted_relative_paths(photos):
    probe = load(f"folder:{photos}")
    names = ["B.png", "a.jpeg", "a/c.webp", "a/z.PNG", "b.png"]
    assert [image.path for image in probe.images] == [f"photos/{name}" for name in names]
    assert [image.id for image in probe.images] == [0, 1, 2, 3, 4]
    assert [image.sha256 for image in probe.images] == [
        hashlib.sha256((photos / name).read_bytes()).hexdigest() for name in names
    ]
    assert probe.image(4).getpixel((0, 0)) == (0, 0, 0)
    assert probe.annotation(0, probe.image(0)) is None


def test_an_unreadable_image_keeps_its_id(photos):
    (photos / "a.jpeg").write_bytes(b"no image")
    (photos / "a/dangling.png").symlink_to("nowhere.png")
    probe = load(f"folder:{photos}")
    assert [image.path for image in probe.images if image.id in (1, 3)] == [
        "photos/a.jpeg",
        "photos/a/dangling.png",
    ]
    for image_id in (1, 3):
        with pytest.raises(UnreadableImageError, match=probe.images[image_id].path):
            probe.image(image_id)
    assert probe.image(4).size == (5, 4)


def test_exact_duplicates_share_a_group(photos):
    shutil.copy(photos / "b.png", photos / "copy.png")
    groups = {image.path: image.group for image in load(f"folder:{photos}").images}
    assert groups["photos/b.png"] == groups["photos/copy.png"]
    assert len(set(groups.values())) == 5


def test_the_fingerprint_follows_contents_and_names(photos, tmp_path):
    first = load(f"folder:{photos}")
    moved = tmp_path / "elsewhere" / "photos"
    shutil.copytree(photos, moved)
    assert load(f"folder:{moved}").fingerprint == first.fingerprint, "no absolute path goes in"
    assert load(f"folder:{photos}", colours=True).fingerprint != first.fingerprint
    save(photos / "b.png", 77)
    changed = load(f"folder:{photos}").fingerprint
    (photos / "b.png").rename(photos / "d.png")
    assert len({first.fingerprint, changed, load(f"folder:{photos}").fingerprint}) == 3


def test_names_that_are_not_utf8(photos):
    os.rename(photos / "b.png", os.fsencode(photos) + b"/b\xff.png")
    probe = load(f"folder:{photos}")
    assert probe.images[4].path == "photos/b�.png"
    assert probe.image(4).size == (5, 4)


def test_missing_and_empty_folders_say_what_to_do(tmp_path):
    (tmp_path / "empty").mkdir()
    for kind in ("folder", "coco_panoptic", "masks"):
        for name in ("empty", "missing"):
            with pytest.raises(ProbeError) as caught:
                load(f"{kind}:{tmp_path / name}")
            assert str(tmp_path / name) in str(caught.value)
            assert "\n" not in str(caught.value)
            assert str(caught.value).endswith(".")


def test_unknown_and_absent_sources(photos):
    with pytest.raises(UnknownNameError, match="folder"):
        load("folders:x")
    with pytest.raises(ProbeError, match="no source"):
        load()
    with pytest.raises(ProbeError, match="twice"):
        load(f"folder:{photos}", f"folder:{photos}")
