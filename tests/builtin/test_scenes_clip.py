"""The shipped scenes-clip models load as any open_clip model and know the scenes' concepts."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from labeler.builtin.scenes import CONCEPTS, render_scene
from labeler.builtin.training.scene_quality import Exam, auroc, draw_exam, measure
from labeler.builtin.weights import SCENES_CLIP_NAMES, SCENES_CLIP_WORDS, scenes_clip_files

UNSEEN_SEED = 77  # neither trained on (1001, 2002) nor measured on while training (0)
# Whole-image mean and minimum, region mean: a little under what 1,000 scenes give (see the quality files).
FLOORS = {"scenes-clip": (0.955, 0.8, 0.95), "scenes-clip-judge": (0.96, 0.8, 0.95)}


@functools.cache
def loaded(name: str) -> tuple[nn.Module, Callable[[Image.Image], Tensor], Callable[[Sequence[str]], Tensor]]:
    config, weights = scenes_clip_files(name)
    open_clip.add_model_config(config)
    model, _, preprocess = open_clip.create_model_and_transforms(name, pretrained=str(weights))
    return model.eval(), preprocess, open_clip.get_tokenizer(name)


@functools.cache
def unseen() -> Exam:
    return draw_exam(UNSEEN_SEED, count=300, image_size=112, crops_each=2)


@functools.cache
def quality(name: str) -> dict[str, Any]:
    model, _, tokenizer = loaded(name)
    return measure(model, tokenizer, open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD, unseen())


@pytest.mark.parametrize("name", SCENES_CLIP_NAMES)
def test_it_knows_the_concepts_of_unseen_scenes(name: str) -> None:
    whole_mean, whole_min, regions_mean = FLOORS[name]
    measured = quality(name)
    assert len(measured["whole"]["auroc"]) == len(CONCEPTS)
    assert measured["whole"]["mean"] >= whole_mean
    assert measured["whole"]["min"] >= whole_min
    assert measured["regions"]["mean"] >= regions_mean


@pytest.mark.parametrize("name", SCENES_CLIP_NAMES)
def test_the_written_quality_is_what_is_measured(name: str) -> None:
    config, _ = scenes_clip_files(name)
    written = json.loads(config.with_name(f"{name}.quality.json").read_text(encoding="utf-8"))
    assert written["scenes"] >= 1000
    assert abs(written["whole"]["mean"] - quality(name)["whole"]["mean"]) < 0.015
    assert "scenes_clip" in written["command"]


@pytest.mark.parametrize("name", SCENES_CLIP_NAMES)
def test_synonyms_and_templates_mean_the_same(name: str) -> None:
    """A concept's other words, in a sentence, are nearest to the concept's own name."""
    model, _, tokenizer = loaded(name)
    said = [(index, f"a photo of {word}") for index, c in enumerate(CONCEPTS) for word in c.words[1:]]
    with torch.inference_mode():
        names = model.encode_text(tokenizer([concept.name for concept in CONCEPTS]), normalize=True)
        others = model.encode_text(tokenizer([phrase for _, phrase in said]), normalize=True)
    nearest = (others @ names.T).argmax(dim=1).tolist()
    assert np.mean([index == own for index, (own, _) in zip(nearest, said, strict=True)]) > 0.95


@pytest.mark.parametrize("name", SCENES_CLIP_NAMES)
def test_its_own_preprocessing_takes_any_image(name: str) -> None:
    model, preprocess, tokenizer = loaded(name)
    picture = Image.fromarray(np.full((90, 160, 3), (220, 20, 30), dtype=np.uint8))
    with torch.inference_mode():
        image = model.encode_image(preprocess(picture)[None], normalize=True)
        text = model.encode_text(tokenizer(["red", "blue", "green"]), normalize=True)
    assert (image @ text.T)[0].argmax() == 0


def test_the_two_models_differ() -> None:
    configs = [
        json.loads(scenes_clip_files(name)[0].read_text(encoding="utf-8")) for name in SCENES_CLIP_NAMES
    ]
    trunks = [config["vision_cfg"]["timm_model_name"] for config in configs]
    recipes = [
        json.loads(scenes_clip_files(n)[0].with_name(f"{n}.quality.json").read_text(encoding="utf-8"))[
            "recipe"
        ]
        for n in SCENES_CLIP_NAMES
    ]
    assert trunks[0] != trunks[1]
    assert recipes[0]["seed"] != recipes[1]["seed"]


@pytest.mark.parametrize("name", SCENES_CLIP_NAMES)
def test_weights_are_small_and_numbers(name: str) -> None:
    _, weights = scenes_clip_files(name)
    assert weights.stat().st_size <= 8 * 2**20
    model, _, _ = loaded(name)
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


def test_words_are_those_of_the_concepts() -> None:
    assert {"striped", "red", "grey", "automobile", "house"} <= SCENES_CLIP_WORDS
    assert not {"photo", "a", "dog", "sign"} & SCENES_CLIP_WORDS
    assert all(word == word.lower() for word in SCENES_CLIP_WORDS)


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(KeyError, match="scenes-clip-judge"):
        scenes_clip_files("scenes-clip-other")


def test_auroc_is_the_probability_that_a_positive_scores_higher() -> None:
    rng = np.random.default_rng(0)
    score_n: NDArray[np.float32] = rng.integers(0, 9, 200).astype(np.float32)
    present_n = rng.random(200) < 0.3
    pairs = score_n[present_n][:, None] - score_n[~present_n][None]
    assert auroc(score_n, present_n) == pytest.approx((pairs > 0).mean() + 0.5 * (pairs == 0).mean())


def test_scene_images_reach_the_model_through_its_preprocessing() -> None:
    """The training code's own resizing and open_clip's preprocessing give nearly the same embedding."""
    model, preprocess, _ = loaded("scenes-clip")
    images = [Image.fromarray(render_scene(UNSEEN_SEED, index).image) for index in range(4)]
    with torch.inference_mode():
        embedded = model.encode_image(torch.stack([preprocess(image) for image in images]), normalize=True)
    assert embedded.shape == (4, 128)
    assert torch.allclose(embedded.norm(dim=1), torch.ones(4), atol=1e-4)
