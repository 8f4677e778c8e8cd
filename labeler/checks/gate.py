"""The gate: from checks to a score, to eligibility, and by target-decoy control to a verdict.

The score orders labels; it is no probability. What turns it into a decision is, in every run, the run's own
labels given to the wrong units (decoys): the cut lies where few enough of them pass (Elias & Gygi 2007,
"Target-decoy search strategy", Nature Methods 4).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from labeler.checks.judges import normal_form, terms_of
from labeler.config import GateConfig
from labeler.records import CheckResult, Label
from labeler.storage import hash_order

WEIGHTS = {
    "prediction": 0.50,
    "auprc": 0.15,
    "real": 0.15,
    "iou": 0.10,
    "synthetic": 0.05,
    "agreement": 0.05,
}
"""Set by hand, not fitted; non-negative, so no evidence for a label can lower its score.

*prediction* carries most: it uses the whole range and passes the missing-label and extra-label sanity tests
(Oikarinen et al. 2025). *auprc* and *real* look at the top only. *iou* alone separates right from wrong
labels poorly (AUC 0.64), and *synthetic* leans on an out-of-domain judge. *agreement* speaks of the picture,
not of the label, and never vetoes alone.
"""
MIN_IOU = 0.04
"""Network Dissection's detector threshold (Bau et al. 2017, sec. 3)."""
MIN_AGREEMENT = 0.9
"""Percentile of *agreement* that counts as consistent."""


def features(checks: Mapping[str, CheckResult]) -> dict[str, float]:
    """Effect sizes in [0, 1] of the checks that apply, from their lower bounds where they have one.

    Never z or p: both grow with the number of images, for right and wrong labels alike.
    """
    found = {}
    for name in WEIGHTS:
        check = checks.get(name)
        if check is None or check.status != "ok" or check.value is None:
            continue
        bound = check.value if check.low is None else check.low
        found[name] = min(1.0, max(0.0, _effect(name, bound, check, checks)))
    return found


def _effect(name: str, bound: float, check: CheckResult, checks: Mapping[str, CheckResult]) -> float:
    if name == "auprc":
        images = checks["prediction"].n if "prediction" in checks else 0
        base = min(check.n / images, 0.5) if images else 0.0
        return (bound - base) / (1 - base)
    if name in ("real", "synthetic"):
        return bound / math.hypot(bound, 2)  # point-biserial r of equal groups (Cohen 1988, sec. 2.2)
    if name == "agreement":
        return 2 * bound - 1
    return bound


def score(checks: Mapping[str, CheckResult]) -> float:
    """Weighted mean of the features, over the checks that apply, in [0, 1].

    A missing check neither adds nor takes away: the weights of the others are scaled up to their sum.
    """
    found = features(checks)
    total = sum(WEIGHTS[name] for name in found)
    return sum(WEIGHTS[name] * value for name, value in found.items()) / total if total else 0.0


State = Literal["passes", "refused", "not_significant", "unknown"]


@dataclass(frozen=True)
class Eligibility:
    """Whether a label may be accepted at all, before its score is compared with the decoys'.

    `passes`; `refused`: significant, but a condition fails; `not_significant`; `unknown`: a necessary number
    could not be measured. `reason` is one clause in numbers.
    """

    state: State
    reason: str

    @property
    def passes(self) -> bool:
        """Whether every condition holds."""
        return self.state == "passes"


