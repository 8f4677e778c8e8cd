"""From effects to the probability that a label is right, fitted where the truth is known.

``score = σ(b + Σ w_f x_f + Σ m_f [f does not apply])`` with w >= 0, so that no evidence for a label can lower
its score: logistic regression with an indicator for every missing check. The score orders labels. The
probability is ``σ(a_k + c_k · logit(score))``, one line for each pattern k of checks that apply (Platt 1999,
"Probabilistic outputs for support vector machines"), and only inside the domain of the fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from labeler.checks.features import FEATURES, features, pattern
from labeler.records import CheckResult, Record

RIDGE = 1e-3
"""Penalty on squared weights, beside a mean log-loss: it decides only where the data do not."""
MIN_PAIRS = 200
"""Fewer pairs of a pattern: no line is fitted to it, and its labels have no probability."""
MIN_OF_EACH = 30
"""Right and wrong labels that a pattern needs."""
_STEPS = 200

Floats = NDArray[np.float64]


class Line(Record):
    """How one pattern's scores become probabilities, and how many right and wrong labels say so."""

    intercept: float
    slope: float
    right: int
    wrong: int


class Domain(Record):
    """Where the probabilities hold: how the targets' names begin, the probe's name, and the judges.

    Units of another network may follow their labels less closely than those of the fit, and the same numbers
    then mean something else. `fitted_on` says what the fit was made on; `run` is the fingerprint of the only
    run that they hold for, where a person judged one.
    """

    target: str
    probe: str
    judges: tuple[str, ...]
    fitted_on: str
    run: str | None = None


class Calibration(Record):
    """A fitted gate. `weights` and `missing` are by feature; `patterns` by `features.pattern`.

    A feature that the fit did not have yet says nothing.
    """

    intercept: float
    weights: dict[str, float]
    missing: dict[str, float]
    patterns: dict[str, Line]
    domain: Domain

    def logit(self, checks: Mapping[str, CheckResult]) -> float:
        """The score on the scale of log odds."""
        found = features(checks)
        present = sum(self.weights.get(name, 0.0) * value for name, value in found.items())
        absent = sum(self.missing.get(name, 0.0) for name in FEATURES if name not in found)
        return self.intercept + present + absent

    def score(self, checks: Mapping[str, CheckResult]) -> float:
        """In [0, 1]; orders the labels of one run."""
        return _sigmoid(self.logit(checks))

    def probability(self, checks: Mapping[str, CheckResult]) -> float | None:
        """That the label is right; None for a pattern that the fit has not seen often enough."""
        line = self.patterns.get(pattern(checks))
        return None if line is None else _sigmoid(line.intercept + line.slope * self.logit(checks))

    def covers(self, target: str, probe: str, judges: Sequence[str]) -> bool:
        """Whether a run lies inside the domain: such a target, the same probe, no judge the fit did not have.

        Never for a calibration of one run: whoever reads it knows whose it is.
        """
        if self.domain.run is not None:
            return False
        alike = target.startswith(self.domain.target) and probe == self.domain.probe
        return alike and set(judges) <= set(self.domain.judges)


@dataclass(frozen=True)
class Example:
    """A label whose truth is known; `weight` as it shall count."""

    checks: Mapping[str, CheckResult]
    right: bool
    weight: float = 1.0


def fit(examples: Sequence[Example], domain: Domain) -> Calibration:
    """The calibration that explains `examples` best.

    Raises:
        ValueError: when there are not both right and wrong labels.
    """
    if len({example.right for example in examples}) < 2:
        raise ValueError("a calibration needs both right and wrong labels")
    found = [features(example.checks) for example in examples]
    value_nf = np.array([[row.get(name, 0.0) for name in FEATURES] for row in found])
    missing_nf = np.array([[float(name not in row) for name in FEATURES] for row in found])
    right_n = np.array([float(example.right) for example in examples])
    weight_n = np.array([example.weight for example in examples])
    intercept, weight_f, missing_f = _logistic(value_nf, missing_nf, right_n, weight_n)
    draft = Calibration(
        intercept=intercept,
        weights=dict(zip(FEATURES, weight_f, strict=True)),
        missing=dict(zip(FEATURES, missing_f, strict=True)),
        patterns={},
        domain=domain,
    )
    logit_n = np.array([draft.logit(example.checks) for example in examples])
    keys = [pattern(example.checks) for example in examples]
    lines = {}
    for key in sorted(set(keys)):
        rows = np.array([k == key for k in keys])
        right = int(right_n[rows].sum())
        wrong = int(rows.sum()) - right
        if right + wrong >= MIN_PAIRS and min(right, wrong) >= MIN_OF_EACH:
            lines[key] = _line(logit_n[rows], right_n[rows], weight_n[rows], right, wrong)
    return draft.model_copy(update={"patterns": lines})


