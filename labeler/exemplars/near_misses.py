"""Images that look like the top exemplars and leave the unit silent."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def near_misses(
    embeddings_nd: NDArray[np.float32],
    ids_n: NDArray[np.int64],
    activations_n: NDArray[np.float32],
    exemplar_ids: Collection[int],
    quiet_below: float,
    count: int,
) -> NDArray[np.int64]:
    """The quiet images nearest to the mean of the exemplars in the encoder's space, nearest first.

    Args:
        embeddings_nd: unit-norm embeddings of the images one may choose from (and of the exemplars).
        ids_n: their image ids.
        activations_n: the unit's pooled activation of each.
        exemplar_ids: the unit's top exemplars; never returned. Those without a row are ignored.
        quiet_below: an image is quiet when its activation is at most this, the unit's median. "At most",
            since more than half the activations of a ReLU unit can be exactly 0.
        count: how many; fewer come back when fewer are quiet.

    Returns:
        Image ids ``(m,)``, m <= count, in descending order of cosine, ties by ascending id. Rows that are not
        finite (unreadable images) are never chosen. Empty when no exemplar has a row.
    """
    exemplar_n = np.isin(ids_n, np.fromiter(exemplar_ids, dtype=np.int64))
    finite_n = np.isfinite(embeddings_nd).all(axis=1)
    if not (exemplar_n & finite_n).any():
        return np.empty(0, dtype=np.int64)
    mean_d = embeddings_nd[exemplar_n & finite_n].mean(axis=0, dtype=np.float64)
    candidates = np.flatnonzero(~exemplar_n & finite_n & (activations_n <= quiet_below))
    # Rounding makes equal embeddings tie wherever they stand in the matrix product.
    similarity = np.round(embeddings_nd[candidates] @ mean_d, 9)
    order = np.lexsort((ids_n[candidates], -similarity))[:count]
    return ids_n[candidates[order]].astype(np.int64)
