"""The strongest exemplars of a unit within one split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from labeler.records import SplitName


def top_of_split(
    topk_values_k: NDArray[np.float32],
    topk_ids_k: NDArray[np.int64],
    splits: Sequence[SplitName],
    groups: Sequence[str],
    split: SplitName,
    count: int,
    dense_n: NDArray[np.float32] | None = None,
    dense_ids_n: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The `count` strongest images of `split`, at most one of each group of near-duplicates.

    Ordered by (value descending, id ascending), which also decides which image of a group is taken. The
    unit's top-k list answers where it holds enough; else the dense activations are searched too.

    Args:
        topk_values_k, topk_ids_k: the streaming top-k; ids below 0 and values that are not finite pad it.
        splits, groups: of every image, by id.
        dense_n: pooled activations of the images `dense_ids_n` (of images 0..n-1 when None); values that are
            not finite (unreadable images) are ignored. None where the dense index is not kept.

    Returns:
        ``(ids, values)``, each ``(m,)``, m <= count: fewer when the split or its indexed part has fewer.
    """
    ids, values = _distinct(topk_ids_k, topk_values_k, splits, groups, split, count)
    if len(ids) < count and dense_n is not None:
        every = np.arange(len(dense_n)) if dense_ids_n is None else dense_ids_n
        fresh = ~np.isin(every, topk_ids_k)
        ids, values = _distinct(
            np.concatenate([topk_ids_k, every[fresh]]),
            np.concatenate([topk_values_k, dense_n[fresh]]),
            splits, groups, split, count,
        )  # fmt: skip
    return ids, values


def _distinct(
    ids: NDArray[np.int64],
    values: NDArray[np.float32],
    splits: Sequence[SplitName],
    groups: Sequence[str],
    split: SplitName,
    count: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    usable = np.flatnonzero(np.isfinite(values) & (ids >= 0))
    taken: list[int] = []
    seen: set[str] = set()
    for position in usable[np.lexsort((ids[usable], -values[usable]))]:
        if len(taken) == count:
            break
        image = int(ids[position])
        if splits[image] == split and groups[image] not in seen:
            seen.add(groups[image])
            taken.append(int(position))
    return ids[taken].astype(np.int64), values[taken].astype(np.float32)
