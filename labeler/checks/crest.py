"""Whether a unit's strongest photographs are what the rest of its range promises, to encoders outside it.

A network can be fine-tuned so that a few photographs of the attacker's choice lead a unit's list while the
rest of its range stays (Nanfack et al. 2024, "Adversarial attacks on the interpretation of neuron activation
maximization"). What the rest taught an encoder's embeddings then says nothing of the new leaders.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labeler.checks.data import Floats

CREST = 0.05
"""Share of the photographs that are a unit's crest; as many come next."""
LEAST = 5
"""Photographs of a crest, or nothing is said."""
CREST_LOW = 0.44
"""Below this a crest speaks against its unit. Clean units of EfficientNet-Lite0 and of four planted networks
have medians of 0.50 to 0.61, those whose photographs were pushed 0.34 to 0.44."""
CREST_COST = 50.0
"""Standard deviations of a standing that a crest costs for every 1 that it is lower."""
_COMPONENTS = 64
_RIDGE = 0.3  # in variances of a component


def crest_cost(crest: float | None) -> float:
    """What a crest's ROC-AUC takes from its unit's standing, in standard deviations."""
    return 0.0 if crest is None else CREST_COST * max(0.0, CREST_LOW - crest)


def crest_auroc(maxima_nu: NDArray[np.float32], embeddings: Sequence[NDArray[np.float32]]) -> Floats:
    """How well the crest is told from the photographs that come next, by what all but it taught, ``(u,)``.

    A linear read-out of each encoder's embeddings is fitted to the ranks of the unit's activations without
    the crest, and their mean ranks it against what comes next: ROC-AUC. About 0.5 for an honest unit, as both
    are strong; far below it where the crest is of another kind. NaN for few photographs, or a unit that does
    not vary.

    Args:
        maxima_nu: pooled maxima of the units.
        embeddings: of the same photographs by some encoders, ``(n, d)`` each.
    """
    images, units = maxima_nu.shape
    size = round(CREST * images)
    found_u = np.full(units, np.nan)
    if size < LEAST or not embeddings:
        return found_u
    bases = [_components(table_nd) for table_nd in embeddings]
    ranks_n = np.arange(images, 0, -1) / images
    for unit in range(units):
        values_n = maxima_nu[:, unit]
        if not values_n.max() > values_n.min():
            continue
        order_n = np.argsort(-values_n, kind="stable")
        read_k = np.sum([_read(base_nc[order_n], ranks_n, size) for base_nc in bases], axis=0)
        crest_k, next_k = read_k[:size, None], read_k[None, size:]
        found_u[unit] = ((crest_k > next_k) + 0.5 * (crest_k == next_k)).mean()
    return found_u


def _read(ordered_nc: Floats, ranks_n: Floats, size: int) -> Floats:
    """What a read-out that is fitted without the first `size` gives for them and as many more, ``(k,)``."""
    rest_mc = ordered_nc[size:]
    gram_cc = rest_mc.T @ rest_mc / len(rest_mc) + _RIDGE * np.eye(rest_mc.shape[1])
    wanted_m = ranks_n[size:] - ranks_n[size:].mean()
    read: Floats = ordered_nc[: 2 * size] @ np.linalg.solve(gram_cc, rest_mc.T @ wanted_m / len(rest_mc))
    return read


def _components(table_nd: NDArray[np.float32]) -> Floats:
    """The first principal components of embeddings, each with variance 1: ``(n, c)``."""
    centred_nd = table_nd.astype(np.float64) - table_nd.mean(axis=0)
    _, scales, directions = np.linalg.svd(centred_nd, full_matrices=False)
    kept = scales > 1e-6 * scales[0]
    chosen = np.flatnonzero(kept)[:_COMPONENTS]
    components: Floats = centred_nd @ directions[chosen].T / (scales[chosen] / np.sqrt(len(table_nd)))
    return components
