import json

import numpy as np
import pytest

from labeler.errors import ProbeError
from labeler.probes.class_names import read_class_names
from labeler.probes.index_masks import IndexMaskProbe
from labeler.seams import Concept

from .probe_files import save


def test_masks_are_the_indices(masks_root):
    probe = IndexMaskProbe(masks_root, "street")
    assert probe.concepts == (Concept("traffic light", "object"), Concept("wood", "material", ("timber",)))
    assert [image.path for image in probe.images] == [
        "street/images/bare.jpg",
        "street/images/x/one.jpg",
        "street/images/x/two.jpg",
    ]
    assert probe.annotation(0, probe.image(0)) is None
    annotation = probe.annotation(1, probe.image(1))
    assert annotation.concepts.tolist() == [0, 1]
    assert annotation.masks[0].nonzero()[1].max() == 2
    assert annotation.masks[1].nonzero()[1].min() == 4
    empty = probe.annotation(2, probe.image(2))
    assert empty.masks.shape == (0, 6, 6)
    assert empty.categories == annotation.categories == {"object", "material"}


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.full((6, 6), 9), "index 9"),
        (np.full((5, 6), 1), "6 x 5 pixels"),
        (np.full((6, 6, 3), 1), "in colour"),
    ],
)
def test_hostile_masks_name_the_file(masks_root, mask, message):
    save(masks_root / "masks/x/one.png", mask)
    probe = IndexMaskProbe(masks_root, "street")
    with pytest.raises(ProbeError, match=rf"street/masks/x/one\.png.*{message}"):
        probe.annotation(1, probe.image(1))


def test_no_mask_at_all_is_an_error(masks_root):
    for mask in (masks_root / "masks").rglob("*.png"):
        mask.unlink()
    with pytest.raises(ProbeError, match="No image"):
        IndexMaskProbe(masks_root, "street")


def test_zero_counts_where_it_is_named(masks_root):
    (masks_root / "classes.json").write_text(json.dumps(["sky", "tree", "road"]))
    probe = IndexMaskProbe(masks_root, "street")
    annotation = probe.annotation(2, probe.image(2))
    assert [probe.concepts[c].name for c in annotation.concepts] == ["sky"]
    assert annotation.masks.all()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.json", '{"0": "void", "1": "Tree", "2": {"name": "brick", "category": "material"}}'),
        ("classes.csv", "index,name,category\n0,void,\n1,Tree\n2,brick,material\n"),
    ],
)
def test_class_files(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    assert read_class_names(tmp_path)[1] == {
        0: None,
        1: Concept("tree", "object"),
        2: Concept("brick", "material"),
    }


@pytest.mark.parametrize("text", ["void\ntree\n", "0 void\n1: tree\n", "1, tree\n0, Void"])
def test_text_class_files(tmp_path, text):
    (tmp_path / "classes.txt").write_text(text)
    assert read_class_names(tmp_path)[1] == {0: None, 1: Concept("tree", "object")}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.json", "{"),
        ("classes.json", "3"),
        ("classes.json", '{"1": 5}'),
        ("classes.json", '{"1": {"title": "tree"}}'),
        ("classes.json", '{"1": {"name": "tree", "category": "plant"}}'),
        ("classes.json", '{"1": "a", "01": "b"}'),
        ("classes.csv", "1,2,3,4\n"),
        ("classes.txt", ""),
        ("classes.txt", "void\n"),
        ("classes.txt", "tree\n\nroad\n"),
    ],
)
def test_broken_class_files_are_one_sentence(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ProbeError, match=name) as caught:
        read_class_names(tmp_path)
    assert "\n" not in str(caught.value)
