"""The names of mask indices: ``classes.json``, ``classes.csv`` or ``classes.txt``.

- ``classes.json``: a list of names, or an object ``{"3": "tree", "4": {"name": "brick", "category":
  "material", "synonyms": ["bricks"]}}``.
- ``classes.csv``: rows of index, name and, if wanted, category; a header row that says so may come first.
- ``classes.txt``: one name a line, counted from 0, or on every line an index and a name.
"""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any, Final, get_args

from labeler.errors import ProbeError
from labeler.probes.files import in_short
from labeler.records import Kind
from labeler.seams import Concept

FILES: Final = ("classes.json", "classes.csv", "classes.txt")
UNLABELLED: Final = frozenset({"unlabelled", "unlabeled", "void", "ignore", "ignored"})
"""Names that mean that nobody said what a pixel shows; they are no concepts."""

_INDEXED = re.compile(r"(\d+)[\s,:;]+(\S.*)")


def read_class_names(root: Path) -> tuple[Path, dict[int, Concept | None]]:
    """The first of `FILES` in `root`, and the concept of every index in it; None where it is unlabelled.

    Raises:
        ProbeError: when there is none, or a line of it cannot be understood.
    """
    path = next((root / name for name in FILES if (root / name).is_file()), None)
    if path is None:
        raise ProbeError(f"{root} has no {' or '.join(FILES)} that names the mask indices; write one.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        entries = {".json": _json, ".csv": _csv, ".txt": _text}[path.suffix](text)
        classes = {index: _concept(entry) for index, entry in entries}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, csv.Error) as error:
        raise ProbeError(f"{path} does not name the mask indices: {in_short(error)}.") from error
    if len(classes) < len(entries):
        raise ProbeError(f"{path} names an index twice; every index has one name.")
    if not any(classes.values()):
        raise ProbeError(f"{path} names no concept; write one name for each index of the masks.")
    return path, classes


def _json(text: str) -> list[tuple[int, dict[str, Any]]]:
    data = json.loads(text)
    pairs = enumerate(data) if isinstance(data, list) else data.items()
    return [(int(index), {"name": entry} if isinstance(entry, str) else entry) for index, entry in pairs]


def _csv(text: str) -> list[tuple[int, dict[str, Any]]]:
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(row)]
    if rows and not rows[0][0].isdecimal():
        rows = rows[1:]
    entries = []
    for row in rows:
        if len(row) not in (2, 3):
            raise ValueError(f"a row is index, name and category, not {','.join(row)!r}")
        entry = {"name": row[1]} | ({"category": row[2]} if len(row) == 3 and row[2] else {})
        entries.append((int(row[0]), entry))
    return entries


def _text(text: str) -> list[tuple[int, dict[str, Any]]]:
    lines = text.rstrip().splitlines()
    indexed = [_INDEXED.fullmatch(line.strip()) for line in lines]
    if all(indexed):
        return [(int(match[1]), {"name": match[2]}) for match in indexed if match]
    return [(index, {"name": line}) for index, line in enumerate(lines)]


def _concept(entry: dict[str, Any]) -> Concept | None:
    unknown = entry.keys() - {"name", "category", "synonyms"}
    if unknown:
        raise ValueError(f"a class has name, category and synonyms, not {sorted(unknown)[0]!r}")
    name, category = _clean(entry["name"]), entry.get("category", "object")
    synonyms = entry.get("synonyms", [])
    if not name:
        raise ValueError("a class has an empty name")
    if category not in get_args(Kind):
        raise ValueError(f"{category!r} is not a category; take one of {', '.join(get_args(Kind))}")
    if not isinstance(synonyms, list):
        raise ValueError("synonyms are a list of words")
    return None if name in UNLABELLED else Concept(name, category, tuple(_clean(word) for word in synonyms))


def _clean(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError(f"{name!r} is not a name")
    return " ".join(name.replace("_", " ").lower().split())
