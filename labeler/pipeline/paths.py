"""The paths stage: how like pictures and photographs are in the layers before each unit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

from labeler.activations import image_maps
from labeler.checks import LayerData, PathCodes, PathSignals, path_likeness, place_weights
from labeler.pipeline.bench import Bench, by_layer
from labeler.pipeline.pictures import Pictures
from labeler.records import UnitId, Visualisation
from labeler.seams import Progress, Target
from labeler.storage import fingerprint, hash_order, stage_directory

if TYPE_CHECKING:
    from numpy.typing import NDArray

MODULES = 6
"""Modules before the layer whose channels are compared. With the last 4 to 8 of EfficientNet-Lite0's, clean
units' pictures found their exemplars alike often; earlier ones know less of the unit."""
EXEMPLARS = 5
"""Held-out top exemplars of each unit."""
MIDDLE = 5
"""Held-out images nearest to the middle between the unit's median and its exemplars."""
LEAST_UNITS = 24
"""Where fewer units of a layer have pictures, others join whose exemplars are compared with."""
NOTHING = "the layer has no finished picture, or no exemplars on the test images"
MOST_UNITS = 512
"""Units that are compared with each other; larger layers are cut into groups of this size by hash."""


@dataclass
class _Group:
    """The codes of one group of units while they are gathered; `units` as columns of the layer's data."""

    layer: str
    columns: list[int]
    pictures: list[tuple[int, Visualisation]]
    exemplars: dict[int, list[int]]  # image id -> the units (rows) whose exemplar it is
    middle: dict[int, list[int]]  # the same for images from the middle of their ranges


def paths_stage(
    run: Path, bench: Bench, pictures: Pictures, progress: Progress | None
) -> dict[UnitId, PathSignals]:
    """Build or load the signals of every unit that has a picture."""
    key = fingerprint("paths", 3, pictures.key, bench.evidence.key, MODULES, EXEMPLARS)

    def build(directory: Path) -> None:
        found = {}
        made = by_layer(list(pictures.visualisations))
        for number, (layer, units) in enumerate(made.items()):
            found.update(_of_layer(run, bench, pictures, layer, units))
            if progress is not None:
                progress(number + 1, len(made))
        rows = {str(unit): asdict(signals) for unit, signals in found.items()}
        (directory / "paths.json").write_text(json.dumps(rows))

    directory = stage_directory(run, "paths", key, build)
    stored = json.loads((directory / "paths.json").read_text())
    return {UnitId.parse(unit): PathSignals(**signals) for unit, signals in stored.items()}


def _of_layer(
    run: Path, bench: Bench, pictures: Pictures, layer: str, units: Sequence[UnitId]
) -> dict[UnitId, PathSignals]:
    target, config = bench.inputs.target, bench.inputs.config
    modules = target.earlier(layer, MODULES)
    if not modules:
        why = "no module with weights runs before this layer"
        return {unit: PathSignals(why=why) for unit in units}
    data = bench.layer_data(layer, "test")
    pictured = [data.position[unit.index] for unit in units]
    order = [pictured[i] for i in hash_order(pictured, config.seed, f"paths of {layer}")]
    found: dict[UnitId, PathSignals] = {}
    for start in range(0, len(order), MOST_UNITS):
        columns = order[start : start + MOST_UNITS]
        rest = [column for column in range(len(data.live_units)) if column not in set(columns)]
        joined = hash_order(rest, config.seed, f"joins {layer}")[: max(0, LEAST_UNITS - len(columns))]
        group = _group(data, pictures, [*columns, *(rest[i] for i in joined)])
        codes = _codes(run, bench, group, modules, data)
        likeness = None if codes is None else path_likeness(codes)
        for row, column in enumerate(columns):
            unit = UnitId.of_side(layer, int(data.live_units[column]))
            found[unit] = likeness.of(row) if likeness else PathSignals(why=NOTHING)
    return found


def _group(data: LayerData, pictures: Pictures, columns: list[int]) -> _Group:
    group = _Group(data.layer, columns, [], {}, {})
    for row, column in enumerate(columns):
        unit = UnitId.of_side(data.layer, int(data.live_units[column]))
        group.pictures += [(row, item) for item in pictures.visualisations.get(unit, ()) if item.tile]
        strongest = [int(image) for image in data.exemplar_ids[unit.index]][:EXEMPLARS]
        for image in strongest:
            group.exemplars.setdefault(image, []).append(row)
        for image in _middle(data, column, strongest):
            group.middle.setdefault(image, []).append(row)
    return group


