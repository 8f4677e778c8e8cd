"""Places of photographs from which the read-outs of `labeler.checks.read_out` are fitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import interpolate

from labeler.activations import image_maps
from labeler.checks import LayerData, Samples
from labeler.pipeline.inputs import Inputs
from labeler.storage import hash_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

IMAGES = 1000
"""Photographs that are sampled, hash-chosen among the held-out ones."""
PLACES = 24
"""Of each photograph, at random."""
CHANNELS = 256
"""Of each module at most, hash-chosen."""
TOP = 0.05
"""Share of the photographs that are among a unit's strongest, ties by image id."""


def sampled_images(data: LayerData, seed: int) -> list[int]:
    """Image ids, ascending."""
    ids = [int(image) for image in data.image_ids_n]
    return sorted(ids[place] for place in hash_order(ids, seed, f"sampled for {data.layer}")[:IMAGES])


def strongest(data: LayerData, ids: Sequence[int], columns: Sequence[int]) -> NDArray[np.bool_]:
    """Which of these images are among the strongest of each unit (a column of `data`): ``(i, r)``."""
    values_ir = data.activations_nu[np.searchsorted(data.image_ids_n, ids)][:, np.array(columns)]
    found_ir = np.zeros(values_ir.shape, bool)
    order_ir = np.argsort(-values_ir, axis=0, kind="stable")[: max(1, round(TOP * len(ids)))]
    np.put_along_axis(found_ir, order_ir, True, axis=0)
    return found_ir


def sample_places(
    inputs: Inputs,
    layer: str,
    modules: Sequence[str],
    units: Sequence[int],
    ids: Sequence[int],
    top_ir: NDArray[np.bool_],
) -> Samples:
    """What modules and units give at random places of photographs.

    Args:
        inputs: of the run.
        layer: the units' layer.
        modules: before it.
        units: their indices there, r of them.
        ids: image ids, ascending.
        top_ir: see `Samples`.
    """
    generator = np.random.default_rng(inputs.config.seed)
    features: list[NDArray[np.float32]] = []
    activations: list[NDArray[np.float32]] = []
    columns: list[NDArray[np.int64]] = []
    for _, images, maps in image_maps(
        inputs.target, inputs.probe, list(ids), [*modules, layer],
        batch_size=inputs.config.activations.batch_size, workers=inputs.config.executor.workers,
        decoding=inputs.config.executor.decoding,
    ):  # fmt: skip
        columns = columns or [
            _channels(maps[module].shape[1], inputs.config.seed, module) for module in modules
        ]
        own_buhw = maps[layer][:, list(units)].float()
        height, width = own_buhw.shape[2:]
        seen_bdhw = _features([maps[module] for module in modules], columns, (height, width))
        for row in range(len(images)):
            places = generator.permutation(height * width)[:PLACES]
            activations.append(_at(own_buhw[row], places))
            features.append(_at(seen_bdhw[row], places))
    widths = [int(maps[module].shape[1]) for module in modules]
    starts = np.cumsum([0, *widths[:-1]])
    return Samples(
        np.concatenate(features),
        np.concatenate([start + own for start, own in zip(starts, columns, strict=True)]),
        tuple(len(own) for own in columns),
        np.concatenate(activations),
        np.repeat(np.arange(len(ids)), [len(part) for part in activations]),
        top_ir,
    )


def _channels(count: int, seed: int, module: str) -> NDArray[np.int64]:
    chosen = hash_order(list(range(count)), seed, f"channels of {module}")[:CHANNELS]
    return np.sort(np.array(chosen, np.int64))


def _features(
    maps: Sequence[torch.Tensor], columns: Sequence[NDArray[np.int64]], size: tuple[int, int]
) -> torch.Tensor:
    """Some channels of every module's map in the size of the layer's, ``(b, d, h, w)``."""
    parts = []
    for map_bchw, own in zip(maps, columns, strict=True):
        mode = "area" if map_bchw.shape[2] >= size[0] else "bilinear"
        parts.append(interpolate(map_bchw[:, torch.from_numpy(own)].float(), size=size, mode=mode))
    return torch.cat(parts, dim=1)


def _at(map_chw: torch.Tensor, places: NDArray[np.int64]) -> NDArray[np.float32]:
    """The channels at some places, ``(places, c)``."""
    found: NDArray[np.float32] = map_chw.flatten(1)[:, torch.from_numpy(places)].T.cpu().numpy()
    return found
