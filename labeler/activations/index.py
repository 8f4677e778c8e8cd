"""Exact nearest-neighbour questions over activations and embeddings, answered by FAISS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from labeler.activations.store import LayerActivations
from labeler.errors import ActivationError, CatalogueError

Pooling = Literal["mean", "max"]
_NORMS: Final = "norms.npy"
_EMBEDDINGS: Final = "embeddings.faiss"
_PRESENT: Final = "present.npy"
_PIECE: Final = 1 << 24  # bytes
_HALF_MAX: Final = 65504.0
Answer = tuple[NDArray[np.float32], NDArray[np.int64]]


class ActivationIndex:
    """Inner products with one layer's pooled activations: rows are images, dimensions are units.

    Args:
        layer: the layer's activations.
        indexed_ids: ids ``(m,)`` of the rows of its dense matrices.
        coverage: share of the readable images that are indexed. Below 1, `top_by_unit` answers from the
            streaming top-k, which has seen them all; the other answers are over the indexed images.
        directory: where `save` wrote the index; it is then read with memory mapping instead of built. An
            index saved in half precision only finds candidates: answers are computed again from `layer`.
    """

    def __init__(
        self,
        layer: LayerActivations,
        indexed_ids: NDArray[np.int64],
        coverage: float = 1.0,
        directory: Path | None = None,
    ) -> None:
        self.layer, self.ids, self.coverage = layer, np.asarray(indexed_ids, dtype=np.int64), coverage
        self._directory = directory
        self._indices: dict[Pooling, Any] = {}
        self._norms_m: NDArray[np.float32] | None = None

    def top_by_unit(self, unit: int, k: int) -> Answer:
        """The `k` images with the greatest spatial maximum of `unit`: values and ids ``(k,)``.

        Fewer where there are fewer images. A one-hot query; equal to the pass's streaming top-k, negative
        activations and ties included, except that an activation that was not finite ranks here with the
        unit's least value.

        Raises:
            CatalogueError: for a unit that does not exist, or a `k` that only a full index could answer.
        """
        units = len(self.layer.topk_ids)
        if not 0 <= unit < units:
            raise CatalogueError(f"Layer {self.layer.layer} has units 0 to {units - 1}, not {unit}.")
        if self.coverage < 1.0:
            return self._from_stream(unit, k)
        query_u = np.zeros(units, dtype=np.float32)
        query_u[unit] = 1.0
        return _search(self._index("max"), self.ids, query_u, k, self.layer.maxima)

    def top_by_direction(
        self, direction_u: NDArray[np.floating[Any]], k: int, pooling: Pooling = "mean"
    ) -> Answer:
        """The `k` images with the greatest ⟨direction, pooled activation⟩: values and ids ``(k,)``.

        With ``pooling="mean"`` this is exactly the mean over positions of the direction's activation. With
        ``"max"`` it is not its maximum, as ⟨d, max a⟩ ≠ max⟨d, a⟩: take many, and forward them again.

        Raises:
            CatalogueError: when `direction_u` has another number of units or is not finite.
        """
        direction_u = np.asarray(direction_u, dtype=np.float32)
        units = len(self.layer.topk_ids)
        if direction_u.shape != (units,) or not np.isfinite(direction_u).all():
            raise CatalogueError(f"A direction in {self.layer.layer} is {units} finite numbers.")
        return _search(self._index(pooling), self.ids, direction_u, k, self._rows(pooling))

    def similar_images(self, image_id: int, k: int) -> Answer:
        """The `k` other images that activate most like `image_id`: cosines of maxima and ids ``(k,)``.

        Raises:
            CatalogueError: for an image that is not indexed.
        """
        row = int(np.searchsorted(self.ids, image_id))
        if row == len(self.ids) or self.ids[row] != image_id:
            raise CatalogueError(f"Image {image_id} is not in the index of {self.layer.layer}.")
        query_u = np.array(self.layer.maxima[row])
        index, norms_m = self._index("max"), self._norms()
        products, rows = (found[0] for found in index.search(query_u[None], len(self.ids)))
        tiny = np.finfo(np.float32).tiny
        if _is_half(index):
            nearest = np.argsort(-products / np.maximum(norms_m[rows], tiny))[: _candidates(k + 1)]
            rows = rows[nearest]
            products = self.layer.maxima[rows] @ query_u
        others = rows != row
        cosines = products[others] / np.maximum(norms_m[rows[others]] * norms_m[row], tiny)
        return _ordered(cosines, self.ids[rows[others]], k)

    def save(self, directory: Path, *, half: bool = False) -> None:
        """Write both indices into `directory`: float32 and exact, or in half the space with `half`."""
        directory.mkdir(parents=True, exist_ok=True)
        poolings: tuple[Pooling, ...] = ("mean", "max")
        for pooling in poolings:  # one at a time: each may take half of the memory budget
            _write(_build(self._rows(pooling), half=half), directory / f"{pooling}.faiss")
        np.save(directory / _NORMS, self._norms(), allow_pickle=False)

    def _rows(self, pooling: Pooling) -> NDArray[np.float32]:
        return self.layer.maxima if pooling == "max" else self.layer.means

    def _index(self, pooling: Pooling) -> Any:
        if pooling not in self._indices:
            if self._directory is not None:
                self._indices[pooling] = _read(self._directory / f"{pooling}.faiss", len(self.ids))
            else:
                self._indices[pooling] = _build(self._rows(pooling))
        return self._indices[pooling]

    def _norms(self) -> NDArray[np.float32]:
        """Euclidean norms ``(m,)`` of the maxima, read where they were saved."""
        if self._norms_m is None:
            if self._directory is not None:
                self._norms_m = _read_array(self._directory / _NORMS, len(self.ids))
            else:
                squares = [np.einsum("mu,mu->m", piece, piece) for piece in _pieces(self.layer.maxima)]
                self._norms_m = np.sqrt(np.concatenate(squares))
        return self._norms_m

    def _from_stream(self, unit: int, k: int) -> Answer:
        values_k, ids_k = self.layer.topk_values[unit], self.layer.topk_ids[unit]
        if k > len(ids_k):
            raise CatalogueError(
                f"Only the top {len(ids_k)} images of each unit are kept, as {self.coverage:.0%} of the "
                "images are indexed: ask for fewer, or raise activations.top_k or activations.memory_gb."
            )
        known = ids_k[:k] >= 0
        return values_k[:k][known], ids_k[:k][known]


class EmbeddingIndex:
    """Cosine search over unit-norm embeddings. Rows of zeros, of unreadable images, are left out.

    Args:
        embeddings_nd: unit-norm embeddings ``(n, d)``.
        ids: their ids ``(n,)``.
        directory: where `save` wrote the index; it is then read with memory mapping instead of built. An
            index saved in half precision only finds candidates: answers are computed again.
    """

    def __init__(
        self, embeddings_nd: NDArray[np.float32], ids: NDArray[np.int64], directory: Path | None = None
    ) -> None:
        self._embeddings_nd = embeddings_nd
        if directory is not None:
            self._present = _read_array(directory / _PRESENT, None)
            self._index = _read(directory / _EMBEDDINGS, len(self._present))
        else:
            present = [piece.any(axis=1) for piece in _pieces(embeddings_nd)]
            self._present = np.flatnonzero(np.concatenate(present))
            self._index = _build(_Chosen(embeddings_nd, self._present))
        self.ids = np.asarray(ids, dtype=np.int64)[self._present]

    def search(self, query: NDArray[np.float32], k: int) -> Answer:
        """The `k` nearest to each query, by (cosine descending, id ascending).

        Args:
            query: one unit-norm query ``(d,)``, or several ``(q, d)``.
            k: how many; cut to the number of rows.

        Returns:
            cosines and ids, ``(k,)`` or ``(q, k)``.

        Raises:
            CatalogueError: when queries have another dimension.
        """
        query = np.asarray(query, dtype=np.float32)
        if query.ndim not in (1, 2) or query.shape[-1] != self._index.d:
            raise CatalogueError(f"A query has {self._index.d} dimensions; this one is {query.shape}.")
        rows_nd = _Chosen(self._embeddings_nd, self._present)
        if query.ndim == 1:
            return _search(self._index, self.ids, query, k, rows_nd)
        k = min(k, len(self.ids))
        answers = [_search(self._index, self.ids, one, k, rows_nd) for one in query]
        values = np.array([values for values, _ in answers], dtype=np.float32).reshape(len(query), k)
        return values, np.array([ids for _, ids in answers], dtype=np.int64).reshape(len(query), k)

    def save(self, directory: Path, *, half: bool = False) -> None:
        """Write the index into `directory`: float32 and exact, or in half the space with `half`."""
        directory.mkdir(parents=True, exist_ok=True)
        index = _build(_Chosen(self._embeddings_nd, self._present), half=True) if half else self._index
        _write(index, directory / _EMBEDDINGS)
        np.save(directory / _PRESENT, self._present, allow_pickle=False)


@dataclass(frozen=True)
class _Chosen:
    """Some rows of a table that may lie on disk, read when they are asked for."""

    table: NDArray[np.float32]
    chosen: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.chosen), self.table.shape[1]

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        picked: NDArray[np.float32] = self.table[self.chosen[rows]]
        return picked


_Rows = NDArray[np.float32] | _Chosen


def _search(
    index: Any, ids: NDArray[np.int64], query_d: NDArray[np.float32], k: int, rows_nd: _Rows
) -> Answer:
    """Top k by (value descending, id ascending). FAISS breaks ties its own way, so more is fetched until the
    last value fetched lies below the k-th: then every tie of the k-th is in hand."""
    k = min(k, len(ids))
    if k <= 0:
        return np.empty(0, dtype=np.float32), np.empty(0, dtype=np.int64)
    if _is_half(index):
        rows = index.search(query_d[None], min(len(ids), _candidates(k)))[1][0]
        return _ordered(rows_nd[rows] @ query_d, ids[rows], k)
    fetched = min(len(ids), k + 16)
    while True:
        values, rows = index.search(query_d[None], fetched)
        if fetched == len(ids) or values[0, -1] < values[0, k - 1]:
            return _ordered(values[0], ids[rows[0]], k)
        fetched = min(len(ids), 4 * fetched)


def _ordered(values: NDArray[np.float32], ids: NDArray[np.int64], k: int) -> Answer:
    order = np.lexsort((ids, -values))[: max(0, k)]
    return values[order], ids[order]


def _build(rows_nd: _Rows, *, half: bool = False) -> Any:
    import faiss

    width = rows_nd.shape[1]
    index: Any
    if half:
        index = faiss.IndexScalarQuantizer(width, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    else:
        index = faiss.IndexFlatIP(width)
    for piece in _pieces(rows_nd):
        # Beyond float16's range a value would become infinite, and with it the product of every query.
        index.add(np.clip(piece, -_HALF_MAX, _HALF_MAX) if half else np.ascontiguousarray(piece))
    return index


def _pieces(rows_nd: _Rows) -> Iterator[NDArray[np.float32]]:
    """The rows a few megabytes at a time, so that a table on disk need not fit in memory."""
    count, width = rows_nd.shape
    step = max(1, _PIECE // max(1, 4 * width))
    for start in range(0, max(1, count), step):
        yield np.asarray(rows_nd[start : start + step], dtype=np.float32)


def _is_half(index: Any) -> bool:
    import faiss

    return isinstance(index, faiss.IndexScalarQuantizer)


def _candidates(k: int) -> int:
    """How many a float16 index is asked for: its error reorders neighbours, hardly the first few hundred."""
    return 4 * k + 64


def _read_array(path: Path, rows: int | None) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        raise ActivationError(f"{path} is missing or broken: delete its directory and run again.") from None
    if rows is not None and array.shape != (rows,):
        raise ActivationError(f"{path} does not hold {rows} rows: delete its directory and run again.")
    return array


def _write(index: Any, path: Path) -> None:
    import faiss

    faiss.write_index(index, str(path))


def _read(path: Path, rows: int) -> Any:
    import faiss

    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
    except RuntimeError:
        raise ActivationError(f"{path} is missing or broken: delete its directory and run again.") from None
    if index.ntotal != rows:
        raise ActivationError(
            f"{path} holds {index.ntotal} rows, not {rows}: delete its directory and run again."
        )
    return index
