"""The paths stage: how like pictures and photographs are in the layers before each unit."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from labeler.activations import image_maps
from labeler.checks import LayerData, PathCodes, PathSignals, path_likeness, read_standings
from labeler.executors import LOCAL
from labeler.pipeline.bench import Bench, by_layer
from labeler.pipeline.codes import code_of
from labeler.pipeline.inputs import Inputs
from labeler.pipeline.pictures import Pictures
from labeler.pipeline.sampling import sample_places, sampled_images, strongest
from labeler.pipeline.spread import Lazily, Spread
from labeler.records import UnitId, Visualisation
from labeler.seams import Executor, Progress, Target
from labeler.storage import fingerprint, hash_order

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
NO_MODULES = "no module with weights runs before this layer"
NOTHING = "the layer has no finished picture, or no exemplars on the test images"
MOST_UNITS = 512
"""Units that are compared with each other; larger layers are cut into groups of this size by hash."""
_PATHS = "paths.json"


@dataclass(frozen=True)
class Group:
    """Units of one layer that are compared with each other; a unit's row is its place in `units`.

    Attributes:
        layer: theirs.
        units: their indices there.
        owned: how many of them, the first, are wanted; the others are there to be compared with.
        pictures: of the units, each with its row and its file.
        exemplars: image id -> the rows whose exemplar it is.
        middle: the same for images from the middle of their ranges.
        sampled: images from which read-outs are fitted, ascending.
        top_ir: which of them are among a unit's strongest.
        related_rr: see `LayerData.related_uu`, of these units.
    """

    layer: str
    units: tuple[int, ...]
    owned: int
    pictures: list[tuple[int, Visualisation, bytes]]
    exemplars: dict[int, list[int]]
    middle: dict[int, list[int]]
    sampled: list[int]
    top_ir: NDArray[np.bool_]
    related_rr: NDArray[np.bool_]


def paths_stage(
    run: Path, bench: Bench, pictures: Pictures, progress: Progress | None, *, executor: Executor = LOCAL
) -> dict[UnitId, PathSignals]:
    """Build or load the signals of every unit that has a picture."""
    key = fingerprint("paths", 7, pictures.key, bench.evidence.key, MODULES, EXEMPLARS)
    spread = Spread(run, bench.inputs, executor)

    def build(directory: Path) -> None:
        found: dict[UnitId, PathSignals] = {}
        parts: list[_Part] = []
        for layer, units in by_layer(list(pictures.visualisations)).items():
            if bench.inputs.target.earlier(layer, MODULES):
                parts += [_Part(layer, start) for start in range(0, len(units), MOST_UNITS)]
            else:
                found.update({unit: PathSignals(why=NO_MODULES) for unit in units})
        data = lru_cache(maxsize=1)(lambda layer: bench.layer_data(layer, "test"))
        groups = Lazily(parts, lambda part: _group(run, bench, pictures, data(part.layer), part))
        places = spread.pieces("paths", key, directory, compare, groups, progress)
        for place in places:
            found.update(_read(place / _PATHS))
        (directory / _PATHS).write_text(_written({unit: found[unit] for unit in pictures.visualisations}))

    return _read(spread.stage("paths", key, build) / _PATHS)


@dataclass(frozen=True)
class _Part:
    """The units of a layer's pictures from the place `start` on, in an order by hash."""

    layer: str
    start: int


def _written(signals: Mapping[UnitId, PathSignals]) -> str:
    return json.dumps({str(unit): asdict(found) for unit, found in signals.items()})


def _read(path: Path) -> dict[UnitId, PathSignals]:
    stored = json.loads(path.read_text())
    return {UnitId.parse(unit): PathSignals(**found) for unit, found in stored.items()}


