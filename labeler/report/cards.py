"""One unit as lists show it, on a page and as a row of the data that the page searches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from labeler.records import Exemplar, TrustName, UnitRecord, VerdictName
from labeler.report.names import unit_page

Kept = Callable[[str | None], bool]
LONGEST = 200
"""Characters of a label in a list; a proposer's labels have at most 80."""


@dataclass(frozen=True)
class Card:
    """One unit in a list.

    Attributes:
        unit: as `UnitId` prints it.
        name: what the user calls it, mostly empty.
        href: its page, from the site's root.
        labels: texts of the accepted labels, best first.
        refused: the best refused label, shown where there is no accepted one.
        score: the gate's score of the best label, accepted or not; None where it has none.
        trust: how far its picture may be trusted.
        photograph: the tile of the strongest photograph; None where there is none.
        picture: the tile of the first synthetic picture; None where there is none.
    """

    unit: str
    name: str
    href: str
    verdict: VerdictName
    labels: tuple[str, ...]
    refused: str
    score: float | None
    trust: TrustName
    photograph: str | None
    picture: str | None


def card(record: UnitRecord, kept: Kept) -> Card:
    """The card of a unit; `kept` says which pictures are there."""
    labels = [_short(label.text) for label in record.labels]
    best = (*record.labels, *record.candidates)[:1]
    return Card(
        unit=record.unit,
        name=_short(record.name),
        href=unit_page(record.id),
        verdict=record.verdict,
        labels=tuple(labels),
        refused="" if labels or not record.candidates else _short(record.candidates[0].text),
        score=best[0].score if best else None,
        trust=record.trust.verdict,
        photograph=None if record.verdict == "dead" else _first(record.exemplars, kept),
        picture=next((v.tile for v in record.visualisations if not v.second and kept(v.tile)), None),
    )


def _first(exemplars: Iterable[Exemplar], kept: Kept) -> str | None:
    return next((item.tile for item in exemplars if kept(item.tile)), None)


def tiles(record: UnitRecord) -> Iterator[str]:
    """The name of every picture of a unit, each once."""
    exemplars = [*record.exemplars, *record.near_misses, *record.bands]
    for item in record.rounds:
        exemplars += [*item.misses, *item.false_alarms]
    names = [item.tile for item in exemplars]
    for picture in record.visualisations:
        names += [picture.tile, picture.faded]
    names += [item.sheet for item in record.rounds]
    return (name for name in dict.fromkeys(names) if name is not None)


@dataclass(frozen=True)
class KeptIn:
    """Whether a record's picture is in a directory; a name that is a path would lead out of it."""

    images: Path

    def __call__(self, name: str | None) -> bool:
        """True when `name` is a file of the directory itself."""
        plain = name is not None and os.path.basename(name) == name
        return plain and os.path.isfile(f"{self.images}/{name}")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
