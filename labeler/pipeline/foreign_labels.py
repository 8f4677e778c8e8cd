"""Labels made elsewhere as proposals: those of the run's units whose text may enter a catalogue."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from labeler.catalogue.label_files import BadRow, ForeignLabel, read_label_file
from labeler.errors import ConfigError, nearest
from labeler.propose.schema import clean_label
from labeler.records import Formula, UnitId
from labeler.seams import Proposal

_NAMED = 3  # rows that a warning names


@dataclass(frozen=True)
class ForeignLabels:
    """The labels of a file that can be judged, by unit, and the rows that cannot, with the reason."""

    by_unit: Mapping[UnitId, tuple[Proposal, ...]] = field(default_factory=dict)
    left_out: tuple[BadRow, ...] = ()

    @property
    def count(self) -> int:
        """How many labels there are."""
        return sum(len(found) for found in self.by_unit.values())

    def warning(self, file: str) -> str | None:
        """One sentence about what was left out."""
        if not self.left_out:
            return None
        named = "; ".join(f"row {bad.row}: {bad.why}" for bad in self.left_out[:_NAMED])
        more = "; ..." if len(self.left_out) > _NAMED else ""
        return f"{len(self.left_out)} label(s) of {file} were left out ({named}{more})."


def read_foreign_labels(path: Path, units: Collection[UnitId]) -> ForeignLabels:
    """The labels of a file for `units`.

    Raises:
        UsageError: when the file cannot be read or has no columns that name units and labels.
        ConfigError: when not one label of it can be judged.
    """
    by_unit: dict[UnitId, list[Proposal]] = {}
    left_out = []
    known = set(units)
    for item in read_label_file(path):
        found = item if isinstance(item, BadRow) else _proposal(item, known)
        if isinstance(found, BadRow):
            left_out.append(found)
        else:
            by_unit.setdefault(item.unit, []).append(found)  # type: ignore[union-attr]
    if not by_unit:
        why = f"row {left_out[0].row}: {left_out[0].why}" if left_out else "it has no label"
        raise ConfigError(f"{path} has no label that can be judged ({why}).")
    return ForeignLabels({unit: tuple(found) for unit, found in by_unit.items()}, tuple(left_out))


def _proposal(label: ForeignLabel, units: Collection[UnitId]) -> Proposal | BadRow:
    if label.unit not in units:
        layers = sorted({unit.layer for unit in units})
        close = nearest(label.unit.layer, layers, 1) if label.unit.layer not in layers else []
        return BadRow(
            label.row, f"the run has no unit {label.unit}{f', but a layer {close[0]}' if close else ''}"
        )
    try:
        text = clean_label(label.text)
        formula = label.formula
        if formula is not None:
            formula = Formula(op=formula.op, terms=tuple(clean_label(term) for term in formula.terms))
    except ValueError as error:
        return BadRow(label.row, str(error))
    return Proposal(text, label.kind, label.facet, formula)
