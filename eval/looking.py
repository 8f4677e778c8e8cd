"""How an image-text model looks at a contact sheet: what every word scores on every tile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from labeler.builtin.scenes import render_scene
from labeler.seams import Encoder

from .sheet_reading import Shown, Tile

Scores = NDArray[np.float32]
Kind = Literal["whole", "region"]
"""Of a picture that is looked at: a tile, or an enlarged region."""

_SCENES, _SEED, _SIDE = 120, 987_654, 224  # rendered for `_typical`, of a seed that no probe has
_BATCH = 32


@dataclass(frozen=True)
class Looked:
    """A request, and the scores ``(c,)`` of every word on each of its tiles but the synthetic ones: on the
    enlarged region, where there is one beside the tile, else on the tile."""

    shown: Shown
    words: tuple[str, ...]
    scores: dict[int, Scores]

    def fires(self, facet: int) -> Scores:
        """Mean score of each word over the photographs of a facet and the misses ``(c,)``."""
        return self._mean([*self.photographs(facet), *self.shown.of("D")], fires=True)

    def silent(self) -> Scores:
        """Mean score of each word over all that does not fire ``(c,)``."""
        return self._mean(self.shown.of("C", "E"), fires=False)

    def misses(self) -> Scores:
        """Mean score of each word over the misses ``(c,)``."""
        return self._mean(self.shown.of("D"), fires=True)

    def alarms(self) -> Scores:
        """Mean score of each word over the false alarms ``(c,)``."""
        return self._mean(self.shown.of("E"), fires=False)

    def photographs(self, facet: int) -> list[Tile]:
        """Those of one facet."""
        return [tile for tile in self.shown.of("A") if tile.facet == facet]

    def order(self, score_c: Scores) -> list[str]:
        """The words, highest score first."""
        return [self.words[c] for c in np.argsort(-score_c, kind="stable")]

    def _mean(self, tiles: Sequence[Tile], *, fires: bool) -> Scores:
        """Mean score ``(c,)``, every tile weighing as far as it fires, or is silent; 0 for no tiles."""
        total_c, weight = np.zeros(len(self.words), np.float32), 0.0
        for tile in tiles:
            strength = self.shown.strength(tile)
            share = strength if fires else 1 - strength
            total_c += np.float32(share) * self.scores[tile.number]
            weight += share
        return total_c / np.float32(weight) if weight > 0 else total_c


class Eyes:
    """Looks at pictures with an image-text model.

    Args:
        encoder: the image-text model.
        words: all that are looked for.
    """

    def __init__(self, encoder: Encoder, words: Sequence[str]) -> None:
        self._encoder, self.words = encoder, tuple(words)
        self.texts_cd = encoder.embed_texts(self.words)
        self._known = self._typical()

    def look(self, shown: Shown) -> Looked:
        """The scores of the tiles of a request."""
        tiles = shown.of("A", "C", "D", "E")
        found: dict[int, Scores] = {}
        for kind in ("whole", "region"):
            chosen = [tile for tile in tiles if (tile.crop is None) == (kind == "whole")]
            rows_nc = self.scores([tile.look for tile in chosen], kind)
            found.update((tile.number, row_c) for tile, row_c in zip(chosen, rows_nc, strict=True))
        return Looked(shown, self.words, found)

    def scores(self, images: Sequence[Image.Image], kind: Kind) -> Scores:
        """Scores ``(n, c)`` of every word, in standard deviations over any images of that kind."""
        mean_c, spread_c = self._known[kind]
        return np.asarray((self._cosines(images) - mean_c) / spread_c, np.float32)

    def _cosines(self, images: Sequence[Image.Image]) -> Scores:
        rows = [np.zeros((0, len(self.words)), np.float32)]
        for start in range(0, len(images), _BATCH):
            pixels = torch.stack([self._encoder.prepare(image) for image in images[start : start + _BATCH]])
            rows.append(np.asarray(self._encoder.embed_images(pixels) @ self.texts_cd.T, np.float32))
        return np.concatenate(rows)

    def _typical(self) -> dict[Kind, tuple[Scores, Scores]]:
        """Mean and spread of every word's cosine ``(c,)`` over scenes and parts of scenes: what anybody knows
        who has seen many pictures, and without which a word that is a little true of all is always first."""
        generator = np.random.default_rng(_SEED)
        images: dict[Kind, list[Image.Image]] = {"whole": [], "region": []}
        for number in range(_SCENES):
            scene = Image.fromarray(render_scene(_SEED, number, _SIDE).image)
            side = int(generator.integers(64, _SIDE))
            left, top = (int(place) for place in generator.integers(0, _SIDE + 1 - side, 2))
            images["whole"].append(scene)
            images["region"].append(scene.crop((left, top, left + side, top + side)))
        cosines = {kind: self._cosines(group) for kind, group in images.items()}
        return {kind: (rows.mean(axis=0), rows.std(axis=0)) for kind, rows in cosines.items()}
