"""Whether the facets of units for ``A or B`` are A and B, and their pictures show one each.

On planted networks the truth is known. A facet stands for the term that more of its exemplars show, by the
annotations. What a picture shows is asked of the encoder: the one of the two terms that it is more like,
each in standard deviations over the run's pictures (``pictures_right``); and told that there is one of each,
which facet's pictures show which (``one_each``). Intervals are bootstraps over networks and, within each,
over units, 95 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labeler.pipeline.pictures import embed_pictures
from labeler.records import UnitRecord, Visualisation
from labeler.report.text import table
from labeler.suites import Result

from .bootstrap import figures_of, nested_mean
from .opened import OpenedRun, open_run
from .planted_runs import GROUPS, PlantedParser, place_of, planted_runs
from .rightness import Truth


@dataclass(frozen=True)
class Parted:
    """One unit for two concepts.

    Attributes:
        network: its name.
        label: the truth.
        terms: that each facet stands for, in the facets' order; empty for one that shows neither.
        shown: for every facet's pictures, whether each shows the facet's own term.
        lead: how much more like the pictures are to their own facets' terms than to each other's; None where
            there are no two such facets with pictures.
    """

    network: str
    label: str
    terms: tuple[str, ...]
    shown: tuple[tuple[bool, ...], ...]
    lead: float | None = None

    @property
    def split(self) -> bool:
        """Whether there are facets for both."""
        return len({term for term in self.terms if term}) == 2

    @property
    def both_shown(self) -> bool:
        """Whether each of the two has a facet most of whose pictures show it."""
        good = {
            term for term, own in zip(self.terms, self.shown, strict=True) if 2 * sum(own) >= max(1, len(own))
        }
        return len(good - {""}) == 2


def main(arguments: Sequence[str], *, config: Path | None = None, run: Path | None = None) -> Result:
    """Label the networks into `run` (or a temporary directory) and look at the facets of their OR units."""
    parser = PlantedParser("facets", "Facets of units for two concepts, and what their pictures show.")
    options = parser.parse_args(list(arguments))
    found: list[Parted] = []
    singles: list[tuple[str, bool]] = []
    with place_of("facets", run) as place:
        for item in planted_runs(GROUPS[options.networks], place, options.set, config):
            opened = open_run(item.run, "facets")
            reader = PictureReader(item.run, opened)
            for unit, truth in item.truth.items():
                if unit in item.records and truth.kind == "or":
                    found.append(parted(item.name, truth, item.records[unit], opened, reader))
                elif unit in item.records and truth.kind in ("single", "duplicate"):
                    singles.append((item.name, len(item.records[unit].facets) > 1))
    return summarise(found, singles)


def parted(
    network: str, truth: Truth, record: UnitRecord, opened: OpenedRun, reader: PictureReader
) -> Parted:
    """What the facets of one unit are, and what their pictures show."""
    terms, shown = [], []
    leads: dict[str, list[float]] = {term: [] for term in truth.terms}
    for facet in record.facets:
        images = [item.image for item in record.exemplars if item.facet == facet.index]
        term = _term(truth, images, opened)
        pictures = [item for item in record.visualisations if item.facet == facet.index and not item.second]
        other = next((word for word in truth.terms if word != term), "")
        terms.append(term)
        drawn = [picture for picture in pictures if picture.tile]
        own = [reader.lead(picture, term, other) for picture in drawn] if term else []
        shown.append(tuple(lead > 0 for lead in own) if term else (False,) * len(drawn))
        if term:
            leads[term] += own
    known = all(leads.values())
    lead = sum(float(np.mean(own)) for own in leads.values()) if known else None
    return Parted(network, truth.label, tuple(terms), tuple(shown), lead)


def _term(truth: Truth, images: Sequence[int], opened: OpenedRun) -> str:
    """The term that more of the images show; empty where none does, or both as often."""
    inputs, areas_nc = opened.bench.inputs, opened.bench.activations.areas
    names = [concept.name for concept in inputs.probe.concepts]
    columns = [names.index(term) for term in truth.terms]
    present = np.asarray(areas_nc[list(images)])[:, columns] >= inputs.config.checks.presence_area
    counts = present.sum(axis=0)
    return "" if counts[0] == counts[1] else truth.terms[int(counts.argmax())]


class PictureReader:
    """The encoder, asked which of two words a picture shows.

    Args:
        run: the run directory.
        opened: the same, opened.
    """

    def __init__(self, run: Path, opened: OpenedRun) -> None:
        self._encoder = opened.bench.inputs.encoder
        tiles = [item.tile for record in opened.records for item in record.visualisations if not item.second]
        self._row = {tile: row for row, tile in enumerate(dict.fromkeys(tile for tile in tiles if tile))}
        images = [Image.open(run / "images" / tile).convert("RGB") for tile in self._row]
        self._pictures_nd = embed_pictures(self._encoder, images)
        self._scores: dict[str, NDArray[np.float32]] = {}

    def lead(self, picture: Visualisation, word: str, other: str) -> float:
        """By how much a picture shows `word` rather than `other`, in standard deviations."""
        row = self._row[str(picture.tile)]
        return float(self._of(word)[row] - self._of(other)[row])

    def _of(self, word: str) -> NDArray[np.float32]:
        """How like every picture is to a word, standardised, ``(n,)``."""
        if word not in self._scores:
            scores_n = self._pictures_nd @ self._encoder.embed_texts([word])[0]
            self._scores[word] = (scores_n - scores_n.mean()) / max(float(scores_n.std()), 1e-9)
        return self._scores[word]


def summarise(found: Sequence[Parted], singles: Sequence[tuple[str, bool]]) -> Result:
    """The suite's result from all units for two concepts, and from those for one: whether they were split."""
    networks = dict.fromkeys([*(one.network for one in found), *(name for name, _ in singles)])

    def of(name: str) -> list[Parted]:
        return [one for one in found if one.network == name]

    means = {
        "split": nested_mean([np.array([float(one.split) for one in of(n)]) for n in networks]),
        "singles_split": nested_mean(
            [np.array([float(split) for name, split in singles if name == n]) for n in networks]
        ),
        "pictures_right": nested_mean(
            [
                np.array([float(hit) for one in of(n) if one.split for own in one.shown for hit in own])
                for n in networks
            ]
        ),
        "one_each": nested_mean(
            [np.array([float(one.lead > 0) for one in of(n) if one.lead is not None]) for n in networks]
        ),
        "both_shown": nested_mean(
            [np.array([float(one.both_shown) for one in of(n) if one.split]) for n in networks]
        ),
    }
    figures, intervals = figures_of(means)
    rows = [
        (
            one.network, one.label, ", ".join(term or "neither" for term in one.terms),
            " ".join("".join("+" if hit else "-" for hit in own) for own in one.shown),
        )
        for one in found
    ]  # fmt: skip
    lines = [
        table(("network", "truth", "facets", "pictures that show their own"), rows),
        "",
        *(f"{name}: {mean}" for name, mean in means.items()),
    ]
    return Result("facets", len(found), figures, "\n".join(lines), intervals)
