"""The visualisations stage: synthetic pictures of every unit, and their embeddings by every model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from labeler.exemplars.images import ImageStore
from labeler.exemplars.regions import view
from labeler.pipeline.evidence import ProbeEvidence
from labeler.pipeline.inputs import Inputs
from labeler.records import Exemplar, UnitId, Visualisation
from labeler.seams import Encoder, Progress
from labeler.storage import fingerprint, stage_directory
from labeler.visualise import Crop, FacetCrops, Picture, Request, visualise

if TYPE_CHECKING:
    from numpy.typing import NDArray

FACET_CROPS = 6
"""Photographs of each facet that its pictures start from, the strongest."""
NO_FACET = -1
"""Of pictures in the second parametrisation, which show the whole unit."""
_GREY = (128, 128, 128)


@dataclass(frozen=True)
class Pictures:
    """The synthetic pictures of a run.

    `units[i]` is the unit of row i in every matrix of `embeddings` (model name -> ``(pictures, dim)``);
    failed pictures and those in the second parametrisation have a `Visualisation` but no row.
    """

    key: str
    visualisations: dict[UnitId, tuple[Visualisation, ...]]
    units: tuple[UnitId, ...]
    embeddings: dict[str, NDArray[np.float32]]


def pictures_stage(
    run: Path,
    inputs: Inputs,
    evidence: ProbeEvidence,
    live: Sequence[UnitId],
    key: str,
    progress: Progress | None,
) -> Pictures:
    """Build or load the pictures of the live units; `key` is the fingerprint of the activations stage."""
    settings = inputs.config.visualise
    names = [str(unit) for unit in live]
    facets = evidence.key if settings.facets else ""
    stage_key = fingerprint(
        "visualisations", 3, key, facets, settings.model_dump(), names, inputs.config.seed
    )

    def build(directory: Path) -> None:
        requests = list(_requests(inputs, evidence, live)) if settings.enabled else []
        made = visualise(inputs.target, requests, settings, progress=progress) if requests else []
        others: list[Picture] = []
        if settings.enabled and settings.second != "none":
            asked = [Request(u.layer, u.index, inputs.config.seed, negative=u.negative) for u in live]
            other = settings.model_copy(update={"parametrisation": settings.second, "diversity": 0.0})
            others = visualise(inputs.target, asked, other, progress=progress) if asked else []
        _save(directory, ImageStore(run / "images"), made, others, inputs)

    return _load(stage_directory(run, "visualisations", stage_key, build), stage_key)


def _requests(inputs: Inputs, evidence: ProbeEvidence, live: Sequence[UnitId]) -> Iterator[Request]:
    """`visualise.images` pictures of every unit, or of each of its facets where it has several."""
    settings, first = inputs.config.visualise, inputs.config.seed
    crops_of = lru_cache(maxsize=2)(lambda unit: _crops(inputs, evidence.units[unit].exemplars))
    for unit in live:
        facets = [facet.index for facet in evidence.units[unit].facets] if settings.facets else []
        for facet in facets if len(facets) > 1 else [None]:
            for seed in range(first, first + settings.images):
                if facet is None:
                    yield Request(unit.layer, unit.index, seed, negative=unit.negative)
                else:
                    crops = _of_facet(crops_of, unit, facet)
                    yield Request(unit.layer, unit.index, seed, facet, unit.negative, crops)


def _of_facet(
    crops_of: Callable[[UnitId], dict[int, list[Crop]]], unit: UnitId, facet: int
) -> Callable[[], FacetCrops]:
    def crops() -> FacetCrops:
        by_facet = crops_of(unit)
        others = [crop for other, found in by_facet.items() if other != facet for crop in found]
        return FacetCrops(by_facet[facet], others)

    return crops


def _crops(inputs: Inputs, exemplars: Sequence[Exemplar]) -> dict[int, list[Crop]]:
    """The strongest photographs of each facet as the target sees them, by facet."""
    found: dict[int, list[Crop]] = {}
    for exemplar in exemplars:
        crops = found.setdefault(exemplar.facet, [])
        if len(crops) < FACET_CROPS:
            image = inputs.probe.image(exemplar.image)
            seen = view(image, inputs.target.view_box(*image.size), max(inputs.target.input_size))
            left, top, right, bottom = exemplar.region or (0.0, 0.0, 1.0, 1.0)
            pixels = np.array(seen.convert("RGB"))
            crops.append(Crop(pixels, ((left + right) / 2, (top + bottom) / 2)))
    return found


def _save(
    directory: Path, store: ImageStore, made: Sequence[Picture], others: Sequence[Picture], inputs: Inputs
) -> None:
    settings = inputs.config.visualise
    rows: list[dict[str, Any]] = []
    for picture in (*made, *others):
        second = len(rows) >= len(made)
        record = _record(picture, settings.second if second else settings.parametrisation, store)
        record = record.model_copy(update={"second": True, "facet": NO_FACET}) if second else record
        request = picture.request
        unit = UnitId(request.layer, request.unit, request.negative)
        rows.append({"unit": str(unit), "picture": record.model_dump(mode="json")})
    images = [Image.fromarray(picture.image) for picture in made if picture.image is not None]
    (directory / "pictures.json").write_text(json.dumps(rows))
    for number, encoder in enumerate(inputs.encoders.values()):
        np.save(directory / f"embeddings-{number}.npy", embed_pictures(encoder, images))
    (directory / "models.json").write_text(json.dumps(list(inputs.encoders)))


def _record(picture: Picture, parametrisation: str, store: ImageStore) -> Visualisation:
    """Store the picture and describe it."""
    tile = faded = None
    if picture.image is not None:
        image = Image.fromarray(picture.image)
        tile = store.put(image)
        faded = None if picture.opacity is None else store.put(_faded(image, picture.opacity))
    return Visualisation(
        facet=picture.request.facet,
        seed=picture.request.seed,
        parametrisation=parametrisation,
        steps=picture.steps,
        activation=picture.activation,
        tile=tile,
        faded=faded,
        why=picture.why,
    )


def _faded(image: Image.Image, opacity_hw: NDArray[np.uint8]) -> Image.Image:
    return Image.composite(image, Image.new("RGB", image.size, _GREY), Image.fromarray(opacity_hw))


def embed_pictures(encoder: Encoder, images: Sequence[Image.Image], batch: int = 32) -> NDArray[np.float32]:
    """Unit-norm embeddings ``(n, dim)`` of pictures."""
    parts = [
        encoder.embed_images(torch.stack([encoder.prepare(image) for image in images[start : start + batch]]))
        for start in range(0, len(images), batch)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, encoder.dim), np.float32)


def _load(directory: Path, key: str) -> Pictures:
    rows = json.loads((directory / "pictures.json").read_text())
    models = json.loads((directory / "models.json").read_text())
    found: dict[UnitId, tuple[Visualisation, ...]] = {}
    units = []
    for row in rows:
        unit, record = UnitId.parse(row["unit"]), Visualisation.model_validate(row["picture"])
        found[unit] = (*found.get(unit, ()), record)
        if record.tile is not None and not record.second:
            units.append(unit)
    embeddings = {
        name: np.load(directory / f"embeddings-{number}.npy", allow_pickle=False)
        for number, name in enumerate(models)
    }
    return Pictures(key, found, tuple(units), embeddings)
