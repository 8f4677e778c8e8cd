import numpy as np
import pytest

from labeler.config import ProbeConfig
from labeler.errors import UnreadableImageError
from labeler.probes import concept_areas, load_probe
from labeler.probes.combined import CombinedProbe
from labeler.seams import Annotation, Concept
from labeler.testing import FakeProbe

PICTURE = np.zeros((4, 4, 3), dtype=np.uint8)
DOG, CAT, BALL = (Concept(name, "object") for name in ("dog", "cat", "ball"))
WOOD = Concept("wood", "material")


def present(*concepts, categories=("object",)):
    rows = np.array(concepts, dtype=np.int64)
    return Annotation(rows, np.ones((len(rows), 4, 4), dtype=bool), frozenset(categories))


@pytest.fixture
def probe():
    first = FakeProbe([PICTURE, None], [DOG, CAT], [present(1), None], name="first")
    second = FakeProbe(
        [PICTURE + 9],
        [BALL, WOOD, Concept("dog", "object", ("hound",))],
        [present(0, 2, categories=("object", "material"))],
        name="second",
    )
    return CombinedProbe([first, second])


def areas(probe, image_id):
    annotation = probe.annotation(image_id, probe.image(image_id))
    found = concept_areas(
        annotation, (0, 0, 4, 4), len(probe.concepts), [c.category for c in probe.concepts], 4
    )
    return {concept.name: value for concept, value in zip(probe.concepts, found.tolist(), strict=True)}


def test_ids_go_on_and_paths_stay_apart(probe):
    assert [image.id for image in probe.images] == [0, 1, 2]
    assert [image.path for image in probe.images] == ["first/0000.png", "first/0001.png", "second/0000.png"]
    assert probe.image(2).getpixel((0, 0)) == (9, 9, 9)
    with pytest.raises(UnreadableImageError, match="first/0001"):
        probe.image(1)
    for outside in (-1, 3):
        with pytest.raises(IndexError):
            probe.image(outside)


def test_equal_concepts_are_one(probe):
    assert [(c.name, c.synonyms) for c in probe.concepts] == [
        ("dog", ("hound",)),
        ("cat", ()),
        ("ball", ()),
        ("wood", ()),
    ]
    annotation = probe.annotation(2, probe.image(2))
    assert annotation.concepts.tolist() == [0, 2]


def test_what_a_source_does_not_name_is_unknown_there(probe):
    first, second = areas(probe, 0), areas(probe, 2)
    assert (first["dog"], first["cat"]) == (0, 1)
    assert np.isnan([first["ball"], first["wood"]]).all()
    assert (second["dog"], second["ball"], second["wood"]) == (1, 1, 0)
    assert np.isnan(second["cat"])


def test_a_combination_within_a_combination_stays_honest(probe):
    third = FakeProbe([PICTURE], [CAT], [present(0)], name="third")
    nested = CombinedProbe([third, probe])
    assert areas(nested, 1) == pytest.approx(areas(probe, 0), nan_ok=True)
    assert np.isnan(areas(nested, 0)["dog"])


def test_sources_of_all_kinds_are_one_probe(coco_root, masks_root, tmp_path):
    config = ProbeConfig(
        source=(f"coco_panoptic:{coco_root}", f"masks:{masks_root}", f"folder:{coco_root / 'images'}")
    )
    probe = load_probe(config, seed=0)
    assert len(probe.images) == 9
    assert len({image.path for image in probe.images}) == 9
    assert not any(str(tmp_path) in image.path for image in probe.images)
    assert probe.images[0].group == probe.images[6].group, "the same file in two sources"
    for image in probe.images:
        annotation = probe.annotation(image.id, probe.image(image.id))
        assert "colour" in annotation.categories
        assert (np.diff(annotation.concepts) > 0).all()
    assert load_probe(config, seed=1).fingerprint == probe.fingerprint
    swapped = config.model_copy(update={"source": config.source[::-1]})
    assert load_probe(swapped, seed=0).fingerprint != probe.fingerprint


def test_two_directories_of_one_name_are_told_apart(coco_root):
    probe = load_probe(
        ProbeConfig(source=(f"folder:{coco_root / 'images'}", f"folder:{coco_root}/./images")), seed=0
    )
    assert {image.path.split("/")[0] for image in probe.images} == {"images", "images-2"}
