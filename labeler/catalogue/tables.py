"""A catalogue as Arrow tables: one row for each unit, with or without the evidence behind it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from labeler.catalogue.query import ListedUnit
from labeler.records import Label, UnitRecord

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 512  # rows in memory at once
_Item = TypeVar("_Item")


def light_schema() -> pa.Schema:
    """Columns of a table without evidence: what a list says of a unit."""
    import pyarrow as pa

    return pa.schema(
        [*_unit_fields(), ("labels", pa.list_(_label_struct())), ("exemplars", pa.list_(pa.int64()))]
    )


def whole_schema() -> pa.Schema:
    """Columns of a table with the checks of every label and the unit's strongest images."""
    import pyarrow as pa

    numbers = ("value", "low", "significance_z", "significance_p", "specificity_z", "specificity_p")
    check = pa.struct(
        [
            ("check", pa.string()),
            ("status", pa.string()),
            ("why", pa.string()),
            ("judge", pa.string()),
            ("images", pa.int64()),
            *((name, pa.float64()) for name in numbers),
            ("specificity_units", pa.int64()),
        ]
    )
    evidence = [("round", pa.int64()), ("match", pa.string()), ("checks", pa.list_(check))]
    labels = pa.list_(_label_struct(evidence))
    exemplar = pa.struct([("image", pa.int64()), ("path", pa.string()), ("activation", pa.float64())])
    concept = pa.struct([("category", pa.string()), ("concept", pa.string()), ("iou", pa.float64())])
    return pa.schema(
        [
            *_unit_fields(),
            ("trust_reason", pa.string()),
            ("labels", labels),
            ("candidates", labels),
            ("exemplars", pa.list_(exemplar)),
            ("dissection", pa.list_(concept)),
            ("threshold", pa.float64()),
            ("minimum", pa.float64()),
            ("maximum", pa.float64()),
        ]
    )


def light_table(units: Iterable[ListedUnit]) -> pa.Table:
    """A table of `light_schema`."""
    import pyarrow as pa

    batches = [
        pa.RecordBatch.from_pylist([_light_row(unit) for unit in part], light_schema())
        for part in parts(units, _BATCH)
    ]
    return pa.Table.from_batches(batches, light_schema())


def whole_batches(records: Iterable[UnitRecord]) -> Iterator[pa.RecordBatch]:
    """Batches of `whole_schema`, a few hundred units at a time."""
    import pyarrow as pa

    schema = whole_schema()
    for part in parts(records, _BATCH):
        yield pa.RecordBatch.from_pylist([_whole_row(record) for record in part], schema)


def parts(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    """`items` in lists of `size`, the last one shorter."""
    left = iter(items)
    while part := list(islice(left, size)):
        yield part


def _unit_fields() -> list[tuple[str, Any]]:
    import pyarrow as pa

    return [
        ("unit", pa.string()), ("layer", pa.string()), ("index", pa.int64()), ("name", pa.string()),
        ("verdict", pa.string()), ("reason", pa.string()), ("trust", pa.string()), ("coverage", pa.float64()),
    ]  # fmt: skip


def _label_struct(more: Iterable[tuple[str, Any]] = ()) -> pa.DataType:
    import pyarrow as pa

    formula = pa.struct([("op", pa.string()), ("terms", pa.list_(pa.string()))])
    return pa.struct(
        [
            ("text", pa.string()), ("kind", pa.string()), ("formula", formula), ("facet", pa.int64()),
            ("score", pa.float64()), ("probability", pa.float64()), *more,
        ]
    )  # fmt: skip


def _light_row(unit: ListedUnit) -> dict[str, Any]:
    labels = [
        {**label._asdict(), "formula": None if label.formula is None else label.formula.model_dump()}
        for label in unit.labels
    ]
    return {**{field.name: getattr(unit, field.name) for field in fields(unit)}, "labels": labels}


def _whole_row(record: UnitRecord) -> dict[str, Any]:
    activation = record.activation
    return {
        "unit": record.unit, "layer": record.layer, "index": record.index, "name": record.name,
        "verdict": record.verdict, "reason": record.reason, "trust": record.trust.verdict,
        "trust_reason": record.trust.reason, "coverage": record.coverage,
        "labels": [_whole_label(label) for label in record.labels],
        "candidates": [_whole_label(label) for label in record.candidates],
        "exemplars": [item.model_dump(include={"image", "path", "activation"}) for item in record.exemplars],
        "dissection": [item.model_dump(include={"category", "concept", "iou"}) for item in record.dissection],
        "threshold": None if activation is None else activation.threshold,
        "minimum": None if activation is None else activation.minimum,
        "maximum": None if activation is None else activation.maximum,
    }  # fmt: skip


def _whole_label(label: Label) -> dict[str, Any]:
    checks = []
    for name, check in label.checks.items():
        significance, specificity = check.significance, check.specificity
        checks.append(
            {
                "check": name, "status": check.status, "why": check.why, "judge": check.judge,
                "images": check.n, "value": check.value, "low": check.low,
                "significance_z": None if significance is None else significance.z,
                "significance_p": None if significance is None else significance.p,
                "specificity_z": None if specificity is None else specificity.z,
                "specificity_p": None if specificity is None else specificity.p,
                "specificity_units": None if specificity is None else specificity.units,
            }
        )  # fmt: skip
    own = label.model_dump(
        include={"text", "kind", "formula", "facet", "score", "probability", "round", "match"}
    )
    return {**own, "checks": checks}
