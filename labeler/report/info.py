"""What the report says about the run itself, and where it takes the units from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from labeler.records import UnitId, UnitRecord

Lines = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class RunInfo:
    """What the report says about the run.

    Attributes:
        title: of every page.
        facts: (name, value) lines of the first page.
        warnings: sentences that a reader has to see first.
        gate: (name, value) lines about the gate and its control.
        cut: the score from which labels are accepted; None where none is, or nothing is decided yet.
        decoy_scores: the gate's scores of the run's decoys, or of an evenly spaced part of them.
        provenance: (name, value) lines: fingerprints, versions, seeds.
        config: the run's config as text.
        run: the run's fingerprint, shortened; it stands on every page.
    """

    title: str
    facts: Lines = ()
    warnings: tuple[str, ...] = ()
    gate: Lines = ()
    cut: float | None = None
    decoy_scores: tuple[float, ...] = ()
    provenance: Lines = ()
    config: str = ""
    run: str = ""


class Source(Protocol):
    """Unit records by layer and place. It is handed to worker processes, which read at the same time."""

    def layers(self) -> Sequence[str]:
        """Layers in the order in which they are to appear."""
        ...

    def units(self, layer: str) -> Sequence[UnitId]:
        """The units of a layer in order."""
        ...

    def records(self, layer: str, first: UnitId, count: int) -> Iterator[UnitRecord]:
        """`count` records of a layer, from the unit `first` on, in the order of `units`."""
        ...


class ListSource:
    """Records that are in memory, layers in the order in which they first come."""

    def __init__(self, records: Iterable[UnitRecord]) -> None:
        ordered = list(records)
        layers = list(dict.fromkeys(record.layer for record in ordered))
        ordered.sort(key=lambda record: (layers.index(record.layer), record.index, record.unit))
        self._layers = {
            layer: list(found) for layer, found in groupby(ordered, key=lambda record: record.layer)
        }

    def layers(self) -> Sequence[str]:
        """Layers in the order in which they first came."""
        return list(self._layers)

    def units(self, layer: str) -> Sequence[UnitId]:
        """The units of a layer by index."""
        return [record.id for record in self._layers[layer]]

    def records(self, layer: str, first: UnitId, count: int) -> Iterator[UnitRecord]:
        """`count` records of a layer, from the unit `first` on."""
        start = self.units(layer).index(first)
        return iter(self._layers[layer][start : start + count])