def _middle(data: LayerData, column: int, strongest: Sequence[int]) -> list[int]:
    """The images whose activation is nearest to halfway from the median to the mean of the strongest."""
    values_n = data.activations_nu[:, column].astype(np.float64)
    top_n = np.isin(data.image_ids_n, strongest)
    if not top_n.any():
        return []
    halfway = (np.median(values_n) + values_n[top_n].mean()) / 2
    away_n = np.where(top_n, np.inf, np.abs(values_n - halfway))
    order_n = np.lexsort((data.image_ids_n, away_n))[:MIDDLE]
    return [int(data.image_ids_n[row]) for row in order_n if np.isfinite(away_n[row])]


def _codes(
    run: Path, bench: Bench, group: _Group, modules: Sequence[str], data: LayerData
) -> PathCodes | None:
    """None where no picture was finished, or no exemplar is on `test`."""
    target, config = bench.inputs.target, bench.inputs.config
    units = [int(data.live_units[column]) for column in group.columns]
    drawn, owner_f = [], []
    for rows, maps in _picture_maps(run, target, group, modules, config.visualise.batch_size):
        for place, row in enumerate(rows):
            drawn.append(_code(maps, modules, group.layer, place, units[row]))
            owner_f.append(row)
    seen: dict[bool, list[NDArray[np.float32]]] = {True: [], False: []}  # by whether they are exemplars
    owners: dict[bool, list[int]] = {True: [], False: []}
    for ids, _, maps in image_maps(
        target, bench.inputs.probe, sorted({*group.exemplars, *group.middle}), [*modules, group.layer],
        batch_size=config.activations.batch_size, workers=config.executor.workers,
        decoding=config.executor.decoding,
    ):  # fmt: skip
        for place, image_id in enumerate(ids.tolist()):
            for strongest, wanted in ((True, group.exemplars), (False, group.middle)):
                for row in wanted.get(image_id, ()):
                    seen[strongest].append(_code(maps, modules, group.layer, place, units[row]))
                    owners[strongest].append(row)
    if not drawn or not seen[True] or not seen[False]:
        return None
    widths = tuple(int(maps[module].shape[1]) for module in modules)
    return PathCodes(
        widths, np.stack(drawn), np.array(owner_f), np.array([item.facet for _, item in group.pictures]),
        np.array([item.second for _, item in group.pictures]), np.stack(seen[True]), np.array(owners[True]),
        np.stack(seen[False]), np.array(owners[False]), data.related_uu[np.ix_(group.columns, group.columns)],
    )  # fmt: skip


def _picture_maps(
    run: Path, target: Target, group: _Group, modules: Sequence[str], size: int
) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
    """The maps of the pictures by batches, each with the units (rows) that they belong to."""
    for start in range(0, len(group.pictures), size):
        part = group.pictures[start : start + size]
        images = [_pixels(run / "images" / str(item.tile)) for _, item in part]
        with torch.no_grad():
            seen_bchw = target.normalise(torch.stack(images).to(target.device))
            yield [row for row, _ in part], target.maps(seen_bchw, [*modules, group.layer])


def _pixels(path: Path) -> torch.Tensor:
    """A stored picture in [0, 1], ``(3, h, w)``."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255


def _code(
    maps: dict[str, torch.Tensor], modules: Sequence[str], layer: str, place: int, unit: int
) -> NDArray[np.float32]:
    """Mean activations ``(d,)`` of the modules' channels over the places where the unit fires."""
    own_hw = maps[layer][place, unit]
    parts = []
    for module in modules:
        map_chw = maps[module][place]
        size = (int(map_chw.shape[1]), int(map_chw.shape[2]))
        wide_hw = interpolate(own_hw[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
        weights_hw = torch.from_numpy(place_weights(wide_hw.cpu().numpy())).to(map_chw)
        parts.append((map_chw * weights_hw).sum(dim=(1, 2)).cpu().numpy())
    code_d: NDArray[np.float32] = np.concatenate(parts).astype(np.float32)
    return code_d
