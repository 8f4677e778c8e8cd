"""Text embeddings, computed once each and in blocks of one size, so that company does not change them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

TEXTS = 20_000
"""Embeddings kept in memory: 30 MB at 384 dimensions."""


class TextMemo:
    """A least-recently-used memory in front of a text encoder. Safe to use from several threads.

    Args:
        embed: ``(t)`` texts to float32 ``(t, dim)``.
        dim: the number of dimensions, for a call with no texts.
        limit: how many embeddings are kept.
    """

    def __init__(
        self, embed: Callable[[list[str]], NDArray[np.float32]], dim: int, limit: int = TEXTS
    ) -> None:
        self._embed = embed
        self._dim = dim
        self._limit = limit
        self._rows: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embeddings ``(t, dim)`` of `texts`, in their order."""
        if not texts:
            return np.zeros((0, self._dim), np.float32)
        with self._lock:
            found = {text: self._rows[text] for text in texts if text in self._rows}
            missing = [text for text in dict.fromkeys(texts) if text not in found]
            if missing:
                found |= zip(missing, self._embed(missing), strict=True)
            for text, row in found.items():
                self._rows[text] = row
                self._rows.move_to_end(text)
            while len(self._rows) > self._limit:
                self._rows.popitem(last=False)
        return np.stack([found[text] for text in texts])


def unit_norm(rows: NDArray[np.floating]) -> NDArray[np.float32]:
    """Rows ``(n, d)`` divided by their Euclidean norm; a row of zeros stays so."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.ascontiguousarray(rows / np.maximum(norms, 1e-12), dtype=np.float32)
