import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from labeler.probes.colours import COLOUR_NAMES, colour_indices, name_colours, with_colours
from labeler.seams import Annotation, Concept
from labeler.testing import FakeProbe, fake_probe


def name(*rgb):
    return COLOUR_NAMES[colour_indices(np.array([[rgb]], dtype=np.uint8))[0, 0]]


@pytest.mark.parametrize(
    ("expected", "colours"),
    [
        ("black", [(0, 0, 0), (20, 20, 20), (15, 12, 18)]),
        ("white", [(255, 255, 255), (245, 245, 240), (255, 250, 250)]),
        ("gray", [(128, 128, 128), (90, 92, 95), (190, 190, 190), (112, 128, 144)]),
        ("red", [(255, 0, 0), (180, 20, 30), (139, 0, 0), (220, 20, 60)]),
        ("orange", [(255, 165, 0), (255, 128, 0), (240, 120, 40)]),
        ("brown", [(139, 69, 19), (100, 60, 30), (160, 82, 45), (210, 180, 140)]),
        ("yellow", [(255, 255, 0), (255, 215, 0), (240, 230, 140)]),
        ("green", [(0, 255, 0), (0, 100, 0), (34, 139, 34), (60, 80, 30)]),
        ("blue", [(0, 0, 255), (0, 0, 128), (135, 206, 235), (30, 144, 255), (65, 105, 225)]),
        ("purple", [(128, 0, 128), (138, 43, 226), (75, 0, 130), (147, 112, 219)]),
        ("pink", [(255, 192, 203), (255, 105, 180), (255, 20, 147)]),
    ],
)
def test_colours_have_the_names_people_give_them(expected, colours):
    assert [name(*rgb) for rgb in colours] == [expected] * len(colours)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12), st.just(3))))
def test_every_pixel_has_exactly_one_name(picture):
    probe = with_colours(FakeProbe([picture]))
    annotation = probe.annotation(0, probe.image(0))
    assert (annotation.masks.sum(axis=0) == 1).all()
    assert annotation.masks.any(axis=(1, 2)).all()
    assert annotation.categories == {"colour"}


def test_the_table_follows_the_rule():
    rgb = np.random.default_rng(0).integers(0, 256, (20_000, 3)).astype(np.uint8)
    agreement = (colour_indices(rgb[None])[0] == name_colours(rgb / 255)).mean()
    assert agreement > 0.93, "cells of the table are small against the names"


def test_own_masks_come_first_and_keep_their_concepts():
    picture = np.zeros((4, 4, 3), dtype=np.uint8)
    picture[:, :2] = (255, 0, 0)
    corner = np.zeros((1, 4, 4), dtype=bool)
    corner[0, 0, 0] = True
    own = Annotation(np.array([1]), corner, frozenset({"object"}))
    plain = FakeProbe([picture, picture], [Concept("dog", "object"), Concept("cat", "object")], [own, None])
    probe = with_colours(plain)
    annotation = probe.annotation(0, probe.image(0))
    assert [probe.concepts[c].name for c in annotation.concepts] == ["cat", "black", "red"]
    assert annotation.categories == {"object", "colour"}
    assert np.array_equal(annotation.masks[0], corner[0])
    assert annotation.masks[2, :, :2].all()
    assert probe.annotation(1, probe.image(1)).categories == {"colour"}
    assert probe.fingerprint != plain.fingerprint


def test_a_probe_with_colours_of_its_own_is_left_alone():
    probe = fake_probe(3)
    assert with_colours(probe) is probe


def test_a_photograph_takes_milliseconds():
    picture = np.random.default_rng(0).integers(0, 256, (480, 640, 3)).astype(np.uint8)
    probe = with_colours(FakeProbe([picture]))
    image = probe.image(0)
    probe.annotation(0, image)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        probe.annotation(0, image)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.02  # 4 ms when nothing else runs
