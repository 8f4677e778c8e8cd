"""Checks with numbers of our choice, and a calibration made by hand: no test leans on the fitted one."""

from labeler.checks.calibration import Calibration, Domain, Line
from labeler.checks.features import FEATURES
from labeler.checks.gate import Gate
from labeler.config import GateConfig
from labeler.records import CheckResult, Null, SpecificityNull

SETTINGS = GateConfig()
NOT_APPLICABLE = CheckResult.not_applicable("no pictures")
DOMAIN = Domain(
    target="toy", probe="scenes", judges=("annotations", "axes"), fitted_on="numbers chosen by hand"
)
ONLY_PREDICTION, ALL_CHECKS = (
    "annotations: prediction",
    "annotations: prediction rivals auprc real iou location intervention synthetic agreement",
)
CALIBRATION = Calibration(
    intercept=-4.0,
    weights={**dict.fromkeys(FEATURES, 1.0), "prediction": 3.0, "images": 0.0},
    missing={**dict.fromkeys(FEATURES, 0.5), "prediction": 0.0},
    patterns={
        ONLY_PREDICTION: Line(intercept=-0.5, slope=0.8, right=150, wrong=90),
        ALL_CHECKS: Line(intercept=0.2, slope=1.5, right=300, wrong=300),
    },
    domain=DOMAIN,
)
GATE = Gate(SETTINGS, calibration=CALIBRATION)


def check(value, low=None, p=1e-6, z=6.0, n=600, units=90, judge="annotations", why=""):
    return CheckResult(
        status="ok", value=value, low=low, n=n, judge=judge, why=why,
        significance=Null(z=5.0, p=p), specificity=SpecificityNull(z=z, p=0.01, units=units),
    )  # fmt: skip


def full(prediction=0.6):
    """Every check applies and speaks for the label."""
    return {
        "prediction": check(prediction, prediction - 0.05),
        "rivals": check(0.1, 0.06),
        "auprc": check(0.7, 0.4, n=6),
        "real": check(2.0, 1.5, n=12),
        "synthetic": check(1.0, n=2),
        "agreement": check(0.97, n=12),
        "iou": check(0.15, 0.1),
        "location": check(0.4, 0.2),
        "intervention": check(0.5, 0.3, n=20),
    }
