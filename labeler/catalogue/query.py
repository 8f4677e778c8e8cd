"""Questions about many units, answered from what is listed of them and never from their records."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, NamedTuple

from labeler.records import Formula, Kind, TrustName, VerdictName

Query = tuple[str, tuple[object, ...]]
_ORDER = "layer, idx, unit"
_COLUMNS = "layer, idx, unit, name, verdict, trust, coverage, reason, labels, exemplars"


@dataclass(frozen=True)
class Selection:
    """Which units: None lets all of them through.

    `probability` is the least that an accepted label of the unit must have, in [0, 1]; where it has no
    calibrated probability the unit is left out. With `kind` it is asked of a label of that kind.
    """

    layer: str | None = None
    verdict: str | None = None
    trust: str | None = None
    kind: str | None = None
    probability: float | None = None


ALL = Selection()


class ListedLabel(NamedTuple):
    """An accepted label without its checks; `score` and `probability` are those of `labeler.Label`."""

    text: str
    kind: Kind
    formula: Formula | None
    facet: int
    score: float | None
    probability: float | None


@dataclass(frozen=True, slots=True)
class ListedUnit:
    """What a list says of one unit: its record without the evidence.

    `exemplars` are the ids of its top probe images, strongest first (split `propose`).
    """

    unit: str
    layer: str
    index: int
    name: str
    verdict: VerdictName
    trust: TrustName
    coverage: float | None
    reason: str
    labels: tuple[ListedLabel, ...]
    exemplars: tuple[int, ...]

    @property
    def text(self) -> str:
        """The labels, best first, as one text."""
        return "; ".join(label.text for label in self.labels)


LABEL_FIELDS = ListedLabel._fields
_decode = json.JSONDecoder().raw_decode  # a third faster than json.loads, which looks for spaces first


def listing(wanted: Selection, limit: int | None = None, offset: int = 0) -> Query:
    """All columns of the wanted units, by layer and index."""
    return _select(_COLUMNS, wanted, limit, offset)


def names(wanted: Selection, limit: int | None = None, offset: int = 0) -> Query:
    """The wanted units as they print, by layer and index."""
    return _select("unit", wanted, limit, offset)


def read_row(row: tuple[Any, ...]) -> ListedUnit:
    """One row of `listing`."""
    layer, index, unit, name, verdict, trust, coverage, reason, labels, exemplars = row
    return ListedUnit(
        unit, layer, index, name, verdict, trust, coverage, reason,
        tuple(map(_label, _decode(labels)[0])), tuple(_decode(exemplars)[0]),
    )  # fmt: skip


def words(text: str) -> str | None:
    """`text` as a question to the index of words: labels that have all its words, or words that begin so.

    None where it has no word.
    """
    return " ".join(f'"{word}"*' for word in re.findall(r"\w+", text)) or None


def _label(values: list[Any]) -> ListedLabel:
    text, kind, formula, facet, score, probability = values
    found = None if formula is None else Formula.model_validate(formula)
    return ListedLabel(text, kind, found, facet, score, probability)


def _select(columns: str, wanted: Selection, limit: int | None, offset: int) -> Query:
    columns_given = {"layer": wanted.layer, "verdict": wanted.verdict, "trust": wanted.trust}
    parts = [f"{column} = ?" for column, value in columns_given.items() if value is not None]
    values: list[object] = [value for value in columns_given.values() if value is not None]
    of_label = {"kind = ?": wanted.kind, "probability >= ?": wanted.probability}
    asked = {part: value for part, value in of_label.items() if value is not None}
    if asked:
        parts.append(f"unit IN (SELECT unit FROM labels WHERE {' AND '.join(asked)})")
        values += asked.values()
    query = f"SELECT {columns} FROM listed WHERE {' AND '.join(parts) or '1'} ORDER BY {_ORDER}"
    if limit is not None or offset:
        query += " LIMIT ? OFFSET ?"
        values += [-1 if limit is None else limit, offset]
    return query, tuple(values)