def _group(run: Path, bench: Bench, pictures: Pictures, data: LayerData, part: _Part) -> Group:
    layer, seed = data.layer, bench.inputs.config.seed
    pictured = [data.position[unit.index] for unit in by_layer(list(pictures.visualisations))[layer]]
    order = [pictured[i] for i in hash_order(pictured, seed, f"paths of {layer}")]
    owned = order[part.start : part.start + MOST_UNITS]
    rest = [column for column in range(len(data.live_units)) if column not in set(owned)]
    joined = hash_order(rest, seed, f"joins {layer}")[: max(0, LEAST_UNITS - len(owned))]
    columns = [*owned, *(rest[i] for i in joined)]
    units = tuple(int(data.live_units[column]) for column in columns)
    drawn: list[tuple[int, Visualisation, bytes]] = []
    exemplars: dict[int, list[int]] = {}
    middle: dict[int, list[int]] = {}
    for row, (column, index) in enumerate(zip(columns, units, strict=True)):
        drawn += [
            (row, item, (run / "images" / item.tile).read_bytes())
            for item in pictures.visualisations.get(UnitId.of_side(layer, index), ())
            if item.tile
        ]
        shown = [int(image) for image in data.exemplar_ids[index]][:EXEMPLARS]
        for image in shown:
            exemplars.setdefault(image, []).append(row)
        for image in _middle(data, column, shown):
            middle.setdefault(image, []).append(row)
    related_rr = data.related_uu[np.ix_(columns, columns)]
    sampled = sampled_images(data, seed)
    top_ir = strongest(data, sampled, columns)
    return Group(layer, units, len(owned), drawn, exemplars, middle, sampled, top_ir, related_rr)


def compare(inputs: Inputs, group: Group, directory: Path, progress: Progress) -> None:
    """Write the signals of a group's wanted units into `directory`."""
    modules = inputs.target.earlier(group.layer, MODULES)
    codes = _codes(inputs, group, modules)
    units = [UnitId.of_side(group.layer, index) for index in group.units[: group.owned]]
    if codes is None:
        found = dict.fromkeys(units, PathSignals(why=NOTHING))
    else:
        likeness = path_likeness(codes)
        samples = sample_places(inputs, group.layer, modules, group.units, group.sampled, group.top_ir)
        standings = read_standings(codes, samples)
        found = {unit: standings.added(likeness.of(row), row) for row, unit in enumerate(units)}
    (directory / _PATHS).write_text(_written(found))
    progress(1, 1)


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


def _codes(inputs: Inputs, group: Group, modules: Sequence[str]) -> PathCodes | None:
    """None where no picture was finished, or no exemplar is on `test`."""
    config, units = inputs.config, group.units
    drawn, owner_f = [], []
    for rows, maps in _picture_maps(inputs.target, group, modules, config.visualise.batch_size):
        for place, row in enumerate(rows):
            drawn.append(code_of(maps, modules, place, maps[group.layer][place, units[row]]))
            owner_f.append(row)
    seen: dict[bool, list[NDArray[np.float32]]] = {True: [], False: []}  # by whether they are exemplars
    owners: dict[bool, list[int]] = {True: [], False: []}
    for ids, _, maps in image_maps(
        inputs.target, inputs.probe, sorted({*group.exemplars, *group.middle}), [*modules, group.layer],
        batch_size=config.activations.batch_size, workers=config.executor.workers,
        decoding=config.executor.decoding,
    ):  # fmt: skip
        for place, image_id in enumerate(ids.tolist()):
            for top, wanted in ((True, group.exemplars), (False, group.middle)):
                for row in wanted.get(image_id, ()):
                    seen[top].append(code_of(maps, modules, place, maps[group.layer][place, units[row]]))
                    owners[top].append(row)
    if not drawn or not seen[True] or not seen[False]:
        return None
    widths = tuple(int(maps[module].shape[1]) for module in modules)
    items = [item for _, item, _ in group.pictures]
    return PathCodes(
        widths, np.stack(drawn), np.array(owner_f), np.array([item.facet for item in items]),
        np.array([item.second for item in items]), np.stack(seen[True]), np.array(owners[True]),
        np.stack(seen[False]), np.array(owners[False]), group.related_rr,
    )  # fmt: skip


def _picture_maps(
    target: Target, group: Group, modules: Sequence[str], size: int
) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
    """The maps of the pictures by batches, each with the units (rows) that they belong to."""
    for start in range(0, len(group.pictures), size):
        part = group.pictures[start : start + size]
        images = [_pixels(file) for _, _, file in part]
        with torch.no_grad():
            seen_bchw = target.normalise(torch.stack(images).to(target.device))
            yield [row for row, _, _ in part], target.maps(seen_bchw, [*modules, group.layer])


def _pixels(file: bytes) -> torch.Tensor:
    """A stored picture in [0, 1], ``(3, h, w)``."""
    with Image.open(io.BytesIO(file)) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float() / 255
