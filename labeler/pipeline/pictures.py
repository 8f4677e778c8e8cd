"""The visualisations stage: synthetic pictures of every unit, and their embeddings by every model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from labeler.exemplars.images import ImageStore
from labeler.pipeline.inputs import Inputs
from labeler.records import UnitId, Visualisation
from labeler.seams import Encoder, Progress
from labeler.storage import fingerprint, stage_directory
from labeler.visualise import Picture, Request, visualise

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Pictures:
    """The synthetic pictures of a run.

    `units[i]` is the unit of row i in every matrix of `embeddings` (model name -> ``(pictures, dim)``);
    failed pictures have a `Visualisation` but no row.
    """

    key: str
    visualisations: dict[UnitId, tuple[Visualisation, ...]]
    units: tuple[UnitId, ...]
    embeddings: dict[str, NDArray[np.float32]]


def pictures_stage(
    run: Path, inputs: Inputs, live: Sequence[UnitId], key: str, progress: Progress | None
) -> Pictures:
    """Build or load the pictures of the live units; `key` is the fingerprint of the activations stage."""
    settings = inputs.config.visualise
    names = [str(unit) for unit in live]
    stage_key = fingerprint("visualisations", 1, key, settings.model_dump(), names, inputs.config.seed)

    def build(directory: Path) -> None:
        requests = [
            Request(unit.layer, unit.index, seed=inputs.config.seed + number, negative=unit.negative)
            for unit in live
            for number in range(settings.images if settings.enabled else 0)
        ]
        made = visualise(inputs.target, requests, settings, progress=progress) if requests else []
        _save(directory, ImageStore(run / "images"), made, inputs)

    return _load(stage_directory(run, "visualisations", stage_key, build), stage_key)


def _save(directory: Path, store: ImageStore, made: Sequence[Picture], inputs: Inputs) -> None:
    rows, images = [], []
    for picture in made:
        tile = None
        if picture.image is not None:
            images.append(Image.fromarray(picture.image))
            tile = store.put(images[-1])
        record = Visualisation(
            facet=picture.request.facet,
            seed=picture.request.seed,
            activation=picture.activation,
            tile=tile,
            why=picture.why,
        )
        unit = UnitId(picture.request.layer, picture.request.unit, picture.request.negative)
        rows.append({"unit": str(unit), "picture": record.model_dump(mode="json")})
    (directory / "pictures.json").write_text(json.dumps(rows))
    for number, encoder in enumerate(inputs.encoders.values()):
        np.save(directory / f"embeddings-{number}.npy", embed_pictures(encoder, images))
    (directory / "models.json").write_text(json.dumps(list(inputs.encoders)))


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
        if record.tile is not None:
            units.append(unit)
    embeddings = {
        name: np.load(directory / f"embeddings-{number}.npy", allow_pickle=False)
        for number, name in enumerate(models)
    }
    return Pictures(key, found, tuple(units), embeddings)
