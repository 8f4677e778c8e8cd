"""Labels as rows of a table: a row for each accepted label, and one without a label for a unit without any.

A spreadsheet takes a cell that starts with ``=``, ``+``, ``-`` or ``@``, also in their wide forms, for a
formula and runs it (OWASP, "CSV injection"), so such a text gets an apostrophe in front, which `plain` takes
away again. So does the text behind a semicolon: where the decimal point is a comma, semicolons part cells.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from labeler.records import CheckResult, Label, UnitRecord

_STARTS = r"[=+\-@＝＋－＠\t\r\n]"
_FORMULA = re.compile(rf"(^|;)('*{_STARTS})")
_QUOTED = re.compile(rf"(^|;)'('*{_STARTS})")

COLUMNS = {
    "unit": "the unit as layer:index; 3- at the end is the negative side of unit 3",
    "layer": "the layer, a module path of the network",
    "index": "the channel, latent or direction in the layer",
    "verdict": "what was decided of the unit: accepted, polysemantic, rejected, uninterpretable, abstained,"
    " dead or failed",
    "label": "an accepted label; empty where the unit has none",
    "kind": "what sort of word it is: object, part, scene, texture, material, colour, shape, pattern, text,"
    " other",
    "op": "how a compound label joins its terms: or, and, not; empty for a simple one",
    "terms": "the terms of a compound label, a JSON list",
    "facet": "the cluster of the unit's strongest images that the label is for",
    "probability": "calibrated probability that the label is right; empty outside the calibration's domain",
    "score": "the gate's score, comparable within one run only",
    "correlation": "check prediction: correlation of activation and label over all held-out images",
    "correlation_low": "its one-sided 95 % lower confidence bound",
    "specificity": "how many robust standard deviations it lies above the same label on the layer's other"
    " units",
    "iou": "check iou: overlap of the activating region with the concept's masks",
    "images": "held-out images behind the correlation",
    "match": "the annotated concept that the label was judged as; empty where an image-text model judged",
    "picture": "how far the synthetic picture may be trusted: supports, partial, contradicts, suspect,"
    " not_applicable",
    "coverage": "share of the unit's activation mass on held-out images where an accepted label is present",
    "reason": "the sentence that explains the verdict",
}
"""The columns of a table of labels, and what each one holds."""


def quoted(text: str) -> str:
    """`text` as a cell that no spreadsheet runs."""
    return _FORMULA.sub(r"\1'\2", text)


def plain(cell: str) -> str:
    """The text of a cell: `quoted` undone."""
    return _QUOTED.sub(r"\1\2", cell)


def rows(record: UnitRecord) -> Iterator[dict[str, Any]]:
    """The rows of one unit; a value that there is not is None."""
    of_unit = {
        "unit": record.unit, "layer": record.layer, "index": record.index, "verdict": record.verdict,
        "picture": record.trust.verdict, "coverage": record.coverage, "reason": record.reason,
    }  # fmt: skip
    for label in record.labels or (None,):
        found = {**of_unit, **({} if label is None else _of_label(label))}
        yield {column: found.get(column) for column in COLUMNS}


def _of_label(label: Label) -> dict[str, Any]:
    formula = label.formula
    prediction = label.checks.get("prediction", CheckResult(status="not_applicable"))
    specificity, iou = prediction.specificity, label.checks.get("iou")
    return {
        "label": label.text, "kind": label.kind, "facet": label.facet,
        "op": None if formula is None else formula.op,
        "terms": None if formula is None else json.dumps(formula.terms, ensure_ascii=False),
        "probability": label.probability, "score": label.score, "correlation": prediction.value,
        "correlation_low": prediction.low, "specificity": None if specificity is None else specificity.z,
        "iou": None if iou is None else iou.value, "images": prediction.n, "match": label.match,
    }  # fmt: skip
