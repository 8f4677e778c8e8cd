"""The exemplars stage: splits, top exemplars with their activating regions, facets and near misses."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from labeler.activations import BANDS, Activations
from labeler.executors import LOCAL
from labeler.exemplars.facets import find_facets
from labeler.exemplars.near_misses import near_misses
from labeler.exemplars.select import top_of_split
from labeler.exemplars.splits import assign_splits, near_duplicate_groups
from labeler.pipeline.bands import images_by_band
from labeler.pipeline.inputs import Inputs
from labeler.pipeline.looking import Ask, Asked, Seen, look
from labeler.pipeline.spread import Spread
from labeler.records import BandName, Exemplar, Facet, SplitName, UnitId
from labeler.seams import Executor, Progress
from labeler.storage import fingerprint, hash_order

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MEDIANS = 4096  # exemplars of a layer that its channels' medians are taken over
FACET_TILES = 3
"""Least tiles of a facet that has as many exemplars: a proposer names what it is shown."""


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
    run: Path,
    inputs: Inputs,
    activations: Activations,
    key: str,
    progress: Progress | None,
    *,
    executor: Executor = LOCAL,
) -> ProbeEvidence:
    """Build or load the exemplars stage; `key` is the fingerprint of the activations stage."""
    names = [str(unit) for unit in inputs.units]
    stage_key = fingerprint(
        "exemplars", 5, key, inputs.config.exemplars.model_dump(), names, inputs.config.seed
    )
    spread = Spread(run, inputs, executor)

    def build(directory: Path) -> None:
        settings = inputs.config.exemplars
        own = [image.group for image in inputs.probe.images]
        groups = near_duplicate_groups(embeddings_of(activations, inputs.encoder.name), own)
        splits = assign_splits(groups, settings.propose, settings.feedback, inputs.config.seed)
        found = _collect(
            inputs, activations, splits, groups,
            lambda asked: look(spread, "exemplars", stage_key, directory, asked, progress),
        )  # fmt: skip
        found = _with_facet_tiles(
            found, activations,
            lambda asked: look(spread, "exemplars-facets", stage_key, directory, asked, None),
        )  # fmt: skip
        _save(directory, splits, groups, found)

    return _load(spread.stage("exemplars", stage_key, build), stage_key)


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
    codes: dict[int, NDArray[np.float16]] = field(default_factory=dict)

    @property
    def images(self) -> set[int]:
        """All images that the unit is looked at on."""
        return {*self.ids.tolist(), *self.quiet.tolist(), *self.band_of}

    def take(self, seen: Seen) -> None:
        """Keep one answer."""
        kept = {"silent": self.silent, "band": self.ranged, "top": self.exemplars}[seen.kind]
        kept[seen.exemplar.image] = seen.exemplar
        if seen.vector is not None:
            self.embeddings[seen.exemplar.image] = seen.vector
        if seen.code is not None and seen.code.size:
            self.codes[seen.exemplar.image] = seen.code


def _collect(
    inputs: Inputs,
    activations: Activations,
    splits: Sequence[SplitName],
    groups: Sequence[str],
    looked: Callable[[Asked], list[Seen]],
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
    asked: dict[int, list[Ask]] = {}
    for place, draft in enumerate(drafts):
        for image_id in draft.images:
            asked.setdefault(image_id, []).append(_ask(place, draft, image_id, inputs, activations))
    for seen in looked(_in_order(asked)):
        drafts[seen.place].take(seen)
    usual = _usual_codes(drafts, inputs.config.seed)
    return [_finish(draft, inputs, usual.get(draft.unit.side)) for draft in drafts]


def _usual_codes(drafts: Sequence[_Draft], seed: int) -> dict[str, NDArray[np.float32]]:
    """The median of each channel before a layer over its units' exemplars, hash-chosen: on is above it."""
    rows: dict[str, list[NDArray[np.float16]]] = {}
    for draft in drafts:
        rows.setdefault(draft.unit.side, []).extend(draft.codes.values())
    usual = {}
    for side, found in rows.items():
        if found:
            chosen = hash_order(list(range(len(found))), seed, f"codes of {side}")[:_MEDIANS]
            usual[side] = np.median(np.stack([found[row] for row in chosen]).astype(np.float32), axis=0)
    return usual


def _in_order(asked: dict[int, list[Ask]]) -> Asked:
    return tuple((image_id, tuple(asked[image_id])) for image_id in sorted(asked))


def _ask(place: int, draft: _Draft, image_id: int, inputs: Inputs, activations: Activations) -> Ask:
    rank = next(iter(np.flatnonzero(draft.ids == image_id).tolist()), None)
    return Ask(
        place, draft.unit.side, draft.unit.index, _threshold(draft.unit, activations),
        silent=image_id in draft.quiet, band=draft.band_of.get(image_id),
        top=None if rank is None else float(draft.values[rank]),
        drawn=rank is not None and rank < inputs.config.exemplars.shown,
    )  # fmt: skip


def _threshold(unit: UnitId, activations: Activations) -> float:
    return float(activations.layers[unit.side].threshold[unit.index])


def _with_facet_tiles(
    found: Sequence[UnitEvidence], activations: Activations, looked: Callable[[Asked], list[Seen]]
) -> list[UnitEvidence]:
    """Every facet with tiles. Facets are known after all images were seen, so a few are seen again."""
    asked: dict[int, list[Ask]] = {}
    for place, item in enumerate(found):
        threshold = _threshold(item.unit, activations)
        for facet in item.facets:
            own = [one for one in item.exemplars if one.facet == facet.index]
            for one in own[:FACET_TILES]:
                if one.tile is None:
                    ask = Ask(place, item.unit.side, item.unit.index, threshold, again=True)
                    asked.setdefault(one.image, []).append(ask)
    drawn = {(seen.place, seen.exemplar.image): seen.exemplar for seen in looked(_in_order(asked))}

    def shown(place: int, one: Exemplar) -> Exemplar:
        again = drawn.get((place, one.image))
        return one if again is None else one.model_copy(update={"tile": again.tile, "crop": again.crop})

    return [
        replace(item, exemplars=tuple(shown(place, one) for one in item.exemplars))
        for place, item in enumerate(found)
    ]


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


def _finish(draft: _Draft, inputs: Inputs, usual_c: NDArray[np.float32] | None) -> UnitEvidence:
    ids = [image_id for image_id in draft.ids.tolist() if image_id in draft.exemplars]
    silent = tuple(draft.silent[i] for i in draft.quiet.tolist() if i in draft.silent)
    bands = tuple(
        sorted(draft.ranged.values(), key=lambda shown: (BANDS.index(shown.band), -shown.activation))
    )
    if not ids:
        return UnitEvidence(draft.unit, (), silent, bands, (), np.zeros((0, inputs.encoder.dim), np.float32))
    embeddings_kd = np.stack([draft.embeddings[image_id] for image_id in ids])
    codes_kc = None if usual_c is None else np.stack([draft.codes[image_id] for image_id in ids]) > usual_c
    settings = inputs.config.exemplars
    facets = find_facets(embeddings_kd, settings.max_facets, inputs.config.seed, codes_kc=codes_kc)
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
