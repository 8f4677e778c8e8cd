import numpy as np
import pytest
import torch
from PIL import Image

from labeler.builtin.scenes import CONCEPTS
from labeler.builtin.weights import SCENES_CLIP_NAMES, scenes_clip_files
from labeler.encoders import load_encoder


@pytest.mark.parametrize("name", SCENES_CLIP_NAMES)
def test_a_small_model_knows_its_words_and_says_so(name: str) -> None:
    if not scenes_clip_files(name)[1].exists():
        pytest.skip(f"the weights of {name} are not built")
    encoder = load_encoder(f"builtin:{name}")
    assert encoder.name == f"builtin:{name}"
    assert encoder.vocabulary == tuple(concept.name for concept in CONCEPTS)
    assert all(map(encoder.covers, encoder.vocabulary))
    assert encoder.covers("red stripes")
    assert not any(map(encoder.covers, ("dog", "guitar", "sadness", "a photo of")))
    pictures = [Image.new("RGB", (224, 224), colour) for colour in ("red", "blue")]
    images = encoder.embed_images(torch.stack([encoder.prepare(picture) for picture in pictures]))
    scores = images @ encoder.embed_texts(["red", "blue"]).T
    assert scores[0, 0] > scores[0, 1]
    assert scores[1, 1] > scores[1, 0]
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-5)
