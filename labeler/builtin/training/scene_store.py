"""Rendered scenes in memory and the views that training draws from them: images with dense concept labels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from labeler.builtin.scenes import CONCEPTS
from labeler.builtin.scenes.render import render_layers

STORE_SIZE = 160
"""Side of a stored scene in pixels: region crops still have detail, 16,000 scenes fit in 2 GB."""

CELLS = 28
"""Side of the label grid of a view before pooling to the strides of the network."""

MOST_LAYERS = 160
"""More layers than any scene has."""


_DRAW_WEIGHT = np.asarray(
    [
        {"shape": 5.0, "object": 3.0, "part": 3.0, "texture": 2.0, "colour": 0.3}.get(c.category, 1.5)
        for c in CONCEPTS
    ]
)


class SceneStore:
    """The first scenes of one seed; more are rendered while training goes on.

    Attributes:
        count: scenes rendered so far.
        images: (capacity, h, w, 3) uint8.
        layers: (capacity, h, w) uint8.
        members: (capacity, concepts, MOST_LAYERS) uint8 0 or 1, which layers show a concept.
    """

    def __init__(self, seed: int, capacity: int, size: int = STORE_SIZE) -> None:
        self.seed, self.count = seed, 0
        self.images: NDArray[np.uint8] = np.empty((capacity, size, size, 3), dtype=np.uint8)
        self.layers: NDArray[np.uint8] = np.empty((capacity, size, size), dtype=np.uint8)
        self.members: NDArray[np.uint8] = np.zeros((capacity, len(CONCEPTS), MOST_LAYERS), dtype=np.uint8)

    def extend(self, more: int) -> None:
        """Renders the next scenes, up to the capacity."""
        for index in range(self.count, min(self.count + more, len(self.images))):
            scene = render_layers(self.seed, index, self.images.shape[1])
            self.images[index], self.layers[index] = scene.image, scene.layer_hw
            self.members[index, :, : scene.member.shape[1]] = scene.member
            self.count = index + 1

    def view(
        self, index: int, box: tuple[int, int, int], flip: bool, size: int
    ) -> tuple[torch.Tensor, NDArray[np.uint8]]:
        """A square part of a scene.

        Args:
            index: the scene.
            box: top, left and side in stored pixels.
            flip: mirror left and right.
            size: side of the view in pixels.

        Returns:
            The image (3, size, size) uint8 and the presence of each concept (concepts, CELLS, CELLS) uint8.
        """
        top, left, side = box
        part = self.images[index, top : top + side, left : left + side]
        image = torch.from_numpy(np.ascontiguousarray(part[:, ::-1] if flip else part)).permute(2, 0, 1)[None]
        image = interpolate(image, (size, size), mode="bilinear", antialias=True)[0]
        at = ((np.arange(CELLS) + 0.5) * side / CELLS).astype(np.int64)
        rows, columns = top + at, left + (at[::-1] if flip else at)
        return image, np.take(self.members[index], self.layers[index][np.ix_(rows, columns)], axis=1)


def draw_box(store: SceneStore, index: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """A view's box: the whole scene, a random part, or (half the time) the surroundings of one concept."""
    size = store.images.shape[1]
    kind = rng.random()
    if kind < 0.4:
        side = int(size * rng.uniform(0.85, 1.0))
    elif kind < 0.5:
        side = int(size * rng.uniform(0.3, 0.85))
    else:
        return _concept_box(store, index, size, rng)
    top, left = rng.integers(0, size - side + 1, 2)
    return int(top), int(left), side


def _concept_box(store: SceneStore, index: int, size: int, rng: np.random.Generator) -> tuple[int, int, int]:
    """A square about a concept, with some margin; shapes are drawn most, being the hardest to tell apart."""
    member = store.members[index]
    visible = np.bincount(store.layers[index].ravel(), minlength=MOST_LAYERS) > 0
    weight_c = np.where(member[:, visible].any(axis=1), _DRAW_WEIGHT, 0)
    concept = int(rng.choice(len(CONCEPTS), p=weight_c / weight_c.sum()))
    mask = np.take(member[concept], store.layers[index])
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    extent = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    side = int(np.clip(extent * rng.uniform(1.0, 2.2), size * 0.2, size))
    middle_y, middle_x = (rows[-1] + rows[0]) // 2, (columns[-1] + columns[0]) // 2
    top, left = np.clip([middle_y - side // 2, middle_x - side // 2], 0, size - side)
    return int(top), int(left), side