def refit(calibration: Calibration, examples: Sequence[Example], domain: Domain) -> Calibration:
    """The same weights with one new line, shared by every pattern among `examples`; too few for a line each.

    Raises:
        ValueError: when there are not both right and wrong labels.
    """
    if len({example.right for example in examples}) < 2:
        raise ValueError("a calibration needs both right and wrong labels")
    logit_n = np.array([calibration.logit(example.checks) for example in examples])
    right_n = np.array([float(example.right) for example in examples])
    weight_n = np.array([example.weight for example in examples])
    right = int(right_n.sum())
    line = _line(logit_n, right_n, weight_n, right, len(examples) - right)
    lines = dict.fromkeys(sorted({pattern(example.checks) for example in examples}), line)
    return calibration.model_copy(update={"patterns": lines, "domain": domain})


def _logistic(
    value_nf: Floats, missing_nf: Floats, right_n: Floats, weight_n: Floats
) -> tuple[float, list[float], list[float]]:
    """Intercept, non-negative weights and missing indicators, by L-BFGS on the weights' square roots."""
    value, missing, right, weight = (
        torch.from_numpy(array) for array in (value_nf, missing_nf, right_n, weight_n)
    )
    root_f = torch.ones(value.shape[1], dtype=torch.float64, requires_grad=True)
    missing_f = torch.zeros(value.shape[1], dtype=torch.float64, requires_grad=True)
    intercept = torch.zeros((), dtype=torch.float64, requires_grad=True)

    def loss() -> torch.Tensor:
        logit_n = intercept + value @ root_f**2 + missing @ missing_f
        each_n = torch.nn.functional.binary_cross_entropy_with_logits(logit_n, right, reduction="none")
        penalty = RIDGE * ((root_f**4).sum() + (missing_f**2).sum()) / 2
        return (weight * each_n).sum() / weight.sum() + penalty

    _minimise([root_f, missing_f, intercept], loss)
    weights = (root_f**2).detach()
    weights[weights < 1e-6] = 0.0  # a root that went to zero
    return float(intercept.detach()), weights.tolist(), missing_f.detach().tolist()


def _line(logit_n: Floats, right_n: Floats, weight_n: Floats, right: int, wrong: int) -> Line:
    """Platt's line, with his targets: as if one more right and one more wrong label had been seen."""
    target_n = np.where(right_n > 0.5, (right + 1) / (right + 2), 1 / (wrong + 2))
    logit, target, weight = (torch.from_numpy(array) for array in (logit_n, target_n, weight_n))
    intercept = torch.zeros((), dtype=torch.float64, requires_grad=True)
    log_slope = torch.zeros(
        (), dtype=torch.float64, requires_grad=True
    )  # a slope below 0 would turn the order

    def loss() -> torch.Tensor:
        each_n = torch.nn.functional.binary_cross_entropy_with_logits(
            intercept + log_slope.exp() * logit, target, reduction="none"
        )
        return (weight * each_n).sum() / weight.sum()

    _minimise([intercept, log_slope], loss)
    slope = math.exp(float(log_slope.detach()))
    return Line(intercept=float(intercept.detach()), slope=slope, right=right, wrong=wrong)


def _minimise(parameters: list[torch.Tensor], loss: Callable[[], torch.Tensor]) -> None:
    optimiser = torch.optim.LBFGS(
        parameters,
        max_iter=_STEPS,
        tolerance_grad=1e-9,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(closure)  # type: ignore[no-untyped-call]


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit)) if logit > -500 else 0.0


@cache
def shipped() -> Calibration:
    """The calibration that comes with the package; ``labeler eval calibrate`` makes it."""
    text = (Path(__file__).parents[1] / "builtin" / "gate.json").read_text(encoding="utf-8")
    return Calibration.model_validate_json(text)


def expected_precision_cut(probabilities: Sequence[float], precision: float) -> float:
    """The least probability at which the accepted labels are expected to be right as often as asked.

    The mean probability of the labels at and above a cut is their expected share of right ones; the cut is
    the lowest at which this mean reaches `precision`. Infinite where no cut will do.
    """
    ordered = np.sort(np.asarray(probabilities, dtype=np.float64))[::-1]
    means = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    last_of_ties = np.append(ordered[1:] < ordered[:-1], True)[: len(ordered)]
    enough = np.flatnonzero((means >= precision * (1 - 1e-12)) & last_of_ties)  # sums round
    return float(ordered[enough[-1]]) if len(enough) else math.inf
