"""The several meanings of a unit: clusters of its top exemplars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SILHOUETTE = 0.35
"""Least mean silhouette of more than one facet.

Measured on simulated exemplars (9, 18 and 35 of them; 64 and 512 dimensions, isotropic or with a 1/f
spectrum; cosine within a concept 0.6 and 0.8): of single concepts 0-15 % are split; of two or three concepts
80-100 % are found to be several at 64 isotropic or more dimensions, and 65 % at worst. At 0.2 up to 70 % of
single concepts are split. With about six effective dimensions half of the single concepts are split at any
useful value: such an encoder cannot tell facets.
"""
WITH_CODES = 0.25
"""The same where the layer's on/off code is a second signal.

Measured on four planted networks, 15 units for two concepts and 170 for one, 24 exemplars each: 0.24 splits
87 % of the former and 8 % of the latter, 0.26 80 % and 5 %; the embeddings alone at their 5 % find 33 %. What
is split is split rightly: all but a few exemplars of a facet show its concept.
"""
_RESTARTS = 4
_ITERATIONS = 50


@dataclass(frozen=True)
class Facets:
    """Clusters of a unit's exemplars.

    `labels` ``(k,)`` are facets 0..f-1, in the order of their strongest exemplars; `clarity` has one value in
    [0, 1] per facet, None for a facet of a single exemplar; `silhouettes` are the mean silhouettes of 2, 3, …
    clusters, empty when there were too few exemplars to try.
    """

    labels: NDArray[np.int64]
    clarity: tuple[float | None, ...]
    silhouettes: tuple[float, ...]


def find_facets(
    embeddings_kd: NDArray[np.float32],
    max_facets: int,
    seed: int,
    min_size: int = 3,
    codes_kc: NDArray[np.bool_] | None = None,
) -> Facets:
    """Cluster exemplars, strongest first, into 1..max_facets facets.

    Spherical k-means; the number of clusters is that of the best mean silhouette (cosine distance; Rousseeuw
    1987), and 1 when the best is below `SILHOUETTE` (with codes, `WITH_CODES`). A number that gives a cluster
    of fewer than `min_size` exemplars is not eligible. Deterministic for given inputs and seed.

    Args:
        embeddings_kd: unit-norm embeddings ``(k, d)`` of the activating regions.
        max_facets: most facets.
        seed: of the restarts.
        min_size: least exemplars of a facet; fewer are outliers, not a meaning.
        codes_kc: on/off ``(k, c)`` of channels on the way to the unit, where it fires, an optional second
            signal: the share of channels that agree, less that which does not, is averaged with the
            embeddings' cosines.
    """
    points_kd = _points(embeddings_kd, codes_kc)
    least = SILHOUETTE if codes_kc is None else WITH_CODES
    labels, silhouettes = _partition(points_kd, max_facets, seed, min_size, least)
    labels = _by_first(labels)
    return Facets(
        labels,
        tuple(
            _reported(clarity(embeddings_kd[labels == facet])) for facet in range(labels.max(initial=-1) + 1)
        ),
        silhouettes,
    )


def _partition(
    points_kd: NDArray[np.float64], max_facets: int, seed: int, min_size: int, least: float
) -> tuple[NDArray[np.int64], tuple[float, ...]]:
    similarity_kk = points_kd @ points_kd.T
    best, labels = least, np.zeros(len(points_kd), dtype=np.int64)
    silhouettes = []
    for count in range(2, min(max_facets, len(points_kd) // min_size) + 1):
        trial, _ = spherical_kmeans(points_kd, count, seed)
        silhouettes.append(silhouette(similarity_kk, trial))
        if silhouettes[-1] >= best and np.bincount(trial, minlength=count).min() >= min_size:
            best, labels = silhouettes[-1], trial
    return labels, tuple(silhouettes)


def clarity(embeddings_kd: NDArray[np.float32]) -> float | None:
    """(‖mean v‖² − 1/n) · n/(n − 1): the mean pairwise cosine of n unit vectors; None for fewer than two.

    Dreyer et al. 2025 (SemanticLens), methods, "concept clarity". 1 when all exemplars look the same, 0 or a
    little less when they have nothing in common.
    """
    n = len(embeddings_kd)
    if n < 2:
        return None
    mean_d = embeddings_kd.astype(np.float64).mean(axis=0)
    return float((mean_d @ mean_d - 1 / n) * n / (n - 1))


def polysemanticity(embeddings_kd: NDArray[np.float32], seed: int = 0) -> float | None:
    """1 − the clarity of the centres of two clusters, in [0, 2]; None for fewer than two exemplars.

    Dreyer et al. 2025 (SemanticLens), methods, "polysemanticity".
    """
    if len(embeddings_kd) < 2:
        return None
    _, centres = spherical_kmeans(_points(embeddings_kd, None), 2, seed)
    value = clarity(centres.astype(np.float32))
    return None if value is None else max(0.0, 1.0 - value)


def spherical_kmeans(
    points_kd: NDArray[np.float64], count: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels ``(k,)`` and unit-norm centres ``(count, d)`` of the best of a few seeded restarts.

    Spherical k-means (Dhillon & Modha 2001). Of equal restarts the first wins; a cluster that runs empty
    takes the point that fits its own centre worst.
    """
    random = np.random.default_rng(seed)
    best: tuple[float, NDArray[np.int64], NDArray[np.float64]] | None = None
    for _ in range(_RESTARTS):
        centres = _spread(points_kd, count, random)
        labels = np.full(len(points_kd), -1, dtype=np.int64)
        for _ in range(_ITERATIONS):
            assigned = _assign(points_kd @ centres.T)
            if (assigned == labels).all():
                break
            labels = assigned
            centres = _unit(np.stack([points_kd[labels == c].sum(axis=0) for c in range(count)]))
        fit = float((points_kd * centres[labels]).sum())
        if best is None or fit > best[0] + 1e-9:
            best = fit, labels, centres
    assert best is not None
    return best[1], best[2]


