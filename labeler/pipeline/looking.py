"""Exemplars looked at again, each image once for all units that ask for it: drawn and embedded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL import Image

from labeler.activations import image_maps
from labeler.exemplars.images import ImageStore
from labeler.exemplars.regions import Region, activating_region, crop_region, draw_tile, view
from labeler.pipeline.codes import code_of
from labeler.pipeline.inputs import Inputs
from labeler.pipeline.spread import Spread, images_of
from labeler.records import BandName, Exemplar
from labeler.seams import Progress, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

TILE = 160  # pixels per side: a contact sheet of 24 stays readable at 1,000 px
VIEW = 384
"""Least side of the view that tiles and enlarged regions are cut from: a third of it still fills a tile."""
CODE_MODULES = 2
"""Modules before the layer whose channels say how a unit comes to fire, the second signal of its facets."""
_WIDE = 0.75  # a crop this wide shows nothing that the tile does not
_SEEN, _REGIONS = "seen.json", "regions.npy"


@dataclass(frozen=True)
class Ask:
    """What a unit wants of one image.

    Attributes:
        place: the unit's among those that ask.
        side: its layer, see `UnitId.side`.
        index: in the layer.
        threshold: T_u.
        silent: to be shown as a near miss.
        band: to be shown as one of this band.
        top: to be embedded as a top exemplar; the activation that the pass recorded.
        drawn: a top exemplar with a tile.
        again: a tile of a top exemplar that had none.
    """

    place: int
    side: str
    index: int
    threshold: float
    silent: bool = False
    band: BandName | None = None
    top: float | None = None
    drawn: bool = False
    again: bool = False


Asked = tuple[tuple[int, tuple[Ask, ...]], ...]
"""Image ids, ascending, with who asks for each."""


@dataclass(frozen=True)
class Seen:
    """One answer: to the unit at `place`, an exemplar.

    For a top one also `vector` ``(dim,)``, its region to the encoder, and `code` ``(c,)``, float16 on the
    disk: what the modules before the unit give where it fires; empty where there are none.
    """

    place: int
    kind: Literal["silent", "band", "top", "again"]
    exemplar: Exemplar
    vector: NDArray[np.float32] | None = None
    code: NDArray[np.float16] | None = None


def cut(asked: Asked, count: int, batch: int) -> list[Asked]:
    """At most `count` parts of consecutive images, of whole batches, so that batches stay what they are."""
    batches = -(-len(asked) // batch)
    ends = [batch * (batches * part // count) for part in range(count + 1)]
    return [asked[start:end] for start, end in pairwise(ends) if start < end]


def look(
    spread: Spread, name: str, key: str, directory: Path, asked: Asked, progress: Progress | None
) -> list[Seen]:
    """Look at every image once for all units that ask for it; the answers, by image.

    Args:
        spread: who does it.
        name: of this step.
        key: of the stage.
        directory: where the stage is built.
        asked: images, and what is wanted of them.
        progress: told of images, or of pieces.
    """
    batch = spread.inputs.config.activations.batch_size
    parts = cut(asked, spread.count(-(-len(asked) // batch)), batch)
    found: list[Seen] = []
    for place in spread.pieces(name, key, directory, look_at, parts, progress, len(asked)):
        rows = json.loads((place / _SEEN).read_text())
        vectors = iter(np.load(place / _REGIONS, allow_pickle=False))  # (top ones, dim)
        codes = {
            layer: iter(np.load(place / _codes_file(number), mmap_mode="r", allow_pickle=False))
            for number, layer in enumerate(spread.inputs.target.layers)
        }  # (top ones of the layer, c)
        for row in rows:
            exemplar, top = Exemplar.model_validate(row["exemplar"]), row["kind"] == "top"
            vector, code = (next(vectors), next(codes[row["layer"]])) if top else (None, None)
            found.append(Seen(row["place"], row["kind"], exemplar, vector, code))
    return found


def _codes_file(number: int) -> str:
    return f"codes-{number:03d}.npy"


def look_at(inputs: Inputs, asked: Asked, directory: Path, progress: Progress) -> None:
    """Answer one part; see `look`."""
    wanted, settings = dict(asked), inputs.config
    store = ImageStore(images_of(directory))
    rows: list[dict[str, Any]] = []
    vectors = [np.zeros((0, inputs.encoder.dim), np.float32)]
    layers = inputs.target.layers
    before = {layer: inputs.target.earlier(layer, CODE_MODULES) for layer in layers}
    codes: dict[str, list[NDArray[np.float16]]] = {layer: [] for layer in layers}
    done = 0
    for ids, images, maps in image_maps(
        inputs.target, inputs.probe, list(wanted), list(dict.fromkeys(chain(layers, *before.values()))),
        batch_size=settings.activations.batch_size, workers=settings.executor.workers,
        decoding=settings.executor.decoding,
    ):  # fmt: skip
        crops: list[Image.Image] = []
        for row, (image_id, image) in enumerate(zip(ids.tolist(), images, strict=True)):
            seen = displayed(image, inputs.target)
            sight = _Sight(image_id, inputs.probe.images[image_id].path, seen, store, crops)
            for ask in wanted[image_id]:
                own_hw = maps[ask.side][row, ask.index]
                for kind, exemplar in sight.answers(ask, own_hw.cpu().numpy()):
                    said = exemplar.model_dump(mode="json")
                    rows.append({"place": ask.place, "kind": kind, "layer": ask.side, "exemplar": said})
                if ask.top is not None:
                    codes[ask.side].append(_half(maps, before[ask.side], row, own_hw))
        vectors.append(_embed(crops, inputs))
        done += len(ids)
        progress(done, len(wanted))
    (directory / _SEEN).write_text(json.dumps(rows))
    np.save(directory / _REGIONS, np.concatenate(vectors))
    for number, layer in enumerate(layers):
        found = np.stack(codes[layer]) if codes[layer] else np.zeros((0, 0), np.float16)
        np.save(directory / _codes_file(number), found)


def _half(
    maps: dict[str, torch.Tensor], modules: Sequence[str], row: int, own_hw: torch.Tensor
) -> NDArray[np.float16]:
    """The code in half precision, as only its order among others counts."""
    if not modules:
        return np.zeros(0, np.float16)
    largest = np.finfo(np.float16).max
    return code_of(maps, modules, row, own_hw).clip(-largest, largest).astype(np.float16)


@dataclass(frozen=True)
class _Sight:
    """One image as it is shown; what is to be embedded of it is added to `crops`."""

    image_id: int
    path: str
    seen: Image.Image
    store: ImageStore
    crops: list[Image.Image]

    def answers(self, ask: Ask, map_hw: NDArray[np.float32]) -> Iterator[tuple[str, Exemplar]]:
        """What one unit gets, with its kind."""
        strength = float(map_hw.max())
        if ask.silent:
            tile = self.store.put(draw_tile(self.seen, None, TILE))
            yield "silent", self._exemplar(strength, "low", tile=tile)
        if ask.band is not None:
            fires = activating_region(map_hw, ask.threshold) if strength > ask.threshold else None
            tile = self.store.put(draw_tile(self.seen, fires.mask if fires else None, TILE))
            yield "band", self._exemplar(strength, ask.band, region=fires.box if fires else None, tile=tile)
        if ask.top is not None or ask.again:
            region = activating_region(map_hw, ask.threshold)
            shown = draw_region(self.seen, region, self.store) if ask.drawn or ask.again else {}
            if ask.top is not None:
                self.crops.append(crop_region(self.seen, region.box) if region else self.seen)
            kind, value = ("again", strength) if ask.top is None else ("top", ask.top)
            yield kind, self._exemplar(value, "top", region=region.box if region else None, **shown)

    def _exemplar(self, activation: float, band: BandName, **more: Any) -> Exemplar:
        return Exemplar(
            image=self.image_id, path=self.path, activation=activation, band=band, split="propose", **more
        )


def _embed(crops: Sequence[Image.Image], inputs: Inputs) -> NDArray[np.float32]:
    """The encoder's embeddings ``(n, dim)`` of crops."""
    step = inputs.config.activations.batch_size
    parts = [np.zeros((0, inputs.encoder.dim), np.float32)]
    for start in range(0, len(crops), step):
        prepared = [inputs.encoder.prepare(image) for image in crops[start : start + step]]
        parts.append(inputs.encoder.embed_images(torch.stack(prepared)))
    return np.concatenate(parts)


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
