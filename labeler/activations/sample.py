"""Images over the whole range of a unit's activation, in bands of its own distribution."""

from __future__ import annotations

from typing import get_args

import numpy as np
from numpy.typing import NDArray

from labeler.records import BandName
from labeler.storage import hash_order

BANDS: tuple[BandName, ...] = get_args(BandName)
"""top, high, mid, low, silent: the position is the band's code."""
_RESTING = 1e-6  # a rectified unit at rest; the same range as that of a dead unit


def sample_bands(
    activations_nu: NDArray[np.float32], ids_n: NDArray[np.int64], per_band: int, seed: int
) -> NDArray[np.int64]:
    """Up to `per_band` images of each band for each unit: ids ``(u, 5, per_band)``, -1 where there are fewer.

    With p the unit's percentiles (order statistics, no interpolation) over the images given:

    - silent: at or below p10, or within 1e-6 of the least value (where a rectified unit rests);
    - top: above p99; high: above p90, up to p99; mid: above the median, up to p90; low: the rest.

    Silent goes first, so a constant unit is silent everywhere and a unit that fires in 2 % of the images has
    only top, high and silent ones. Every image has exactly one band, equal values have the same one.

    Chosen in an order that depends on image id and `seed` alone, the same for all units, so that units share
    images and other images coming or going disturb little.

    Args:
        activations_nu: pooled activations ``(n, u)``, finite.
        ids_n: their image ids ``(n,)``.
        per_band: how many per band.
        seed: of the choice.
    """
    order = np.array(hash_order(ids_n.tolist(), seed, "bands"), dtype=np.int64)
    codes_nu = _codes(activations_nu)[order]
    ids_n = ids_n[order]
    chosen = np.full((activations_nu.shape[1], len(BANDS), per_band), -1, dtype=np.int64)
    for code in range(len(BANDS)):
        member = codes_nu == code
        place = member.cumsum(axis=0, dtype=np.int32) - 1
        images, units = np.nonzero(member & (place < per_band))
        chosen[units, code, place[images, units]] = ids_n[images]
    return chosen


def _codes(activations_nu: NDArray[np.float32]) -> NDArray[np.int8]:
    if not len(activations_nu):
        return np.empty(activations_nu.shape, dtype=np.int8)
    p10, p50, p90, p99 = np.quantile(activations_nu, [0.1, 0.5, 0.9, 0.99], axis=0, method="inverted_cdf")
    resting = np.maximum(p10, activations_nu.min(axis=0) + np.float32(_RESTING))
    codes = np.full(activations_nu.shape, BANDS.index("low"), dtype=np.int8)
    for edge, band in ((p50, "mid"), (p90, "high"), (p99, "top")):
        codes[activations_nu > edge] = BANDS.index(band)
    codes[activations_nu <= resting] = BANDS.index("silent")
    return codes
