"""*auprc*: does the label's score find the images over the unit's 99th percentile?

What it cannot see: it looks at the unit's top 1 % of images, so a label that loses half of its images at
random loses little of it. It fails both sanity tests of Oikarinen et al. 2025 (``labeler eval sanity``; they
take the concept's images as the positives), and the gate gives it little weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from labeler.checks.data import Booleans, Floats, Integers, LayerData, Pairs, Readings, results
from labeler.checks.nulls import Z95, Draw, sampled_null, specificity
from labeler.checks.prediction import MIN_POSITIVES, unusable
from labeler.records import CheckResult, Null


def check_auprc(
    data: LayerData, readings: Readings, pairs: Pairs, min_images: int, min_units: int, draw: Draw
) -> list[CheckResult]:
    """Weighted average precision of the label's score for images over the unit's 99th percentile.

    `value` in [0, 1]; `n` is the number of positives, which is what limits it; the base rate, the value of a
    label that says nothing, is `n` over *prediction*'s `n`. `low` is the logit interval of Boyd, Eng & Page
    (2013, sec. 3.2). Equal to scikit-learn's `average_precision_score`, ties included.
    """
    reasons = unusable(readings.scores_nl, min_images)
    found: list[CheckResult | None] = [None] * len(pairs)
    known: dict[bytes, Positives] = {}  # labels are mostly readable on the same images
    for label in np.unique(pairs.label_p):
        where = np.flatnonzero(pairs.label_p == label)
        units = pairs.unit_p[where]
        if reasons[label]:
            checks = [CheckResult.not_applicable(reasons[label], readings.judges[label])] * len(units)
        else:
            usable_n = np.isfinite(readings.scores_nl[:, label])
            pattern = usable_n.tobytes()
            if pattern not in known:
                known[pattern] = Positives.of(data.activations_nu[usable_n] > data.p99_u)
            scores_n, judge = readings.scores_nl[:, label], readings.judges[label]
            checks = _label_auprc(data, scores_n, judge, units, known[pattern], min_units, draw)
        for index, result in zip(where, checks, strict=True):
            found[index] = result
    return [result for result in found if result is not None]


@dataclass(frozen=True)
class Positives:
    """The positive images of every owner, as rows padded with the number of images."""

    rows_uk: Integers
    count_u: Integers

    @classmethod
    def of(cls, positive_nu: Booleans) -> Positives:
        """From a table of images × owners."""
        owners, rows = np.nonzero(positive_nu.T)
        count_u = positive_nu.sum(axis=0)
        place = np.arange(len(owners)) - np.repeat(np.cumsum(count_u) - count_u, count_u)
        rows_uk = np.full(
            (len(count_u), max(1, int(count_u.max(initial=0)))), len(positive_nu), dtype=np.int64
        )
        rows_uk[owners, place] = rows
        return cls(rows_uk, count_u)


def _label_auprc(
    data: LayerData,
    scores_n: Floats,
    judge: str,
    units: Integers,
    positives: Positives,
    min_units: int,
    draw: Draw,
) -> list[CheckResult]:
    usable = np.flatnonzero(np.isfinite(scores_n))
    scores_n, weights_n, count_u = scores_n[usable], data.weights_n[usable], positives.count_u
    value_u = average_precisions(positives.rows_uk, scores_n, weights_n)
    value_u[count_u < MIN_POSITIVES] = np.nan
    subset_bk = draw(len(usable))
    counts = {int(count) for count in count_u[units] if MIN_POSITIVES <= count <= subset_bk.shape[1]}
    nulls = {count: average_precisions(subset_bk[:, :count], scores_n, weights_n) for count in counts}
    noise_p = np.array([nulls[int(c)].std() if int(c) in nulls else np.nan for c in count_u[units]])
    others_pu = np.where(data.related_uu[units], np.nan, value_u[None, :])
    specific = specificity(value_u[units], others_pu, noise_p, min_units)
    why_p = ["" if int(c) in nulls else _few_positives(int(c), len(usable)) for c in count_u[units]]
    significance = [
        Null(z=None, p=None) if why else sampled_null(float(value_u[unit]), nulls[int(count_u[unit])])
        for why, unit in zip(why_p, units, strict=True)
    ]
    low_p = _logit_low(value_u[units], count_u[units])
    return results(why_p, [judge] * len(units), value_u[units], low_p, count_u[units], significance, specific)


def _few_positives(count: int, usable: int) -> str:
    if count < MIN_POSITIVES:
        return (
            f"only {count} of {usable} images are over the unit's 99th percentile; {MIN_POSITIVES} are needed"
        )
    return (
        f"{count} of {usable} images are over the 99th percentile fixed on other images: it does not fit here"
    )


def _logit_low(value_p: Floats, count_p: Integers) -> Floats:
    count_p = np.maximum(count_p, 1)
    inside_p = np.clip(value_p, 0.5 / count_p, 1 - 0.5 / count_p)
    logit_p = np.log(inside_p / (1 - inside_p)) - Z95 / np.sqrt(count_p * inside_p * (1 - inside_p))
    low: Floats = np.minimum(value_p, 1 / (1 + np.exp(-logit_p)))
    return low


def average_precisions(rows_rk: Integers, scores_n: Floats, weights_n: Floats) -> Floats:
    """Weighted average precision of one label's scores for each row of positive images. ``(r,)``.

    ``Σ w · (weight of positives / weight of images, both at or above the positive's score) / Σ w``; tied
    scores are reached together. Rows are padded with n; NaN for a row without positives.
    """
    _, ascending_n = np.unique(scores_n, return_inverse=True)
    rank_n = ascending_n.max() - ascending_n  # 0 the highest, ties alike
    totals_g = np.cumsum(np.bincount(rank_n, weights=weights_n))
    # Padding lies beyond the last rank with weight 0, so it adds nothing.
    rank_rk = np.append(rank_n, len(totals_g))[rows_rk]
    order_rk = np.argsort(rank_rk, axis=1, kind="stable")
    rank_rk = np.take_along_axis(rank_rk, order_rk, axis=1)
    weights_rk = np.append(weights_n, 0.0)[np.take_along_axis(rows_rk, order_rk, axis=1)]
    last = rank_rk.shape[1] - 1
    ends_rk = np.full(rank_rk.shape, last)
    ends_rk[:, :-1] = np.where(rank_rk[:, :-1] != rank_rk[:, 1:], np.arange(last), last)
    ends_rk = np.minimum.accumulate(ends_rk[:, ::-1], axis=1)[:, ::-1]  # last place with the same rank
    true_rk = np.take_along_axis(np.cumsum(weights_rk, axis=1), ends_rk, axis=1)
    total_r = weights_rk.sum(axis=1)
    precision_r = (weights_rk * true_rk / np.append(totals_g, np.inf)[rank_rk]).sum(axis=1)
    average: Floats = np.divide(precision_r, total_r, out=np.full(len(total_r), np.nan), where=total_r > 0)
    return average
