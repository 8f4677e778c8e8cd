"""A target whose maps are easy to compute again, a probe of random pictures, and an encoder."""

from __future__ import annotations

import hashlib
import threading

import numpy as np
import torch

from labeler.testing import FakeProbe

BROKEN_PIXEL = 255  # a picture whose first red value is this gives NaN in unit 1 of layer "b"


class PixelTarget:
    """Layer "a": the three colours minus 0.5, 8 × 8. Layer "b": 4 units, 2 × 2, from means of 4 × 4 pixels:
    colour sum, red (NaN for a broken picture), always negative, constant."""

    name = "pixels"
    fingerprint = "pixels"
    layers = ("a", "b")
    input_size = (8, 8)
    device = torch.device("cpu")

    def __init__(self):
        self.calls = []

    def unit_count(self, layer):
        return {"a": 3, "b": 4}[layer]

    def prepare(self, image):
        return torch.from_numpy(np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255)

    def maps(self, images_bchw, layers):
        self.calls.append((len(images_bchw), tuple(layers)))
        means = torch.nn.functional.avg_pool2d(images_bchw, 4)
        red = means[:, :1].clone()
        red[images_bchw[:, 0, 0, 0] == 1.0] = torch.nan
        b = torch.cat(
            [means.sum(1, keepdim=True), red, -1 - means[:, 1:2], torch.full_like(red, 0.25)], dim=1
        )
        maps = {"a": images_bchw - 0.5, "b": b}
        return {layer: maps[layer] for layer in layers}


class HashEncoder:
    """Unit-norm vectors of an image's pixels."""

    name, fingerprint, dim, vocabulary = "hash", "hash", 5, ()

    def prepare(self, image):
        return torch.from_numpy(np.asarray(image, dtype=np.float32).transpose(2, 0, 1))

    def embed_images(self, images_bchw):
        vectors = [
            np.random.default_rng(int(hashlib.sha256(image.numpy().tobytes()).hexdigest()[:8], 16)).random(
                self.dim
            )
            for image in images_bchw
        ]
        return np.array([v / np.linalg.norm(v) for v in vectors], dtype=np.float32)


class CountingProbe(FakeProbe):
    """Counts how often each image is decoded."""

    def __init__(self, pictures):
        super().__init__(pictures)
        self.decoded = []
        self._lock = threading.Lock()

    def image(self, image_id):
        with self._lock:
            self.decoded.append(image_id)
        return super().image(image_id)


def pictures(count, unreadable=(), broken=(), levels=8, seed=0):
    """Coarse pictures, so that activations tie."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        picture = (rng.integers(0, levels, (8, 8, 3)) * 30).astype(np.uint8)
        if index in broken:
            picture[0, 0, 0] = BROKEN_PIXEL
        made.append(None if index in unreadable else picture)
    return made
