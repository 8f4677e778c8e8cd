"""The gate: from checks to a score, to a probability where that is known, and to eligibility.

What turns scores into verdicts is the run's own decoys (`labeler.checks.decoys`), and, inside the domain of
the calibration, the probability that the label is right (`labeler.checks.calibration`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from labeler.checks.calibration import Calibration, shipped
from labeler.checks.features import ANNOTATED, pattern
from labeler.config import GateConfig
from labeler.records import CheckResult, Label

MIN_IOU = 0.04
"""Network Dissection's detector threshold (Bau et al. 2017, sec. 3)."""
MIN_AGREEMENT = 0.9
"""Percentile of *agreement* that counts as consistent."""
MIN_GAIN = 0.02
"""Least lead of a compound label over its best part: the simpler name wins a tie."""


State = Literal["passes", "refused", "not_significant", "unknown"]


@dataclass(frozen=True)
class Eligibility:
    """Whether a label may be accepted at all, before its score is compared with the decoys'.

    `passes`; `refused`: significant, but a condition fails; `not_significant`: chance would do as well, or
    the effect is too small to say anything; `unknown`: a necessary number could not be measured. `reason` is
    one clause in numbers.
    """

    state: State
    reason: str

    @property
    def passes(self) -> bool:
        """Whether every condition holds."""
        return self.state == "passes"


def eligible(label: Label, settings: GateConfig, tests: int, calibrated: bool = True) -> Eligibility:
    """The conditions of acceptance that need no other label.

    *prediction* applies, is significant at `settings.significance` shared among the unit's `tests` labels
    (Bonferroni), has a lower bound over 0, is no smaller than `settings.smallest_effect`, and exceeds the
    layer's other units by `settings.specificity`.
    Where specificity cannot be measured the label may be true of half the layer: `unknown`, never accepted.
    A compound label must lead its own terms, significantly; where that cannot be asked it is `unknown`. Where
    no probability says how often such a label is right (not `calibrated`), it has to be the best word that
    its judge knows: *rivals* is over 0, at its lower bound where the annotations judge. On the planted
    networks that the gate was fitted on, nine in ten of the labels that lead so are right, of all that are
    significant one in ten. Among the thousands of words of an image-text model, hoofed mammal beside
    artiodactyl, none leads for sure. The checks in `settings.require` must hold wherever they apply.
    """
    checks = label.checks
    check = checks.get("prediction")
    if check is None or check.status != "ok" or check.value is None:
        why = check.why if check is not None and check.why else "prediction was not measured"
        return Eligibility("unknown", why)
    level = settings.significance / max(1, tests)
    numbers = f"prediction {check.value:.2f}{_bound(check)} on {check.n} images"
    if not _significant(check, level) or check.low is None or check.low <= 0:
        return Eligibility("not_significant", f"{numbers} is not significant at {level:.2g}{_p(check)}")
    if check.value < settings.smallest_effect:
        small = f"{numbers} says next to nothing of the unit: {settings.smallest_effect:g} is needed"
        return Eligibility("not_significant", small)
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
    if (behind := _behind(label, level, calibrated)) is not None:
        return Eligibility(behind.state, f"{numbers}, but {behind.reason}")
    for name in settings.require:
        failure = _fails(name, checks.get(name), settings, level)
        if failure:
            return Eligibility("refused", f"{numbers}, but {failure}")
    return Eligibility("passes", f"{numbers}, {specific.z:.1f} deviations above {specific.units} other units")


def _behind(label: Label, level: float, calibrated: bool) -> Eligibility | None:
    """Why a label does not lead the other words; None where it does, or need not."""
    lead = label.checks.get("rivals")
    if label.formula is None:
        if calibrated or lead is None or lead.value is None or lead.low is None:
            return None
        if (lead.low if lead.judge == ANNOTATED else lead.value) > 0:
            return None
        return Eligibility("refused", f"another word may say as much: {lead.why}")
    if lead is None or lead.value is None:
        return Eligibility("unknown", "it could not be compared with its terms")
    if lead.value < MIN_GAIN or not _significant(lead, level):
        return Eligibility("refused", f"it leads by only {lead.value:.2f}{_p(lead)}: {lead.why}")
    return None


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


@dataclass(frozen=True)
class Gate:
    """What judges the labels of one run.

    Attributes:
        settings: the conditions of acceptance.
        calibrated: whether the run lies inside the domain of `calibration`, so that probabilities hold.
        calibration: the weights, and the probabilities.
    """

    settings: GateConfig
    calibrated: bool = False
    calibration: Calibration = field(default_factory=shipped)

    def judge(self, label: Label, tests: int) -> Judged:
        """Score one label (target or decoy) whose checks are made; `tests` labels compete for its unit.

        A label without *prediction*, or a compound that does not lead its own terms, has no score: it is
        never the best of its facet.
        """
        prediction = label.checks.get("prediction")
        unread = prediction is None or prediction.status != "ok"
        idle = unread or (label.formula is not None and not leads(label.checks))
        found = {
            "score": None if idle else self.calibration.score(label.checks),
            "probability": self.calibration.probability(label.checks)
            if self.calibrated and not unread
            else None,
        }
        scored = label.model_copy(update=found)
        eligibility = eligible(scored, self.settings, tests, self.calibrated)
        if eligibility.passes and self.calibrated and scored.probability is None:
            unseen = f"{eligibility.reason}, but the gate was never calibrated for {pattern(label.checks)}"
            eligibility = Eligibility("unknown", unseen)
        return Judged(scored, eligibility)


def leads(checks: Mapping[str, CheckResult]) -> bool:
    """Whether *rivals* finds the label ahead of all other words; true where it cannot be asked."""
    check = checks.get("rivals")
    return check is None or check.value is None or check.value >= MIN_GAIN
