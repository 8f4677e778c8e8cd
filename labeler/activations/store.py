"""What the pass leaves: plain arrays, frozen, on disk as safetensors, `.npy` and JSON, never pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from labeler.activations.rows import save_array
from labeler.errors import ActivationError
from labeler.storage import write_atomic

SCHEMA = 1
_INDEX = "activations.json"
_DENSE = ("maxima", "means")


@dataclass(frozen=True)
class LayerActivations:
    """One layer's statistics over the probe. u: units, k: exemplar candidates, m: indexed images.

    The dense matrices are finite: where a (unit, image) pair is in `Activations.nonfinite` they hold the
    least value that the unit has in them (0 if it has none), so that the pair is never an exemplar.
    """

    layer: str
    topk_values: NDArray[np.float32]
    """``(u, k)`` greatest pooled maxima, by (value descending, id ascending); -inf past the images."""
    topk_ids: NDArray[np.int64]
    """``(u, k)`` their image ids; -1 past the images."""
    threshold: NDArray[np.float32]
    """``(u,)`` T_u with P(a > T_u) = tail over all positions; NaN for a unit without finite values."""
    minimum: NDArray[np.float32]
    """``(u,)`` least pooled maximum over all readable images; inf for a unit without finite values."""
    maximum: NDArray[np.float32]
    """``(u,)`` greatest pooled maximum over all readable images; -inf for a unit without finite values."""
    maxima: NDArray[np.float32]
    """``(m, u)`` spatial maxima, rows by `Activations.indexed_ids`."""
    means: NDArray[np.float32]
    """``(m, u)`` spatial means."""


@dataclass(frozen=True)
class Activations:
    """The result of one pass over a probe of n images."""

    layers: dict[str, LayerActivations]
    indexed_ids: NDArray[np.int64]
    """``(m,)`` ascending: the images in the dense matrices."""
    status: tuple[str, ...]
    """Per image, ``"ok"`` or ``"unreadable"``."""
    embeddings: dict[str, NDArray[np.float32]]
    """By encoder name, ``(n, dim)`` unit-norm; rows of zeros for unreadable images."""
    areas: NDArray[np.float32]
    """``(n, c)`` what `measure` gave; rows of NaN for unreadable images; c = 0 without `measure`."""
    nonfinite: tuple[tuple[str, int, int], ...]
    """(layer, unit, image id) of activations with NaN or infinity, left out of every statistic."""

    @property
    def readable_ids(self) -> NDArray[np.int64]:
        """Ids of the images that could be decoded, ascending."""
        return np.flatnonzero(np.array([status == "ok" for status in self.status], dtype=bool)).astype(
            np.int64
        )

    @property
    def coverage(self) -> float:
        """Share of the readable images that the dense matrices hold, in [0, 1]."""
        readable = len(self.readable_ids)
        return len(self.indexed_ids) / readable if readable else 0.0

    def save(self, directory: Path) -> None:
        """Write into `directory`, which may exist. Files are numbered, so layer names may hold anything.

        Tables that the pass streamed into `directory` are there already and stay.
        """
        directory.mkdir(parents=True, exist_ok=True)
        for number, layer in enumerate(self.layers.values()):
            save_file(_small_arrays(layer), directory / f"layer-{number:03d}.safetensors")
            for name in _DENSE:
                save_array(directory / f"layer-{number:03d}-{name}.npy", getattr(layer, name))
        for number, embeddings in enumerate(self.embeddings.values()):
            save_array(directory / f"embeddings-{number:03d}.npy", embeddings)
        save_array(directory / "indexed_ids.npy", self.indexed_ids)
        save_array(directory / "areas.npy", self.areas)
        index = {
            "schema": SCHEMA,
            "layers": list(self.layers),
            "encoders": list(self.embeddings),
            "images": len(self.status),
            "not_ok": {str(i): status for i, status in enumerate(self.status) if status != "ok"},
            "nonfinite": self.nonfinite,
        }
        write_atomic(directory / _INDEX, json.dumps(index).encode())

    @classmethod
    def load(cls, directory: Path, mmap: bool = True) -> Activations:
        """Read what `save` wrote; the large matrices stay on disk, read-only, unless `mmap` is False.

        Raises:
            ActivationError: when the directory is incomplete or of another version.
        """
        try:
            index = json.loads((directory / _INDEX).read_text(encoding="utf-8"))
            if index["schema"] != SCHEMA:
                raise ActivationError(
                    f"{directory} holds activations of another version of labeler: run the pass again."
                )
            layers = {name: _load_layer(directory, i, name, mmap) for i, name in enumerate(index["layers"])}
            embeddings = {
                name: _load(directory / f"embeddings-{i:03d}.npy", mmap)
                for i, name in enumerate(index["encoders"])
            }
            status = ["ok"] * index["images"]
            for position, word in index["not_ok"].items():
                status[int(position)] = word
            return cls(
                layers=layers,
                indexed_ids=_load(directory / "indexed_ids.npy", False),
                status=tuple(status),
                embeddings=embeddings,
                areas=_load(directory / "areas.npy", mmap),
                nonfinite=tuple((str(layer), int(u), int(i)) for layer, u, i in index["nonfinite"]),
            )
        except (OSError, ValueError, KeyError) as error:
            raise ActivationError(
                f"{directory} holds no complete activations ({error}): run the pass again."
            ) from None


def _small_arrays(layer: LayerActivations) -> dict[str, NDArray[Any]]:
    return {
        field.name: np.ascontiguousarray(getattr(layer, field.name))
        for field in fields(layer)
        if field.name != "layer" and field.name not in _DENSE
    }


def _load_layer(directory: Path, number: int, name: str, mmap: bool) -> LayerActivations:
    small: Mapping[str, NDArray[Any]] = load_file(directory / f"layer-{number:03d}.safetensors")
    dense = {part: _load(directory / f"layer-{number:03d}-{part}.npy", mmap) for part in _DENSE}
    return LayerActivations(layer=name, **small, **dense)


def _load(path: Path, mmap: bool) -> NDArray[Any]:
    array: NDArray[Any] = np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    return array
