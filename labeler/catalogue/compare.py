"""Two catalogues of the same units side by side: two checkpoints of a network, or two labellers of one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labeler.catalogue.query import ListedUnit
from labeler.records import Record

What = Literal["same", "changed", "gained", "lost", "unlabelled"]


class UnitChange(Record):
    """One unit in both catalogues, `a` and `b`.

    `what`: ``same`` labels, ``changed`` ones, labels ``gained`` or ``lost``, or ``unlabelled`` in both.
    `similarity` is the mean cosine of each label with the nearest of the other side, in [-1, 1]; None where
    a side has none or the model does not know one. `change` in [0, 1] is 0 for the same labels, 1 where only
    one side has any, else 1 - `similarity`, at most 1; None where that is unknown or there is no label.
    `exemplars` in [0, 1] is the share of top exemplars in common (of all that either has); None where the
    catalogues are not of the same probe.
    """

    unit: str
    what: What
    verdict_a: str
    verdict_b: str
    labels_a: tuple[str, ...]
    labels_b: tuple[str, ...]
    similarity: float | None
    change: float | None
    exemplars: float | None


class VerdictCount(Record):
    """How many of the common units have the one verdict in `a` and the other in `b`."""

    a: str
    b: str
    units: int


class Comparison(Record):
    """What two catalogues agree on.

    `same_text` is the share of the same labels (but for case and order), `similarity` the mean of the units'
    similarities, 1 where labels are the same, both among the `labelled` units, which have labels in both;
    `similarity_of` says how many of those could be compared and `similarity_by` which model did it, empty
    where none could. `exemplars` is the mean overlap. `units` has all common units, by layer and index.
    """

    common: int
    only_a: int
    only_b: int
    labelled: int
    same_text: float | None
    similarity: float | None
    similarity_of: int
    similarity_by: str
    exemplars: float | None
    verdicts: tuple[VerdictCount, ...]
    units: tuple[UnitChange, ...]

    @property
    def changed(self) -> tuple[UnitChange, ...]:
        """Units whose labels are not the same, the most changed first; of equal change, fewest exemplars."""
        found = [unit for unit in self.units if unit.what in ("changed", "gained", "lost")]
        order = sorted(found, key=lambda unit: (-_or(unit.change, 0.0), _or(unit.exemplars, 1.0)))
        return tuple(order)


def differing_texts(a: Iterable[ListedUnit], b: Iterable[ListedUnit]) -> list[str]:
    """The labels that have to be compared by meaning: of units labelled in both, and not alike. Sorted."""
    others = {unit.unit: _texts(unit) for unit in b}
    found: set[str] = set()
    for unit in a:
        texts, other = _texts(unit), others.get(unit.unit, ())
        if texts and other and _folded(texts) != _folded(other):
            found |= {*texts, *other}
    return sorted(found)


def compare_units(
    a: Iterable[ListedUnit],
    b: Iterable[ListedUnit],
    vectors: dict[str, NDArray[np.float32]],
    *,
    similarity_by: str,
    same_probe: bool,
) -> Comparison:
    """Compare two catalogues.

    Args:
        a: units of the first, in its order.
        b: units of the second.
        vectors: unit-norm embeddings ``(dim,)`` of the `differing_texts` that a model knows.
        similarity_by: the name of that model.
        same_probe: whether image ids mean the same in both.
    """
    rest = {unit.unit: unit for unit in b}
    units, only_a = [], 0
    for unit in a:
        other = rest.pop(unit.unit, None)
        if other is None:
            only_a += 1
        else:
            units.append(_change(unit, other, vectors, same_probe))
    counts: dict[tuple[str, str], int] = {}
    for change in units:
        pair = (change.verdict_a, change.verdict_b)
        counts[pair] = counts.get(pair, 0) + 1
    labelled = [unit for unit in units if unit.labels_a and unit.labels_b]
    similarities = [unit.similarity for unit in labelled if unit.similarity is not None]
    return Comparison(
        common=len(units),
        only_a=only_a,
        only_b=len(rest),
        labelled=len(labelled),
        same_text=_mean([float(unit.what == "same") for unit in labelled]),
        similarity=_mean(similarities),
        similarity_of=len(similarities),
        similarity_by=similarity_by,
        exemplars=_mean([unit.exemplars for unit in units if unit.exemplars is not None]),
        verdicts=tuple(VerdictCount(a=x, b=y, units=n) for (x, y), n in sorted(counts.items())),
        units=tuple(units),
    )


def _change(
    a: ListedUnit, b: ListedUnit, vectors: dict[str, NDArray[np.float32]], same_probe: bool
) -> UnitChange:
    ours, theirs = _texts(a), _texts(b)
    similarity = change = None
    what: What
    if ours and theirs:
        what = "same" if _folded(ours) == _folded(theirs) else "changed"
        similarity = 1.0 if what == "same" else _similarity(ours, theirs, vectors)
        change = None if similarity is None else min(1.0, max(0.0, 1 - similarity))
    elif ours or theirs:
        what, change = ("lost" if ours else "gained"), 1.0
    else:
        what = "unlabelled"
    return UnitChange(
        unit=a.unit, what=what, verdict_a=a.verdict, verdict_b=b.verdict, labels_a=ours, labels_b=theirs,
        similarity=similarity, change=change,
        exemplars=_overlap(a.exemplars, b.exemplars) if same_probe else None,
    )  # fmt: skip


def _similarity(
    ours: Sequence[str], theirs: Sequence[str], vectors: dict[str, NDArray[np.float32]]
) -> float | None:
    if any(text not in vectors for text in (*ours, *theirs)):
        return None
    cosines = np.stack([vectors[text] for text in ours]) @ np.stack([vectors[text] for text in theirs]).T
    return float((cosines.max(axis=1).mean() + cosines.max(axis=0).mean()) / 2)


def _overlap(a: Sequence[int], b: Sequence[int]) -> float | None:
    union = {*a, *b}
    return len({*a} & {*b}) / len(union) if union else None


def _texts(unit: ListedUnit) -> tuple[str, ...]:
    return tuple(label.text for label in unit.labels)


def _folded(texts: Sequence[str]) -> frozenset[str]:
    return frozenset(text.casefold() for text in texts)


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value
