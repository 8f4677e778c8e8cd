"""The exemplars stage: splits, top exemplars with their activating regions, facets and near misses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from labeler.activations import BANDS, Activations, image_maps
from labeler.exemplars.facets import find_facets
from labeler.exemplars.images import ImageStore
from labeler.exemplars.near_misses import near_misses
from labeler.exemplars.regions import Region, activating_region, crop_region, draw_tile, view
from labeler.exemplars.select import top_of_split
from labeler.exemplars.splits import assign_splits, near_duplicate_groups
from labeler.pipeline.bands import images_by_band
from labeler.pipeline.inputs import Inputs
from labeler.records import BandName, Exemplar, Facet, SplitName, UnitId
from labeler.seams import Progress, Target
from labeler.storage import fingerprint, stage_directory

if TYPE_CHECKING:
    from numpy.typing import NDArray

TILE = 160  # pixels per side: a contact sheet of 24 stays readable at 1,000 px
VIEW = 384
"""Least side of the view that tiles and enlarged regions are cut from: a third of it still fills a tile."""
FACET_TILES = 3
"""Least tiles of a facet that has as many exemplars: a proposer names what it is shown."""
_WIDE = 0.75  # a crop this wide shows nothing that the tile does not


@dataclass(frozen=True)
class UnitEvidence:
    """What was found for one unit on the `propose` split.

    `exemplars` are in order of activation, the first ones with tiles; row i of `embeddings_kd` belongs to
    exemplar i (its activating region in the encoder's space). `bands` are images from below the top band,
    strongest first; proposers do not see them.
    """

    unit: UnitId
    exemplars: tuple[Exemplar, ...]
    near_misses: tuple[Exemplar, ...]
    bands: tuple[Exemplar, ...]
    facets: tuple[Facet, ...]
    embeddings_kd: NDArray[np.float32]


@dataclass(frozen=True)
class ProbeEvidence:
    """The exemplars stage read back: every image's split and near-duplicate group, every unit's evidence."""

    key: str
    splits: tuple[SplitName, ...]
    groups: tuple[str, ...]
    units: dict[UnitId, UnitEvidence]

    def rows_of(self, split: SplitName, activations: Activations) -> NDArray[np.int64]:
        """Rows of the dense matrices whose images are in `split`, ascending. ``(n,)``."""
        ids = activations.indexed_ids.tolist()
        return np.array([row for row, image in enumerate(ids) if self.splits[image] == split], dtype=np.int64)

    def top_images(
        self, activations: Activations, unit: UnitId, split: SplitName, count: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Ids and activations of a unit's strongest images in one split, one per near-duplicate group."""
        return _top(activations, unit, self.splits, self.groups, split, count)


def evidence_stage(
    run: Path, inputs: Inputs, activations: Activations, key: str, progress: Progress | None
) -> ProbeEvidence:
    """Build or load the exemplars stage; `key` is the fingerprint of the activations stage."""
    names = [str(unit) for unit in inputs.units]
    stage_key = fingerprint(
        "exemplars", 4, key, inputs.config.exemplars.model_dump(), names, inputs.config.seed
    )

    def build(directory: Path) -> None:
        settings = inputs.config.exemplars
        own = [image.group for image in inputs.probe.images]
        groups = near_duplicate_groups(embeddings_of(activations, inputs.encoder.name), own)
        splits = assign_splits(groups, settings.propose, settings.feedback, inputs.config.seed)
        found = _collect(run, inputs, activations, splits, groups, progress)
        _save(directory, splits, groups, found)

    return _load(stage_directory(run, "exemplars", stage_key, build), stage_key)


def embeddings_of(activations: Activations, name: str) -> NDArray[np.float32]:
    """A model's embeddings of the probe ``(n, dim)``, with rows of NaN for unreadable images."""
    embeddings_nd = np.array(activations.embeddings[name])
    unreadable_n = np.ones(len(embeddings_nd), dtype=bool)
    unreadable_n[activations.readable_ids] = False
    embeddings_nd[unreadable_n] = np.nan
    return embeddings_nd


def _top(
    activations: Activations,
    unit: UnitId,
    splits: Sequence[SplitName],
    groups: Sequence[str],
    split: SplitName,
    count: int,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    layer = activations.layers[unit.side]
    return top_of_split(
        layer.topk_values[unit.index], layer.topk_ids[unit.index], splits, groups, split, count,
        layer.maxima[:, unit.index], activations.indexed_ids,
    )  # fmt: skip


@dataclass
class _Draft:
    """The evidence of one unit while the images come by."""

    unit: UnitId
    ids: NDArray[np.int64]
    values: NDArray[np.float32]
    quiet: NDArray[np.int64]
    band_of: dict[int, BandName]
    exemplars: dict[int, Exemplar] = field(default_factory=dict)
    silent: dict[int, Exemplar] = field(default_factory=dict)
    ranged: dict[int, Exemplar] = field(default_factory=dict)
    embeddings: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    @property
    def images(self) -> set[int]:
        """All images that the unit is looked at on."""
        return {*self.ids.tolist(), *self.quiet.tolist(), *self.band_of}


def _collect(
    run: Path,
    inputs: Inputs,
    activations: Activations,
    splits: Sequence[SplitName],
    groups: Sequence[str],
    progress: Progress | None,
) -> list[UnitEvidence]:
    embeddings_nd = embeddings_of(activations, inputs.encoder.name)
    of_split = np.array(
        [splits[image] == "propose" for image in activations.indexed_ids.tolist()], dtype=bool
    )
    band_of = images_by_band(inputs, activations, of_split)
    drafts = [
        _draft(unit, inputs, activations, embeddings_nd, splits, groups, of_split, band_of[unit])
        for unit in inputs.units
    ]
    by_image: dict[int, list[_Draft]] = {}
    for draft in drafts:
        for image_id in draft.images:
            by_image.setdefault(image_id, []).append(draft)
    store = ImageStore(run / "images")
    done, settings = 0, inputs.config
    for ids, images, maps in image_maps(
        inputs.target, inputs.probe, sorted(by_image), inputs.target.layers,
        batch_size=settings.activations.batch_size, workers=settings.executor.workers,
        decoding=settings.executor.decoding,
    ):  # fmt: skip
        crops: list[tuple[_Draft, int, Image.Image]] = []
        for row, (image_id, image) in enumerate(zip(ids.tolist(), images, strict=True)):
            seen = displayed(image, inputs.target)
            for draft in by_image[image_id]:
                map_hw = maps[draft.unit.side][row, draft.unit.index].cpu().numpy()
                crops += _look(draft, image_id, seen, map_hw, inputs, activations, store)
        _embed(crops, inputs)
        done += len(ids)
        if progress is not None:
            progress(done, len(by_image))
    found = [_finish(draft, inputs) for draft in drafts]
    return _with_facet_tiles(found, inputs, activations, store)


def _with_facet_tiles(
    found: Sequence[UnitEvidence], inputs: Inputs, activations: Activations, store: ImageStore
) -> list[UnitEvidence]:
    """Every facet with tiles. Facets are known after all images were seen, so a few are seen again."""
    wanted: dict[int, list[tuple[int, int]]] = {}  # image -> (unit's place, exemplar's place)
    for place, item in enumerate(found):
        for facet in item.facets:
            own = [row for row, one in enumerate(item.exemplars) if one.facet == facet.index]
            for row in own[:FACET_TILES]:
                if item.exemplars[row].tile is None:
                    wanted.setdefault(item.exemplars[row].image, []).append((place, row))
    exemplars = [list(item.exemplars) for item in found]
    settings = inputs.config
    for ids, images, maps in image_maps(
        inputs.target, inputs.probe, sorted(wanted), inputs.target.layers,
        batch_size=settings.activations.batch_size, workers=settings.executor.workers,
        decoding=settings.executor.decoding,
    ):  # fmt: skip
        for batch_row, (image_id, image) in enumerate(zip(ids.tolist(), images, strict=True)):
            seen = displayed(image, inputs.target)
            for place, row in wanted[image_id]:
                unit = found[place].unit
                map_hw = maps[unit.side][batch_row, unit.index].cpu().numpy()
                threshold = float(activations.layers[unit.side].threshold[unit.index])
                drawn = draw_region(seen, activating_region(map_hw, threshold), store)
                exemplars[place][row] = exemplars[place][row].model_copy(update=drawn)
    return [replace(item, exemplars=tuple(own)) for item, own in zip(found, exemplars, strict=True)]


def displayed(image: Image.Image, target: Target) -> Image.Image:
    """What the target sees of an image, as it is shown to people and models."""
    return view(image, target.view_box(*image.size), max(VIEW, *target.input_size))


def draw_region(seen: Image.Image, region: Region | None, store: ImageStore) -> dict[str, str | None]:
    """Store what an `Exemplar` shows of a region: its `tile`, and its `crop` where that shows more."""
    shown: dict[str, str | None] = {"tile": store.put(draw_tile(seen, region.mask if region else None, TILE))}
    if region is not None:
        part = crop_region(seen, region.box)
        if part.width < _WIDE * seen.width:
            shown["crop"] = store.put(part.resize((TILE, TILE), Image.Resampling.BICUBIC))
    return shown


def _draft(
    unit: UnitId,
    inputs: Inputs,
    activations: Activations,
    embeddings_nd: NDArray[np.float32],
    splits: Sequence[SplitName],
    groups: Sequence[str],
    of_split: NDArray[np.bool_],
    band_of: dict[int, BandName],
) -> _Draft:
    settings = inputs.config.exemplars
    ids, values = _top(activations, unit, splits, groups, "propose", settings.considered)
    candidates = activations.indexed_ids[of_split]
    quiet = np.zeros(0, np.int64)
    if len(ids) and len(candidates):
        responses = np.asarray(activations.layers[unit.side].maxima[of_split, unit.index])
        quiet = near_misses(
            embeddings_nd[candidates], candidates, responses, ids.tolist(),
            quiet_below=float(np.median(responses)), count=settings.near_misses,
        )  # fmt: skip
    return _Draft(unit, ids, values, quiet, band_of)


def _look(
    draft: _Draft,
    image_id: int,
    seen: Image.Image,
    map_hw: NDArray[np.float32],
    inputs: Inputs,
    activations: Activations,
    store: ImageStore,
) -> list[tuple[_Draft, int, Image.Image]]:
    path = inputs.probe.images[image_id].path
    if image_id in draft.quiet:
        draft.silent[image_id] = Exemplar(
            image=image_id,
            path=path,
            activation=float(map_hw.max()),
            band="low",
            split="propose",
            tile=store.put(draw_tile(seen, None, TILE)),
        )
    threshold = float(activations.layers[draft.unit.side].threshold[draft.unit.index])
    if image_id in draft.band_of:
        fires = activating_region(map_hw, threshold) if map_hw.max() > threshold else None
        draft.ranged[image_id] = Exemplar(
            image=image_id,
            path=path,
            activation=float(map_hw.max()),
            band=draft.band_of[image_id],
            split="propose",
            region=fires.box if fires else None,
            tile=store.put(draw_tile(seen, fires.mask if fires else None, TILE)),
        )
    if image_id not in draft.ids:
        return []
    position = int(np.flatnonzero(draft.ids == image_id)[0])
    region = activating_region(map_hw, threshold)
    shown = position < inputs.config.exemplars.shown
    exemplar = Exemplar(
        image=image_id,
        path=path,
        activation=float(draft.values[position]),
        band="top",
        split="propose",
        region=region.box if region else None,
    )
    drawn = draw_region(seen, region, store) if shown else {}
    draft.exemplars[image_id] = exemplar.model_copy(update=drawn)
    return [(draft, image_id, crop_region(seen, region.box) if region else seen)]


def _embed(crops: Sequence[tuple[_Draft, int, Image.Image]], inputs: Inputs) -> None:
    step = inputs.config.activations.batch_size
    for start in range(0, len(crops), step):
        part = crops[start : start + step]
        pixels_bchw = torch.stack([inputs.encoder.prepare(image) for _, _, image in part])
        vectors = inputs.encoder.embed_images(pixels_bchw)  # (b, dim)
        for (draft, image_id, _), vector in zip(part, vectors, strict=True):
            draft.embeddings[image_id] = vector


def _finish(draft: _Draft, inputs: Inputs) -> UnitEvidence:
    ids = [image_id for image_id in draft.ids.tolist() if image_id in draft.exemplars]
    silent = tuple(draft.silent[i] for i in draft.quiet.tolist() if i in draft.silent)
    bands = tuple(
        sorted(draft.ranged.values(), key=lambda shown: (BANDS.index(shown.band), -shown.activation))
    )
    if not ids:
        return UnitEvidence(draft.unit, (), silent, bands, (), np.zeros((0, inputs.encoder.dim), np.float32))
    embeddings_kd = np.stack([draft.embeddings[image_id] for image_id in ids])
    facets = find_facets(embeddings_kd, inputs.config.exemplars.max_facets, inputs.config.seed)
    labels = facets.labels.tolist()
    exemplars = tuple(
        draft.exemplars[image_id].model_copy(update={"facet": facet})
        for image_id, facet in zip(ids, labels, strict=True)
    )
    described = tuple(
        Facet(index=index, size=labels.count(index), clarity=None if clarity is None else round(clarity, 4))
        for index, clarity in enumerate(facets.clarity)
    )
    return UnitEvidence(draft.unit, exemplars, silent, bands, described, embeddings_kd)


def _save(
    directory: Path, splits: Sequence[SplitName], groups: Sequence[str], found: Sequence[UnitEvidence]
) -> None:
    rows = [
        {
            "unit": str(item.unit),
            "exemplars": [exemplar.model_dump(mode="json") for exemplar in item.exemplars],
            "near_misses": [exemplar.model_dump(mode="json") for exemplar in item.near_misses],
            "bands": [exemplar.model_dump(mode="json") for exemplar in item.bands],
            "facets": [facet.model_dump(mode="json") for facet in item.facets],
        }
        for item in found
    ]
    (directory / "evidence.json").write_text(json.dumps({"splits": splits, "groups": groups, "units": rows}))
    np.save(directory / "regions.npy", np.concatenate([item.embeddings_kd for item in found]))


def _load(directory: Path, key: str) -> ProbeEvidence:
    data = json.loads((directory / "evidence.json").read_text())
    regions = np.load(directory / "regions.npy", allow_pickle=False)  # (rows, dim)
    units, start = {}, 0
    for row in data["units"]:
        item = _read_unit(row, regions[start : start + len(row["exemplars"])])
        units[item.unit] = item
        start += len(row["exemplars"])
    return ProbeEvidence(key, tuple(data["splits"]), tuple(data["groups"]), units)


def _read_unit(row: dict[str, Any], embeddings_kd: NDArray[np.float32]) -> UnitEvidence:
    return UnitEvidence(
        UnitId.parse(row["unit"]),
        tuple(Exemplar.model_validate(item) for item in row["exemplars"]),
        tuple(Exemplar.model_validate(item) for item in row["near_misses"]),
        tuple(Exemplar.model_validate(item) for item in row["bands"]),
        tuple(Facet.model_validate(item) for item in row["facets"]),
        embeddings_kd,
    )
