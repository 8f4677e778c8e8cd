"""Trust in the synthetic picture: is it of one kind with the photographs, and does it drive the unit?

Two witnesses are asked of what kind the pictures are: the target itself, by the layers before the unit
(`labeler.checks.paths`), and an image-text judge where it can read pictures (*agreement*). Whether the
network was manipulated is asked of what photographs taught of the unit (`labeler.checks.read_out`). None
decides on a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labeler.checks.crest import crest_cost
from labeler.checks.informativeness import Informativeness
from labeler.checks.paths import PathSignals, known
from labeler.records import CheckResult, Trust, TrustName

AGREES = 0.9
"""Percentile from which the picture is like the unit's own exemplars rather than those of others."""
CHANCE = 0.5
"""Percentile at or below which the picture is no more like the unit's exemplars than like anybody's."""
USUAL = 0.9
"""What a witness is taken to reach usually where its median over the layer is unknown."""
STANDS = 4.0
"""Where not even a quarter of the layer's units stand so high by their read-outs, one that stands low is
nothing special."""
LOW = 3.0
"""A read-out that stands no higher is suspect. Of clean units of two planted networks 3 in 40 stand lower, of
EfficientNet-Lite0's blocks.4 none."""


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
    crest: float | None = None,
) -> Trust:
    """How far a unit's synthetic pictures may be trusted.

    The *likeness* is the mean of the percentiles that apply, that of the layers before the unit and that of
    *agreement*. Each counts by how far above chance its witness usually finds exemplars in this layer: a
    judge that hardly reads pictures hides what the layers see.

    - `suspect`: what a manipulated network looks like. By what photographs taught of the unit, its pictures
      or its strongest photographs are hardly its own (`LOW`), as those of many units of this layer are
      (`STANDS`).
    - `contradicts`: drives the unit (natural p99 reached), but another kind than the photographs.
    - `supports`: drives the unit, likeness ≥ `AGREES`.
    - `partial`: anything between, and pictures that do not drive the unit at all.
    - `not_applicable`: no picture, or nothing that can compare it with photographs here.

    The signal `suspicion` in (0, 1] ranks units for whoever looks for manipulated ones: 1 / (1 + the lower of
    the two standings, less what the crest costs, at least 0).

    Args:
        agreement: the unit's *agreement* check.
        path: what the layers before the unit say.
        picture_activations: the unit's pooled maximum on each of its pictures; the median counts.
        natural: the unit's range over the probe.
        told: what a judge learns from the picture.
        agreement_usual: the median *agreement* of the layer's units.
        crest: see `crest_auroc`.
    """
    if not picture_activations:
        return Trust(verdict="not_applicable", reason="The unit has no synthetic picture.")
    activation = float(np.median(picture_activations))
    span = natural.p999 - natural.median
    percentile = agreement.value if agreement.status == "ok" else None
    own = None if path.why else path.percentile
    weakest = None if path.weakest_standing is None else path.weakest_standing - crest_cost(crest)
    likeness = _likeness(((own, path.usual), (percentile, agreement_usual)))
    signals = {
        "likeness": likeness,
        "suspicion": None if weakest is None else 1 / (1 + max(0.0, weakest)),
        "percentile": percentile,
        "agreement_p": agreement.significance.p if agreement.significance else None,
        "path_percentile": own,
        "path_similarity": None if path.why else path.similarity,
        "path_usual": None if path.why else path.usual,
        "second_percentile": None if path.why else path.second_percentile,
        "range_percentile": path.range_percentile,
        "stability": path.stability,
        "standing": path.standing,
        "second_standing": path.second_standing,
        "exemplars_standing": path.exemplars_standing,
        "usual_standing": path.usual_standing,
        "crest": crest,
        "activation": activation,
        "natural_p99": natural.p99,
        "natural_p999": natural.p999,
        "excess": (activation - natural.median) / span if span > 0 else None,
        "informative_pictures": known(told.pictures) if told else None,
        "informative_photographs": known(told.photographs) if told else None,
    }
    if likeness is None:
        reason = f"The picture cannot be compared with photographs: {agreement.why}; {path.why}."
        return Trust(verdict="not_applicable", reason=reason, signals=signals)
    verdict = _verdict(likeness, activation >= natural.p99, _stands_low(weakest, path.usual_standing))
    return Trust(verdict=verdict, reason=_reason(verdict, signals), signals=signals)


def _likeness(witnesses: Sequence[tuple[float | None, float | None]]) -> float | None:
    """Mean of the percentiles that are known, each with what is usual for its witness as weight."""
    known = [(value, _or(usual, USUAL)) for value, usual in witnesses if value is not None]
    weights = [max(usual - CHANCE, 0.01) for _, usual in known]
    return float(np.average([value for value, _ in known], weights=weights)) if known else None


def _stands_low(weakest: float | None, usual: float | None) -> bool:
    return weakest is not None and usual is not None and usual >= STANDS and weakest <= LOW


def _verdict(likeness: float, drives: bool, stands_low: bool) -> TrustName:
    if stands_low:
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
    "suspect": "The network may have been manipulated: by what the other photographs taught of the unit, its"
    " pictures or its strongest photographs are hardly its own, as those of many units of this layer are",
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
    if verdict == "suspect":
        said.append(
            f"by these it stands {_standing(signals['standing'])} over other units on its pictures, "
            f"{_standing(signals['second_standing'])} on those made in another way and "
            f"{_standing(signals['exemplars_standing'])} on its strongest photographs, which by what "
            f"the others taught lead the next strongest in {_percent(signals['crest'])} of pairs"
        )
    given, hundredth, thousandth = (
        _or(signals[n], 0.0) for n in ("activation", "natural_p99", "natural_p999")
    )
    said.append(
        f"it gives {given:.3g}, where one photograph in a hundred gives {hundredth:.3g} and one in "
        f"a thousand {thousandth:.3g}"
    )
    return f"{_WORDS[verdict]}: {'; '.join(said)}."


def _standing(value: float | None) -> str:
    return "an unknown number of spreads" if value is None else f"{value:.1f} spreads"


def _percent(share: float | None) -> str:
    return f"{100 * _or(share, 0.0):.0f} %"


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
