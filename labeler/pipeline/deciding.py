"""Verdicts as pure functions of checks that are made: the cut, what the report says of it, deciding anew."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from labeler.checks import Cut, Gate, Judged, decide, decoy_cut, expected_precision_cut
from labeler.pipeline.bench import by_layer
from labeler.records import Label, UnitId, UnitRecord

Opened = Mapping[UnitId, Sequence[Judged]]
"""Labels opened on `test`, by unit."""


def final_cut(targets: Opened, decoys: Opened, precision: float) -> Cut:
    """Where labels are accepted: above the decoys, and probable enough where probabilities are known.

    The precision asked for is that of the accepted labels, so only the one that each facet would be given
    counts, not its other candidates.
    """
    judged = [item for found in targets.values() for item in found]
    cut = decoy_cut(
        [item.cut_score for item in judged],
        [item.cut_score for found in decoys.values() for item in found],
        precision,
    )
    given = [
        label
        for found in targets.values()
        for label in decide(found, cut, test_images=1, min_test_images=0).accepted
    ]
    known = [label.probability for label in given if label.probability is not None]
    return replace(cut, least_probability=expected_precision_cut(known, precision))


def control(
    cut: Cut, decoys: Opened, records: Sequence[UnitRecord], gate: Gate, *, openings: int, test_images: int
) -> dict[str, object]:
    """What the report says about the gate: the cut, the decoys it lets through, the openings of `test`."""
    by_name = {}
    for name, units in by_layer(list(decoys)).items():
        judged = [item for unit in units for item in decoys[unit]]
        by_name[name] = {
            "units": sum(r.id.side == name for r in records),
            "accepted": sum(r.id.side == name and r.verdict in ("accepted", "polysemantic") for r in records),
            "decoys": len(judged),
            "decoys_accepted": sum(item.cut_score >= cut.threshold for item in judged),
        }
    threshold = cut.threshold if math.isfinite(cut.threshold) else None
    lines = [("cut", "no score is high enough" if threshold is None else f"score {threshold:.3f}")]
    if gate.calibration.domain.run is not None:
        lines.append(("probabilities", gate.calibration.domain.fitted_on))
    lines += [
        (name, "{accepted} of {units} units accepted, {decoys_accepted} of {decoys} decoys".format(**row))
        for name, row in by_name.items()
    ]
    lines.append(("test split", f"opened {openings} time(s)"))
    warnings = [] if cut.decoys else ["No decoy could be made, so nothing could be accepted."]
    return {
        "threshold": threshold,
        "layers": by_name,
        "lines": lines,
        "warnings": warnings,
        "test_openings": openings,
        "test_images": test_images,
    }


@dataclass(frozen=True)
class Decided:
    """All records of a run under one gate, its decoys as that gate scores them, and the cut."""

    records: tuple[UnitRecord, ...]
    decoys: Opened
    cut: Cut


def decide_again(
    records: Sequence[UnitRecord],
    decoys: Mapping[UnitId, Sequence[Label]],
    gate: Gate,
    *,
    test_images: int,
    min_test_images: int,
) -> Decided:
    """The verdicts that `gate` gives from the checks in the records; nothing is measured.

    With the gate that decided them, the records come back as they are. `coverage` is of the accepted labels'
    presence in each image, so it becomes None where other labels are accepted.
    """
    labels = {record.id: (*record.labels, *record.candidates) for record in records}
    targets = {
        unit: [gate.judge(label, len(found)) for label in found] for unit, found in labels.items() if found
    }
    judged_decoys = {
        unit: [gate.judge(label, len(labels[unit])) for label in found] for unit, found in decoys.items()
    }
    cut = final_cut(targets, judged_decoys, gate.settings.precision)

    def again(record: UnitRecord) -> UnitRecord:
        if record.id not in targets:
            return record
        decision = decide(targets[record.id], cut, test_images=test_images, min_test_images=min_test_images)
        same = {label.text for label in decision.accepted} == {label.text for label in record.labels}
        return record.model_copy(
            update={
                "verdict": decision.verdict,
                "reason": decision.reason,
                "labels": decision.accepted,
                "candidates": decision.refused,
                "coverage": record.coverage if same else None,
            }
        )

    return Decided(tuple(again(record) for record in records), judged_decoys, cut)
