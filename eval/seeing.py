"""A stand-in for a vision-language model: it looks at the contact sheet it is sent, and is wrong on purpose.

It gets a request and nothing else: no unit, no image id, no truth. Its eyes are an image-text model that is
not the judge. In a given share of its answers, drawn anew in every round, it says confusable words only: what
is in the same pictures, the whole or the part, a sibling.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from labeler.builtin.scenes import CONCEPTS, render_scene
from labeler.seams import Encoder

from .sheet_reading import Shown, Tile, read_request

WRONG = 0.4
PARTS = {
    "house": ("roof", "window", "door"), "car": ("wheel", "window"), "tree": ("trunk", "leaves"),
    "face": ("eye", "mouth"), "flower": ("petal",), "boat": ("sail",), "fish": ("tail", "eye"),
    "butterfly": ("wing",), "cup": ("handle",), "umbrella": ("handle",), "clock": ("circle",),
}  # fmt: skip
"""What the things of rendered scenes are made of."""
HOLDS = 0.15
"""Score from which on a tried label is worth mending instead of dropping."""

Candidate = tuple[str, str, tuple[str, ...]]  # label, op of its formula ("" for none), terms


_SCENES, _SEED = 120, 987_654  # rendered for `_typical`, of a seed that no probe has


class SeeingModel:
    """Answers chat completions. Safe to call from threads.

    Args:
        eyes: the image-text model that it looks with.
        wrong: share of its answers that are wrong on purpose.
        seed: of that draw.
        candidates: labels for each facet.
    """

    def __init__(self, eyes: Encoder, *, wrong: float = WRONG, seed: int = 0, candidates: int = 4) -> None:
        self._eyes, self._wrong, self._seed, self._count = eyes, wrong, seed, candidates
        self.words = tuple(concept.name for concept in CONCEPTS)
        self._category = {concept.name: concept.category for concept in CONCEPTS}
        self._texts_cd = eyes.embed_texts(self.words)
        self._mean_c, self._spread_c = self._typical()
        self._lock = threading.Lock()
        self.answers = self.wrong_answers = 0

    def __call__(self, body: dict[str, Any]) -> str:
        """The answer to a request, as JSON."""
        shown = read_request(body)
        with self._lock:  # the model is one, and its counts are too
            wrong = self._draw(shown) < self._wrong
            self.answers += 1
            self.wrong_answers += wrong
            found = [
                _entry(candidate, facet)
                for facet in shown.facets
                for candidate in self._candidates(shown, facet, wrong)
            ]
        return json.dumps({"candidates": found, "abstain": not found})

    def _draw(self, shown: Shown) -> float:
        """Uniform in [0, 1), by what is shown: the same request gets the same answer."""
        digest = hashlib.sha256(f"{self._seed}\0{shown.prompt}".encode() + shown.sheet).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def _candidates(self, shown: Shown, facet: int, wrong: bool) -> list[Candidate]:
        tried = {item.text.casefold() for item in shown.tried}
        if wrong:
            return [(word, "", ()) for word in self._confusables(shown, facet) if word not in tried][
                : self._count
            ]
        words = self._seen(shown, facet)
        simple: list[Candidate] = [(word, "", ()) for word in words]
        mended = [item for item in self._mended(shown, facet, words) if item[0].casefold() not in tried]
        fresh = [item for item in simple if item[0] not in tried]
        kept = min(len(mended), self._count // 2)
        return [*fresh[: self._count - kept], *mended[:kept]]

    def _seen(self, shown: Shown, facet: int) -> list[str]:
        """Words for what fires and not for what does not, best first.

        Misses weigh as much as the photographs, false alarms as much as the look-alikes.
        """
        fires_c = self._mean([t for t in shown.of("A") if t.facet == facet], shown.of("D"))
        silent_c = self._mean(shown.of("C"), shown.of("E"))
        return [self.words[c] for c in np.argsort(silent_c - fires_c, kind="stable")]

    def _mended(self, shown: Shown, facet: int, words: Sequence[str]) -> list[Candidate]:
        """Compounds: the best label so far with what its failures show, several facets, or an absence."""
        found: list[Candidate] = []
        best = max(
            (item for item in shown.tried if item.facet == facet and item.text in self.words),
            key=lambda item: item.score, default=None,
        )  # fmt: skip
        photographs = [tile for tile in shown.of("A") if tile.facet == facet]
        if best is not None and best.score >= HOLDS:
            if shown.of("D"):
                missed_c = self._mean(shown.of("D")) - self._mean(shown.of("C"), shown.of("E"))
                other = self._most(missed_c, best.text)
                found.append(_compound("or", best.text, other))
            if shown.of("E"):
                other = self._most(self._mean(photographs) - self._mean(shown.of("E")), best.text)
                found.append(_compound("and", best.text, other))
        if len(shown.facets) > 1:
            tops = {self._seen(shown, other)[0] for other in shown.facets}
            if len(tops) > 1:
                found.append(_compound("or", *sorted(tops)))
        if shown.tried and shown.of("C"):
            absent = self._most(self._mean(shown.of("C"), shown.of("E")) - self._mean(photographs))
            found.append((f"not {absent}", "not", (absent,)))
        return found

    def _confusables(self, shown: Shown, facet: int) -> list[str]:
        """Wrong on purpose: wholes and parts of what it sees, its siblings, what else is in the pictures."""
        seen = self._seen(shown, facet)
        best = seen[0]
        kin = [*PARTS.get(best, ()), *(whole for whole, parts in PARTS.items() if best in parts)]
        near_c = self._texts_cd @ self._texts_cd[self.words.index(best)]
        siblings = [
            self.words[c]
            for c in np.argsort(-near_c, kind="stable")
            if self._category[self.words[c]] == self._category[best] and self.words[c] != best
        ]
        around_c = self._embed([tile.image for tile in shown.of("A") if tile.facet == facet]).mean(axis=0)
        beside = [
            self.words[c] for c in np.argsort(-around_c, kind="stable") if self.words[c] not in seen[:8]
        ]
        mixed = [word for group in zip(siblings, beside, strict=False) for word in group]
        return list(dict.fromkeys(word for word in [*kin, *mixed] if word != best))

    def _most(self, score_c: NDArray[np.float32], *without: str) -> str:
        order = np.argsort(-score_c, kind="stable")
        return next(self.words[c] for c in order if self.words[c] not in without)

    def _mean(self, *groups: Sequence[Tile]) -> NDArray[np.float32]:
        """Mean score of each word over tiles ``(c,)``; groups that are there weigh the same."""
        means = [self._embed([tile.look for tile in group]).mean(axis=0) for group in groups if group]
        return np.mean(means, axis=0) if means else np.zeros(len(self.words), np.float32)

    def _embed(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        """Scores ``(n, c)`` of every word on images, in standard deviations over any images."""
        return (self._cosines(images) - self._mean_c) / self._spread_c

    def _cosines(self, images: Sequence[Image.Image]) -> NDArray[np.float32]:
        pixels = torch.stack([self._eyes.prepare(image) for image in images])
        return np.asarray(self._eyes.embed_images(pixels) @ self._texts_cd.T)

    def _typical(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and spread of every word's cosine ``(c,)`` over scenes and parts of scenes: what anybody knows
        who has seen many pictures, and without which a word that is a little true of all is always first."""
        generator = np.random.default_rng(_SEED)
        images = []
        for number in range(_SCENES):
            scene = Image.fromarray(render_scene(_SEED, number, 224).image)
            side = int(generator.integers(64, 224))
            left, top = (int(place) for place in generator.integers(0, 225 - side, 2))
            images += [scene, scene.crop((left, top, left + side, top + side))]
        cosines_nc = np.concatenate([self._cosines(images[n : n + 32]) for n in range(0, len(images), 32)])
        return cosines_nc.mean(axis=0), cosines_nc.std(axis=0)


def _compound(op: str, *terms: str) -> Candidate:
    return f" {op} ".join(terms), op, terms


def _entry(candidate: Candidate, facet: int) -> dict[str, Any]:
    label, op, terms = candidate
    formula = {"op": op or "none", "terms": list(terms)}
    return {"label": label, "kind": "other", "facet": facet, "formula": formula}
