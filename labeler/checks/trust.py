"""Trust in the synthetic picture: is it of one kind with the photographs, and does it drive the unit?

The constants are a first version, set by hand: no attack has been used to fit them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labeler.records import CheckResult, Trust, TrustName

AGREES = 0.9
"""Percentile from which the picture is like the unit's own exemplars rather than those of others."""
CHANCE = 0.5
"""Percentile at or below which the picture is no more like the unit's exemplars than like anybody's."""
FAR = 3.0
"""So many times further above the median than the natural 99.9th percentile is far out of range."""
SIGNIFICANT = 0.05


@dataclass(frozen=True)
class NaturalRange:
    """Quantiles of a unit's pooled maximum over the probe."""

    median: float
    p99: float
    p999: float


def judge_picture(
    agreement: CheckResult, picture_activations: Sequence[float], natural: NaturalRange
) -> Trust:
    """How far a unit's synthetic pictures may be trusted.

    - `suspect`: far above the natural range (`FAR`) and another kind than the photographs (≤ `CHANCE`): what
      a manipulated network looks like.
    - `contradicts`: drives the unit (natural p99 reached), but another kind than the photographs.
    - `supports`: drives the unit, percentile ≥ `AGREES`, and significant against random images.
    - `partial`: anything between, and pictures that do not drive the unit at all.
    - `not_applicable`: no picture, or no judge that can compare it with photographs here.

    Args:
        agreement: the unit's *agreement* check.
        picture_activations: the unit's pooled maximum on each of its pictures; the median counts.
        natural: the unit's range over the probe.
    """
    if not picture_activations:
        return Trust(verdict="not_applicable", reason="The unit has no synthetic picture.")
    activation = float(np.median(picture_activations))
    span = natural.p999 - natural.median
    excess = (activation - natural.median) / span if span > 0 else None
    percentile, p = agreement.value, agreement.significance.p if agreement.significance else None
    signals = {
        "percentile": percentile,
        "agreement_p": p,
        "activation": activation,
        "natural_p99": natural.p99,
        "natural_p999": natural.p999,
        "excess": excess,
    }
    if agreement.status != "ok" or percentile is None:
        reason = f"The picture cannot be compared with photographs: {agreement.why}."
        return Trust(verdict="not_applicable", reason=reason, signals=signals)
    verdict = _verdict(percentile, p, activation >= natural.p99, excess)
    return Trust(
        verdict=verdict, reason=_reason(verdict, percentile, activation, natural, excess), signals=signals
    )


def _verdict(percentile: float, p: float | None, drives: bool, excess: float | None) -> TrustName:
    if not drives:
        return "partial"
    if percentile <= CHANCE:
        return "suspect" if excess is not None and excess > FAR else "contradicts"
    if percentile >= AGREES and p is not None and p <= SIGNIFICANT:
        return "supports"
    return "partial"


_WORDS: dict[TrustName, str] = {
    "supports": "The picture is of one kind with the photographs",
    "partial": "The picture agrees with the photographs only in part",
    "contradicts": "The picture drives the unit but is of another kind than the photographs",
    "suspect": "The picture is far out of the natural range and of another kind than the photographs",
}


def _reason(
    verdict: TrustName, percentile: float, activation: float, natural: NaturalRange, excess: float | None
) -> str:
    reach = "" if excess is None else f", {excess:.1f} times the natural 99.9th percentile above the median"
    return (
        f"{_WORDS[verdict]}: its likeness to the unit's own held-out exemplars is at percentile "
        f"{100 * percentile:.0f} among those of other units, and it gives {activation:.3g} "
        f"(natural 99th percentile {natural.p99:.3g}{reach})."
    )
