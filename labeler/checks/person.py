"""A person as the judge of a run: which labels are shown, what the answers say, and what the gate learns.

The answers are to (unit, label) pairs with decoys mixed in. Decoys tell how often the person says yes to a
label that is wrong; the gate is fitted on the run's own labels alone, since at an equal score a decoy is
wrong more often than a label that was proposed for its unit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from labeler.checks.calibration import Calibration, Domain, Example, refit
from labeler.records import Judgement, Label, Source
from labeler.storage import hash_order

DECOYS = 0.25
"""Share of the sample that is decoys."""
BANDS = 5
"""Equal bands between the lowest and the highest score, of which each gives as many pairs as the others."""
MIN_ANSWERS, MIN_EACH = 40, 10
"""Definite answers about the run's own labels, and yes and no among them, that a refit needs."""
_Z = 1.959964  # the normal quantile of a two-sided interval of 95 %

Key = tuple[str, str]
"""Unit and label text: one pair."""


@dataclass(frozen=True)
class Pair:
    """A label beside a unit, and what it is; `label.score` is the gate's."""

    unit: str
    label: Label
    source: Source

    @property
    def key(self) -> Key:
        """What no sample has twice."""
        return self.unit, self.label.text


def blinded_sample(pairs: Sequence[Pair], count: int, seed: int) -> list[Pair]:
    """At most `count` of `pairs`, in the order in which they are shown.

    `DECOYS` of them are decoys, also where the run has fewer labels of its own than are asked for. Both kinds
    are spread over `BANDS` bands of the score, so that the few labels with a high score are there beside the
    many with a low one; a fit by the score stays unbiased. Choice and order depend on the pairs and `seed`
    alone. A larger `count` keeps every pair of a smaller one.
    """
    decoys = [pair for pair in pairs if pair.source == "decoy"]
    own = [pair for pair in pairs if pair.source != "decoy"]
    share = min(count * DECOYS, len(own) * DECOYS / (1 - DECOYS))
    wanted = min(len(decoys), math.floor(share + 1e-9))
    chosen = _spread(decoys, wanted, seed) + _spread(own, count - wanted, seed)
    return [chosen[position] for position in hash_order([_name(pair) for pair in chosen], seed, "shown")]


def _spread(pairs: Sequence[Pair], count: int, seed: int) -> list[Pair]:
    """The first `count` of rounds that take one pair of each band, the highest band first."""
    ordered = [pairs[position] for position in hash_order([_name(pair) for pair in pairs], seed, "sample")]
    scores = [pair.label.score or 0.0 for pair in ordered]
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    taken = [0] * BANDS
    turns = []
    for pair, score in zip(ordered, scores, strict=True):
        band = min(BANDS - 1, int(BANDS * (score - low) / (high - low))) if high > low else 0
        turns.append((taken[band], -band, pair))
        taken[band] += 1
    turns.sort(key=lambda turn: turn[:2])
    return [pair for _, _, pair in turns[:count]]


def _name(pair: Pair) -> str:
    return "\0".join(pair.key)


@dataclass(frozen=True)
class Share:
    """`yes` of `definite` answers, with Wilson's interval at 95 % (Wilson 1927); None where there is none."""

    yes: int
    definite: int

    @property
    def value(self) -> float | None:
        """In [0, 1]."""
        return self.yes / self.definite if self.definite else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Lower and upper end, in [0, 1]."""
        if not self.definite:
            return None
        share, scale = self.yes / self.definite, 1 + _Z**2 / self.definite
        middle = (share + _Z**2 / (2 * self.definite)) / scale
        half = _Z / scale * math.sqrt(share * (1 - share) / self.definite + (_Z / self.definite / 2) ** 2)
        return max(0.0, middle - half), min(1.0, middle + half)


def agreement(judgements: Iterable[Judgement]) -> dict[Source, Share]:
    """Share of yes among what was accepted, refused and a decoy when it was drawn; unsure is left out."""
    answers: dict[Source, list[bool]] = {"accepted": [], "refused": [], "decoy": []}
    for judgement in judgements:
        if judgement.answer != "u":
            answers[judgement.source].append(judgement.answer == "y")
    return {source: Share(sum(found), len(found)) for source, found in answers.items()}


def examples(judgements: Iterable[Judgement], labels: Mapping[Key, Label]) -> list[Example]:
    """The definite answers about the run's own labels, with their checks; `labels` are those still opened."""
    return [
        Example(labels[judgement.unit, judgement.text].checks, judgement.answer == "y")
        for judgement in judgements
        if judgement.source != "decoy"
        and judgement.answer != "u"
        and (judgement.unit, judgement.text) in labels
    ]


def lacking(found: Sequence[Example]) -> str:
    """What a refit still needs, in words; empty where `found` is enough."""
    right = sum(example.right for example in found)
    needs = {
        f"y or n (there are {len(found)})": MIN_ANSWERS - len(found),
        f"y (there are {right})": MIN_EACH - right,
        f"n (there are {len(found) - right})": MIN_EACH - (len(found) - right),
    }
    return ", ".join(f"{count} more {what}" for what, count in needs.items() if count > 0)


def fit_to_person(calibration: Calibration, found: Sequence[Example], domain: Domain) -> Calibration | None:
    """`calibration` with the line that the answers give, for the one run of `domain`; None for too few."""
    return None if lacking(found) else refit(calibration, found, domain)