def eligible(checks: Mapping[str, CheckResult], settings: GateConfig, tests: int) -> Eligibility:
    """The conditions of acceptance that need no other label.

    *prediction* applies, is significant at `settings.significance` shared among the unit's `tests` labels
    (Bonferroni), has a lower bound over 0, and exceeds the layer's other units by `settings.specificity`.
    Where specificity cannot be measured the label may be true of half the layer: `unknown`, never accepted.
    The checks in `settings.require` must hold wherever they apply.
    """
    check = checks.get("prediction")
    if check is None or check.status != "ok" or check.value is None:
        why = check.why if check is not None and check.why else "prediction was not measured"
        return Eligibility("unknown", why)
    level = settings.significance / max(1, tests)
    numbers = f"prediction {check.value:.2f}{_bound(check)} on {check.n} images"
    if not _significant(check, level) or check.low is None or check.low <= 0:
        return Eligibility("not_significant", f"{numbers} is not significant at {level:.2g}{_p(check)}")
    specific = check.specificity
    if specific is None or specific.z is None:
        units = specific.units if specific is not None else 0
        return Eligibility("unknown", f"{numbers}, but only {units} other live units to compare with")
    if specific.z < settings.specificity:
        return Eligibility(
            "refused",
            f"{numbers} is true but common: {specific.z:.1f} deviations above {specific.units} other units, "
            f"{settings.specificity:g} are needed",
        )
    for name in settings.require:
        failure = _fails(name, checks.get(name), settings, level)
        if failure:
            return Eligibility("refused", f"{numbers}, but {failure}")
    return Eligibility("passes", f"{numbers}, {specific.z:.1f} deviations above {specific.units} other units")


def _significant(check: CheckResult, level: float) -> bool:
    return (
        check.significance is not None and check.significance.p is not None and check.significance.p <= level
    )


def _bound(check: CheckResult) -> str:
    return "" if check.low is None else f" (at least {check.low:.2f})"


def _p(check: CheckResult) -> str:
    known = check.significance is not None and check.significance.p is not None
    return f" (p = {check.significance.p:.2g})" if known and check.significance is not None else ""


def _fails(name: str, check: CheckResult | None, settings: GateConfig, level: float) -> str:
    """Why a required check does not hold; empty where it holds or does not apply."""
    if check is None or check.status == "not_applicable":
        return ""
    if check.status == "failed" or check.value is None:
        return f"the required {name} failed: {check.why}"
    least = {"agreement": MIN_AGREEMENT, "iou": MIN_IOU}.get(name, 0.0)
    reached = check.value >= least if name == "agreement" else check.value > least
    if not reached:
        return f"the required {name} is {check.value:.2f}; {least:g} is needed"
    if not _significant(check, level):
        return f"the required {name} of {check.value:.2f} is not significant at {level:.2g}{_p(check)}"
    z = check.specificity.z if check.specificity is not None else None
    # A percentile among other units is already a comparison with them.
    if name != "agreement" and z is not None and z < settings.specificity:
        return f"the required {name} of {check.value:.2f} is common in the layer ({z:.1f} deviations)"
    return ""


@dataclass(frozen=True)
class Judged:
    """A label with its score, and whether it may be accepted."""

    label: Label
    eligibility: Eligibility

    @property
    def cut_score(self) -> float:
        """What competes with the decoys: the score, or minus infinity where the label may not be accepted."""
        return self.label.score if self.eligibility.passes and self.label.score is not None else -math.inf


def judge_label(label: Label, settings: GateConfig, tests: int) -> Judged:
    """Score one label (target or decoy) whose checks are made; `tests` labels compete for its unit."""
    scored = label.model_copy(update={"score": score(label.checks)})
    return Judged(scored, eligible(label.checks, settings, tests))


@dataclass(frozen=True)
class Cut:
    """The least score at which a label is accepted, and what it lets through."""

    threshold: float
    decoys_accepted: int
    targets_accepted: int
    decoys: int
    targets: int

    @property
    def error(self) -> float | None:
        """Estimated share of wrong labels among the accepted; a lower bound, as near misses escape it."""
        return self._ratio(self.decoys_accepted)

    @property
    def cautious_error(self) -> float | None:
        """The same with one more decoy accepted (He et al. 2015): what so few decoys can vouch for."""
        return self._ratio(self.decoys_accepted + 1)

    def _ratio(self, accepted: int) -> float | None:
        if not self.decoys or not self.targets_accepted:
            return None
        return (accepted / self.decoys) / (self.targets_accepted / self.targets)


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
