"""Labels made elsewhere, read from a file: CSV, JSONL or Parquet, other labellers' or labeler's own export.

A row is of one unit: ``layer`` and ``unit`` (a number), or ``unit`` alone as ``layer:index``, and the label.
So are the files of CLIP-Dissect (Oikarinen & Weng 2023; its ``describe_neurons.py`` writes
``descriptions.csv`` with ``layer, unit, description, similarity``), of MILAN (Hernandez et al. 2022; its
``scripts/compute_milan_descriptions.py`` writes ``layer, unit, description``) and of its MILANNOTATIONS
(``annotations.csv`` with ``layer, unit, summary``, several rows for a unit). Other columns are passed over.

What labeler exports may add: ``kind``, ``op`` and ``terms`` of a compound, ``facet``. Text alone is never
taken apart: *red or green* without ``op`` is one description.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from labeler.catalogue.cells import plain
from labeler.errors import UsageError
from labeler.printable import printable
from labeler.records import KINDS, Formula, Kind, UnitId

TEXT_COLUMNS = ("label", "description", "summary", "explanation", "text")
"""Where the label stands, the first that a row has."""
INDEX_COLUMNS = ("unit", "index", "neuron")
_READ_COLUMNS = (*TEXT_COLUMNS, *INDEX_COLUMNS, "layer", "kind", "op", "terms", "facet", "labels")
_QUOTED = 200  # characters of a file that an error shows
_LONGEST = 1 << 20  # characters of one CSV cell, more than any reason has


@dataclass(frozen=True)
class ForeignLabel:
    """One label of a file as it stands there; `row` counts the rows from 1, a header not among them."""

    row: int
    unit: UnitId
    text: str
    kind: Kind = "other"
    formula: Formula | None = None
    facet: int = 0


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be used, and why."""

    row: int
    why: str


def read_label_file(path: Path) -> Iterator[ForeignLabel | BadRow]:
    """The labels of a file, one by one; rows without a label give nothing.

    Args:
        path: ``.jsonl`` (or ``.ndjson``), ``.parquet``, anything else is CSV.

    Raises:
        UsageError: when the file cannot be read, or has no columns that name units and labels.
    """
    readers: dict[str, Callable[[Path], Iterator[dict[str, Any]]]] = {
        ".jsonl": _jsonl, ".ndjson": _jsonl, ".parquet": _parquet,
    }  # fmt: skip
    if not path.is_file():
        raise UsageError(f"There is no file {path}.")
    try:
        rows = readers.get(path.suffix.lower(), _csv)(path)
        for number, row in enumerate(rows, 1):
            if number == 1:
                _check_columns(path, row)
            yield from _labels(number, row)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read: {_short(error)}.") from None


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    csv.field_size_limit(_LONGEST)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        for row in csv.DictReader(stream):
            yield {
                name.strip().lower(): plain(cell) for name, cell in row.items() if name and cell is not None
            }


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                raise UsageError(f"{path} has no JSON in line {number}.") from None
            if not isinstance(row, dict):
                raise UsageError(f"{path} has no JSON object in line {number}.")
            yield row


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            columns = [name for name in file.schema_arrow.names if name in _READ_COLUMNS]
            for batch in file.iter_batches(columns=columns):
                yield from batch.to_pylist()
    except pa.ArrowException as error:
        raise UsageError(f"{path} is not a Parquet file: {_short(error)}.") from None


def _check_columns(path: Path, row: Mapping[str, Any]) -> None:
    named = any(name in row for name in INDEX_COLUMNS)
    if not named or not any(name in row for name in (*TEXT_COLUMNS, "labels")):
        raise UsageError(
            f"{path} needs the columns layer, unit and description (or label);"
            f" it has {_short(', '.join(row)) or 'none'}."
        )


def _labels(number: int, row: Mapping[str, Any]) -> Iterator[ForeignLabel | BadRow]:
    nested = row.get("labels")
    entries: Iterable[Any] = nested if isinstance(nested, list) else [row]
    try:
        unit = _unit(row)
        for entry in entries:
            label = _label(number, unit, entry)
            if label is not None:
                yield label
    except (ValueError, TypeError, OverflowError, RecursionError, UsageError) as error:
        yield BadRow(number, _short(_reason(error)))


def _unit(row: Mapping[str, Any]) -> UnitId:
    given = next((row[name] for name in INDEX_COLUMNS if row.get(name) not in (None, "")), None)
    if given is None:
        raise ValueError("it names no unit")
    text = str(given).strip()
    if not text.isdecimal():
        return UnitId.parse(text)
    layer = str(row.get("layer") or "").strip()
    if not layer:
        raise ValueError("it names no layer")
    return UnitId(layer, int(text))


def _label(number: int, unit: UnitId, entry: Any) -> ForeignLabel | None:
    if not isinstance(entry, Mapping):
        raise ValueError("a label of it is no object")
    text = next((entry[name] for name in TEXT_COLUMNS if entry.get(name)), None)
    if text is None:
        return None
    kind: Kind = next((kind for kind in KINDS if kind == entry.get("kind")), "other")
    return ForeignLabel(number, unit, str(text), kind, _formula(entry), int(entry.get("facet") or 0))


def _formula(entry: Mapping[str, Any]) -> Formula | None:
    given = entry.get("formula")
    if not given:
        if not entry.get("op"):
            return None
        terms = entry.get("terms") or ()
        given = {"op": entry["op"], "terms": json.loads(terms) if isinstance(terms, str) else terms}
    formula = Formula.model_validate(given)
    if (len(formula.terms) == 1) != (formula.op == "not") or not formula.terms:
        raise ValueError("its formula needs one term for not, and two or more for or and and")
    return formula


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        where = error.errors()[0]["loc"]
        return f"its {where[0] if where else 'formula'} is wrong"
    if isinstance(error, json.JSONDecodeError):
        return "its terms are not a JSON list"
    return str(error).rstrip(".")


def _short(what: object) -> str:
    """On one line, and not the whole of a long file."""
    text = printable(" ".join(str(what).split()))
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."
