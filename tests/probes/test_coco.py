import json

import numpy as np
import pytest
from PIL import Image

from labeler.errors import ProbeError
from labeler.probes.coco import CocoPanopticProbe, readable_name

from .probe_files import panoptic_png, save


def rewrite(root, change):
    path = root / "panoptic.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def masks_by_name(probe, image_id):
    annotation = probe.annotation(image_id, probe.image(image_id))
    assert list(annotation.concepts) == sorted(set(annotation.concepts.tolist()))
    return {
        probe.concepts[c].name: mask for c, mask in zip(annotation.concepts, annotation.masks, strict=True)
    }


def test_masks_are_the_segments(coco_root):
    probe = CocoPanopticProbe(coco_root, "tiny")
    masks = masks_by_name(probe, 0)
    columns = np.broadcast_to(np.arange(12), (8, 12))
    assert set(masks) == {"person", "brick wall", "wall"}
    assert np.array_equal(masks["person"], columns < 4)
    assert np.array_equal(masks["brick wall"], (columns >= 4) & (columns < 8))
    assert masks["wall"].sum() == 32 + 8, "a brick wall is a wall as well"
    assert set(masks_by_name(probe, 1)) == {"person"}
    assert {concept.category for concept in probe.concepts} == {"object"}
    assert probe.images[0].path == "tiny/images/a.jpg"


def test_images_without_a_png_have_no_annotation(coco_root):
    (coco_root / "panoptic" / "b.png").unlink()
    probe = CocoPanopticProbe(coco_root, "tiny")
    assert [probe.annotation(i, probe.image(i)) is None for i in range(3)] == [False, True, True]


@pytest.mark.parametrize(
    ("original", "name"),
    [
        ("person", "person"),
        ("wall-brick", "brick wall"),
        ("floor-wood", "wood floor"),
        ("tree-merged", "tree"),
        ("floor-other-merged", "floor"),
        ("door-stuff", "door"),
        ("window-blind", "window blind"),
        ("window-other", "window"),
        ("playingfield", "playing field"),
        ("Traffic Light", "traffic light"),
    ],
)
def test_names_are_readable(original, name):
    assert readable_name(original) == name


def test_the_original_name_is_a_synonym(coco_root):
    synonyms = {c.name: c.synonyms for c in CocoPanopticProbe(coco_root, "tiny").concepts}
    assert synonyms["brick wall"] == ("wall-brick",)
    assert synonyms["wall"] == ("wall-other-merged",)
    assert "people" in synonyms["person"]


def test_the_fingerprint_follows_the_annotations(coco_root):
    first = CocoPanopticProbe(coco_root, "tiny").fingerprint
    assert CocoPanopticProbe(coco_root, "tiny").fingerprint == first
    save(coco_root / "panoptic" / "b.png", panoptic_png(np.full((8, 12), 7)))
    second = CocoPanopticProbe(coco_root, "tiny").fingerprint
    rewrite(coco_root, lambda data: data["categories"][0].update(name="human"))
    assert len({first, second, CocoPanopticProbe(coco_root, "tiny").fingerprint}) == 3


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (panoptic_png(np.full((8, 12), 999)), "segment 999"),
        (panoptic_png(np.full((12, 8), 7)), "8 x 12 pixels"),
        (np.full((8, 12), 7), "not RGB"),
    ],
)
def test_hostile_pngs_name_the_file(coco_root, picture, message):
    save(coco_root / "panoptic" / "a.png", picture)
    probe = CocoPanopticProbe(coco_root, "tiny")
    with pytest.raises(ProbeError, match=rf"tiny/panoptic/a\.png.*{message}"):
        probe.annotation(0, probe.image(0))
    assert probe.annotation(1, probe.image(1)) is not None


def test_a_truncated_png_is_a_broken_annotation(coco_root):
    path = coco_root / "panoptic" / "a.png"
    path.write_bytes(path.read_bytes()[:60])
    probe = CocoPanopticProbe(coco_root, "tiny")
    with pytest.raises(ProbeError, match=r"a\.png"):
        probe.annotation(0, probe.image(0))


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("annotations"),
        lambda data: data["annotations"][0].update(segments_info=3),
        lambda data: data["annotations"][0].update(image_id=99),
        lambda data: data["annotations"][0]["segments_info"][0].update(category_id=5),
        lambda data: [annotation.update(file_name="../images/a.png") for annotation in data["annotations"]],
    ],
)
def test_hostile_json_is_one_sentence(coco_root, change):
    rewrite(coco_root, change)
    with pytest.raises(ProbeError, match=r"panoptic\.json") as caught:
        CocoPanopticProbe(coco_root, "tiny")
    assert "\n" not in str(caught.value)


def test_a_path_in_the_json_leads_nowhere_else(coco_root):
    Image.fromarray(panoptic_png(np.full((8, 12), 7)).astype(np.uint8)).save(coco_root / "outside.png")
    rewrite(coco_root, lambda data: data["annotations"][0].update(file_name="../outside.png"))
    probe = CocoPanopticProbe(coco_root, "tiny")
    assert probe.annotation(0, probe.image(0)) is None
