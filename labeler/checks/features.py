"""What the gate looks at: each check as an effect in [0, 1], by its lower confidence bound.

Never z or p of *significance*: both grow with the number of images, for right and wrong labels alike. The
effects, with their sources, are in `_EFFECTS`; a check that does not apply has none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from labeler.records import CheckResult

Checks = Mapping[str, CheckResult]

LEAD, SHARE = 0.2, 0.3
"""Leads of *rivals* (a correlation) and of *location* (a share) that go three quarters of the way from 1/2 to
1: to be ahead matters more than by how much. Of straight lines, square roots and these, at several widths,
none had a log-loss on networks left out of the fit that was lower by 0.001 (planted networks 1 to 4)."""
FEW_IMAGES, MANY_IMAGES = 150, 15_000
"""Between these numbers of test images, log n goes from 0 to 1; `checks.min_test_images` is the first."""
ANNOTATED, IMAGE_TEXT = "annotations", "image-text"


def _bound(check: CheckResult) -> float:
    assert check.value is not None
    return check.value if check.low is None else check.low


def _correlation(check: CheckResult, checks: Checks) -> float:
    return _bound(check)


def _over_base_rate(check: CheckResult, checks: Checks) -> float:
    """Average precision above what a random order reaches (Davis & Goadrich 2006), as a share of the rest."""
    images = checks["prediction"].n if "prediction" in checks else 0
    base = min(check.n / images, 0.5) if images else 0.0
    return (_bound(check) - base) / (1 - base)


def _point_biserial(check: CheckResult, checks: Checks) -> float:
    """Cohen's d as the correlation of two equal groups (Cohen 1988, sec. 2.2)."""
    return _bound(check) / math.hypot(_bound(check), 2)


def _percentile(check: CheckResult, checks: Checks) -> float:
    return 2 * _bound(check) - 1


def _lead(width: float) -> Callable[[CheckResult, Checks], float]:
    return lambda check, checks: 0.5 + math.tanh(_bound(check) / width) / 2


_EFFECTS: dict[str, Callable[[CheckResult, Checks], float]] = {
    "prediction": _correlation,
    "rivals": _lead(LEAD),
    "auprc": _over_base_rate,
    "real": _point_biserial,
    "iou": _correlation,
    "location": _lead(SHARE),
    "intervention": _correlation,
    "synthetic": _point_biserial,
    "agreement": _percentile,
}
FEATURES = (*_EFFECTS, "specificity", "images")
"""By name, in order: the checks; how far *prediction* stands above the layer's other units; log n."""


def features(checks: Checks) -> dict[str, float]:
    """The effects of the checks that apply, in [0, 1]."""
    found = {
        name: min(1.0, max(0.0, effect(check, checks)))
        for name, effect in _EFFECTS.items()
        if (check := checks.get(name)) is not None and check.status == "ok" and check.value is not None
    }
    prediction = checks.get("prediction")
    if prediction is None or prediction.status != "ok":
        return found
    if prediction.specificity is not None and prediction.specificity.z is not None:
        z = max(0.0, prediction.specificity.z)
        found["specificity"] = z / (z + 3)  # 1/2 at the three deviations that `gate.specificity` asks for
    share = math.log(max(prediction.n, 1) / FEW_IMAGES) / math.log(MANY_IMAGES / FEW_IMAGES)
    found["images"] = min(1.0, max(0.0, share))
    return found


def pattern(checks: Checks) -> str:
    """Which checks apply and who judged, such as ``annotations: prediction rivals auprc real iou``."""
    names = [name for name in _EFFECTS if (check := checks.get(name)) is not None and check.status == "ok"]
    prediction = checks.get("prediction")
    judge = prediction.judge if prediction is not None else None
    return f"{ANNOTATED if judge == ANNOTATED else IMAGE_TEXT}: {' '.join(names)}"
