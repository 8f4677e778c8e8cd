"""What questions to a catalogue are answered with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SearchHit:
    """One unit found by `Catalogue.search`; `score` is a cosine in [-1, 1], or 1 for a match of words."""

    unit: str
    label: str
    score: float


@dataclass(frozen=True)
class SimilarUnit:
    """One unit found by `Catalogue.units_like`; `score` in [-1, 1], `labels` its accepted ones."""

    unit: str
    score: float
    labels: tuple[str, ...]


@dataclass(frozen=True)
class TopImage:
    """One probe image and the unit's (or direction's) pooled activation on it."""

    image: str
    activation: float


@dataclass(frozen=True)
class FoundImage:
    """One probe image found by a text or another image; `score` is a cosine in [-1, 1]."""

    image: str
    score: float
