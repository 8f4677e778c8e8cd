"""Target-decoy control: labels given to the wrong units, and the cut at which few enough of them pass.

Elias & Gygi 2007, "Target-decoy search strategy for increased confidence in large-scale protein
identifications by mass spectrometry", Nature Methods 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from labeler.checks.gate import Judged
from labeler.checks.judges import normal_form, terms_of
from labeler.records import Label
from labeler.storage import hash_order


@dataclass(frozen=True)
class Cut:
    """The least score at which a label is accepted, and what it lets through."""

    threshold: float
    decoys_accepted: int
    targets_accepted: int
    decoys: int
    targets: int
    least_probability: float = -math.inf
    """Where labels have a probability, the least that is accepted (`calibration.expected_precision_cut`)."""

    def accepts(self, item: Judged) -> bool:
        """Whether a label is accepted: eligible, above the decoys, and probable where that is known."""
        probability = item.label.probability
        probable = probability is None or probability >= self.least_probability
        return item.eligibility.passes and item.cut_score >= self.threshold and probable

    @property
    def error(self) -> float | None:
        """Estimated share of wrong labels among the accepted; a lower bound, as near misses escape it."""
        if not self.decoys or not self.targets_accepted:
            return None
        return (self.decoys_accepted / self.decoys) / (self.targets_accepted / self.targets)


def decoy_cut(target_scores: Sequence[float], decoy_scores: Sequence[float], precision: float) -> Cut:
    """The smallest threshold at which accepted decoys are at most 1 - `precision` of accepted targets.

    Both as shares of all that were made; those that are not eligible have score ``-inf``. Infinite when no
    threshold will do, and when there is no decoy: what is not controlled is not accepted.
    """
    targets, decoys = np.asarray(target_scores, np.float64), np.asarray(decoy_scores, np.float64)
    best = Cut(math.inf, 0, 0, len(decoys), len(targets))
    if not len(decoys):
        return best
    for threshold in np.unique(targets[np.isfinite(targets)])[::-1]:
        accepted, wrong = int((targets >= threshold).sum()), int((decoys >= threshold).sum())
        # whole numbers on both sides but for the precision: no rounding decides
        if wrong * len(targets) <= (1 - precision) * (1 + 1e-12) * accepted * len(decoys):
            best = Cut(float(threshold), wrong, accepted, len(decoys), len(targets))
    return best


def choose_decoys(
    labels_by_unit: Mapping[int, Sequence[Label]],
    similar: Callable[[str, str], bool],
    per_unit: int,
    seed: int,
    *,
    related: Mapping[int, Collection[int]] | None = None,
    spare: Iterable[Label] = (),
) -> dict[int, tuple[Label, ...]]:
    """Labels of other units of the layer, as decoys for each unit.

    A decoy shares no term with any candidate of the unit, nor one that `similar` calls similar. Each unit has
    its own hash order, so asking for more units replaces few of its decoys.

    Args:
        labels_by_unit: the candidates of each unit of one layer.
        similar: whether two simple terms may mean the same.
        per_unit: decoys wanted for each unit; fewer are given when there are no more.
        seed: of the run.
        related: for each unit, others whose labels may be right for it as well (correlated with it).
        spare: labels to fill up with when other units have too few, e.g. of the vocabulary.
    """
    filling = list(spare)
    found = {}
    for unit, own in sorted(labels_by_unit.items()):
        near = (related or {}).get(unit, ())
        others = [
            label
            for other, labels in sorted(labels_by_unit.items())
            if other != unit and other not in near
            for label in labels
        ]
        terms = [term for label in own for term in terms_of(label)]
        chosen: list[Label] = []
        for pool in (others, filling):
            chosen += _dissimilar(pool, terms, chosen, similar, per_unit - len(chosen), f"{unit}", seed)
        found[unit] = tuple(
            label.model_copy(update={"checks": {}, "score": None, "facet": 0}) for label in chosen
        )
    return found


def _dissimilar(
    pool: Sequence[Label],
    own_terms: Sequence[str],
    taken: Sequence[Label],
    similar: Callable[[str, str], bool],
    wanted: int,
    purpose: str,
    seed: int,
) -> list[Label]:
    keys = [_key(label) for label in pool]
    distinct = {
        key: label for key, label in zip(keys, pool, strict=True) if key not in {_key(t) for t in taken}
    }
    labels = list(distinct.values())
    forms = {normal_form(term) for term in own_terms}
    chosen: list[Label] = []
    for position in hash_order(list(distinct), seed, f"decoy {purpose}"):
        if len(chosen) >= wanted:
            break
        terms = terms_of(labels[position])
        same = any(normal_form(term) in forms for term in terms)
        if not same and not any(similar(term, own) for term in terms for own in own_terms):
            chosen.append(labels[position])
    return chosen


def _key(label: Label) -> str:
    op = label.formula.op if label.formula is not None else ""
    return "\0".join([op, *sorted(normal_form(term) for term in terms_of(label))])
