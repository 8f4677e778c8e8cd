"""Global splits by groups of near-duplicates: what proposes never decides (DESIGN 4.3)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from labeler.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from labeler.records import SplitName

NEAR_DUPLICATE = 0.98
"""Least cosine of near-duplicates. Measured with builtin:bridge@lite2 on 125 photographs of as many classes:
the nearest other photograph is at most at 0.82; of 16 photographs recompressed at JPEG quality 50,
or cropped by 5 % at each side, three quarters and more stay above 0.99."""
_SHARE = 50  # a component joins at most 1/50 of the base groups, so that no split is unbalanced by one
_LARGEST = 32  # and at most this many: bursts and re-encodings of one photograph come in fewer copies
_SMALLEST = 4  # a bound below this would part the copies of one photograph in a small probe
_BLOCK_ENTRIES = 1 << 24  # cosines held at a time: 64 MB


def assign_splits(groups: Sequence[str], propose: float, feedback: float, seed: int) -> tuple[SplitName, ...]:
    """The split of every image, by a hash of its group and `seed` alone.

    Images of one group share a split. Adding, removing or reordering images moves nobody. The shares of the
    groups are `propose`, `feedback` and the rest (`test`) in expectation.

    Raises:
        ConfigError: when the shares are negative or leave nothing for `test`.
    """
    if propose < 0 or feedback < 0 or propose + feedback >= 1:
        raise ConfigError(
            "exemplars.propose and exemplars.feedback must be shares that leave some images for test."
        )
    by_group = {group: _split_of(group, propose, feedback, seed) for group in set(groups)}
    return tuple(by_group[group] for group in groups)


def _split_of(group: str, propose: float, feedback: float, seed: int) -> SplitName:
    digest = hashlib.sha256(f"{seed}\0split\0{group}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64  # uniform in [0, 1]
    if position < propose:
        return "propose"
    return "feedback" if position < propose + feedback else "test"


def near_duplicate_groups(
    embeddings_nd: NDArray[np.float32], base_groups: Sequence[str], threshold: float = NEAR_DUPLICATE
) -> tuple[str, ...]:
    """Join base groups that hold nearly equal images; the name of a joint group is its smallest base name.

    Two base groups are linked by the largest cosine between an image of one and an image of the other. The
    result is the cut of their single-linkage tree at `threshold`, but a subtree of more than
    ``min(32, max(4, number of base groups // 50))`` base groups is cut higher up, where its parts are small
    enough. Without that bound a weak encoder, to which many different images look the same, would chain the
    whole probe into one group and leave two splits empty. The price: of more nearly equal images than that,
    some can be parted. Frames of a video and copies of a file should therefore share a base group already.
    The order of the images changes nothing.

    Args:
        embeddings_nd: the encoder's unit-norm embeddings ``(n, d)``; rows that are not finite (unreadable
            images) are joined to nothing.
        base_groups: the group that each image has already, ``n`` names.
        threshold: least cosine of near-duplicates.
    """
    if len(base_groups) != len(embeddings_nd):
        raise ValueError(f"{len(embeddings_nd)} embeddings do not fit {len(base_groups)} groups")
    names = sorted(set(base_groups))
    rank = {name: position for position, name in enumerate(names)}
    group_n = np.array([rank[name] for name in base_groups], dtype=np.int64)
    usable_n = np.flatnonzero(np.isfinite(embeddings_nd).all(axis=1))
    order_n = usable_n[np.argsort(group_n[usable_n], kind="stable")]
    largest = min(_LARGEST, max(_SMALLEST, len(names) // _SHARE))
    links = [*_links(embeddings_nd[order_n], group_n[order_n], threshold, largest)]
    roots = _cut_tree(len(names), links, largest)
    return tuple(names[roots[group]] for group in group_n)


def _links(
    embeddings_nd: NDArray[np.float32], group_n: NDArray[np.int64], threshold: float, largest: int
) -> Iterator[tuple[float, int, int]]:
    """(−cosine, lower group, higher group) for each image's `largest` most similar other groups.

    Keeping no more is exact: an image with `largest` links above a level is in a component that is too large
    at that level, whatever its other links are; every smaller component has all its links here.
    `group_n` ascends.
    """
    if len(group_n) == 0:
        return
    present_g, starts_g = np.unique(group_n, return_index=True)
    step = max(1, _BLOCK_ENTRIES // len(group_n))
    for start in range(0, len(group_n), step):
        cosine_bg = embeddings_nd[start : start + step] @ embeddings_nd.T  # (b, n)
        if len(present_g) < len(group_n):
            cosine_bg = np.maximum.reduceat(cosine_bg, starts_g, axis=1)  # (b, g)
        own_b = group_n[start : start + step]
        cosine_bg[np.arange(len(own_b)), np.searchsorted(present_g, own_b)] = -1.0
        for row in np.flatnonzero((cosine_bg >= threshold).any(axis=1)):
            own = int(own_b[row])
            cosine_g = np.round(cosine_bg[row].astype(np.float64), 6)  # hides what the block's shape changes
            near = np.flatnonzero(cosine_bg[row] >= threshold)
            near = near[np.lexsort((present_g[near], -cosine_g[near]))[:largest]]
            for column in near:
                other = int(present_g[column])
                yield (-float(cosine_g[column]), min(own, other), max(own, other))


def _cut_tree(count: int, links: Sequence[tuple[float, int, int]], largest: int) -> list[int]:
    """The smallest member of each node's component in the single-linkage tree, cut into at most `largest`."""
    parent, size, full = list(range(count)), [1] * count, [False] * count

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for _, left, right in sorted(set(links)):
        low, high = sorted((root(left), root(right)))
        if low == high:
            continue
        if full[low] or full[high] or size[low] + size[high] > largest:
            full[low] = full[high] = True  # their common subtree is too large, and so is all above it
            continue
        parent[high] = low
        size[low] += size[high]
    return [root(node) for node in range(count)]
