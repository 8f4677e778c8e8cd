"""What chance gives: permutation nulls (*significance*) and the layer's other units (*specificity*).

The statistics of the checks are sums over images of a product, ``S = Σ_i X[i, π(i)]``. The first three
moments of S over all n! permutations π are known in closed form (Hoeffding 1951, "A combinatorial central
limit theorem", for the first two; the third follows by the same expansion and is tested by enumeration). With
the doubly centred ``D`` of ``X``: mean = ΣX/n, variance = ΣD²/(n-1), third moment = n ΣD³/((n-1)(n-2)).
A Pearson type III curve through the three moments gives the tail (Mielke & Berry 2007, "Permutation Methods",
ch. 2). The skewness matters: rare labels and heavy-tailed activations make a normal tail far too thin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from labeler.checks.data import Booleans, Floats
from labeler.records import Null, SpecificityNull

SMALLEST_P = 1e-12
"""Three moments say nothing about tails thinner than this."""
MAD_TO_SD = 1.4826
"""Median absolute deviation to standard deviation, for a normal distribution."""
EXACT_FLIPS = 16
"""Most values whose signs are flipped in every way; 65,536 sums take a millisecond."""
Z95 = 1.6448536269514722
"""One-sided 95 % quantile of the standard normal."""


@dataclass(frozen=True)
class Moments:
    """Mean, standard deviation and skewness of a statistic over all permutations of the images, ``(p,)``."""

    mean: Floats
    sd: Floats
    skewness: Floats


def product_moments(x_np: Floats, y_np: Floats, usable_np: Booleans) -> Moments:
    """Moments of ``Σ_i x_i y_π(i)`` for each column, over permutations of the usable rows. All ``(n, p)``."""
    count_p = usable_np.sum(axis=0).astype(np.float64)
    safe_p = np.maximum(count_p, 3.0)
    x_mean_p = np.where(usable_np, x_np, 0.0).sum(axis=0) / safe_p
    y_mean_p = np.where(usable_np, y_np, 0.0).sum(axis=0) / safe_p
    x_np = np.where(usable_np, x_np - x_mean_p, 0.0)
    y_np = np.where(usable_np, y_np - y_mean_p, 0.0)
    x_squared_np, y_squared_np = x_np * x_np, y_np * y_np
    variance_p = x_squared_np.sum(axis=0) * y_squared_np.sum(axis=0) / (safe_p - 1)
    third_p = (x_squared_np * x_np).sum(axis=0) * (y_squared_np * y_np).sum(axis=0)
    third_p *= safe_p / ((safe_p - 1) * np.maximum(safe_p - 2, 1.0))
    return _moments(safe_p * x_mean_p * y_mean_p, variance_p, third_p)


def matrix_moments(block_ab: Floats, count: int) -> Moments:
    """Moments of ``Σ_i X[i, π(i)]`` for a ``count × count`` matrix that is zero outside `block_ab`. ``(1,)``.

    Empty rows and columns (images without activation, or without the concept) are most of X; they enter
    through the means alone.
    """
    rows, columns = block_ab.shape
    row_a, column_b = block_ab.sum(axis=1) / count, block_ab.sum(axis=0) / count
    grand = float(block_ab.sum()) / count**2
    inside_ab = block_ab - row_a[:, None] - column_b[None, :] + grand

    def total(power: int) -> float:
        return float(
            (inside_ab**power).sum()
            + (count - columns) * ((grand - row_a) ** power).sum()
            + (count - rows) * ((grand - column_b) ** power).sum()
            + (count - rows) * (count - columns) * grand**power
        )

    variance = total(2) / max(count - 1, 1)
    third = total(3) * count / max((count - 1) * (count - 2), 1)
    return _moments(np.array([count * grand]), np.array([variance]), np.array([third]))


def _moments(mean_p: Floats, variance_p: Floats, third_p: Floats) -> Moments:
    sd_p = np.sqrt(np.maximum(variance_p, 0.0))
    cubed_p = sd_p**3
    skewness_p = np.divide(third_p, cubed_p, out=np.zeros_like(cubed_p), where=cubed_p > 0)
    return Moments(mean_p, sd_p, skewness_p)


def permutation_null(observed_p: Floats, moments: Moments) -> list[Null]:
    """One-sided nulls: how far each observed statistic stands above its permutation distribution.

    ``z`` and ``p`` are None where the statistic is the same under every permutation.
    """
    varies_p = moments.sd > 1e-12 * np.maximum(1.0, np.abs(moments.mean))
    z_p = (observed_p - moments.mean) / np.where(varies_p, moments.sd, 1.0)
    p_p = upper_tail(z_p, moments.skewness)
    return [
        Null(z=float(z), p=float(p)) if varies else Null(z=None, p=None)
        for z, p, varies in zip(z_p, p_p, varies_p, strict=True)
    ]


def normal_tail(z: float) -> float:
    """P(Z ≥ z) for a standard normal variable."""
    return float(upper_tail(np.array([z]), np.zeros(1))[0])


def upper_tail(z_p: Floats, skewness_p: Floats) -> Floats:
    """P(Z ≥ z) for a standardised Pearson type III variable of the given skewness (0: normal)."""
    z, skewness = np.asarray(z_p, np.float64), np.asarray(skewness_p, np.float64)
    normal = torch.special.ndtr(torch.from_numpy(-z)).numpy()
    skewed = np.abs(skewness) > 1e-3  # below, the gamma shape exceeds 4e6 and the curve is the normal one
    shape = 4.0 / np.where(skewed, skewness, 1.0) ** 2
    # Z = (G - shape) / sqrt(shape) for G ~ Gamma(shape), mirrored where the skewness is negative
    gamma = np.maximum(shape + np.where(skewness >= 0, z, -z) * np.sqrt(shape), 0.0)
    shape_t, gamma_t = torch.from_numpy(shape), torch.from_numpy(gamma)
    above = torch.special.gammaincc(shape_t, gamma_t).numpy()
    below = torch.special.gammainc(shape_t, gamma_t).numpy()
    tail = np.where(skewed, np.where(skewness >= 0, above, below), normal)
    clipped: Floats = np.clip(tail, SMALLEST_P, 1.0)
    return clipped


def sampled_null(observed: float, null_b: Floats) -> Null:
    """One-sided null from b sampled permutations; p = (1 + #{null ≥ observed}) / (1 + b).

    The 1 keeps p from being 0 (Phipson & Smyth 2010).
    """
    sd = float(null_b.std())
    # A tie with the observed value counts against it, whatever the last bit of the summation says.
    reached = int((null_b >= observed - 1e-12 * max(1.0, abs(observed))).sum())
    p = (1 + reached) / (1 + len(null_b))
    return Null(z=(observed - float(null_b.mean())) / sd if sd > 0 else None, p=p)


def specificity(
    values_p: Floats, others_pu: Floats, noise_p: Floats, min_units: int
) -> list[SpecificityNull]:
    """How far each value stands above the same label's value on other units of the layer.

    ``z = (value - median) / max(1.4826 · MAD, noise)``; `noise_p` is the standard deviation of the statistic
    under permuted images, so that a difference within sampling error is never specific and MAD = 0 does not
    divide. ``p`` is the rank among the others, ``(1 + #{others ≥ value}) / (1 + units)``: the tail of a layer
    is not normal. `others_pu` is NaN for units that are left out. With fewer than `min_units` of them, or no
    scale at all, z and p are None: it does not apply.
    """
    # Equal statistics come out of a matrix product equal but for the last digits, and p counts ties.
    values_p, others_pu = np.round(values_p, 12), np.round(others_pu, 12)
    count_p = np.isfinite(others_pu).sum(axis=1)
    middle_p = _median(others_pu, count_p)
    spread_p = MAD_TO_SD * _median(np.abs(others_pu - middle_p[:, None]), count_p)
    scale_p = np.maximum(np.nan_to_num(spread_p), np.nan_to_num(noise_p))
    above_p = (others_pu >= values_p[:, None]).sum(axis=1)
    found = []
    for value, middle, scale, above, count in zip(values_p, middle_p, scale_p, above_p, count_p, strict=True):
        if count < min_units or not scale > 0 or not np.isfinite(value):
            found.append(SpecificityNull(z=None, p=None, units=int(count)))
        else:
            z, p = float((value - middle) / scale), float((1 + above) / (1 + count))
            found.append(SpecificityNull(z=z, p=p, units=int(count)))
    return found


def _median(values_pu: Floats, count_p: np.ndarray) -> Floats:
    """Median of the finite entries of each row; NaN where there are none."""
    if values_pu.shape[1] == 0:
        return np.full(len(values_pu), np.nan)
    ordered_pu = np.sort(values_pu, axis=1)  # NaN comes last
    rows = np.arange(len(values_pu))
    high_p, low_p = np.maximum(count_p // 2, 0), np.maximum((count_p - 1) // 2, 0)
    high_p = np.minimum(high_p, values_pu.shape[1] - 1)
    median: Floats = 0.5 * (ordered_pu[rows, low_p] + ordered_pu[rows, high_p])
    return np.where(count_p > 0, median, np.nan)


def sign_flip_p(values: Floats) -> float:
    """One-sided p of so large a mean for values symmetric about 0 (Fisher's sign-flip test, normal tail)."""
    squares = float((values**2).sum())
    return float(0.5 * math.erfc(float(values.sum()) / math.sqrt(2 * squares))) if squares > 0 else 1.0


def sign_flip_null(values: Floats) -> Null:
    """One-sided null of the mean for values symmetric about 0: their signs flipped.

    ``z`` is the sum over its standard deviation under flips. ``p`` counts all 2^n flips up to n = 16, the
    observed one among them; beyond, it is the normal tail (`sign_flip_p`).
    """
    deviation = math.sqrt(float((values**2).sum()))
    if not deviation > 0:
        return Null(z=None, p=None)
    observed = float(values.sum())
    if len(values) > EXACT_FLIPS:
        return Null(z=observed / deviation, p=sign_flip_p(values))
    sums_f = np.zeros(1)
    for value in values.tolist():
        sums_f = np.concatenate([sums_f + value, sums_f - value])
    # The same sum in another order differs in its last bit, and a tie counts.
    reached = int((sums_f >= observed - 1e-12 * deviation).sum())
    return Null(z=observed / deviation, p=reached / len(sums_f))


Draw = Callable[[int], np.ndarray]


def subset_draws(permutations: int, largest: int, seed: int) -> Draw:
    """Seeded uniform subsets: ``draw(n)`` is ``(permutations, min(largest, n))`` row numbers below n.

    The first k columns of a row are a uniform subset of size k, so one draw serves every k, and every label
    with the same number of usable images.
    """
    made: dict[int, np.ndarray] = {}

    def draw(count: int) -> np.ndarray:
        if count not in made:
            generator = np.random.default_rng((seed, count))
            size = min(largest, count)
            rows = [generator.choice(count, size, replace=False) for _ in range(permutations)]
            made[count] = np.array(rows, dtype=np.int64)
        return made[count]

    return draw
