import csv

import numpy as np
import pytest
from PIL import Image

from labeler.config import ProbeConfig
from labeler.errors import ProbeError, UnreadableImageError
from labeler.probes import load_probe
from labeler.probes.broden import BrodenProbe
from labeler.seams import Concept

from .broden_files import row, write_broden, write_index, write_mask, write_table


@pytest.fixture
def root(tmp_path):
    return write_broden(tmp_path / "broden")


def masks_of(probe, image_id):
    annotation = probe.annotation(image_id, probe.image(image_id))
    named = [probe.concepts[c] for c in annotation.concepts]
    return {
        (c.name, c.category): mask for c, mask in zip(named, annotation.masks, strict=True)
    }, annotation.categories


def test_concepts_are_the_labels_by_category(root):
    assert BrodenProbe(root, "broden").concepts == (
        Concept("gray", "colour", ("grey",)),
        Concept("red", "colour"),
        Concept("fabric", "material", ("cloth", "textile")),
        Concept("fabric", "object", ("cloth", "textile")),
        Concept("dog", "object", ("domestic dog",)),
        Concept("head", "part"),
        Concept("eye", "part"),
        Concept("street", "scene"),
        Concept("dotted", "texture", ("polka-dotted",)),
        Concept("striped", "texture"),
    )


def test_masks_are_enlarged_to_the_image_and_may_overlap(root):
    masks, categories = masks_of(BrodenProbe(root, "broden"), 0)
    assert categories == {"colour", "object", "part", "scene"}
    assert set(masks) == {
        ("gray", "colour"), ("dog", "object"), ("fabric", "object"), ("head", "part"), ("eye", "part"),
        ("street", "scene"),
    }  # fmt: skip
    assert all(mask.shape == (8, 12) for mask in masks.values())
    assert masks["street", "scene"].all()
    np.testing.assert_array_equal(masks["dog", "object"].nonzero()[1].max(), 5)
    eye = np.zeros((8, 12), dtype=bool)
    eye[2:4, 4:6] = True
    np.testing.assert_array_equal(masks["eye", "part"], eye)
    assert (masks["head", "part"] & eye).any()


def test_whole_image_labels_and_empty_cells(root):
    probe = BrodenProbe(root, "broden")
    masks, categories = masks_of(probe, 1)
    assert categories == {"texture"}
    assert set(masks) == {("dotted", "texture"), ("striped", "texture")}
    assert all(mask.all() for mask in masks.values())
    assert probe.annotation(2, probe.image(2)) is None


def test_it_is_a_probe_source_with_its_own_colours(root):
    probe = load_probe(ProbeConfig(source=f"broden:{root}"), seed=0)
    assert [image.path for image in probe.images] == [
        "broden/images/ade/a.jpg", "broden/images/dtd/b.jpg", "broden/images/bare.jpg",
    ]  # fmt: skip
    assert sum(concept.category == "colour" for concept in probe.concepts) == 2


def test_ids_follow_the_index_and_contents_make_the_fingerprint(root):
    before = BrodenProbe(root, "broden")
    assert BrodenProbe(root, "broden").fingerprint == before.fingerprint
    write_mask(root / "images/ade/a_part_2.png", np.zeros((4, 6), np.int64))
    assert BrodenProbe(root, "broden").fingerprint != before.fingerprint


def test_a_missing_image_keeps_its_id(root):
    (root / "images/dtd/b.jpg").unlink()
    probe = BrodenProbe(root, "broden")
    assert probe.images[1].path == "broden/images/dtd/b.jpg"
    with pytest.raises(UnreadableImageError, match=r"dtd/b\.jpg"):
        probe.image(1)
    assert probe.image(2).size == (12, 8)


def test_a_missing_png_is_known_at_once(root):
    (root / "images/ade/a_part_2.png").unlink()
    with pytest.raises(ProbeError, match=r"names the mask ade/a_part_2\.png, which is not in"):
        BrodenProbe(root, "broden")


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (np.full((4, 6), 999), "label 999, which is not one of category object"),
        (np.full((4, 6), 400), "label 400, which is not one of category object"),
        (np.full((5, 6), 300), r"is 6 x 5 pixels, index\.csv says 6 x 4"),
    ],
)
def test_hostile_masks_name_the_file(root, numbers, message):
    write_mask(root / "images/ade/a_object.png", numbers)
    probe = BrodenProbe(root, "broden")
    with pytest.raises(ProbeError, match=rf"a_object\.png.*{message}"):
        probe.annotation(0, probe.image(0))


def test_a_grey_mask_and_a_broken_one(root):
    Image.new("L", (6, 4)).save(root / "images/ade/a_object.png")
    probe = BrodenProbe(root, "broden")
    with pytest.raises(ProbeError, match="mode is L, not RGB"):
        probe.annotation(0, probe.image(0))
    (root / "images/ade/a_object.png").write_bytes(b"\x89PNG\r\n\x1a\n then nothing")
    with pytest.raises(ProbeError, match=r"a_object\.png"):
        probe.annotation(0, probe.image(0))


def test_an_image_of_another_size_is_an_error(root):
    Image.new("RGB", (10, 8)).save(root / "images/ade/a.jpg")
    probe = BrodenProbe(root, "broden")
    with pytest.raises(ProbeError, match=r"is 10 x 8 pixels, index\.csv says 12 x 8"):
        probe.annotation(0, probe.image(0))


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a\\b.jpg", "a\nb.jpg", "", "."])
def test_names_that_lead_elsewhere_are_refused(root, name):
    write_index(root, row(name, texture="500"))
    with pytest.raises(ProbeError, match="does not lie below images"):
        BrodenProbe(root, "broden")
    write_index(root, row("bare.jpg", object=f"{name or '..'}.png;../x.png"))
    with pytest.raises(ProbeError, match=r"below images|which is not in"):
        BrodenProbe(root, "broden")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "lists no image"),
        ([row("bare.jpg"), row("bare.jpg")], "twice"),
        ([row("bare.jpg", texture="500", sh=0)], "size of 0 pixels"),
        ([row("bare.jpg", texture="500", sh="x")], "where a whole number belongs"),
        ([row("bare.jpg", texture="9" * 40)], "where a whole number belongs"),
    ],
)
def test_a_broken_index_is_one_sentence(root, rows, message):
    write_index(root, *rows)
    with pytest.raises(ProbeError, match=message):
        BrodenProbe(root, "broden")


def test_a_whole_image_label_that_nobody_named(root):
    write_index(root, row("bare.jpg", texture="499"))
    probe = BrodenProbe(root, "broden")
    with pytest.raises(ProbeError, match="label 499, which is not one of category texture"):
        probe.annotation(0, probe.image(0))


@pytest.mark.parametrize("victim", ["index.csv", "label.csv", "category.csv", "c_part.csv"])
def test_a_missing_or_foreign_table_is_one_sentence(root, victim):
    for data in (b"x,y\n1,2\n", b"\xff\xfe\x00", None):
        if data is None:
            (root / victim).unlink()
        else:
            (root / victim).write_bytes(data)
        with pytest.raises(ProbeError, match=victim):
            BrodenProbe(root, "broden")


def test_tables_that_disagree(root):
    write_table(root / "category.csv", ("name",), [("smell",)])
    with pytest.raises(ProbeError, match="the category 'smell'"):
        BrodenProbe(root, "broden")


def test_a_category_with_an_unnamed_number(root):
    with (root / "c_part.csv").open("a", newline="") as stream:
        csv.writer(stream).writerow((9, 77, "tail", 1, 1.0))
    with pytest.raises(ProbeError, match="has the number 77"):
        BrodenProbe(root, "broden")
