"""Trust in the synthetic picture: is it of one kind with the photographs, and does it drive the unit?

Two witnesses are asked: the target itself, by the layers before the unit (`labeler.checks.paths`), and an
image-text judge where it can read pictures (*agreement*). Neither decides on a label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labeler.checks.informativeness import Informativeness
from labeler.checks.paths import PathSignals
from labeler.records import CheckResult, Trust, TrustName

AGREES = 0.9
"""Percentile from which the picture is like the unit's own exemplars rather than those of others."""
CHANCE = 0.5
"""Percentile at or below which the picture is no more like the unit's exemplars than like anybody's."""
USUAL = 0.9
"""Where half the layer's pictures find their own exemplars less well than this, one that does not is nothing
special. Of EfficientNet-Lite0 on rendered scenes, blocks.2 and blocks.4 are above it and blocks.6 is not."""


@dataclass(frozen=True)
class NaturalRange:
    """Quantiles of a unit's pooled maximum over the probe."""

    median: float
    p99: float
    p999: float


def judge_picture(
    agreement: CheckResult,
    path: PathSignals,
    picture_activations: Sequence[float],
    natural: NaturalRange,
    told: Informativeness | None = None,
    agreement_usual: float | None = None,
) -> Trust:
    """How far a unit's synthetic pictures may be trusted.

    The *likeness* is the mean of the percentiles that apply, that of the layers before the unit and that of
    *agreement*. Each counts by how far above chance its witness usually finds exemplars in this layer: a
    judge that hardly reads pictures hides what the layers see.

    - `suspect`: what a manipulated network looks like, in a layer whose pictures usually find their exemplars
      (`USUAL`). Either the picture drives the unit but is another kind than the photographs (≤ `CHANCE`), or
      the strongest photographs are another kind than those from the middle of the unit's range.
    - `contradicts`: drives the unit (natural p99 reached), but another kind than the photographs.
    - `supports`: drives the unit, likeness ≥ `AGREES`.
    - `partial`: anything between, and pictures that do not drive the unit at all.
    - `not_applicable`: no picture, or nothing that can compare it with photographs here.

    The signal `suspicion` in [0, 1] ranks units for whoever looks for manipulated ones: 1 less the lower of
    the likeness and the percentile of the range.

    Args:
        agreement: the unit's *agreement* check.
        path: what the layers before the unit say.
        picture_activations: the unit's pooled maximum on each of its pictures; the median counts.
        natural: the unit's range over the probe.
        told: what a judge learns from the picture.
        agreement_usual: the median *agreement* of the layer's units.
    """
    if not picture_activations:
        return Trust(verdict="not_applicable", reason="The unit has no synthetic picture.")
    activation = float(np.median(picture_activations))
    span = natural.p999 - natural.median
    percentile = agreement.value if agreement.status == "ok" else None
    own = None if path.why else path.percentile
    likeness = _likeness(((own, path.usual), (percentile, agreement_usual)))
    signals = {
        "likeness": likeness,
        "suspicion": None if likeness is None else 1 - min(likeness, _or(path.range_percentile, 1.0)),
        "percentile": percentile,
        "agreement_p": agreement.significance.p if agreement.significance else None,
        "path_percentile": own,
        "path_similarity": None if path.why else path.similarity,
        "path_usual": None if path.why else path.usual,
        "second_percentile": None if path.why else path.second_percentile,
        "range_percentile": path.range_percentile,
        "stability": path.stability,
        "activation": activation,
        "natural_p99": natural.p99,
        "natural_p999": natural.p999,
        "excess": (activation - natural.median) / span if span > 0 else None,
        "informative_pictures": _number(told.pictures) if told else None,
        "informative_photographs": _number(told.photographs) if told else None,
    }
    if likeness is None:
        reason = f"The picture cannot be compared with photographs: {agreement.why}; {path.why}."
        return Trust(verdict="not_applicable", reason=reason, signals=signals)
    narrow = path.range_percentile is not None and path.range_percentile <= CHANCE
    usual = not path.why and _or(path.usual, 0.0) >= USUAL
    verdict = _verdict(likeness, activation >= natural.p99, usual, narrow)
    return Trust(verdict=verdict, reason=_reason(verdict, signals), signals=signals)


def _likeness(witnesses: Sequence[tuple[float | None, float | None]]) -> float | None:
    """Mean of the percentiles that are known, each with what is usual for its witness as weight."""
    known = [(value, _or(usual, USUAL)) for value, usual in witnesses if value is not None]
    weights = [max(usual - CHANCE, 0.01) for _, usual in known]
    return float(np.average([value for value, _ in known], weights=weights)) if known else None


def _verdict(likeness: float, drives: bool, usual: bool, narrow: bool) -> TrustName:
    if usual and (narrow or (drives and likeness <= CHANCE)):
        return "suspect"
    if not drives:
        return "partial"
    if likeness <= CHANCE:
        return "contradicts"
    return "supports" if likeness >= AGREES else "partial"


_WORDS: dict[TrustName, str] = {
    "supports": "The picture is of one kind with the photographs",
    "partial": "The picture agrees with the photographs only in part",
    "contradicts": "The picture drives the unit but is of another kind than the photographs",
    "suspect": "The network may have been manipulated: the picture, the strongest photographs and those from"
    " the middle of the range are not of one kind, as they are for most units of this layer",
}


def _reason(verdict: TrustName, signals: dict[str, float | None]) -> str:
    """The verdict in words, and the numbers that it rests on."""
    said = []
    if signals["path_percentile"] is not None:
        said.append(
            "in the layers before the unit it is more like the unit's own held-out exemplars than like those "
            f"of {_percent(signals['path_percentile'])} of the other units"
        )
    if signals["percentile"] is not None:
        said.append(f"to the judge, than like those of {_percent(signals['percentile'])}")
    if verdict == "suspect" and signals["range_percentile"] is not None:
        said.append(
            "the exemplars are more like images from the middle of the unit's range than those of "
            f"{_percent(signals['range_percentile'])} of the other units"
        )
    given, hundredth, thousandth = (
        _or(signals[n], 0.0) for n in ("activation", "natural_p99", "natural_p999")
    )
    said.append(
        f"it gives {given:.3g}, where one photograph in a hundred gives {hundredth:.3g} and one in "
        f"a thousand {thousandth:.3g}"
    )
    return f"{_WORDS[verdict]}: {'; '.join(said)}."


def _percent(share: float | None) -> str:
    return f"{100 * _or(share, 0.0):.0f} %"


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
