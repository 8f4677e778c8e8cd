"""The pass over a part of the probe: what it accumulates, how parts are stored, and how they join exactly."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from labeler.activations.quantiles import RunningQuantile
from labeler.activations.rows import join_rows, load_rows, save_array
from labeler.activations.store import Activations, LayerActivations
from labeler.activations.topk import RunningTopK
from labeler.errors import ActivationError
from labeler.storage import write_atomic

SCHEMA = 1
_INDEX = "shard.json"
_Accumulator = TypeVar("_Accumulator", RunningTopK, RunningQuantile)


@dataclass(frozen=True)
class LayerState:
    """One layer's accumulators and rows of the dense matrices (NaN: excluded); m indexed images, u units."""

    topk: RunningTopK
    quantile: RunningQuantile
    maxima: NDArray[np.float32]  # (m, u)
    means: NDArray[np.float32]  # (m, u)
    minimum: Tensor  # (u,) of pooled maxima; inf without values
    maximum: Tensor  # (u,) of pooled maxima; -inf without values


@dataclass(frozen=True)
class PassShard:
    """The pass over images first..first + len(readable) - 1 of a probe of `total` images.

    `plan` is the fingerprint of everything that all shards of one pass share.
    """

    plan: str
    tail: float
    total: int
    first: int
    readable: NDArray[np.bool_]  # (n,)
    indexed_ids: NDArray[np.int64]  # (m,), readable ones only
    layers: dict[str, LayerState]
    embeddings: dict[str, NDArray[np.float32]]  # (n, dim)
    areas: NDArray[np.float32]  # (n, c)
    nonfinite: tuple[tuple[str, int, int], ...]

    def save(self, directory: Path) -> None:
        """Write into `directory`, which may exist; tables that the pass streamed there stay."""
        directory.mkdir(parents=True, exist_ok=True)
        for number, state in enumerate(self.layers.values()):
            tensors = {f"topk.{name}": tensor for name, tensor in state.topk.state_dict().items()}
            tensors |= {f"quantile.{name}": tensor for name, tensor in state.quantile.state_dict().items()}
            tensors |= {"minimum": state.minimum, "maximum": state.maximum}
            tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
            save_file(tensors, directory / f"layer-{number:03d}.safetensors")
            for name, array in (("maxima", state.maxima), ("means", state.means)):
                save_array(directory / f"layer-{number:03d}-{name}.npy", array)
        for number, embeddings in enumerate(self.embeddings.values()):
            save_array(directory / f"embeddings-{number:03d}.npy", embeddings)
        for name in ("readable", "indexed_ids", "areas"):
            save_array(directory / f"{name}.npy", getattr(self, name))
        index = {
            "schema": SCHEMA,
            **{name: getattr(self, name) for name in ("plan", "tail", "total", "first", "nonfinite")},
            "layers": list(self.layers),
            "encoders": list(self.embeddings),
        }
        write_atomic(directory / _INDEX, json.dumps(index).encode())

    @classmethod
    def load(cls, directory: Path) -> PassShard:
        """Read what `save` wrote.

        Raises:
            ActivationError: when the directory is incomplete or of another version.
        """

        def array(name: str) -> NDArray[Any]:
            loaded: NDArray[Any] = np.load(directory / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            return loaded

        try:
            index = json.loads((directory / _INDEX).read_text(encoding="utf-8"))
            if index["schema"] != SCHEMA:
                raise ActivationError(f"{directory} is a shard of another version of labeler: run it again.")
            return cls(
                plan=index["plan"],
                tail=index["tail"],
                total=index["total"],
                first=index["first"],
                readable=array("readable"),
                indexed_ids=array("indexed_ids"),
                layers={name: _load_layer(directory, i) for i, name in enumerate(index["layers"])},
                embeddings={name: array(f"embeddings-{i:03d}") for i, name in enumerate(index["encoders"])},
                areas=array("areas"),
                nonfinite=tuple((str(layer), int(u), int(i)) for layer, u, i in index["nonfinite"]),
            )
        except (OSError, ValueError, KeyError) as error:
            raise ActivationError(f"{directory} is not a complete shard ({error}): run it again.") from None


def merge_shards(shards: Sequence[PassShard], directory: Path | None = None) -> Activations:
    """The activations that one undivided pass gives; the order of `shards` changes nothing.

    Args:
        shards: all parts of one pass.
        directory: where the tables with a row for each image are joined, under the names that
            `Activations.save` gives them; in memory where it is None.

    Raises:
        ActivationError: when shards belong to different passes, overlap or leave images out, or when no image
            at all could be read.
    """
    shards = sorted(shards, key=lambda shard: (shard.first, len(shard.readable)))
    _check_complete(shards)
    readable = np.concatenate([shard.readable for shard in shards])
    if not readable.any():
        raise ActivationError(
            f"None of the {len(readable)} images of the probe can be read: check its paths and formats."
        )
    nonfinite = tuple(sorted(pair for shard in shards for pair in shard.nonfinite))

    def joined(name: str, tables: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
        return join_rows(tables, None if directory is None else directory / f"{name}.npy")

    layers = {}
    for number, name in enumerate(shards[0].layers):
        states = [shard.layers[name] for shard in shards]
        broken_units = sorted({unit for layer, unit, _ in nonfinite if layer == name})
        maxima, means = (
            _fill_excluded(joined(f"layer-{number:03d}-{part}", tables), broken_units)
            for part, tables in (
                ("maxima", [state.maxima for state in states]),
                ("means", [state.means for state in states]),
            )
        )
        layers[name] = _finish(name, states, shards[0].tail, maxima, means)
    return Activations(
        layers=layers,
        indexed_ids=np.concatenate([shard.indexed_ids for shard in shards]),
        status=tuple("ok" if good else "unreadable" for good in readable),
        embeddings={
            name: joined(f"embeddings-{number:03d}", [shard.embeddings[name] for shard in shards])
            for number, name in enumerate(shards[0].embeddings)
        },
        areas=joined("areas", _same_width([shard.areas for shard in shards])),
        nonfinite=nonfinite,
    )


def _check_complete(shards: Sequence[PassShard]) -> None:
    if not shards:
        raise ActivationError("There are no shards to merge; name the directories of all of them.")
    if len({(shard.plan, shard.total) for shard in shards}) > 1:
        raise ActivationError(
            "These shards come from different passes: make all of them with the same config."
        )
    reached = 0
    for shard in shards:
        if shard.first != reached and len(shard.readable):
            what = "given twice" if shard.first < reached else "missing"
            first, last = sorted((shard.first, reached))
            raise ActivationError(f"Images {first} to {last - 1} are {what}: merge every shard exactly once.")
        reached += len(shard.readable)
    if reached != shards[0].total:
        raise ActivationError(
            f"Images {reached} to {shards[0].total - 1} are missing: merge every shard exactly once."
        )


def _finish(
    name: str,
    states: Sequence[LayerState],
    tail: float,
    maxima: NDArray[np.float32],
    means: NDArray[np.float32],
) -> LayerActivations:
    topk_values, topk_ids = _joined([state.topk for state in states]).result()
    quantile = _joined([state.quantile for state in states])
    threshold = quantile.quantile(torch.tensor([1.0 - tail], dtype=torch.float64))[:, 0]
    return LayerActivations(
        layer=name,
        topk_values=topk_values.cpu().numpy(),
        topk_ids=topk_ids.cpu().numpy(),
        threshold=threshold.cpu().numpy(),
        minimum=torch.stack([state.minimum for state in states]).amin(0).cpu().numpy(),
        maximum=torch.stack([state.maximum for state in states]).amax(0).cpu().numpy(),
        maxima=maxima,
        means=means,
    )


def _joined(accumulators: Sequence[_Accumulator]) -> _Accumulator:
    first, *others = accumulators
    if not others:
        return first
    joined = type(first).from_state_dict(first.state_dict())
    for other in others:
        joined.merge(other)  # type: ignore[arg-type]  # both are of one type, which mypy cannot see here
    return joined


def _fill_excluded(dense_mu: NDArray[np.float32], units: Sequence[int]) -> NDArray[np.float32]:
    """NaN in the columns `units` replaced by the column's least value, or 0 where it has none."""
    if not units:
        return dense_mu
    filled = np.array(dense_mu)
    for unit in units:
        column = filled[:, unit]
        excluded = np.isnan(column)
        column[excluded] = 0.0 if excluded.all() else column[~excluded].min()
    return filled


def _same_width(arrays: Sequence[NDArray[np.float32]]) -> list[NDArray[np.float32]]:
    """A shard without a readable image does not know the width of `measure`; its rows are NaN."""
    width = max(array.shape[1] for array in arrays)
    return [
        array if array.shape[1] == width else np.full((len(array), width), np.nan, dtype=np.float32)
        for array in arrays
    ]


def _load_layer(directory: Path, number: int) -> LayerState:
    stem = f"layer-{number:03d}"
    tensors = load_file(directory / f"{stem}.safetensors")
    return LayerState(
        topk=RunningTopK.from_state_dict(_part(tensors, "topk.")),
        quantile=RunningQuantile.from_state_dict(_part(tensors, "quantile.")),
        minimum=tensors["minimum"],
        maximum=tensors["maximum"],
        maxima=load_rows(directory / f"{stem}-maxima.npy"),
        means=load_rows(directory / f"{stem}-means.npy"),
    )


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
