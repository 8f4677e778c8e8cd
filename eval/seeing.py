"""A stand-in for a vision-language model: it looks at the contact sheet it is sent, and is wrong on purpose.

It gets a request and nothing else: no unit, no image id, no truth. Its eyes are an image-text model that is
not the judge. In a given share of its answers, drawn anew in every round, it says confusable words only: what
is in the same pictures, the whole or the part, a sibling.

What it learns from failing images is what the prompt tells any model to look for: misses are more
photographs, and where the best label is right in part they show what belongs to it by `or`; false alarms show
what it lacks by `and`, and with the look-alikes what must be absent. Without them it goes down its list of
words.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Sequence
from typing import Any

from labeler.builtin.scenes import CONCEPTS
from labeler.seams import Encoder

from .looking import Eyes, Looked
from .sheet_reading import Shown, read_request

WRONG = 0.4
PARTS = {
    "house": ("roof", "window", "door"), "car": ("wheel", "window"), "tree": ("trunk", "leaves"),
    "face": ("eye", "mouth"), "flower": ("petal",), "boat": ("sail",), "fish": ("tail", "eye"),
    "butterfly": ("wing",), "cup": ("handle",), "umbrella": ("handle",), "clock": ("circle",),
}  # fmt: skip
"""What the things of rendered scenes are made of."""
HOLDS = 0.25
"""Correlation from which on a tried label is right in part, and worth mending instead of dropping."""
STRONG = 0.75
"""Share of the photographs' activation from which on a miss is one, and not merely the best of the rest."""
LIKELY = 20
"""Words that misses may show at all: those that fit them best."""
SILENT = 0.5
"""Weight of what does not fire: look-alikes share more with the photographs than their not firing."""

Candidate = tuple[str, str, tuple[str, ...]]  # label, op of its formula ("" for none), terms


class SeeingModel:
    """Answers chat completions. Safe to call from threads.

    Args:
        eyes: the image-text model that it looks with.
        wrong: share of its answers that are wrong on purpose.
        seed: of that draw.
        candidates: labels for each facet.
    """

    def __init__(self, eyes: Encoder, *, wrong: float = WRONG, seed: int = 0, candidates: int = 4) -> None:
        self._wrong, self._seed, self._count = wrong, seed, candidates
        self._category = {concept.name: concept.category for concept in CONCEPTS}
        self._eyes = Eyes(eyes, tuple(self._category))
        self._lock = threading.Lock()
        self.answers = self.wrong_answers = 0

    def __call__(self, body: dict[str, Any]) -> str:
        """The answer to a request, as JSON."""
        shown = read_request(body)
        with self._lock:  # the model is one, and its counts are too
            wrong = self._draw(shown) < self._wrong
            self.answers += 1
            self.wrong_answers += wrong
            looked = self._eyes.look(shown)
            found = [
                _entry(candidate, facet)
                for facet in shown.facets
                for candidate in self._candidates(looked, facet, wrong)
            ]
        return json.dumps({"candidates": found, "abstain": not found})

    def _draw(self, shown: Shown) -> float:
        """Uniform in [0, 1), by what is shown: the same request gets the same answer."""
        digest = hashlib.sha256(f"{self._seed}\0{shown.prompt}".encode() + shown.sheet).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    def _candidates(self, looked: Looked, facet: int, wrong: bool) -> list[Candidate]:
        tried = {item.text.casefold() for item in looked.shown.tried if item.facet == facet}
        words = self._confusables(looked, facet) if wrong else _seen(looked, facet)
        fresh: list[Candidate] = [(word, "", ()) for word in words if word not in tried]
        if wrong:
            return fresh[: self._count]
        mended = [item for item in _mended(looked, facet) if item[0].casefold() not in tried]
        kept = min(len(mended), self._count - 1 if _basis(looked.shown) else self._count // 2)
        return [*fresh[: self._count - kept], *mended[:kept]]

    def _confusables(self, looked: Looked, facet: int) -> list[str]:
        """Wrong on purpose: wholes and parts of what it sees, its siblings, what else is in the pictures."""
        words, texts_cd = self._eyes.words, self._eyes.texts_cd
        seen = _seen(looked, facet)
        best = seen[0]
        kin = [*PARTS.get(best, ()), *(whole for whole, parts in PARTS.items() if best in parts)]
        near = looked.order(texts_cd @ texts_cd[words.index(best)])
        siblings = [word for word in near if self._category[word] == self._category[best] and word != best]
        pictures = [tile.image for tile in looked.photographs(facet)]
        around = looked.order(self._eyes.scores(pictures, "whole").mean(axis=0))
        beside = [word for word in around if word not in seen[:8]]
        mixed = [word for group in zip(siblings, beside, strict=False) for word in group]
        return list(dict.fromkeys(word for word in [*kin, *mixed] if word != best))


def _seen(looked: Looked, facet: int) -> list[str]:
    """Words for what fires, and less so for what does not, best first."""
    return looked.order(looked.fires(facet) - SILENT * looked.silent())


def _mended(looked: Looked, facet: int) -> list[Candidate]:
    """Compounds: the best label so far with what its failures show, several facets, or an absence."""
    shown = looked.shown
    found: list[Candidate] = []
    if len(shown.facets) > 1:
        tops = {_seen(looked, other)[0] for other in shown.facets}
        found += [_compound("or", *sorted(tops))] if len(tops) > 1 else []
    basis = _basis(shown)
    if basis:
        narrow, wide = _too_narrow(looked, basis), _too_wide(looked, basis, facet)
        strong = sum(shown.strength(tile) >= STRONG for tile in shown.of("D")) > 1
        found += [*narrow[:2], *wide, *narrow[2:]] if strong else [*wide[:2], *narrow, *wide[2:]]
    elif shown.tried and shown.of("C"):
        absent = looked.order(looked.silent() - looked.fires(facet))[:2]
        found += [(f"not {word}", "not", (word,)) for word in absent]
    return found


def _basis(shown: Shown) -> tuple[str, ...]:
    """The word, or the words, of the best label so far, where it is right in part."""
    best = shown.failing
    if best is None or best.correlation < HOLDS:
        return ()
    return tuple(word for word in re.split(" or | and ", best.text) if not word.startswith("not "))


def _too_narrow(looked: Looked, basis: Sequence[str]) -> list[Candidate]:
    """Or what the misses show, first of all what was tried before and is right in part itself."""
    if not looked.shown.of("D"):
        return []
    words = [word for word in looked.order(looked.misses()) if word not in basis]
    partly = {item.text for item in looked.shown.tried if item.correlation >= HOLDS}
    others = sorted(
        words[:2] + [word for word in words[2:LIKELY] if word in partly], key=lambda w: w not in partly
    )
    return [_compound("or", word, other) for other in others[:2] for word in basis]


def _too_wide(looked: Looked, basis: Sequence[str], facet: int) -> list[Candidate]:
    """And what is where it fires, and not in the false alarms."""
    if not looked.shown.of("E"):
        return []
    words = looked.order(looked.fires(facet) - looked.alarms())
    others = [word for word in words if word not in basis][:2]
    return [_compound("and", word, other) for other in others for word in basis]


def _compound(op: str, *terms: str) -> Candidate:
    return f" {op} ".join(terms), op, terms


def _entry(candidate: Candidate, facet: int) -> dict[str, Any]:
    label, op, terms = candidate
    formula = {"op": op or "none", "terms": list(terms)}
    return {"label": label, "kind": "other", "facet": facet, "formula": formula}
