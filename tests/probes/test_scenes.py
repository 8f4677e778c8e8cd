from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from labeler.builtin import scenes
from labeler.config import ProbeConfig
from labeler.probes import load_probe


def load(seed=0, images=6, size=48, colours=True):
    config = ProbeConfig(source="builtin:scenes", images=images, size=size, colours=colours)
    return load_probe(config, seed=seed)


def test_images_and_masks_are_the_renderers():
    probe = load()
    assert len(probe.images) == 6
    assert probe.images[3].path == "scene-000003"
    assert probe.image(3).size == (48, 48)
    scene = scenes.render_scene(0, 3, 48)
    annotation = probe.annotation(3, probe.image(3))
    assert np.array_equal(probe.image(3), scene.image)
    assert np.array_equal(annotation.masks, scene.masks)
    assert np.array_equal(annotation.concepts, scene.concepts)
    assert annotation.categories == {concept.category for concept in scenes.CONCEPTS}
    assert probe.caption(3) == scene.caption


def test_colour_is_annotated_once():
    probe = load()
    names = [(concept.name, concept.category) for concept in probe.concepts]
    assert names == [(concept.name, concept.category) for concept in scenes.CONCEPTS]
    assert all(concept.name not in concept.synonyms for concept in probe.concepts)
    assert load(colours=False).fingerprint == probe.fingerprint


def test_the_fingerprint_and_hashes_follow_what_determines_the_pixels():
    probe = load()
    assert load().images == probe.images
    assert len({load(**other).fingerprint for other in ({}, {"seed": 1}, {"size": 64}, {"images": 7})}) == 4
    assert len({image.sha256 for image in probe.images + load(seed=1).images + load(size=64).images}) == 18
    assert {image.group for image in probe.images} == {image.group for image in load(size=64).images}


def test_a_scene_is_rendered_once_for_its_image_and_annotation(monkeypatch):
    calls = []
    render = scenes.render_scene
    monkeypatch.setattr(scenes, "render_scene", lambda *call: calls.append(call) or render(*call))
    probe = load()
    image = probe.image(2)
    probe.annotation(2, image)
    assert calls == [(0, 2, 48)]


def test_threads_see_what_one_thread_sees():
    alone, shared = load(images=40, size=32), load(images=40, size=32)
    order = [*range(40), *range(39, -1, -1)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: np.asarray(shared.image(i)), order))
    assert all(np.array_equal(alone.image(i), pixels) for i, pixels in zip(order, found, strict=True))


def test_an_image_past_the_end_is_an_error():
    with pytest.raises(IndexError):
        load().image(6)
