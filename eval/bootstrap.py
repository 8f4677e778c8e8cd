"""Percentile bootstrap of a mean: units (or pairs, or networks) are drawn anew, as often as there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 4000
"""Resamples; the ends of a 95 % interval then move by about 2 % of its width from seed to seed."""
_CELLS = 4_000_000  # draws × values held at once: 32 MB


@dataclass(frozen=True)
class Mean:
    """A mean of `count` values and its 95 % interval; `ends` is None for fewer than two values."""

    value: float | None
    ends: tuple[float, float] | None
    count: int

    def __str__(self) -> str:
        if self.value is None:
            return "nothing to measure"
        return f"{self.value:.3f}" + (f" ({self.ends[0]:.3f} to {self.ends[1]:.3f})" if self.ends else "")


def bootstrap_mean(
    values: Sequence[float] | NDArray[np.float64], *, seed: int = 0, draws: int = DRAWS
) -> Mean:
    """The mean of `values` ``(n,)`` and its percentile bootstrap interval (Efron & Tibshirani 1993, ch. 13).

    The same values and seed give the same interval. For a paired difference give the differences.
    """
    values_n = np.asarray(values, dtype=np.float64)
    count = len(values_n)
    if not count:
        return Mean(None, None, 0)
    if count == 1:
        return Mean(float(values_n[0]), None, 1)
    generator = np.random.default_rng(seed)
    step = max(1, _CELLS // count)
    means = [
        values_n[generator.integers(0, count, (min(step, draws - start), count))].mean(axis=1)
        for start in range(0, draws, step)
    ]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975]).tolist()
    return Mean(float(values_n.mean()), (low, high), count)


def figures_of(means: dict[str, Mean]) -> tuple[dict[str, float | None], dict[str, tuple[float, float]]]:
    """Figures and intervals of a `Result`, from means by name."""
    figures = {name: mean.value for name, mean in means.items()}
    return figures, {name: mean.ends for name, mean in means.items() if mean.ends is not None}


def nested_mean(groups: Sequence[NDArray[np.float64]], *, seed: int = 0, draws: int = DRAWS) -> Mean:
    """The mean of all values, and its interval when whole groups (networks) and then their values are drawn.

    Values of one group are alike, so drawing values alone would give too narrow an interval (Davison &
    Hinkley 1997, sec. 3.8). One group: `bootstrap_mean` of its values.
    """
    filled = [values for values in groups if len(values)]
    everything = np.concatenate(filled) if filled else np.zeros(0)
    if len(filled) < 2:
        return bootstrap_mean(everything, seed=seed, draws=draws)
    generator = np.random.default_rng(seed)
    sums, counts = np.empty(draws), np.empty(draws)
    for draw in range(draws):
        chosen = [filled[g] for g in generator.integers(0, len(filled), len(filled))]
        drawn = [values[generator.integers(0, len(values), len(values))] for values in chosen]
        sums[draw], counts[draw] = sum(v.sum() for v in drawn), sum(len(v) for v in drawn)
    low, high = np.quantile(sums / counts, [0.025, 0.975]).tolist()
    return Mean(float(everything.mean()), (low, high), len(everything))


def nested_statistic(
    groups: Sequence[NDArray[np.float64]],
    statistic: Callable[[NDArray[np.float64]], float],
    *,
    seed: int = 0,
    draws: int = 400,
) -> tuple[float, tuple[float, float] | None]:
    """Any statistic of rows ``(n, k)``, and its interval when groups and then their rows are drawn.

    Draws in which the statistic is not a number are left out; None where hardly any is left.
    """
    filled = [rows for rows in groups if len(rows)]
    value = statistic(np.concatenate(filled)) if filled else float("nan")
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(draws if filled else 0):
        chosen = [filled[g] for g in generator.integers(0, len(filled), len(filled))]
        drawn = [rows[generator.integers(0, len(rows), len(rows))] for rows in chosen]
        found.append(statistic(np.concatenate(drawn)))
    finite = np.array([item for item in found if np.isfinite(item)])
    if len(finite) < draws / 2:
        return value, None
    low, high = np.quantile(finite, [0.025, 0.975]).tolist()
    return value, (low, high)
