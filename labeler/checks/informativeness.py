"""*informativeness*: what a machine learns about a unit from its pictures, and what from its photographs.

The two-alternative test of Borowski et al. 2021 and Zimmermann et al. 2024 ("Measuring mechanistic
interpretability at scale without humans"), with an image-text judge in place of people: two held-out images,
one of the unit's strongest and one of its weakest; the one that is more like the explanation is said to
activate more. It speaks about the picture, never about a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labeler.checks.consistency import MIN_EXEMPLARS
from labeler.checks.data import Floats, LayerData
from labeler.checks.judges import EncoderJudge


@dataclass(frozen=True)
class Informativeness:
    """Of one unit, by one judge; NaN where it was not to be had.

    Attributes:
        judge: its name.
        pictures: from the unit's synthetic pictures.
        photographs: from the exemplars that proposers saw.
    """

    judge: str
    pictures: float
    photographs: float


def informativeness(
    data: LayerData, judge: EncoderJudge, units: Sequence[int], references_pd: Floats
) -> Floats:
    """Share of pairs of held-out extremes that the judge orders rightly, in [0, 1]; chance is 0.5. ``(p,)``.

    All pairs of the unit's top exemplars on this split with as many of its weakest images are asked. NaN
    where there are fewer than `MIN_EXEMPLARS` of either, or no reference.

    Args:
        data: the layer on `test`.
        judge: it compares images.
        units: indices of live units.
        references_pd: the mean centred embedding of each unit's explanation; NaN rows for none.
    """
    images_nd = judge.photographs_nd[data.image_ids_n]
    readable = np.logical_and.reduce(np.isfinite(images_nd), axis=1).tolist()
    found_p = np.full(len(units), np.nan)
    for place, unit in enumerate(units):
        column = data.position[unit]
        high = [row for row in np.flatnonzero(data.exemplars_nu[:, column]).tolist() if readable[row]]
        order_n = np.lexsort((data.image_ids_n, data.activations_nu[:, column]))
        low = [row for row in order_n.tolist() if readable[row] and row not in high][: len(high)]
        if len(low) < MIN_EXEMPLARS or not np.isfinite(references_pd[place]).all():
            continue
        likeness_n = np.nan_to_num(images_nd) @ references_pd[place]
        above_hl = likeness_n[high][:, None] - likeness_n[low][None]
        found_p[place] = float(np.mean(np.sign(above_hl)) + 1) / 2
    return found_p
