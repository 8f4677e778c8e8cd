"""Activation maps of chosen (unit, image) pairs, computed again: maps are never stored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from torch import Tensor

from labeler.activations.loader import batches, forward, prefetch, stack_padded
from labeler.activations.processes import Decoding, by_processes
from labeler.errors import UnknownNameError
from labeler.seams import ProbeDataset, Progress, Target

Precision = Literal["float32", "bfloat16"]


def unit_maps(
    target: Target,
    probe: ProbeDataset,
    wanted: Mapping[str, Iterable[tuple[int, int]]],
    *,
    batch_size: int = 32,
    workers: int = 2,
    decoding: Decoding = "auto",
    progress: Progress | None = None,
    precision: Precision = "float32",
) -> Iterator[tuple[str, int, int, NDArray[np.float32]]]:
    """The maps of the (unit, image id) pairs in `wanted`, by layer: (layer, unit, image id, map ``(h, w)``).

    Every image is decoded and forwarded once, as far as the last layer that it is wanted for. Pairs come by
    image, not in the order asked; a pair asked twice comes once. Give the pass's batch size and precision to
    get its very values.

    Raises:
        UnknownNameError: for a layer that the target does not have.
        UnreadableImageError: when an image cannot be decoded.
    """
    units_of: dict[int, dict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    for layer, pairs in wanted.items():
        if layer not in target.layers:
            raise UnknownNameError("layer", layer, target.layers)
        for unit, image_id in pairs:
            units_of[int(image_id)][layer].add(int(unit))
    by_layers: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for image_id in sorted(units_of):
        by_layers[tuple(layer for layer in target.layers if layer in units_of[image_id])].append(image_id)
    done = 0
    for layers, image_ids in by_layers.items():
        for ids_b, _, maps in image_maps(
            target, probe, image_ids, layers,
            batch_size=batch_size, workers=workers, decoding=decoding, precision=precision,
        ):  # fmt: skip
            for row, image_id in enumerate(ids_b.tolist()):
                for layer in layers:
                    units = sorted(units_of[image_id][layer])
                    maps_uhw = maps[layer][row, units].cpu().numpy()
                    for unit, map_hw in zip(units, maps_uhw, strict=True):
                        yield layer, unit, image_id, map_hw
            done += len(ids_b)
            if progress is not None:
                progress(done, len(units_of))


def image_maps(
    target: Target,
    probe: ProbeDataset,
    image_ids: Sequence[int],
    layers: Sequence[str],
    *,
    batch_size: int = 32,
    workers: int = 2,
    decoding: Decoding = "auto",
    precision: Precision = "float32",
) -> Iterator[tuple[NDArray[np.int64], list[Image], dict[str, Tensor]]]:
    """All maps of `layers` for `image_ids`, in order, by batches: ids ``(b,)``, images, maps by layer.

    The forward pass always sees `batch_size` images, padded, as in the pass over the probe. Maps are float32
    ``(b, u, h, w)`` on the target's device.

    Raises:
        UnreadableImageError: when an image cannot be decoded.
    """

    def read(image_id: int) -> tuple[int, Image, Tensor]:
        image = probe.image(image_id)
        return image_id, image, target.prepare(image)

    pinned, processes = target.device.type == "cuda", by_processes(decoding, target.device, len(image_ids))
    stream = prefetch(
        [int(i) for i in image_ids], read, workers=workers, ahead=2 * batch_size, processes=processes
    )
    for batch in batches(stream, batch_size):
        prepared = [tensor for _, _, tensor in batch]
        block = stack_padded(prepared, batch_size, prepared[0].shape, pinned=pinned)
        maps = forward(target, block, layers, precision)
        ids_b = np.array([image_id for image_id, _, _ in batch], dtype=np.int64)
        yield (
            ids_b,
            [image for _, image, _ in batch],
            {layer: maps[layer][: len(batch)] for layer in layers},
        )
