"""Rendered scenes: always the same, annotated exactly, every concept present in some and absent from most."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labeler.builtin.scenes import CATEGORIES, CONCEPTS, MINIMUM_AREA, render_scene
from labeler.builtin.scenes.canvas import PALETTE
from labeler.builtin.scenes.materials import _pyramid
from labeler.errors import MissingExtraError

INDEX = {concept.name: index for index, concept in enumerate(CONCEPTS)}
WHOLE_OF = {
    "roof": {"house"},
    "door": {"house"},
    "wheel": {"car"},
    "trunk": {"tree"},
    "leaves": {"tree", "flower"},
    "eye": {"face", "fish"},
    "mouth": {"face"},
    "petal": {"flower"},
    "sail": {"boat"},
    "tail": {"fish"},
    "wing": {"butterfly"},
    "handle": {"cup", "umbrella"},
    "window": {"house", "car", "city"},
}


def test_there_are_enough_concepts_of_every_category() -> None:
    counts = {category: sum(c.category == category for c in CONCEPTS) for category in CATEGORIES}
    assert len(CONCEPTS) >= 60
    assert counts["colour"] == 11
    assert counts["texture"] >= 15
    assert min(counts.values()) >= 6
    assert len({concept.name for concept in CONCEPTS}) == len(CONCEPTS)
    assert all(concept.words[0] == concept.name for concept in CONCEPTS)


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 10**6), st.sampled_from([64, 97, 112]))
def test_the_same_numbers_give_the_same_scene(seed: int, index: int, size: int) -> None:
    one, other = render_scene(seed, index, size), render_scene(seed, index, size)
    assert np.array_equal(one.image, other.image)
    assert np.array_equal(one.masks, other.masks)
    assert one.caption == other.caption


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 10**6), st.sampled_from([64, 97, 112]))
def test_annotations_are_well_formed(seed: int, index: int, size: int) -> None:
    scene = render_scene(seed, index, size)
    assert scene.image.shape == (size, size, 3)
    assert scene.image.dtype == np.uint8
    assert scene.masks.shape == (len(scene.concepts), size, size)
    assert scene.masks.dtype == np.bool_
    assert np.all(np.diff(scene.concepts) > 0)
    assert scene.masks.mean(axis=(1, 2)).min() >= MINIMUM_AREA


def test_scenes_differ_by_seed_and_index() -> None:
    images = [render_scene(seed, index, 64).image for seed in (1, 2) for index in (0, 1)]
    assert len({image.tobytes() for image in images}) == 4


def test_every_concept_occurs_and_is_mostly_absent() -> None:
    present = np.zeros((600, len(CONCEPTS)), dtype=bool)
    for index in range(600):
        present[index, render_scene(0, index, 72).concepts] = True
    rate_c = present.mean(axis=0)
    colours = np.asarray([concept.category == "colour" for concept in CONCEPTS])
    assert rate_c.min() >= 0.01
    assert rate_c[~colours].max() <= 0.25
    assert rate_c[colours].max() <= 0.75


def test_a_colours_pixels_have_that_colour() -> None:
    """Over the pixels of each colour mask, the median pixel is nearest to that colour's paint."""
    centres_p3 = np.asarray([np.mean(ends, axis=0) for ends in PALETTE.values()])
    names = list(PALETTE)
    right = total = 0
    for index in range(150):
        scene = render_scene(3, index, 112)
        for mask, concept in zip(scene.masks, scene.concepts, strict=True):
            if CONCEPTS[concept].category != "colour" or mask.mean() < 0.02:
                continue
            median = np.median(scene.image[mask], axis=0)
            nearest = names[int(np.argmin(np.linalg.norm(centres_p3 - median, axis=1)))]
            right += nearest == CONCEPTS[concept].name
            total += 1
    assert total > 300
    assert right / total > 0.9


def test_colours_of_a_pixel_are_one_colour() -> None:
    """Every pixel was painted once on top, so two colour masks never overlap."""
    for index in range(60):
        scene = render_scene(4, index, 96)
        colours = [i for i, c in enumerate(scene.concepts) if CONCEPTS[c].category == "colour"]
        assert scene.masks[colours].sum(axis=0).max() <= 1


def test_a_part_lies_inside_what_it_is_a_part_of() -> None:
    seen = set()
    for index in range(150):
        scene = render_scene(5, index, 96)
        masks = dict(zip((CONCEPTS[c].name for c in scene.concepts), scene.masks, strict=True))
        for part, wholes in WHOLE_OF.items():
            if part in masks:
                inside = np.logical_or.reduce([masks[whole] for whole in wholes if whole in masks])
                assert not (masks[part] & ~inside).any()
                seen.add(part)
    assert seen == set(WHOLE_OF)


def test_another_size_keeps_the_composition() -> None:
    for index in range(20):
        small, large = render_scene(6, index, 56), render_scene(6, index, 112)
        shared = np.intersect1d(small.concepts, large.concepts)
        assert len(shared) >= 0.8 * len(large.concepts)
        for concept in shared:
            coarse = small.masks[small.concepts == concept][0].mean()
            fine = large.masks[large.concepts == concept][0].mean()
            assert abs(coarse - fine) < 0.06


def test_captions_name_what_is_there() -> None:
    words = {concept.name: concept.words for concept in CONCEPTS}
    for index in range(40):
        scene = render_scene(7, index, 64)
        objects = [CONCEPTS[c].name for c in scene.concepts if CONCEPTS[c].category in ("shape", "object")]
        assert all(any(word in scene.caption for word in words[name]) for name in objects)


def test_without_scikit_image_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    _pyramid.cache_clear()
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(MissingExtraError, match=r"labeler\[demo\]"):
        [render_scene(8, index, 32) for index in range(40)]