def silhouette(similarity_kk: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The mean silhouette (Rousseeuw 1987) by cosine distance, in [-1, 1]; a cluster of one counts 0."""
    member_kc = labels[:, None] == np.arange(labels.max() + 1)
    sizes_c = member_kc.sum(axis=0)
    distance_kk = np.clip(1.0 - similarity_kk, 0.0, None)
    np.fill_diagonal(distance_kk, 0.0)
    total_kc = distance_kk @ member_kc
    own_k = sizes_c[labels]
    within_k = total_kc[member_kc] / np.maximum(own_k - 1, 1)
    between_k = np.where(member_kc, np.inf, total_kc / sizes_c).min(axis=1)
    larger_k = np.maximum(within_k, between_k)
    width_k = np.divide(between_k - within_k, larger_k, out=np.zeros_like(larger_k), where=larger_k > 0)
    return float(np.where(own_k > 1, width_k, 0.0).mean())


def _points(embeddings_kd: NDArray[np.float32], codes_kc: NDArray[np.bool_] | None) -> NDArray[np.float64]:
    points = _unit(embeddings_kd.astype(np.float64))
    if codes_kc is None:
        return points
    # Side by side and scaled, their inner product is the average of the two cosines.
    both: NDArray[np.float64] = np.concatenate([points, _unit(codes_kc.astype(np.float64) - 0.5)], axis=1)
    both /= np.sqrt(2.0)
    return both


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(rows, axis=-1, keepdims=True)
    unit: NDArray[np.float64] = np.divide(rows, length, out=np.zeros_like(rows), where=length > 0)
    return unit


def _spread(points_kd: NDArray[np.float64], count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """k-means++ (Arthur & Vassilvitskii 2007) on the sphere, by cosine distance."""
    chosen = [int(random.integers(len(points_kd)))]
    for _ in range(count - 1):
        distance = np.clip(1.0 - (points_kd @ points_kd[chosen].T).max(axis=1), 0.0, None)
        distance[chosen] = 0.0
        cumulative = np.cumsum(distance + 1e-12)
        draw = random.random() * cumulative[-1]
        chosen.append(min(int(np.searchsorted(cumulative, draw)), len(points_kd) - 1))
    return points_kd[chosen]


def _assign(similarity_kc: NDArray[np.float64]) -> NDArray[np.int64]:
    labels: NDArray[np.int64] = similarity_kc.argmax(axis=1)
    for cluster in range(similarity_kc.shape[1]):
        if not (labels == cluster).any():
            own = np.take_along_axis(similarity_kc, labels[:, None], axis=1)[:, 0]
            sole = np.bincount(labels, minlength=similarity_kc.shape[1])[labels] == 1
            labels[np.where(sole, np.inf, own).argmin()] = cluster
    return labels


def _by_first(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rename clusters by the order in which they first appear."""
    order = list(dict.fromkeys(labels.tolist()))
    return np.array([order.index(label) for label in labels.tolist()], dtype=np.int64)


def _reported(value: float | None) -> float | None:
    """Less agreement than none is none; rounding must not pass 1."""
    return None if value is None else min(1.0, max(0.0, value))
