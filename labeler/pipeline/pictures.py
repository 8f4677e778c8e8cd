"""The visualisations stage: synthetic pictures of every unit, and their embeddings by every model."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from labeler.activations.loader import stack_padded
from labeler.config import VisualiseConfig
from labeler.executors import LOCAL
from labeler.exemplars.images import ImageStore
from labeler.exemplars.regions import view
from labeler.pipeline.evidence import ProbeEvidence
from labeler.pipeline.inputs import Inputs
from labeler.pipeline.spread import Spread, images_of
from labeler.records import Exemplar, UnitId, Visualisation
from labeler.seams import Encoder, Executor, Progress
from labeler.storage import fingerprint
from labeler.visualise import Crop, FacetCrops, Picture, Request, visualise

if TYPE_CHECKING:
    from numpy.typing import NDArray

FACET_CROPS = 6
"""Photographs of each facet that its pictures start from, the strongest."""
NO_FACET = -1
"""Of pictures in the second parametrisation, which show the whole unit."""
_GREY = (128, 128, 128)
_PICTURES = "pictures.json"
_MADE, _OTHERS = "made", "others"  # of a part: those that `visualise.parametrisation` made, and `second`


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


@dataclass(frozen=True)
class Sitting:
    """One unit that is to be drawn: its facets, and the photographs from which their pictures start."""

    unit: UnitId
    facets: tuple[int, ...]
    exemplars: tuple[Exemplar, ...]


def pictures_stage(
    run: Path,
    inputs: Inputs,
    evidence: ProbeEvidence,
    live: Sequence[UnitId],
    key: str,
    progress: Progress | None,
    *,
    executor: Executor = LOCAL,
) -> Pictures:
    """Build or load the pictures of the live units; `key` is the fingerprint of the activations stage."""
    settings = inputs.config.visualise
    names = [str(unit) for unit in live]
    facets = evidence.key if settings.facets else ""
    stage_key = fingerprint(
        "visualisations", 3, key, facets, settings.model_dump(), names, inputs.config.seed
    )
    spread = Spread(run, inputs, executor)

    def build(directory: Path) -> None:
        sittings = [_sitting(inputs, evidence, unit) for unit in live] if settings.enabled else []
        pictures = [settings.images * max(1, len(sitting.facets)) for sitting in sittings]
        parts = [tuple(sittings[start:end]) for start, end in pairwise(_ends(pictures, settings, spread))]
        whole = sum(pictures) + (len(sittings) if settings.second != "none" else 0)
        places = spread.pieces("visualisations", stage_key, directory, draw, parts, progress, whole)
        _join(places, directory, list(inputs.encoders))

    return _load(spread.stage("visualisations", stage_key, build), stage_key)


def _ends(pictures: Sequence[int], settings: VisualiseConfig, spread: Spread) -> list[int]:
    """Where pieces of sittings with so many pictures each end: after whole blocks, as one that is not full
    takes as long."""
    blocks = sum(pictures) // settings.batch_size
    count = spread.count(blocks)
    full = [settings.batch_size * (blocks * part // count) for part in range(count)]
    made = list(accumulate(pictures))
    return [*(bisect_right(made, end) for end in full), len(pictures)]


def _sitting(inputs: Inputs, evidence: ProbeEvidence, unit: UnitId) -> Sitting:
    found = evidence.units[unit]
    facets = tuple(facet.index for facet in found.facets) if inputs.config.visualise.facets else ()
    return Sitting(unit, facets, found.exemplars if len(facets) > 1 else ())


def draw(inputs: Inputs, sittings: Sequence[Sitting], directory: Path, progress: Progress) -> None:
    """Make the pictures of some units into `directory`, with their embeddings."""
    settings, seed = inputs.config.visualise, inputs.config.seed
    requests = list(_requests(inputs, sittings))
    units = [sitting.unit for sitting in sittings] if settings.second != "none" else []
    asked = [Request(unit.layer, unit.index, seed, negative=unit.negative) for unit in units]
    whole = len(requests) + len(asked)
    made = visualise(inputs.target, requests, settings, progress=lambda done, _: progress(done, whole))
    others: list[Picture] = []
    if asked:
        other = settings.model_copy(update={"parametrisation": settings.second, "diversity": 0.0})
        others = visualise(
            inputs.target, asked, other, progress=lambda done, _: progress(len(requests) + done, whole)
        )
    _save(directory, ImageStore(images_of(directory)), made, others, inputs)


def _requests(inputs: Inputs, sittings: Sequence[Sitting]) -> Iterator[Request]:
    """`visualise.images` pictures of every unit, or of each of its facets where it has several."""
    settings, first = inputs.config.visualise, inputs.config.seed
    crops_of = lru_cache(maxsize=2)(lambda place: _crops(inputs, sittings[place].exemplars))
    for place, sitting in enumerate(sittings):
        unit = sitting.unit
        for facet in sitting.facets if len(sitting.facets) > 1 else [None]:
            for seed in range(first, first + settings.images):
                if facet is None:
                    yield Request(unit.layer, unit.index, seed, negative=unit.negative)
                else:
                    crops = _of_facet(crops_of, place, facet)
                    yield Request(unit.layer, unit.index, seed, facet, unit.negative, crops)


def _of_facet(
    crops_of: Callable[[int], dict[int, list[Crop]]], place: int, facet: int
) -> Callable[[], FacetCrops]:
    def crops() -> FacetCrops:
        by_facet = crops_of(place)
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
    rows: dict[str, list[dict[str, Any]]] = {_MADE: [], _OTHERS: []}
    for picture in made:
        record = _record(picture, settings.parametrisation, store)
        rows[_MADE].append(_row(picture.request, record))
    for picture in others:
        record = _record(picture, settings.second, store)
        second = record.model_copy(update={"second": True, "facet": NO_FACET})
        rows[_OTHERS].append(_row(picture.request, second))
    images = [Image.fromarray(picture.image) for picture in made if picture.image is not None]
    (directory / _PICTURES).write_text(json.dumps(rows))
    for number, encoder in enumerate(inputs.encoders.values()):
        np.save(directory / f"embeddings-{number}.npy", embed_pictures(encoder, images))


def _row(request: Request, record: Visualisation) -> dict[str, Any]:
    unit = UnitId(request.layer, request.unit, request.negative)
    return {"unit": str(unit), "picture": record.model_dump(mode="json")}


def _join(places: Sequence[Path], directory: Path, models: Sequence[str]) -> None:
    """The stage's files from those of its parts: first all pictures, then those of `visualise.second`."""
    parts = [json.loads((place / _PICTURES).read_text()) for place in places]
    rows = [row for which in (_MADE, _OTHERS) for part in parts for row in part[which]]
    (directory / _PICTURES).write_text(json.dumps(rows))
    for number in range(len(models)):
        name = f"embeddings-{number}.npy"
        tables = [np.load(place / name, allow_pickle=False) for place in places]  # (pictures, dim) each
        np.save(directory / name, np.concatenate(tables))
    (directory / "models.json").write_text(json.dumps(models))


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
    """Unit-norm embeddings ``(n, dim)`` of pictures, in padded blocks, so that company changes nothing."""
    parts = [np.zeros((0, encoder.dim), np.float32)]
    for start in range(0, len(images), batch):
        prepared = [encoder.prepare(image) for image in images[start : start + batch]]
        block_bchw = stack_padded(prepared, batch, prepared[0].shape)
        parts.append(encoder.embed_images(block_bchw)[: len(prepared)])
    return np.concatenate(parts)


def _load(directory: Path, key: str) -> Pictures:
    rows = json.loads((directory / _PICTURES).read_text())
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
